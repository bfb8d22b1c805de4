"""Sends what happens in a Run to the server: metrics, progress, log lines; in order, from one thread. What comes after a
silence is there within a tenth of a second, what goes on and on once a second: the processors have better to do.

What the Run's process prints goes to its file `output.log`; the sender follows that file, so that the last lines are at the
server before the Run ends. How far it came stands in `output.sent`: if the process dies, its agent sends the rest.
"""

import math
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from leptonai.core.errors import Busy, Fenced, LeptonError, Unauthenticated, Unavailable
from leptonai.core.nouns import utcnow

OUTPUT = "output.log"
SENT = "output.sent"
SHORTEST_PAUSE, LONGEST_PAUSE, GROWTH = 0.1, 1.0, 2  # seconds between two looks for something to send
AT_ONCE = 2_000
WAITING_LIMIT = 20_000
LINE_LIMIT = 8_192
CHUNK_BYTES = 4 * 2**20

Post = Callable[[list[dict[str, Any]]], object]


def fenced() -> None:
    """End this process at once: another attempt has the Run, and whatever this one still does is of no use."""
    sys.stdout.flush()
    os._exit(0)


def event(stream: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return an event as it goes over the wire."""
    return {"stream": stream, "body": body, "time": utcnow().isoformat()}


class Sender:
    """`put` takes events, a thread posts them. Server gone: it tries again until it is back; lost lease: `on_fenced`."""

    def __init__(self, post: Post, folder: Path | None = None, on_fenced: Callable[[], None] = fenced):
        self._post = post
        self._follow = None if folder is None else Follower(folder)
        self._on_fenced = on_fenced
        self._waiting: deque[dict[str, Any]] = deque()
        self._change = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)
        self._thread.start()

    def put(self, stream: str, body: dict[str, Any]) -> None:
        """Queue an event. Progress that was not sent yet is replaced. Waits when very many wait already."""
        with self._change:
            if stream == "progress" and self._waiting and self._waiting[-1]["stream"] == "progress":
                self._waiting.pop()
            while len(self._waiting) >= WAITING_LIMIT and not self._closing:
                self._change.wait(1.0)
            self._waiting.append(event(stream, body))

    def close(self, seconds: float | None = None) -> None:
        """Return when everything is at the server, or when the time is up."""
        with self._change:
            self._closing = True
            self._change.notify_all()
        self._thread.join(seconds)

    def _run(self) -> None:
        pause, silent = SHORTEST_PAUSE, 0.0
        while True:
            with self._change:
                self._change.wait_for(lambda: self._closing, pause)
                closing = self._closing
            sent = self._send_all(closing)
            if closing:
                return
            silent = 0.0 if sent else silent + pause
            if sent == {"progress"}:  # which says the same again soon
                pause = LONGEST_PAUSE
            elif sent:
                pause = min(pause * GROWTH, LONGEST_PAUSE)
            elif silent >= LONGEST_PAUSE:
                pause = SHORTEST_PAUSE

    def _send_all(self, closing: bool) -> set[str]:
        """Send what waits; return of which streams it was."""
        lines = self._follow.read(last=closing) if self._follow else []
        with self._change:
            events = [*self._waiting, *(event("log", {"line": line}) for line in lines)]
            self._waiting.clear()
            self._change.notify_all()
        for start in range(0, len(events), AT_ONCE):
            self._send(events[start : start + AT_ONCE])
        if self._follow:
            self._follow.sent()
        return {event["stream"] for event in events}

    def _send(self, events: list[dict[str, Any]]) -> None:
        try:
            if deliver(lambda: self._post(events)) is Fenced:
                self._on_fenced()
        except LeptonError as error:  # what cannot be kept is not worth a Run
            print(f"{len(events)} events were not kept: {error.message}", file=sys.stderr)


class Mute:
    """What a process beside the Run's own has for a Sender: it says nothing; what it prints goes to the same file."""

    def put(self, stream: str, body: dict[str, Any]) -> None:
        """Say nothing."""

    def close(self, seconds: float | None = None) -> None:
        """Do nothing."""


class Follower:
    """The lines of a file that grows, and how far they were sent."""

    def __init__(self, folder: Path):
        self._path = folder / OUTPUT
        self._mark = folder / SENT
        self._offset = self._said = unsent(folder)[0]

    def read(self, *, last: bool) -> list[str]:
        """Return the complete lines since the last call; with `last`, what is left too."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read(CHUNK_BYTES)
        except OSError:
            return []
        if not last:
            data = data[: data.rfind(b"\n") + 1] or (data if len(data) >= CHUNK_BYTES else b"")
        self._offset += len(data)
        return lines(data)

    def sent(self) -> None:
        """Note that all that was read is at the server."""
        if self._said != self._offset:
            self._mark.write_text(str(self._offset))
            self._said = self._offset


def unsent(folder: Path) -> tuple[int, bytes]:
    """Return how far a process's output was sent, and what was not."""
    mark, path = folder / SENT, folder / OUTPUT
    offset = int(mark.read_text() or 0) if mark.exists() else 0
    if not path.exists():
        return offset, b""
    with path.open("rb") as file:
        file.seek(offset)
        return offset, file.read(CHUNK_BYTES)


def lines(data: bytes) -> list[str]:
    """Return output as log lines: long ones are cut, and say so."""
    found = data.decode("utf-8", "replace").splitlines()
    return [line if len(line) <= LINE_LIMIT else f"{line[:LINE_LIMIT]} … ({len(line)} characters)" for line in found]


def finite(value: Any) -> float | None:
    """Return a metric as JSON has it: NaN and infinity become null."""
    number = float(value)
    return number if math.isfinite(number) else None


def deliver(call: Callable[[], Any], until: float | None = None) -> Any:
    """Call until the server answers. Returns its answer, or the class `Fenced` when the Run is no longer this attempt's.

    Gives up at `until` (seconds of `time.monotonic`) with `Unavailable`; raises every other error.
    """
    pause = 0.1
    while True:
        try:
            return call()
        except (Fenced, Unauthenticated):  # a token ends with its lease
            return Fenced
        except (Unavailable, Busy) as error:
            if until is not None and time.monotonic() + pause > until:
                raise
            time.sleep(min(error.retry_after or pause, 5.0))
            pause = min(pause * 2, 5.0)
        except LeptonError as error:
            if error.code != "error":
                raise
            time.sleep(pause)  # the server failed, which a restart may mend
            pause = min(pause * 2, 5.0)
