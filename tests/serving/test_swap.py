"""Versions change under load, and no accepted request fails; a bad version never takes the place of a good one."""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any

import httpx
import pytest
from tests.support import bundles
from tests.support.plane import Plane

from leptonai.core.errors import Invalid
from leptonai.core.runtimes import Variant
from leptonai.serving.table import Line


class Callers:
    """Closed-loop clients: each asks again as soon as it has its answer."""

    def __init__(self, plane: Plane, service: str, count: int = 4):
        self.answers: Counter[Any] = Counter()
        self.wrong: list[Any] = []
        self._ask = (plane.url, f"/services/{service}/predict")
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(count)]

    def _run(self) -> None:
        with httpx.Client(base_url=self._ask[0], timeout=60, trust_env=False) as client:
            while not self._stop.is_set():
                try:
                    answer = client.post(self._ask[1], json={"rows": [{"x": 1}, {"x": 2}]})
                    first, second = (one["prediction"] for one in answer.json()["predictions"])
                    version = int(first) // 1000
                    if (first, second) != (1000 * version + 1, 1000 * version + 2) or answer.json()[
                        "version"
                    ] != version:
                        self.wrong.append(answer.text)
                    self.answers[version] += 1
                except Exception as error:
                    self.wrong.append(repr(error))

    def wait_for_more(self, count: int) -> None:
        before = sum(self.answers.values())
        while sum(self.answers.values()) < before + count:
            assert not self.wrong, self.wrong[:3]
            time.sleep(0.001)

    def __enter__(self) -> "Callers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_twenty_swaps_good_and_broken_fail_no_request(plane: Plane) -> None:
    plane.load(bundles.adder(1))
    with Callers(plane, "adder") as callers:
        callers.wait_for_more(10)
        for version in range(2, 22):
            if version % 2:
                model, files = bundles.broken(version, bundles.BROKEN[version // 2 % len(bundles.BROKEN)])
                with pytest.raises(Invalid) as caught:
                    plane.process.load(model, files)
                assert caught.value.message
            else:
                plane.load(bundles.adder(version))
            callers.wait_for_more(10)
    assert callers.wrong == []
    assert set(callers.answers) == {1, *range(2, 22, 2)}


@pytest.mark.parametrize("how", bundles.BROKEN)
def test_a_broken_version_says_why(plane: Plane, how: str) -> None:
    plane.load(bundles.adder(1))
    model, files = bundles.broken(2, how)
    with pytest.raises(Invalid) as caught:
        plane.process.load(model, files)
    assert len(caught.value.message) > 20
    with pytest.raises(Invalid, match="not loaded"):
        plane.process.route([Line.one("adder", model.id, True)])
    assert plane.rows("adder", {"x": 1}).json()["version"] == 1


def test_services_do_not_know_each_other(plane: Plane) -> None:
    plane.load(bundles.adder(1), bundles.people(), other=bundles.adder(7))
    assert plane.rows("adder", {"x": 1}).json()["version"] == 1
    assert plane.rows("other", {"x": 1}).json()["version"] == 7
    del plane.table["adder"]
    plane.process.route([Line.one(name, id, True) for name, id in plane.table.items()])
    gone = plane.rows("adder", {"x": 1})
    assert gone.status_code == 404
    assert "people" in gone.json()["detail"]
    assert plane.rows("other", {"x": 1}).status_code == 200
    plane.load(bundles.adder(1))
    assert plane.rows("adder", {"x": 1}).status_code == 200


def test_one_version_may_answer_under_two_names(plane: Plane) -> None:
    same = bundles.adder(4)
    plane.load(same, again=same)
    assert plane.rows("adder", {"x": 1}).json() == plane.rows("again", {"x": 1}).json()


def test_a_bad_neighbour_in_a_batch_harms_nobody(plane: Plane) -> None:
    plane.load(bundles.fussy())
    found: list[tuple[int, httpx.Response]] = []

    def ask(where: int) -> None:
        with httpx.Client(base_url=plane.url, timeout=60, trust_env=False) as client:
            for _ in range(50):
                found.append((where, client.post("/services/fussy/predict", json={"rows": [{"where": where}]})))

    threads = [threading.Thread(target=ask, args=(where,)) for where in (0, 1, 99, 0, 1, 99)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for where, answer in found:
        if where == 99:
            assert answer.status_code == 422
            assert "could not compute" in answer.json()["detail"]
        else:
            assert answer.json()["predictions"] == [{"prediction": where + 0.5}]


def test_it_ends_when_its_agent_hangs_up(plane: Plane) -> None:
    plane.load(bundles.adder(1))
    assert plane.client.get("/v2/health/ready").json() == {"ready": True}
    plane.process._line.close()
    assert plane.process._process.wait(10) == 0


def test_callers_wait_until_it_is_known_what_answers(plane: Plane) -> None:
    with ThreadPoolExecutor(1) as pool:
        early = pool.submit(plane.rows, "adder", {"x": 1})
        time.sleep(0.5)
        assert not early.done()
        plane.load(bundles.adder(1))
        assert early.result().status_code == 200


def test_a_plane_without_a_service_says_so(plane: Plane) -> None:
    plane.process.route([])
    assert plane.client.get("/v2/health/ready").json() == {"ready": True}
    assert "none yet" in plane.rows("adder", {"x": 1}).text


def test_a_change_of_the_way_to_compute_fails_no_request(plane: Plane) -> None:
    ways = [Variant("onnx", threads=2), Variant("openvino"), None]
    if find_spec("openvino") is None:
        del ways[1]
    model, files = bundles.adder(1)
    plane.load((model, files))
    with Callers(plane, "adder") as callers:
        for way in ways * 3:
            plane.process.load(model, files, way=way)
            callers.wait_for_more(20)
        with pytest.raises(Invalid, match="in fp32, not in bf16"):
            plane.process.load(model, files, way=Variant("onnx", precision="bf16"))
        callers.wait_for_more(20)
    assert not callers.wrong
    assert set(callers.answers) == {1}
