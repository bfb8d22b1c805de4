"""Ctrl-C, or kill -9, in the middle of anything: one line, exit code 1, nothing half-done, and the same command works again."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.support.lepton import Lepton
from tests.support.site import until

import leptonai
from leptonai.sdk import client

ROWS, TIMES = 500_000, 10


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a large and a small table."""
    folder = tmp_path_factory.mktemp("tables")
    values = np.random.default_rng(0).integers(0, 1000, size=(ROWS, 8))
    body = "\n".join(",".join(map(str, row)) for row in values.tolist())
    with (folder / "large.csv").open("w") as file:  # about 160 MB: several parts to send
        file.write("a,b,c,d,e,f,g,label\n")
        file.writelines([body, "\n"] * TIMES)
    rows = "\n".join(f"{i},{i % 7},{'yes' if i % 2 else 'no'}" for i in range(2000))
    (folder / "small.csv").write_text("a,b,label\n" + rows + "\n")
    return folder


@pytest.fixture
def user(tables: Path, tmp_path: Path) -> Iterator[Lepton]:
    """A user's shell beside a server that `lepton up` keeps."""
    lepton = Lepton(tmp_path / "user")
    with lepton.up() as server:
        client.connect(host=server.url, api_key=server.key)
        yield lepton
        client.disconnect()


def latest(stage: str) -> leptonai.Run | None:
    found = leptonai.list_runs(stage=stage, limit=1)
    return found[0] if found else None


def blobs(user: Lepton) -> int:
    return sum(path.is_file() for path in (user.home / "blobs").rglob("*"))


def begun(stage: str, before: leptonai.Run | None, running: bool) -> bool:
    now = latest(stage)
    return now is not None and (before is None or now.id != before.id) and (not running or now.state == "running")


@pytest.mark.parametrize("moment", ["loading", "upload", "submitted", "running"])
@pytest.mark.timeout(300)
def test_ctrl_c_in_an_import(user: Lepton, tables: Path, moment: str) -> None:
    before, stored = latest("import"), blobs(user)
    when = {
        "loading": lambda pid: "pydantic_core" in Path(f"/proc/{pid}/maps").read_text(),
        "upload": lambda _: blobs(user) > stored,
        "submitted": lambda _: begun("import", before, running=False),
        "running": lambda _: begun("import", before, running=True),
    }[moment]
    code, said = user.stopped("dataset", "create", "large", str(tables / "large.csv"), when=when)
    assert (code, said.strip().count("\n")) == (1, 0), said
    assert said.startswith("lepton: "), said
    now = latest("import")
    if moment in ("submitted", "running"):
        assert now is not None
        assert now.id in said
    if now is not None and (before is None or now.id != before.id):
        until(lambda: now.refresh().record.state.ended, 30)
        assert now.state == "cancelled"
    assert [found.name for found in leptonai.list_datasets() if found.name == "large"] == []


@pytest.mark.timeout(300)
def test_ctrl_c_in_a_training_and_a_deploy(user: Lepton, tables: Path) -> None:
    user("dataset", "create", "small", str(tables / "small.csv"))
    before = latest("train")
    code, said = user.stopped(
        "run", "create", "train", "--data", "small", "--epochs", "100000",
        when=lambda _: begun("train", before, running=True),
    )  # fmt: skip
    assert (code, "cancelled" in said or "asked to stop" in said) == (1, True), said
    now = latest("train")
    assert now is not None
    assert now.id in said
    until(lambda: now.refresh().record.state.ended, 60)
    assert now.state == "cancelled"

    done = user.json("run", "create", "train", "--data", "small")
    assert done["state"] == "succeeded"
    user("model", "create", "small", "--run", done["id"])
    seen = time.monotonic()
    code, said = user.stopped(
        "service", "create", "small", "--model", "models:/small",
        when=lambda _: [s for s in leptonai.list_services() if s.name == "small"] or time.monotonic() - seen > 60,
    )  # fmt: skip
    assert code in (0, 1), said
    service = leptonai.get_service("small")  # it was asked for, and is told so: it goes on by itself
    service.wait_ready(60)
    assert service.predict({"a": 3, "b": 2})["label"] in ("yes", "no")
    if code:
        assert said.startswith("lepton: "), said


@pytest.mark.timeout(300)
def test_a_client_that_is_killed_harms_nobody(user: Lepton, tables: Path) -> None:
    """The server is another's: the Run goes on to its end, and its owner finds it."""
    before = latest("import")
    process = user.start("dataset", "create", "killed", str(tables / "large.csv"))
    until(lambda: begun("import", before, running=True), 120)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    now = latest("import")
    assert now is not None
    until(lambda: now.refresh().record.state.ended, 120)
    assert now.state == "succeeded"
    assert leptonai.get_dataset("killed").rows == ROWS * TIMES
