"""``POST /services/NAME/stream``: the answer to one row in pieces, as server-sent events.

::

    data: {"token": "Hel"}          each piece that the service's class yields, as JSON

    event: end                      this was all
    data: {"pieces": 12}

    event: error                    it failed in the middle; the connection ends without the end of the answer
    data: {"error": "…"}
"""

import time
from typing import TYPE_CHECKING

import orjson

from leptonai.core.errors import LeptonError, Unsupported
from leptonai.serving.plane.call import Call
from leptonai.serving.plane.pieces import Ticket
from leptonai.serving.plane.problems import failed
from leptonai.serving.plane.readers import rows
from leptonai.serving.plane.router import Route
from leptonai.serving.plane.split import Taker
from leptonai.serving.plane.stream import Stream
from leptonai.serving.plane.waiting import Absent

if TYPE_CHECKING:
    from leptonai.serving.plane.access import AccessLog

HEAD = b"content-type: text/event-stream\r\ncache-control: no-store\r\nx-accel-buffering: no\r\n"


class Events:
    """One answer on its way from a worker to a client, at the pace of the client."""

    def __init__(self, call: Call, route: Route, front: Taker, access: "AccessLog | None"):
        self._front = front
        self._access = access
        self._call = call
        self._route = route
        self._stream: Stream | None = None  # begun with the first piece: what fails before has a status
        self._held = 0  # pieces for which the worker is not told yet that they were read
        self._pieces = 0
        self.ticket: Ticket | None = None

    def took(self, data: bytes) -> None:
        """Send a piece."""
        if self._stream is None:
            self._stream = self._call.begin(200, HEAD + self._route.head)
            self._stream.gone = self._gone
            self._stream.drained = self._drained
            if not self._stream.open:  # the client was gone before
                self._gone()
                return
        self._pieces += 1
        self._held += 1
        if self._stream.write(b"data: %s\n\n" % data):
            self._drained()

    def _drained(self) -> None:
        while self._held and self.ticket is not None:
            self._held -= 1
            self.ticket.more()

    def _gone(self) -> None:
        if self.ticket is not None:
            self.ticket.cancel()
        self._over(499)

    def ended(self, error: LeptonError | None) -> None:
        """Say that this was all, or what went wrong."""
        stream = self._stream
        if error is not None and stream is None:
            answer = failed(self._call, error, self._route.head)
            split = self._route.split
            if split is not None and split.take(self._front, self._call, self._route, answer):
                self._route.replica.release()  # another version answers
                return
            self._call.answer(answer)
            self._over(answer.status)
            return
        if stream is None:
            stream = self._call.begin(200, HEAD + self._route.head)
        stream.gone = None
        if error is None:
            stream.write(b'event: end\ndata: {"pieces":%d}\n\n' % self._pieces)
            stream.end()
        else:
            stream.write(b"event: error\ndata: %s\n\n" % orjson.dumps({"error": error.message, "code": error.code}))
            stream.cut()
        status = 200 if error is None else 500
        if self._route.split is not None:
            self._route.split.ended(self._call, self._route, status)
        self._over(status)

    def _over(self, status: int) -> None:
        self._route.replica.release()
        call, route = self._call, self._route
        route.series.refused(status, time.perf_counter() - call.start)
        if self._access is not None:
            sent = 0 if self._stream is None else self._stream.sent
            asked = (call.id, call.method, call.url, call.headers, len(call.body), sent, status)
            self._access.turned_away(asked, route.service, call.start)


def begin(call: Call, route: Route, front: Taker, access: "AccessLog | None" = None) -> None:
    """Begin the answer to one row; it is in the access log when it ends. What a canary cannot begin the stable version does.

    Raises what the caller is to be told instead.
    """
    if isinstance(route.replica, Absent):
        route.replica.hold()  # which raises
    try:
        _begin(call, route, front, access)
    except LeptonError as error:
        split = route.split
        if split is None or not split.take(front, call, route, failed(call, error, route.head)):
            raise


def _begin(call: Call, route: Route, front: Taker, access: "AccessLog | None") -> None:
    work = route.replica.piecework
    if work is None:
        raise Unsupported(
            f"service {route.service} gives whole answers only: post to /services/{route.service}/predict"
        )
    read = rows(call, route)
    events = Events(call, route, front, access)
    route.replica.hold()
    try:
        events.ticket = work.begin(read.inputs, events.took, events.ended)
    except BaseException:
        route.replica.release()
        raise
