"""What every `Executor` must do. Subclass `ExecutorContract` and give it your executor, started and warm."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from leptonai.core import settings
from leptonai.core.errors import Conflict, NotFound
from leptonai.core.ids import new_id
from leptonai.core.nouns import Limits
from leptonai.core.ports import Executor, Exit, Job
from leptonai.testing import jobs


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def wait_for(happened: Callable[[], Any], seconds: float = 30.0) -> Any:
    """Return what `happened` returns as soon as it is true. Fails the test when it stays false."""
    until = time.monotonic() + seconds
    while not (value := happened()):
        assert time.monotonic() < until, f"not within {seconds} s"
        time.sleep(0.005)
    return value


class ExecutorContract:
    """The promise of `core.ports.Executor`, as tests."""

    @pytest.fixture
    def executor(self) -> Executor:
        """Give an executor that has nothing to do. It may be one for all tests of the class."""
        raise NotImplementedError

    @pytest.fixture
    def start(self, executor: Executor, tmp_path: Path) -> Callable[..., Job]:
        """Give a way to start a job of `leptonai.testing.jobs`."""

        def start(entry: Callable[[dict[str, Any]], None], *, limits: Limits = Limits(), **payload: Any) -> Job:  # noqa: B008  # frozen
            id = new_id("job")
            job = Job(
                id,
                f"{entry.__module__}:{entry.__name__}",
                payload,
                tmp_path / id,
                limits=limits,
                environment={"OF_JOB": "yes"},
            )
            executor.start(job)
            return job

        return start

    @staticmethod
    def end(executor: Executor, job: Job, seconds: float = 60.0) -> Exit:
        """Wait until a job has ended."""
        ended = wait_for(lambda: executor.poll(job.id), seconds)
        assert isinstance(ended, Exit)
        return ended

    @staticmethod
    def begun(job: Job) -> None:
        wait_for((job.folder / "begun").exists)

    @staticmethod
    def noted(job: Job) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads((job.folder / "note.json").read_text())
        return facts

    # ------------------------------------------------------------------------------------------ start and end

    def test_a_job_gets_its_world(self, executor: Executor, start: Callable[..., Job]) -> None:
        job = start(jobs.note, number=1, text="é\n", ask=["OF_JOB", "PATH"])
        assert self.end(executor, job) == Exit(0)
        facts = self.noted(job)
        assert facts["payload"] == job.payload
        assert facts["folder"] == str(job.folder)
        assert facts["environment"] == {"OF_JOB": "yes", "PATH": settings.variable("PATH")}
        assert facts["pid"] != os.getpid()
        assert facts["session"] == facts["pid"]
        assert facts["core"] == 0
        assert facts["term"]
        assert facts["blocked"] == 0

    def test_one_that_raises(self, executor: Executor, start: Callable[..., Job]) -> None:
        job = start(jobs.fail)
        assert self.end(executor, job) == Exit(1)
        assert "RuntimeError: on purpose" in executor.logs(job.id)

    @pytest.mark.parametrize(("code", "expected"), [(0, 0), (None, 0), (3, 3), ("words", 1)])
    def test_one_that_leaves(self, executor: Executor, start: Callable[..., Job], code: Any, expected: int) -> None:
        assert self.end(executor, start(jobs.leave, code=code)) == Exit(expected)

    def test_one_that_crashes(self, executor: Executor, start: Callable[..., Job]) -> None:
        job = start(jobs.crash)
        assert self.end(executor, job) == Exit(-6)

    def test_one_that_is_not_there(self, executor: Executor, tmp_path: Path) -> None:
        job = Job(new_id("job"), "leptonai.testing.no_such_module:main", {}, tmp_path / "job")
        executor.start(job)
        assert self.end(executor, job) == Exit(1)
        assert "no_such_module" in executor.logs(job.id)
        for ask in (executor.poll, executor.stop, executor.logs):
            with pytest.raises(NotFound):
                ask("job_never_started")

    def test_ten_at_once(self, executor: Executor, start: Callable[..., Job]) -> None:
        started = [start(jobs.note, number=number) for number in range(10)]
        assert [self.end(executor, job) for job in started] == [Exit(0)] * 10
        facts = [self.noted(job) for job in started]
        assert [fact["payload"]["number"] for fact in facts] == list(range(10))
        for what in ("pid", "random"):
            assert len({fact[what] for fact in facts}) == 10, f"no two have the same {what}"

    def test_the_same_job_again(self, executor: Executor, start: Callable[..., Job]) -> None:
        job = start(jobs.sleep)
        with pytest.raises(Conflict, match=job.id):
            executor.start(job)
        executor.stop(job.id, 0)
        self.end(executor, job)
        again = Job(job.id, f"{jobs.__name__}:say", {"lines": ["second"]}, job.folder)
        executor.start(again)
        assert self.end(executor, again) == Exit(0)
        assert "second" in executor.logs(job.id)

    # ------------------------------------------------------------------------------------------------ logs

    def test_what_it_prints(self, executor: Executor, start: Callable[..., Job]) -> None:
        job = start(jobs.say, lines=["one", "zwei ü", "三"])
        self.end(executor, job)
        text = executor.logs(job.id)
        for line in ("one", "zwei ü", "三", "to stderr", "from a child"):
            assert f"{line}\n" in text
        assert executor.logs(job.id) == ""
        assert (job.folder / "output.log").read_text("utf-8") == text

    def test_what_it_has_printed_so_far(self, executor: Executor, start: Callable[..., Job]) -> None:
        job = start(jobs.letters)
        self.begun(job)
        first = executor.logs(job.id)
        assert first == "é" * 499, "half a letter is kept for later"
        (job.folder / "go").touch()
        self.end(executor, job)
        assert first + executor.logs(job.id) == "é" * 1000 + "\n"

    # ------------------------------------------------------------------------------------------------ stop

    def test_stop(self, executor: Executor, start: Callable[..., Job]) -> None:
        job = start(jobs.sleep)
        self.begun(job)
        assert executor.poll(job.id) is None
        executor.stop(job.id)
        assert self.end(executor, job) == Exit(-15)
        executor.stop(job.id)

    def test_stop_before_it_has_begun(self, executor: Executor, start: Callable[..., Job]) -> None:
        job = start(jobs.sleep)
        executor.stop(job.id)
        assert self.end(executor, job) == Exit(-15)

    def test_one_that_says_goodbye(self, executor: Executor, start: Callable[..., Job]) -> None:
        job = start(jobs.polite)
        self.begun(job)
        executor.stop(job.id)
        assert self.end(executor, job) == Exit(0)
        assert executor.logs(job.id) == "goodbye\n"

    def test_one_that_does_not_listen(self, executor: Executor, start: Callable[..., Job]) -> None:
        job = start(jobs.stubborn)
        self.begun(job)
        began = time.monotonic()
        executor.stop(job.id, 0.5)
        assert self.end(executor, job) == Exit(-9)
        assert time.monotonic() - began >= 0.5

    def test_stop_ends_the_whole_family(self, executor: Executor, start: Callable[..., Job]) -> None:
        job = start(jobs.family)
        pids = self.family(job)
        executor.stop(job.id, 0.2)
        assert self.end(executor, job).code in (-15, -9)
        assert not any(map(alive, pids))

    def test_nothing_of_a_job_outlives_it(self, executor: Executor, start: Callable[..., Job]) -> None:
        job = start(jobs.family, end=0.1)
        pids = self.family(job)
        assert self.end(executor, job) == Exit(0)
        assert not any(map(alive, pids))

    @staticmethod
    def family(job: Job) -> list[int]:
        wait_for((job.folder / "pids").exists)
        pids = [int(pid) for pid in (job.folder / "pids").read_text().split()]
        assert len(pids) == 4
        return pids

    # ---------------------------------------------------------------------------------------------- limits

    @pytest.mark.parametrize("in_child", [False, True])
    def test_the_limit_on_memory(self, executor: Executor, start: Callable[..., Job], in_child: bool) -> None:
        ended = self.end(executor, start(jobs.eat, limits=Limits(memory_mb=300), in_child=in_child))
        assert ended.code == -9
        assert ended.limit is not None
        assert "300 MB" in ended.limit
        assert "memory_mb" in ended.limit

    def test_one_huge_allocation(self, executor: Executor, start: Callable[..., Job]) -> None:
        job = start(jobs.gulp, limits=Limits(memory_mb=300), bytes=8 << 30)
        ended = self.end(executor, job)
        assert ended.code == 1
        assert "memory_mb" in str(ended.limit)
        assert "MemoryError" in executor.logs(job.id)

    def test_less_than_the_limit(self, executor: Executor, start: Callable[..., Job]) -> None:
        limits = Limits(memory_mb=800, cpu_seconds=30, wall_seconds=60)
        assert self.end(executor, start(jobs.gulp, limits=limits, bytes=200 << 20)) == Exit(0)

    @pytest.mark.parametrize("how", [{}, {"deaf": True}, {"in_child": True}])
    def test_the_limit_on_processor_time(
        self, executor: Executor, start: Callable[..., Job], how: dict[str, bool]
    ) -> None:
        ended = self.end(executor, start(jobs.spin, limits=Limits(cpu_seconds=0.5), **how))
        assert ended.code < 0
        assert ended.limit is not None
        assert "0.5 s" in ended.limit
        assert "cpu_seconds" in ended.limit

    def test_the_limit_on_time(self, executor: Executor, start: Callable[..., Job]) -> None:
        began = time.monotonic()
        ended = self.end(executor, start(jobs.stubborn, limits=Limits(wall_seconds=0.7)))
        assert 0.7 <= time.monotonic() - began < 8
        assert ended.code == -9
        assert ended.limit is not None
        assert "0.7 s" in ended.limit
        assert "wall_seconds" in ended.limit
