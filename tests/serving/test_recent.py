"""Some requests are kept for a while, others go to the prediction log; none of it grows without bound."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.bundles import adder
from tests.support.plane import Plane, route

from leptonai.serving import frames, seen
from leptonai.serving.plane import recent
from leptonai.serving.plane.batcher import Item
from leptonai.serving.plane.keys import Keys
from leptonai.serving.plane.recent import NEVER, Sight, Watch, gap
from leptonai.serving.seen import Seen


def entry(number: int = 0, size: int = 8, **more: Any) -> Seen:
    fields: dict[str, Any] = {
        "service": "a", "time": float(number), "id": str(number), "model": "m", "version": "1", "variant": "stable",
        "status": 200, "seconds": 0.001, "rows": 1, "key": "-", "inputs": {"x": np.zeros((1, size), np.uint8)}, "outputs": {},
    }  # fmt: skip
    return Seen(**fields | more)


ROUTE = route()


def sight(now: float) -> Sight:
    """A request that was answered at that time."""
    item = Item({}, 1, 1.0, lambda _: None)
    return Sight(b"1", b"POST", b"/", {}, 8, 8, 200, ROUTE, {"x": np.zeros((1, 8), np.uint8)}, item, now, now)


def test_a_request_is_kept_with_what_went_in_and_came_out(plane: Plane) -> None:
    plane.load(a=adder(1))
    assert plane.process.recent("a") == []
    answer = plane.rows("a", {"x": 3.0})
    assert answer.status_code == 200
    (found,) = plane.process.recent("a")
    assert (found.service, found.status, found.rows, found.key) == ("a", 200, 1, "test")
    assert (found.id, found.model) == (answer.headers["x-request-id"], plane.table["a"])
    assert found.inputs["x"].tolist() == [3.0]
    assert [float(v.ravel()[0]) for v in found.outputs.values()] == [answer.json()["predictions"][0]["prediction"]]
    assert plane.process.recent("nobody") == []


def test_the_prediction_log_takes_its_share_and_is_taken_once(plane: Plane) -> None:
    plane.load(a=adder(1), b=adder(2))
    plane.process.watch({"a": 1.0, "b": 0.0})
    for number in range(20):
        for service in ("a", "b"):
            plane.rows(service, {"x": number})
    found, dropped = plane.process.logged()
    assert ([float(one.inputs["x"][0]) for one in found], dropped) == ([float(n) for n in range(20)], 0)
    assert plane.process.logged() == ([], 0)
    plane.rows("a", {"x": "none"})  # is refused before there are inputs
    assert plane.process.logged() == ([], 0)


def test_what_is_kept_has_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "KEPT", 5)
    monkeypatch.setattr(recent, "KEPT_BYTES", 1000)
    monkeypatch.setattr(recent, "ALL_BYTES", 1500)
    watch = Watch(Keys())
    for service in ("a", "b", "c"):
        for number in range(20):
            watch.tap(service)._keep(entry(number, 100 if service == "a" else 400))
            assert watch.held <= 1500
    assert [one.id for one in watch.recent("a")] == ["15", "16", "17", "18", "19"]
    assert [len(watch.recent(service)) for service in "bc"] == [2, 0]
    watch.only(["c"])
    assert (watch.held, watch.recent("a")) == (0, [])


def test_services_that_are_called_at_once_share_the_time_to_keep() -> None:
    def kept(services: int, pause: float, seconds: float) -> list[int]:
        """Call services in turn; return how many requests of each were kept."""
        watch, counts, now = Watch(Keys()), [0] * services, 1.0
        for number in range(round(seconds / pause)):
            tap, now = watch.tap(str(number % services)), now + pause
            if now >= tap.due:  # as whoever answers looks
                before = tap.due
                tap.look(sight(now))
                counts[number % services] += tap.due != before
        return counts

    assert kept(1, 0.001, 10.0)[0] == pytest.approx(10.0 / recent.EVERY_SECONDS, rel=0.1)
    many = kept(90, 0.001, 20.0)
    assert min(many) > 0.8 * max(many)  # nobody is left out
    assert sum(many) == pytest.approx(20.0 / recent.ALL_SECONDS, rel=0.1)
    assert kept(300, 0.1, 60.0) == [2] * 300  # who is called seldom is kept each time


def test_what_the_agent_does_not_fetch_is_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "LOG_BYTES", 1000)
    watch = Watch(Keys())
    for number in range(10):
        watch.log(entry(number, 300))
    assert ([one.id for one in watch.drain()], watch.dropped) == (["0", "1", "2"], 7)
    watch.log(entry(11, 300))
    assert [one.id for one in watch.drain()] == ["11"]


def test_a_share_is_drawn_at_random() -> None:
    assert (gap(1.0), gap(0.0)) == (1, NEVER)
    gaps = [gap(0.1) for _ in range(5000)]
    assert min(gaps) == 1
    assert 9 < sum(gaps) / len(gaps) < 11


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from((0.0, 0.05, 0.5, 1.0)), min_size=1, max_size=3))
def test_each_reason_has_its_own_share(shares: list[float]) -> None:
    tap = Watch(Keys()).tap("a")
    tap.tune(*shares, every=False)
    counts = [0] * len(shares)
    for _ in range(4000):
        tap.left -= 1
        if tap.left <= 0:
            counts = [count + reached for count, reached in zip(counts, tap._reached(), strict=True)]
    for share, count in zip(shares, counts, strict=True):
        assert abs(count - 4000 * share) <= 6 * (4000 * share * (1 - share)) ** 0.5


def test_arrays_go_from_one_process_to_another() -> None:
    words = np.array([["Zürich"], [""]], object)
    given = entry(inputs={"w": words, "n": np.arange(6.0).reshape(2, 3)}, outputs={"y": np.array([True, False])})
    said, parts = seen.pack([given, entry(1)])
    (found, other) = seen.unpack(said, frames.Frame({}, parts))
    assert other.id == "1"
    for side in ("inputs", "outputs"):
        for name, value in getattr(given, side).items():
            assert getattr(found, side)[name].tolist() == value.tolist()
            assert getattr(found, side)[name].dtype == value.dtype
