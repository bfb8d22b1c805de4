"""The contract of `Executor` on local processes, and what is theirs alone: fork servers, and dying with their holder."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from leptonai.adapters.executors.local import LocalExecutor
from leptonai.core import plugins
from leptonai.core.errors import Invalid, Unavailable
from leptonai.core.ports import Executor, Exit, Job
from leptonai.testing import jobs
from leptonai.testing.executor import ExecutorContract, alive, wait_for

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Executor]:
    """An executor whose fork server is there before the tests are watched for what they leave behind."""
    executor = plugins.executor("local")
    executor.warm("data")  # type: ignore[attr-defined]
    executor.start(Job("first", "leptonai.testing.jobs:note", {}, tmp_path_factory.mktemp("first")))
    wait_for(lambda: executor.poll("first"), 120)
    yield executor
    executor.close()


class TestLocalExecutor(ExecutorContract):
    @pytest.fixture
    def executor(self, warm: Executor) -> Executor:
        return warm

    def test_the_libraries_are_loaded_ahead(self, executor: Executor, start: Callable[..., Job]) -> None:
        facts = []
        for _ in range(2):
            job = start(jobs.note)
            assert self.end(executor, job) == Exit(0)
            facts.append(self.noted(job))
        assert {"numpy", "pyarrow.parquet", "polars", "leptonai.data.spec"} <= set(facts[0]["modules"])
        assert facts[0]["numpy"] != facts[1]["numpy"], "each has a seed of its own"

    def test_a_job_has_its_full_priority_though_the_libraries_were_loaded_at_a_low_one(
        self, executor: Executor, start: Callable[..., Job]
    ) -> None:
        job = start(jobs.note)
        assert self.end(executor, job) == Exit(0)
        assert self.noted(job)["nice"] == os.getpriority(os.PRIO_PROCESS, 0)


@pytest.fixture(scope="module")
def ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Executor]:
    executor = plugins.executor("ray:local")
    executor.start(Job("first", "leptonai.testing.jobs:note", {}, tmp_path_factory.mktemp("first")))
    wait_for(lambda: executor.poll("first"), 120)
    yield executor
    executor.close()


@pytest.mark.slow
class TestRayExecutor(ExecutorContract):
    @pytest.fixture
    def executor(self, ray: Executor) -> Executor:
        return ray


@pytest.mark.parametrize("url", ["ray:", "ray:head", "ray:head:x", "ray:http://head:1", "ray://head:10001"])
def test_an_address_that_ray_has_no_use_for(url: str) -> None:
    with pytest.raises(Invalid, match="use ray:auto, ray:local or ray:HOST:PORT"):
        plugins.executor(url)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("token", "the head of the Ray cluster 127.0.0.1:9 cannot be reached"),
        ("", "takes work from anybody who can reach it"),
    ],
)
def test_a_cluster_that_cannot_be_used_is_told_in_a_sentence(
    mode: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    executor = plugins.executor("ray:127.0.0.1:9")
    try:
        executor.start(Job("a", "leptonai.testing.jobs:note", {}, tmp_path, workers=2))
        ended = end(executor, "a", 240)
    finally:
        executor.close()
    assert ended.code
    assert words in str(ended.limit)


class own_executor:  # noqa: N801  # used like a function
    """An executor for one test, whose jobs can import from `tests`."""

    def __enter__(self) -> LocalExecutor:
        self.patch = pytest.MonkeyPatch()
        self.patch.setenv("PYTHONPATH", str(ROOT))
        self.patch.setenv("LEPTONAI_API_KEY", "the agent's")
        self.executor = LocalExecutor()
        return self.executor

    def __exit__(self, *_: object) -> None:
        self.executor.close()
        self.patch.undo()


def end(executor: Executor, id: str, seconds: float = 120) -> Exit:
    return wait_for(lambda: executor.poll(id), seconds)  # type: ignore[no-any-return]


def test_the_agents_key_is_not_handed_on(tmp_path: Path) -> None:
    with own_executor() as executor:
        executor.start(Job("j", "leptonai.testing.jobs:note", {"ask": ["LEPTONAI_API_KEY"]}, tmp_path))
        assert end(executor, "j") == Exit(0)
    assert json.loads((tmp_path / "note.json").read_text())["environment"] == {"LEPTONAI_API_KEY": None}


def test_libraries_that_use_threads(tmp_path: Path) -> None:
    with own_executor() as executor:
        for id in ("first", "second"):
            executor.start(Job(id, "tests.support.jobs:use_polars", {}, tmp_path / id))
        for id in ("first", "second"):
            assert (end(executor, id), executor.logs(id)) == (Exit(0), "2 100000\n")


def test_close_ends_everything(tmp_path: Path) -> None:
    with own_executor() as executor:
        for name in "ab":
            executor.start(Job(name, "leptonai.testing.jobs:family", {}, tmp_path / name))
            wait_for((tmp_path / name / "pids").exists, 120)
        pids = [int(pid) for name in "ab" for pid in (tmp_path / name / "pids").read_text().split()]
        executor.close(0.2)
        assert not any(map(alive, pids))
        assert {executor.poll(name) for name in "ab"} <= {Exit(-9), Exit(-15)}
        with pytest.raises(Unavailable, match="closed"):
            executor.start(Job("c", "leptonai.testing.jobs:note", {}, tmp_path / "c"))


def test_close_while_a_fork_server_is_still_loading(tmp_path: Path) -> None:
    with own_executor() as executor:
        executor.warm("torch")
        executor.start(Job("a", "leptonai.testing.jobs:note", {}, tmp_path, flavour="torch"))
    assert executor.poll("a") == Exit(-9)


def test_jobs_die_with_a_killed_holder(tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib\n"
        "from leptonai.adapters.executors.local import LocalExecutor\n"
        "from leptonai.core.ports import Job\n"
        "executor = LocalExecutor()\n"
        "executor.start(Job('j', 'leptonai.testing.jobs:family', {}, pathlib.Path(sys.argv[1])))\n"
        "time.sleep(600)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    try:
        wait_for((tmp_path / "pids").exists, 120)
        pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
        server = psutil.Process(pids[0]).parent()
        assert server is not None
        assert all(map(alive, [server.pid, *pids]))
    finally:
        holder.kill()
        holder.wait()
    wait_for(lambda: not any(map(alive, [server.pid, *pids])), 10)


def test_a_killed_fork_server(tmp_path: Path) -> None:
    with own_executor() as executor:
        executor.start(Job("a", "leptonai.testing.jobs:family", {}, tmp_path / "a"))
        wait_for((tmp_path / "a" / "pids").exists, 120)
        pids = [int(pid) for pid in (tmp_path / "a" / "pids").read_text().split()]
        os.kill(psutil.Process(pids[0]).ppid(), signal.SIGKILL)
        assert end(executor, "a") == Exit(-9)
        wait_for(lambda: not any(map(alive, pids[:3])), 10)
        executor.start(Job("b", "leptonai.testing.jobs:note", {}, tmp_path / "b"))
        assert end(executor, "b") == Exit(0)
        for pid in filter(alive, pids):  # in a session of its own, and its parent was killed at once
            os.kill(pid, signal.SIGKILL)


def test_a_flavour_that_is_not_there(tmp_path: Path) -> None:
    with own_executor() as executor, pytest.raises(Unavailable, match=r"'cobol'.*torch"):
        executor.start(Job("a", "leptonai.testing.jobs:note", {}, tmp_path, flavour="cobol"))


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with own_executor() as executor, pytest.raises(Unavailable, match="file/job"):
        executor.start(Job("a", "leptonai.testing.jobs:note", {}, tmp_path / "file" / "job"))


@pytest.mark.parametrize(
    ("flavour", "entries"),
    [("torch", ("train_torch", "train_keras")), pytest.param("tensorflow", ("train_keras",), marks=pytest.mark.slow)],
)
def test_a_forked_process_trains(tmp_path: Path, flavour: str, entries: tuple[str, ...]) -> None:
    with own_executor() as executor:
        for number in range(2):
            for entry in entries:
                id = f"{entry}-{number}"
                executor.start(Job(id, f"tests.support.jobs:{entry}", {}, tmp_path / id, flavour=flavour))
        for entry in entries:
            for number in range(2):
                ended = end(executor, f"{entry}-{number}")
                assert ended == Exit(0), executor.logs(f"{entry}-{number}")
                assert "trained" in executor.logs(f"{entry}-{number}")
