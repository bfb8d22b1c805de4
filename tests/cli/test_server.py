"""Commands against a real server: keys, sites, the audit log, login, doctor, and a server that is kept up."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from leptonai.cli import main
from leptonai.sdk.client import Client
from leptonai.serving.build import build

Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server that stays while the commands of this file come and go."""
    with Client(home=tmp_path_factory.mktemp("server") / "home") as kept:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LEPTONAI_WARM", "none")  # no process is started ahead, in the middle of a test
            kept.http.call("GET", "/me")
        yield kept


@pytest.fixture
def ask(server: Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Ask:
    """Run a command and return its JSON; the user's home is an empty folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("LEPTONAI_HOST", "LEPTONAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LEPTONAI_HOME", str(server.home))

    def run(*arguments: str, code: int = 0) -> Any:
        assert main.run_command([*arguments, "-o", "json"]) == code
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return json.loads(out) if out else err

    return run


def test_keys_are_made_listed_and_revoked(ask: Ask, server: Client) -> None:
    assert ask("key", "create", "reader", "--scope", "dataset:read", "--dry-run")["dry_run"] is True
    made = ask("key", "create", "reader", "--scope", "dataset:read", "--days", "3")
    assert made["secret"] not in json.dumps(ask("key", "list"))
    listed = {key["name"]: key for key in ask("key", "list")}["reader"]
    assert listed["scopes"] == ["dataset:read"]
    assert listed["expires"]
    with Client(host=server.url, api_key=made["secret"]) as stranger:
        assert stranger.http.call("GET", "/me")["name"] == "reader"
    assert "lacks" in ask("--host", server.url, "--api-key", made["secret"], "key", "list", code=1)
    assert "revoked" in ask("key", "delete", "reader")
    time.sleep(0.6)  # a server remembers a key for half a second
    assert "key" in ask("--host", server.url, "--api-key", made["secret"], "dataset", "list", code=1)
    assert [row["name"] for row in ask("audit", "list")][:2] == ["key.revoke", "key.create"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "get", "run_nothing"], "run_nothing"),
        (["run", "logs", "run_nothing"], "run_nothing"),
        (["model", "get", "models:/nothing/3"], "nothing"),
        (["model", "delete", "nothing"], "nothing"),
        (["service", "get", "nothing"], "nothing"),
        (["service", "predict", "nothing", "--rows", "{}"], "nothing"),
        (["service", "create", "x", "--model", "models:/nothing"], "nothing"),
        (["site", "get", "nowhere"], "nowhere"),
        (["key", "create", "x", "--scope", "everything"], "everything"),
        (["key", "delete", "nobody"], "nobody"),
        (["run", "create", "evaluate", "--run", "run_nothing", "--data", "x"], "x|run_nothing"),
        (["run", "list", "--state", "asleep"], "state"),
    ],
)
def test_what_is_not_there_is_named(
    ask: Ask, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run_command(arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert any(word in err for word in says.split("|")), err
    assert err.startswith("lepton: ")
    assert "Traceback" not in err


@pytest.mark.parametrize("noun", ["dataset", "run", "model", "service", "site", "key", "audit"])
@pytest.mark.parametrize("form", ["table", "json", "yaml"])
def test_lists_are_shown_in_every_form(noun: str, form: str, ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run_command([noun, "list", "-o", form]) == 0
    out, err = capsys.readouterr()
    if form == "json":
        assert isinstance(json.loads(out), list)
    assert out or f"there is no {noun}" in err


def test_sites(ask: Ask) -> None:
    until = time.monotonic() + 20
    while not (seen := ask("site", "get", "home")["seen"]) and time.monotonic() < until:
        time.sleep(0.1)
    assert seen
    assert [site["name"] for site in ask("site", "list")] == ["home"]


def test_login_tries_the_key_and_keeps_it_for_its_owner_alone(
    ask: Ask, server: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = ask("key", "create", "mine", "--scope", "site:read")["secret"]
    kept = tmp_path / ".leptonai" / "config.toml"
    assert "key" in ask("login", server.url, "--api-key", "wrong", code=1)
    assert ask("login", server.url, "--api-key", secret, "--dry-run")["dry_run"] is True
    assert not kept.exists()
    kept.parent.mkdir()
    kept.write_text('workers = "3"\n')
    assert ask("login", server.url, "--api-key", secret)["name"] == "mine"
    assert tomllib.loads(kept.read_text()) == {"workers": "3", "host": server.url, "api_key": secret}
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert list(kept.parent.iterdir()) == [kept]
    monkeypatch.delenv("LEPTONAI_HOME")
    assert [site["name"] for site in ask("site", "list")] == ["home"]
    found = {finding["what"]: finding for finding in ask("doctor")}
    assert found["server"]["state"] == "ok"
    assert found["serving plane"]["detail"].startswith(build())
    assert "mine" in found["server"]["detail"]


def test_doctor_says_what_is_wrong(ask: Ask, server: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {finding["what"]: finding for finding in ask("doctor")}
    assert found["server"]["state"] == "ok"
    assert found["home"]["state"] == "ok"
    assert "wrong" in {finding["state"] for finding in ask("--host", "http://127.0.0.1:9", "doctor", code=1)}
    kept = tmp_path / ".leptonai" / "config.toml"
    kept.parent.mkdir()
    kept.write_text('host = "http://x"')
    kept.chmod(0o644)
    assert {f["what"]: f["state"] for f in ask("doctor", code=1)}["user file"] == "wrong"
    kept.write_text("hosts = 1")
    kept.chmod(0o600)
    assert {f["what"]: f["state"] for f in ask("doctor", code=1)}["settings"] == "wrong"


def test_doctor_names_the_other_distribution(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "leptonai-0.26.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: leptonai\nVersion: 0.26\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = {finding["what"]: finding for finding in ask("doctor", code=1)}
    assert "0.26" in found["import name"]["detail"]


def test_up_keeps_a_server_shows_its_first_key_once_and_stops_on_ctrl_c(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path)}
    command = [sys.executable, "-m", "leptonai.cli", "--home", str(tmp_path / "home"), "up", "--port", "0"]
    kept = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert kept.stdout is not None
        url = kept.stdout.readline().strip()
        again = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
        assert again.returncode == 1
        assert "runs already" in again.stderr
        with Client(home=tmp_path / "home") as found:
            assert found.url == url
            assert not found.private
        kept.send_signal(signal.SIGINT)
        _, err = kept.communicate(timeout=30)
    finally:
        kept.kill()
        kept.wait()
    assert kept.returncode == 0
    assert err.count("lepton_key_") == 1
    assert "Traceback" not in err
    assert "stopping the server" in err
    assert "lepton_key_" not in (tmp_path / "home" / "logs" / "server.log").read_text()


def test_up_says_why_it_cannot(tmp_path: Path, server: Client) -> None:
    command = [sys.executable, "-m", "leptonai.cli", "--home", str(tmp_path / "home"), "up"]
    taken = subprocess.run(
        [*command, "--port", server.url.rpartition(":")[2]], capture_output=True, text=True, timeout=60
    )
    assert taken.returncode == 1
    assert "Address already in use; choose another --port" in taken.stderr
    assert len(taken.stderr.splitlines()) == 1
    open_to_all = subprocess.run([*command, "--host", "0.0.0.0"], capture_output=True, text=True, timeout=60)
    assert open_to_all.returncode == 1
    assert "TLS" in open_to_all.stderr or "tls" in open_to_all.stderr
