"""Requests that arrive in the same turn of the event loop, for one model and in the same words, are read, computed and answered as one.

Beside its model a request costs what its numbers cost, and the Python around them; here that Python runs once for all of them. What it
leaves to the long way (`Front.handle`), request by request: whatever is not plain, or not right, is to be looked at more closely or
counted by itself, or could not be computed together, so that nobody is harmed by who else asked.
"""

import time
from collections.abc import Callable
from typing import Any

from leptonai.core.errors import Unavailable
from leptonai.serving.plane.batcher import Item
from leptonai.serving.plane.call import Call
from leptonai.serving.plane.outputs import Part
from leptonai.serving.plane.problems import failed
from leptonai.serving.plane.quick import Words
from leptonai.serving.plane.router import Route

_FEW = 2  # rows: a model that takes so long for them that it computes in a thread gains nothing here


class Group:
    """Requests that go together. It is open until the turn of the loop in which it began ends, or it is full."""

    __slots__ = ("_alone", "_calls", "_parsed", "_pieces", "_room", "_route", "words")

    def __init__(self, route: Route, words: Words, room: int, alone: Callable[[Call], None]):
        """`room`: for so many requests; `alone`: takes one up that has to go by itself."""
        self.words = words
        self._route = route
        self._room = room
        self._alone = alone
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
        except Exception:  # noqa: BLE001 - whatever it is, each is told by itself what is wrong with it
            self._apart()

    def _apart(self) -> None:
        """Take each up by itself."""
        self._route.replica.release()
        for call in self._calls:
            self._route.tap.left += 1  # it is counted again
            self._alone(call)

    def _ended(self, item: Item) -> None:
        """Answer."""
        route, outcome = self._route, item.outcome
        if isinstance(outcome, Part):
            try:
                bodies, lines = route.writer.each(self.words.asked, outcome)
            except Exception:  # noqa: BLE001 - as in `go`
                self._apart()
                return
            encoded = time.perf_counter()
            lines += route.head
            for call, body in zip(self._calls, bodies, strict=True):
                call.connection.send_usual(call, lines, body)
            route.series.answered_together([call.start for call in self._calls], self._parsed, item, encoded)
            route.replica.release()
        elif isinstance(outcome, Unavailable) and outcome.about.get("limit") == "deadline":
            route.replica.release()
            for call in self._calls:  # there is no time left to compute it by itself
                answer = failed(call, outcome, route.head)
                call.answer(answer)
                route.series.refused(answer.status, time.perf_counter() - call.start)
        else:
            self._apart()


def joins(call: Call, route: Route, alone: Callable[[Call], None], soon: Callable[[Callable[[], Any]], Any]) -> bool:
    """Have a request go with others where it may. `soon`: calls something when this turn of the loop ends."""
    tap = route.tap
    if call.alone or b"x-request-timeout-ms" in call.headers:
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
        group = route.group = Group(route, words, max(_FEW, route.replica.at_once), alone)
        soon(group.go)
    tap.left -= 1
    group.add(call, numbers)
    return True
