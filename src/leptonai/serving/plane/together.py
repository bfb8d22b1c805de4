"""Requests that arrive in the same turn of the event loop, for one model and in the same words, are read, computed and answered as one.

Beside its model a request costs what its numbers cost, and the Python around them; here that Python runs once for all of them. What it
leaves to the long way (`Front.handle`), request by request: whatever is not plain, or not right, is to be looked at more closely or
counted by itself, or could not be computed together, so that nobody is harmed by who else asked.
"""

import time
from collections.abc import Callable
from typing import Any, Protocol

from leptonai.core.errors import Unavailable
from leptonai.serving.plane.batcher import Item
from leptonai.serving.plane.call import Answer, Call
from leptonai.serving.plane.outputs import Part
from leptonai.serving.plane.problems import failed
from leptonai.serving.plane.quick import Words
from leptonai.serving.plane.router import Route

_FEW = 2  # rows: a model that takes so long for them that it computes in a thread gains nothing here


class LongWay(Protocol):
    """What answers a request by itself."""

    def alone(self, call: Call) -> None:
        """Take it up."""

    def send(self, call: Call, route: Route | None, answer: Answer) -> None:
        """Send and count an answer that no model computed."""


class Group:
    """Requests that go together. It is open until the turn of the loop in which it began ends, or it is full."""

    __slots__ = ("_calls", "_ends", "_parsed", "_pieces", "_room", "_route", "_way", "words")

    def __init__(self, route: Route, words: Words, room: int, way: LongWay):
        """`room`: for so many requests; `way`: of those that have to go by themselves."""
        self.words = words
        self._route = route
        self._room = room
        self._way = way
        self._ends = False  # there is an outcome
        self._calls: list[Call] = []
        self._pieces: list[bytes] = []
        self._parsed = 0.0

    def add(self, call: Call, numbers: bytes) -> None:
        """Take a request. `numbers`: what the words stand around."""
        self._calls.append(call)
        self._pieces.append(numbers)
        if len(self._calls) == self._room:
            self._route.group = None

    def go(self) -> None:
        """Have them computed."""
        route = self._route
        if route.group is self:
            route.group = None
        try:
            inputs = route.replica.quick.together(self.words, self._pieces)
            if inputs is None:
                self._apart()
                return
            self._parsed = time.perf_counter()
            route.replica.compute(inputs, self._ended, len(self._calls))
        except Exception:  # whatever it is, each is told by itself what is wrong with it
            if self._ends:
                raise
            self._apart()

    def _apart(self) -> None:
        """Take each up by itself."""
        self._route.replica.release()
        for call in self._calls:
            self._route.tap.left += 1  # it is counted again
            self._way.alone(call)

    def _ended(self, item: Item) -> None:
        """Answer."""
        route, outcome = self._route, item.outcome
        self._ends = True
        if isinstance(outcome, Part):
            try:
                bodies, lines = route.writer.each(self.words.asked, outcome)
            except Exception:  # noqa: BLE001 - as in `go`
                self._apart()
                return
            route.replica.release()
            encoded = time.perf_counter()
            lines += route.head
            for call, body in zip(self._calls, bodies, strict=True):
                call.answer(Answer(200, body, lines))
            route.series.answered_together([call.start for call in self._calls], self._parsed, item, encoded)
        elif isinstance(outcome, Unavailable) and outcome.about.get("limit") == "deadline":
            route.replica.release()
            for call in self._calls:  # there is no time left to compute it by itself
                self._way.send(call, route, failed(call, outcome, route.head))
        else:
            self._apart()


def joins(call: Call, route: Route, way: LongWay, soon: Callable[[Callable[[], Any]], Any]) -> bool:
    """Have a request go with others where it may. `soon`: calls something when this turn of the loop ends."""
    tap = route.tap
    if call.alone or call.method != b"POST" or b"x-request-timeout-ms" in call.headers:
        return False
    if tap.left <= 1 or call.start >= tap.due or route.split is not None or route.answers is not None:
        return False
    group = route.group
    if group is None and route.replica.at_once < _FEW:
        return False
    found = route.replica.quick.plain(call.body, call.headers.get(b"inference-header-content-length"))
    if found is None:
        return False
    words, numbers = found
    if group is None or group.words is not words:
        route.replica.hold()
        group = route.group = Group(route, words, max(_FEW, route.replica.at_once), way)
        soon(group.go)
    tap.left -= 1
    group.add(call, numbers)
    return True
