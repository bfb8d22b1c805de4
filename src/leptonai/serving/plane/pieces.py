"""Answers in pieces, as a plane gets them from workers: many at once over one line to each, at the pace of each client.

A worker makes `WINDOW` pieces ahead at most; `Ticket.more` tells it what was read. An answer of which nothing came yet when its
worker died is begun again with another one; one that was begun ends with an error.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from leptonai.core.errors import Busy, Corrupt, LeptonError, Unavailable, Unsupported
from leptonai.serving import arrays, frames, pulse
from leptonai.serving.plane.crew import Crew
from leptonai.serving.plane.line import Line
from leptonai.serving.plane.workers import CAUSE_SECONDS, REPLAYS, error_of
from leptonai.serving.workers import STREAM, Work, slot, why

AT_ONCE = 512  # of one version in one plane
CREDIT = 8  # pieces that are read before the worker is told

Took = Callable[[bytes], None]
Ended = Callable[[LeptonError | None], None]


class Piecework:
    """The lines to the workers of one version. Used on the event loop only."""

    def __init__(self, name: str, folder: Path, work: Work, numbers: Sequence[int] | None = None):
        """`numbers`: of the workers there are; None: as many as the version says."""
        self._name = name
        self._folder = folder
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Ticket] = deque()  # for a worker
        self._ids = 0
        self.running = 0
        self.crew = Crew(lambda number: Seat(self, slot(folder, number)))
        self.crew.change(range(work.workers) if numbers is None else numbers)

    def begin(self, inputs: Mapping[str, Any], took: Took, ended: Ended) -> "Ticket":
        """Ask for the answer to one row: `took` gets each piece, JSON, and `ended` is called once. Raises `Busy`, `Invalid`."""
        if len(next(iter(inputs.values()))) != 1:
            raise Unsupported("an answer in pieces is for one row: send one")
        if self.running >= AT_ONCE:
            raise Busy(f"{self._name} gives {AT_ONCE} answers in pieces already: try again", retry_after=1.0)
        header, parts = arrays.pack(inputs)
        ticket = Ticket(self, {"op": "begin", **header}, parts, took, ended)
        self.running += 1
        self._loop.call_later(self._work.seconds, self._late, ticket)
        self.place(ticket)
        return ticket

    def place(self, ticket: "Ticket") -> None:
        """Give it to the worker that has the fewest, or keep it until there is one."""
        up = [seat for seat in self.crew.seats if seat.line.up]
        if not up:
            self._waiting.append(ticket)
            return
        self._ids += 1
        min(up, key=Seat.load).take(self._ids, ticket)

    def changed(self) -> None:
        """Take note that a worker came."""
        waiting, self._waiting = self._waiting, deque()
        for ticket in waiting:
            if not ticket.done:
                self.place(ticket)

    def lost(self, ticket: "Ticket") -> None:
        """Take note that the worker died that made an answer."""
        ticket.deaths += 1
        if not ticket.pieces and ticket.deaths <= REPLAYS:
            self.place(ticket)
        else:
            self._loop.call_later(CAUSE_SECONDS, self._give_up, ticket)

    def _give_up(self, ticket: "Ticket") -> None:
        ticket.end(Unavailable(f"{self._name}: its worker died: {why(self._folder) or 'see the log of the agent'}"))

    def _late(self, ticket: "Ticket") -> None:
        if ticket.seat is None:  # it was never begun, or is to be begun again
            ticket.end(Unavailable(f"{self._name}: no worker of it runs: {why(self._folder) or 'it is being started'}"))

    def close(self) -> None:
        """Hang up."""
        self.crew.close()


class Ticket:
    """One answer in pieces. `more` and `cancel` are for who reads it."""

    def __init__(
        self, of: Piecework, header: dict[str, Any], parts: list[bytes | memoryview], took: Took, ended: Ended
    ):
        self.header = header
        self.parts = parts
        self.deaths = 0
        self.pieces = 0  # that came
        self.done = False
        self.seat: Seat | None = None
        self.id = 0
        self._of = of
        self._took = took
        self._ended = ended
        self._read = 0

    def more(self) -> None:
        """Take note that a piece was read, so that another one may be made."""
        self._read += 1
        if self._read >= CREDIT and self.seat is not None:
            self.seat.send({"op": "more", "id": self.id, "count": self._read})
            self._read = 0

    def cancel(self) -> None:
        """Want no more; `ended` is not called."""
        if not self.done:
            self.done = True
            self._of.running -= 1
            if self.seat is not None:
                self.seat.drop(self)

    def took(self, data: bytes) -> None:
        """Hand on a piece."""
        self.pieces += 1
        self._took(data)

    def end(self, error: LeptonError | None) -> None:
        """Say that this was all, or why there is no more."""
        if not self.done:
            self.done = True
            self._of.running -= 1
            self._ended(error)


class Seat:
    """One worker, as this plane sees it."""

    def __init__(self, of: Piecework, folder: Path):
        self._of = of
        self._folder = folder
        self._leaving = False
        self._tickets: dict[int, Ticket] = {}
        self.line = Line(folder / STREAM, self._heard, self._changed)
        self.line.open()

    def load(self) -> tuple[int, int]:
        """Return how much it has to do: what we gave it, and what it says."""
        found = pulse.read(self._folder)
        return len(self._tickets), 0 if found is None else found.waiting

    def take(self, id: int, ticket: Ticket) -> None:
        """Have an answer made."""
        ticket.id, ticket.seat = id, self
        self._tickets[id] = ticket
        self.line.send(frames.quick({**ticket.header, "id": id}, ticket.parts))

    def send(self, header: dict[str, Any]) -> None:
        """Tell the worker."""
        if self.line.up:
            self.line.send(frames.quick(header))

    def drop(self, ticket: Ticket) -> None:
        """Let an answer be given up."""
        if self._tickets.pop(ticket.id, None) is not None:
            self.send({"op": "cancel", "id": ticket.id})
        self._end_if_done()

    def leave(self) -> None:
        """Have nothing more begun there, and hang up when the answers that it makes are at their end."""
        self._leaving = True
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._leaving and not self._tickets:
            self.line.close()

    def _heard(self, frame: frames.Frame) -> None:
        id, op = frame.header.get("id"), frame.header.get("op")
        ticket = self._tickets.get(id) if isinstance(id, int) else None
        if ticket is None:  # it was given up
            return
        if op == "piece" and len(frame.parts) == 1:
            ticket.took(bytes(frame.parts[0]))
            return
        self._tickets.pop(ticket.id)
        ticket.seat = None
        if op not in ("end", "failed"):
            raise Corrupt("a worker said what nobody understands")
        ticket.end(None if op == "end" else error_of(frame))
        self._end_if_done()

    def _changed(self, up: bool) -> None:
        if up:
            self._of.changed()
            return
        tickets, self._tickets = self._tickets, {}
        for ticket in tickets.values():
            ticket.seat = None
            if not ticket.done:
                self._of.lost(ticket)
        self._end_if_done()

    def close(self) -> None:
        """Hang up."""
        self._tickets.clear()
        self.line.close()
