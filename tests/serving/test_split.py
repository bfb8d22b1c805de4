"""Two versions answer for one service: the shares are right, a caller stays, and the new one can hurt nobody."""

import threading
import time
from collections import Counter
from typing import Any

import httpx
import pytest
from tests.support import bundles
from tests.support.bundles import Bundle
from tests.support.plane import Plane, route
from tests.support.site import until

from leptonai.serving.plane.split import Split
from leptonai.serving.table import Line, Share
from leptonai.serving.tally import BOUNDS, Of, Tallies, Tally


class FakeCall:
    def __init__(self, **headers: str):
        self.headers = {name.replace("_", "-").encode(): text.encode() for name, text in headers.items()}
        self.pinned: str | None = None

    def identify(self) -> bytes:
        return self.headers[b"x-request-id"]


def split(percent: int, **more: Any) -> Split:
    line = Line("s", (Share("stable", "m1", 100 - percent), Share("canary", "m2", percent)), **more)
    made = Split(line, Tallies())
    made.install({name: route(name) for name in ("stable", "canary")})
    return made


@pytest.mark.parametrize("percent", [0, 1, 5, 25, 50, 100])
@pytest.mark.parametrize("sticky", ["", "x-user"])
def test_the_shares_are_right(percent: int, sticky: str) -> None:
    made, many = split(percent, sticky=sticky, salt="a"), 100_000
    got = Counter(made.pick(FakeCall(x_user=f"u{i}")).variant for i in range(many))  # type: ignore[arg-type]
    assert abs(got["canary"] / many * 100 - percent) < 0.5


def test_who_is_in_stays_in_while_the_share_grows() -> None:
    calls = [FakeCall(authorization=f"Bearer {i}") for i in range(2000)]
    before: set[int] = set()
    for percent in (1, 5, 25, 50, 100):
        made = split(percent, sticky="key", salt="a", step=percent)
        inside = {i for i, call in enumerate(calls) if made.pick(call).variant == "canary"}  # type: ignore[arg-type]
        assert before <= inside
        before = inside
    other = split(25, sticky="key", salt="b")
    assert {i for i, call in enumerate(calls) if other.pick(call).variant == "canary"} != before  # type: ignore[arg-type]


def test_one_variant_costs_nothing_and_many_little() -> None:
    made = split(50)
    call: Any = FakeCall()
    times = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(2000):
            made.pick(call)
        times.append((time.perf_counter() - start) / 2000)
    assert min(times) < 20e-6


def test_a_tally_travels_as_a_note() -> None:
    one, two = Tallies(), Tallies()
    for tallies in (one, two):
        tally = tallies.of(Of("s", "a", 0, "canary"))
        for seconds in (1e-6, 0.002, 0.002, 500.0):
            tally.count(seconds, failed=False)
        tally.count(1.0, failed=True)
        tally.compare(0.5)
        tally.tell(1.0)
    one.add(two.note())
    tally = one.of(Of("s", "a", 0, "canary"))
    assert (tally.asked, tally.failed, sum(tally.counts), tally.compared, tally.agreed) == (10, 2, 8, 2, 1.0)
    assert tally.counts[0] == tally.counts[len(BOUNDS)] == 2
    one.keep([])
    assert one.note() == []
    empty = Tally()
    empty.add(Tally().note())
    assert sum(empty.counts) == 0


# ------------------------------------------------------------------------------------------- on a real plane


def routed(plane: Plane, stable: Bundle, other: Bundle, variant: str, percent: int, **more: Any) -> None:
    for model, files in (stable, other):
        plane.process.load(model, files)
    first = 100 - percent if variant == "canary" else 100
    shares = (Share("stable", stable[0].id, first), Share(variant, other[0].id, percent))
    plane.process.route([Line("sum", shares, public=True, salt="r", **more)])


def metric(plane: Plane, variant: str, code: str = "200") -> int:
    lines = plane.client.get("/metrics").text.splitlines()
    found = [
        line for line in lines if line.startswith("leptonai_inference_requests_total") and f'code="{code}"' in line
    ]
    return sum(int(line.split()[-1]) for line in found if f'variant="{variant}"' in line)


