"""Which server is used, that nothing is opened early, and what is said once."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

import leptonai
from leptonai.core.errors import Invalid
from leptonai.sdk import client


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in ("LEPTONAI_HOST", "LEPTONAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LEPTONAI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(client, "_said", set())
    monkeypatch.setattr(leptonai, "host", None)
    monkeypatch.setattr(leptonai, "api_key", None)
    client.disconnect()
    yield
    client.disconnect()


def test_argument_before_environment_before_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".leptonai").mkdir()
    (tmp_path / ".leptonai" / "config.toml").write_text('host = "http://user"\napi_key = "user"\n')
    assert (client.current().host, client.current().api_key) == ("http://user", "user")
    (tmp_path / "leptonai.toml").write_text('host = "http://project"\n')
    client.disconnect()
    assert (client.current().host, client.current().api_key) == ("http://project", "user")
    monkeypatch.setenv("LEPTONAI_HOST", "http://environment")
    client.disconnect()
    assert client.current().host == "http://environment"
    leptonai.host, leptonai.api_key = "http://module/", "module"
    assert (client.current().host, client.current().api_key) == ("http://module", "module")
    assert client.connect(host="http://argument", api_key="argument").host == "http://argument"
    assert client.current().api_key == "argument"


def test_a_home_that_is_given_means_the_server_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LEPTONAI_HOST", "http://environment")
    made = client.connect(home=tmp_path / "other")
    assert made.host is None
    assert made.home == tmp_path / "other"
    assert client.current() is made


def test_the_key_of_the_host_goes_to_a_plane_too() -> None:
    via = client.connect(host="https://server.example", api_key="mine")
    plane = via.plane("http://plane.example:1")
    assert plane._headers({}) == {"authorization": "Bearer mine"}
    assert via.plane("http://plane.example:1") is plane
    assert client.connect(host="https://server.example").plane("http://plane.example:1")._headers({}) == {}


def test_the_token_of_this_machine_stays_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Started:
        url, token, private = "http://127.0.0.1:1", "local", False

        def close(self) -> None: ...

    from leptonai.sdk import embedded

    monkeypatch.setattr(embedded, "ensure", lambda home: Started())
    monkeypatch.setenv("LEPTONAI_API_KEY", "of another server")
    via = client.connect()
    for url in ("http://127.0.0.1:5", "http://localhost:5", "http://[::1]:5"):
        assert via.plane(url)._headers({}) == {"authorization": "Bearer local"}
    before = via.plane("http://127.0.0.1:5")
    Started.token = "another"
    via._revive()
    assert via.plane("http://127.0.0.1:5") is not before
    assert via.plane("http://127.0.0.1:5")._headers({}) == {"authorization": "Bearer another"}
    for url in (
        "http://10.0.0.1:5",
        "http://127.example",
        "http://127.0.0.1.example:5",
        "https://plane.example",
        "nothing",
    ):
        assert via.plane(url)._headers({}) == {}


def test_nothing_is_opened_before_the_first_call(tmp_path: Path) -> None:
    made = client.current()
    assert "not opened yet" in repr(made)
    assert client.current() is made
    assert not (tmp_path / "home").exists()


def test_another_host_makes_another_client() -> None:
    first = client.current()
    leptonai.host = "http://one"
    second = client.current()
    assert second is not first
    leptonai.api_key = "k"
    assert client.current() is not second
    leptonai.host = None
    assert client.current().host is None


@pytest.mark.parametrize("host", ["server:80", "ftp://x", "", "http://"])
def test_a_host_that_is_no_url(host: str) -> None:
    with pytest.raises(Invalid, match="https://"):
        leptonai.Client(host=host)


def test_threads_get_one_client() -> None:
    found: list[client.Client] = []
    threads = [threading.Thread(target=lambda: found.append(client.current())) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1


def install(folder: Path, name: str) -> None:
    info = folder / f"{name.replace('-', '_')}-9.9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.9\n")


def test_the_other_distribution_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert client.clash() is None
    install(tmp_path, "leptonai")
    monkeypatch.syspath_prepend(str(tmp_path))
    said = client.clash()
    assert said is not None
    assert "'leptonai' 9.9" in said
    assert "pip uninstall leptonai" in said
    assert metadata.version("lepton-ai-sdk") != "9.9"


def test_the_other_distribution_costs_no_import_time(tmp_path: Path) -> None:
    code = "import sys, leptonai; print('importlib.metadata' in sys.modules, 'leptonai.sdk' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {[p for p in sys.path if p]!r}\n{code}"],
        capture_output=True, text=True, check=True, env={**os.environ},
    )  # fmt: skip
    assert done.stdout.split() == ["False", "False"]
