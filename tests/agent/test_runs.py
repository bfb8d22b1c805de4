"""Runs from claim to end, with a real server, agent and processes."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.site import Home, alive, until


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    made = Home(tmp_path_factory.mktemp("site") / "home").start()
    made.ended(made.run("nothing"))  # the fork server is warm from here on
    yield made
    made.stop()


def test_a_run_succeeds(site: Home) -> None:
    run = site.ended(site.run("nothing"))
    assert (run["state"], run["result"], run["attempt"]) == ("succeeded", {"done": "nothing"}, 1)
    until(lambda: not list((site.folder / "jobs").glob(f"{run['id']}*")))


def test_what_it_says_is_there_when_it_has_ended(site: Home) -> None:
    id = site.run("talk")
    assert site.ended(id)["state"] == "succeeded"
    metrics = site.events(id, "metric")
    assert metrics[2] == {"step": 2, "loss": pytest.approx(1 / 3), "odd": None}
    assert len(metrics) == 5
    assert site.events(id, "progress")[-1] == {"done": 5.0, "total": 5.0, "unit": "steps"}
    lines = site.log(id)
    assert [f"printed {i}" for i in range(5)] == [line for line in lines if line.startswith("printed")]
    assert "said" in lines
    assert any(line.startswith("no newline at the end") for line in lines)


def test_a_flood_of_lines_arrives_in_order(site: Home) -> None:
    id = site.run("flood")
    assert site.ended(id, 60)["state"] == "succeeded"
    lines = site.log(id)
    assert [line for line in lines if line.startswith("line ")] == [f"line {i}" for i in range(20_000)]
    assert lines[-1].endswith("(100000 characters)")


@pytest.mark.parametrize(
    ("do", "says", "attempts"),
    [
        ("invalid", "column 'a' does not fit", 1),
        ("bug", "KeyError: 'nothing'", 1),
        ("exit", "called sys.exit(3)", 1),
        ("not_json", "JSON", 1),
        ("hard_exit", "ended with code 3", 2),
        ("segfault", "SIGSEGV", 2),
    ],
)
def test_a_run_that_fails_says_why(site: Home, do: str, says: str, attempts: int) -> None:
    run = site.ended(site.run(do, max_attempts=2))
    assert (run["state"], run["attempt"]) == ("failed", attempts)
    assert says in run["error"]["message"]
    assert "\n" not in run["error"]["message"]


@pytest.mark.parametrize(
    ("do", "line"), [("bug", "KeyError: 'nothing'"), ("hard_exit", "hard words"), ("segfault", "Segmentation fault")]
)
def test_the_last_words_are_in_the_log(site: Home, do: str, line: str) -> None:
    id = site.run(do, max_attempts=1)
    site.ended(id)
    assert any(line in said for said in site.log(id)), site.log(id)


def test_what_may_be_mended_is_tried_again(site: Home, tmp_path: Path) -> None:
    run = site.ended(site.run("corrupt", spec={"path": str(tmp_path / "tries")}))
    assert (run["state"], run["attempt"]) == ("failed", 3)
    assert run["error"]["code"] == "corrupt"
    assert (tmp_path / "tries").read_text() == "xxx"


def test_a_process_that_is_killed_goes_on_from_its_checkpoint(site: Home) -> None:
    run = site.ended(site.run("crash_once"))
    assert (run["state"], run["attempt"]) == ("succeeded", 2)
    assert run["result"] == {"state": "third", "more": 300_000}
    blobs = [p for p in (site.folder / "blobs").rglob("*") if p.is_file() and p.stat().st_size > 300_000]
    assert len(blobs) == 2, "the last one, and the one before"


def test_a_checkpoint_that_cannot_be_read_is_followed_by_the_one_before(site: Home) -> None:
    id = site.run("damaged_once")
    run = site.ended(id)
    assert (run["state"], run["attempt"], run["result"]) == ("succeeded", 2, {"state": "first"})
    assert any("the one before is taken" in line for line in site.log(id))


def running(site: Home, do: str, path: Path, **more: Any) -> tuple[str, int]:
    id = site.run(do, spec={"path": str(path)}, **more)
    return id, int(until(lambda: path.exists() and path.read_text()))


@pytest.mark.parametrize("do", ["sleep", "swallow", "stubborn"])
def test_a_cancelled_run_stops(site: Home, do: str, tmp_path: Path) -> None:
    id, pid = running(site, do, tmp_path / "pid")
    site.http.call("POST", f"/runs/{id}/cancel")
    assert site.ended(id)["state"] == "cancelled"
    until(lambda: not alive(pid))


def test_a_limit_that_is_broken_is_named(site: Home, tmp_path: Path) -> None:
    id, pid = running(site, "sleep", tmp_path / "pid", limits={"wall_seconds": 1.0})
    run = site.ended(id)
    assert (run["state"], run["attempt"]) == ("failed", 1)
    assert "wall" in run["error"]["message"]
    assert not alive(pid)


def test_a_process_that_is_killed_is_named_with_its_signal(site: Home, tmp_path: Path) -> None:
    id, pid = running(site, "sleep", tmp_path / "pid", max_attempts=1)
    os.kill(pid, signal.SIGKILL)
    assert "SIGKILL" in site.ended(id)["error"]["message"]


def test_a_run_sees_no_key_but_its_own(site: Home) -> None:
    result = site.ended(site.run("secrets"))["result"]
    assert result["key"] == []
    assert "LEPTONAI_API_KEY" not in result["environment"]


def test_two_runs_at_once_and_the_third_waits(site: Home, tmp_path: Path) -> None:
    first, second = (running(site, "sleep", tmp_path / name) for name in "ab")
    third = site.run("nothing")
    assert site.record(third)["state"] == "queued"
    site.http.call("POST", f"/runs/{first[0]}/cancel")
    assert site.ended(third)["state"] == "succeeded"
    site.http.call("POST", f"/runs/{second[0]}/cancel")
    site.ended(second[0])


def test_the_site_says_what_it_is(site: Home) -> None:
    facts = site.http.call("GET", "/sites/home")["facts"]
    assert facts["cores"] >= 1
    assert facts["memory_mb"] > 100
    assert "sklearn" in facts["libraries"]
