"""How a call ended, in the words of gRPC: https://grpc.github.io/grpc/core/md_doc_statuscodes.html"""

from enum import IntEnum
from urllib.parse import quote

from leptonai.core.errors import (
    Busy,
    Conflict,
    Corrupt,
    Denied,
    Invalid,
    LeptonError,
    NotFound,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unsupported,
)
from leptonai.serving.plane.grpc import wire

MESSAGE_LIMIT = 2000  # characters


class Status(IntEnum):
    """The codes that are used here."""

    OK = 0
    CANCELLED = 1
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


_OF = {
    TooLarge: Status.RESOURCE_EXHAUSTED, NotFound: Status.NOT_FOUND, Unauthenticated: Status.UNAUTHENTICATED,
    Denied: Status.PERMISSION_DENIED, Busy: Status.RESOURCE_EXHAUSTED, Unavailable: Status.UNAVAILABLE,
    Unsupported: Status.UNIMPLEMENTED, Invalid: Status.INVALID_ARGUMENT, Corrupt: Status.INTERNAL,
    Conflict: Status.FAILED_PRECONDITION,
}  # fmt: skip

# The numbers of HTTP under which answers are counted (google.rpc.Code), so that both doors count alike.
HTTP = {
    Status.OK: 200, Status.CANCELLED: 499, Status.INVALID_ARGUMENT: 400, Status.DEADLINE_EXCEEDED: 504, Status.NOT_FOUND: 404,
    Status.PERMISSION_DENIED: 403, Status.RESOURCE_EXHAUSTED: 429, Status.UNIMPLEMENTED: 501, Status.INTERNAL: 500,
    Status.FAILED_PRECONDITION: 409, Status.UNAVAILABLE: 503, Status.UNAUTHENTICATED: 401,
}  # fmt: skip

OK_LINE = wire.field(b"grpc-status", b"0")


class Failed(Exception):
    """A call that gRPC itself has a status for."""

    def __init__(self, status: Status, message: str):
        super().__init__(message)
        self.status = status
        self.message = message


def of(error: Exception) -> tuple[Status, str]:
    """Return the status and the words of an error. A caller never sees a traceback; its kind is enough to find it."""
    if isinstance(error, Failed):
        return error.status, error.message
    if not isinstance(error, LeptonError):
        return Status.INTERNAL, f"the serving plane failed: {type(error).__name__}"
    if isinstance(error, Unavailable) and error.about.get("limit") == "deadline":
        return Status.DEADLINE_EXCEEDED, error.message
    return next((status for kind, status in _OF.items() if isinstance(error, kind)), Status.INTERNAL), error.message


def trailers(error: Exception) -> tuple[Status, bytes]:
    """Return the status of an error and the trailers that say it."""
    status, message = of(error)
    made = wire.field(b"grpc-status", b"%d" % status)
    # Percent-encoded, as "gRPC over HTTP/2" has it: what is printable stays readable.
    made += wire.field(
        b"grpc-message", quote(message[:MESSAGE_LIMIT], safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~").encode()
    )
    retry = getattr(error, "retry_after", None)
    if retry is not None:
        made += wire.field(b"grpc-retry-pushback-ms", b"%d" % max(1, round(1000 * retry)))
    return status, made
