"""Users' classes in workers of their own, beside a real plane: what they compute, and all they can do wrong."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.support import bundles
from tests.support.predictors import Doubler, Pool, Shop, packed, shop
from tests.support.site import until


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Shop, Pool]]:
    with shop(tmp_path_factory.mktemp("shop")) as made:
        made.plane.load(bundles.adder(1))
        yield made, made.serve(packed(Doubler, "double", workers=2, memory_mb=300))


@pytest.fixture
def own(tmp_path: Path) -> Iterator[tuple[Shop, Pool]]:
    """For those whose workers do not survive."""
    with shop(tmp_path) as made:
        made.plane.load(bundles.adder(1))
        yield made, made.serve(packed(Doubler, "double", workers=2, memory_mb=300))


def ask(made: Shop, *values: float, **headers: str) -> httpx.Response:
    body = {"rows": [{"x": x} for x in values]}
    return made.plane.client.post("/services/double/predict", json=body, headers=headers)


def test_what_it_computes_comes_back_by_name(running: tuple[Shop, Pool]) -> None:
    made, pool = running
    answer = ask(made, 1, 2.5)
    assert answer.status_code == 200, answer.text
    found = answer.json()["predictions"]
    assert [row["y"] for row in found] == [2.0, 5.0]
    assert found[0]["pid"] in pool.pids()
    assert os.getpid() not in pool.pids()
    tensor = {"name": "x", "shape": [3], "datatype": "FP64", "data": [1, 2, 3]}
    said = made.plane.client.post("/v2/models/double/infer", json={"inputs": [tensor]}).json()
    assert said["outputs"][0] == {"name": "y", "datatype": "FP64", "shape": [3], "data": [2.0, 4.0, 6.0]}
    assert (
        made.plane.client.post("/v1/models/double:predict", json={"instances": [7]}).json()["predictions"][0]["y"] == 14
    )
    assert ask(made, "much").status_code == 422  # type: ignore[arg-type]


def test_requests_are_computed_together_up_to_its_cap_and_a_large_one_in_slices(running: tuple[Shop, Pool]) -> None:
    made, _ = running
    found = ask(made, *range(200)).json()["predictions"]
    assert [row["y"] for row in found] == [2.0 * x for x in range(200)]
    assert max(row["rows"] for row in found) == 64


def test_an_exception_tells_its_kind_and_no_more_and_harms_no_neighbour(running: tuple[Shop, Pool]) -> None:
    made, pool = running
    before = pool.pids()
    answers = together(made, [-1, 1, -1, 2, 3, 4, 5])
    assert [one.status_code for one in answers] == [500, 200, 500, 200, 200, 200, 200]
    assert "ValueError" in answers[0].text
    assert "secret" not in answers[0].text
    assert "Traceback" not in answers[0].text
    log = "".join(path.read_text() for path in (made.folder / "logs").glob("service-double-1-*.log"))
    assert "a secret in the words of the error" in log
    assert "no output 'pid'" in ask(made, -6).json()["error"]
    assert pool.pids() == before


def test_what_kills_its_worker_is_tried_twice_more_and_takes_nobody_with_it(own: tuple[Shop, Pool]) -> None:
    made, pool = own
    for x, cause in ((-2, "with code 3"), (-5, "by signal 6"), (-4, "memory")):
        answers = together(made, [1, x, 2, 3, 4])
        assert [one.status_code for one in answers] == [200, 503, 200, 200, 200], [one.text for one in answers]
        assert cause in answers[1].json()["error"]
        assert "limit" in answers[1].json()["error"] or "3 workers died" in answers[1].json()["error"]
        assert made.plane.rows("adder", {"x": 1}).status_code == 200
    until(lambda: len(pool.pids()) == 2)


def test_a_computation_without_end_is_ended_and_the_next_one_computed(own: tuple[Shop, Pool]) -> None:
    made, pool = own
    before = set(pool.pids())
    assert ask(made, -3, **{"x-request-timeout-ms": "100"}).status_code == 504
    until(lambda: len(set(pool.pids()) - before) >= 1 and len(pool.pids()) == 2)
    answers = together(made, [-3, 1, 2])
    assert [one.status_code for one in answers] == [503, 200, 200]
    assert "longer than 2 s" in answers[0].json()["error"]


def test_a_worker_that_is_killed_again_and_again_costs_no_request(own: tuple[Shop, Pool]) -> None:
    made, pool = own
    stop, codes, lock = threading.Event(), list[int](), threading.Lock()

    def load() -> None:
        with httpx.Client(base_url=made.plane.url, timeout=30, trust_env=False) as client:
            while not stop.is_set():
                code = client.post("/services/double/predict", json={"rows": [{"x": 2000}]}).status_code
                with lock:
                    codes.append(code)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(4):
        time.sleep(0.5)
        for pid in until(pool.pids)[:1]:
            os.kill(pid, signal.SIGKILL)
    stop.set()
    for thread in threads:
        thread.join()
    assert set(codes) == {200}, {code: codes.count(code) for code in codes}
    assert len(codes) >= 4
    until(lambda: len(pool.pids()) == 2)


def test_a_worker_that_spoils_what_it_says_of_itself_harms_only_itself(own: tuple[Shop, Pool]) -> None:
    made, pool = own
    ask(made, -7)
    assert made.plane.rows("adder", {"x": 1}).status_code == 200
    assert ask(made, 1).status_code == 200
    until(lambda: len(pool.pids()) == 2)


def together(made: Shop, values: list[float]) -> list[httpx.Response]:
    """Ask at once, each over a connection of its own."""
    answers: dict[int, httpx.Response] = {}

    def one(number: int, x: float) -> None:
        body = {"rows": [{"x": x}]}
        answers[number] = httpx.post(
            f"{made.plane.url}/services/double/predict", json=body, timeout=60, trust_env=False
        )

    threads = [threading.Thread(target=one, args=pair) for pair in enumerate(values)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [answers[number] for number in range(len(values))]


def test_without_any_worker_it_says_so_and_why(tmp_path: Path) -> None:
    with shop(tmp_path) as made:
        pool = made.serve(packed(Doubler, "double", start_seconds=20))
        pool.workers._slots[0]._files = {"code": b"junk", "predictor.json": b"{}"}
        for pid in pool.pids():
            os.kill(pid, signal.SIGKILL)
        until(lambda: pool.workers.trouble)
        assert made.plane.client.get("/v2/models/double/ready").status_code == 503
        answer = ask(made, 1, **{"x-request-timeout-ms": "300"})
        assert answer.status_code == 503
        assert "no worker of it runs" in answer.json()["error"]