def test_each_answer_says_which_variant_it_is_of(plane: Plane) -> None:
    routed(plane, bundles.adder(1), bundles.adder(2), "canary", 50)
    seen: Counter[tuple[str, str, float]] = Counter()
    for _ in range(200):
        answer = plane.rows("sum", {"x": 1})
        head = answer.headers
        seen[head["x-leptonai-variant"], head["x-leptonai-version"], answer.json()["predictions"][0]["prediction"]] += 1
    assert set(seen) == {("stable", "1", 1001.0), ("canary", "2", 2001.0)}
    assert min(seen.values()) > 50
    assert (metric(plane, "stable"), metric(plane, "canary")) == (
        seen["stable", "1", 1001.0],
        seen["canary", "2", 2001.0],
    )
    named = plane.client.post("/v2/models/sum/versions/2/infer", json=v2(1.0))
    assert named.headers["x-leptonai-variant"] == "canary"
    assert plane.client.get("/v2/models/sum/versions/3").status_code == 404


def v2(x: float) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "datatype": "FP64", "shape": [1], "data": [x]}]}


def test_what_a_canary_cannot_answer_the_stable_version_answers(plane: Plane) -> None:
    bad = bundles.failing(2)
    routed(plane, bundles.adder(1), bad, "canary", 50)
    for i in range(100):
        answer = plane.rows("sum", {"x": float(i)}) if i % 2 else plane.client.post("/v2/models/sum/infer", json=v2(i))
        assert answer.status_code == 200, answer.text
    assert metric(plane, "canary", "503") + metric(plane, "canary", "422") > 10
    assert metric(plane, "stable") == 100 - metric(plane, "canary")
    wrong = [plane.rows("sum", {"y": 1}) for _ in range(20)]  # what is the caller's fault stays it
    assert {answer.status_code for answer in wrong} == {422}


def test_a_shadow_gets_copies_and_nobody_its_answers(plane: Plane) -> None:
    routed(plane, bundles.adder(1), bundles.failing(2), "shadow", 100)
    for i in range(50):
        answer = plane.rows("sum", {"x": float(i)})
        assert (answer.status_code, answer.headers["x-leptonai-variant"]) == (200, "stable")
    assert metric(plane, "shadow") == 0


def test_callers_say_which_version_is_better(plane: Plane) -> None:
    routed(plane, bundles.adder(1), bundles.adder(2), "canary", 50, test=True, sticky="x-user")
    for i in range(60):
        headers = {"x-user": f"u{i}"} if i % 2 else {}
        answer = plane.client.post("/services/sum/predict", json={"rows": [{"x": 1}]}, headers=headers)
        said = {"request_id": answer.headers["x-request-id"], "value": 0.5}
        told = plane.client.post("/services/sum/feedback", json=said, headers=headers).json()
        assert told == {
            "request_id": said["request_id"],
            "variant": answer.headers["x-leptonai-variant"],
            "counted": True,
        }
        again = plane.client.post("/services/sum/feedback", json=said, headers=headers).json()
        assert again["counted"] is False
    for bad in (
        b"{",
        b"[]",
        b'{"request_id": 3, "value": 1}',
        b'{"request_id": "a", "value": 2}',
        b'{"request_id": "a"}',
    ):
        assert plane.client.post("/services/sum/feedback", content=bad).status_code == 422
    plane.load(sum=bundles.adder(1))
    none = plane.client.post("/services/sum/feedback", json={"request_id": "a", "value": 1})
    assert (none.status_code, "tests no two versions" in none.text) == (409, True)
    assert httpx.get(f"{plane.url}/services/sum/feedback", trust_env=False).status_code == 405


def test_shares_change_under_load_and_nothing_fails(plane: Plane) -> None:
    one, two = bundles.adder(1), bundles.adder(2)
    routed(plane, one, two, "canary", 0)
    stop, wrong, seen = threading.Event(), list[str](), Counter[str]()

    def ask() -> None:
        with httpx.Client(base_url=plane.url, timeout=60, trust_env=False) as client:
            while not stop.is_set():
                try:
                    answer = client.post("/services/sum/predict", json={"rows": [{"x": 1}]})
                    seen[answer.headers["x-leptonai-variant"]] += 1
                    assert answer.json()["predictions"][0]["prediction"] in (1001.0, 2001.0)
                except Exception as error:
                    wrong.append(repr(error))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for step, percent in enumerate((1, 50, 100, 25, 0, 75)):
        before = seen.total()
        until(lambda b=before: wrong or seen.total() > b + 20)  # type: ignore[misc]
        routed(plane, one, two, "canary", percent, step=step, compare=20.0)
    before = seen.total()
    until(lambda: wrong or seen.total() > before + 20)
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert set(seen) == {"stable", "canary"}
