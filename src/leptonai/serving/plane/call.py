"""A request as it arrived, and what is answered to it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from leptonai.serving.plane.heads import ID
from leptonai.serving.plane.stream import Stream

if TYPE_CHECKING:
    from leptonai.serving.plane.http import Connection


_JSON = b"content-type: application/json\r\n"


class Answer:
    """What is sent. `head`: header lines as they stand on the wire, each with its end; `close`: the connection, after it."""

    __slots__ = ("body", "close", "head", "status")

    def __init__(self, status: int, body: bytes, head: bytes = _JSON, close: bool = False):
        self.status = status
        self.body = body
        self.head = head
        self.close = close


@dataclass(eq=False)
class Form:
    """The head of a request, with what was found in it: a client sends the same one again and again, which means the same."""

    method: bytes
    url: bytes
    headers: dict[bytes, bytes]
    length: int  # of the body
    known: Any  # what the handler made of it


class Call:
    """One request that arrived whole.

    `known`: set by the handler when a request with this very head may be taken the short way, without being parsed; the next
    one comes with it.
    """

    __slots__ = (
        "alone", "body", "connection", "extra", "gone", "headers", "id", "keep", "known", "method", "pinned", "repeated", "start",
        "too_large", "url", "version",
    )  # fmt: skip

    def __init__(self, connection: "Connection", form: Form | None = None):
        self.connection = connection
        self.known: Any = None if form is None else form.known
        self.start = 0.0  # when it had arrived, of `time.perf_counter`
        self.gone: Callable[[], None] | None = None  # called when the client hangs up before there is an answer
        self.id = b""  # that the answer carries, once it is sent
        self.alone = False  # it goes with no others
        self.version = "1.1"
        self.repeated: bytes | None = None  # a header that may stand there once, and stood there twice
        self.body = b""
        self.extra = b""  # lines of the answer's head, whatever the answer
        self.too_large = False
        self.keep = True
        self.pinned: str | None = None  # the variant that could not answer, so that the stable one does
        if form is None:
            self.method = b""
            self.url = b""
            self.headers: dict[bytes, bytes] = {}  # names in lower case
        else:
            self.method = form.method
            self.url = form.url
            self.headers = form.headers  # shared: nobody changes them

    def identify(self) -> bytes:
        """Return the id of the request, which gets one when it came without."""
        given = self.headers.get(b"x-request-id")
        if given is None or not ID.fullmatch(given):
            given = self.connection.new_id()
            self.headers = {**self.headers, b"x-request-id": given}
        return given

    def answer(self, answer: Answer) -> None:
        """Send the answer; to nobody, when the caller is gone."""
        self.connection.send(self, answer)

    def begin(self, status: int, head: bytes) -> Stream:
        """Begin an answer that is sent in pieces; see `serving.plane.stream`."""
        return self.connection.begin(self, status, head)
