"""What a request is told when it cannot be answered: in the words of its path, with the statuses that HTTP has."""

import math
from collections.abc import Mapping
from typing import Any

import orjson

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
from leptonai.serving.plane import openai_errors
from leptonai.serving.plane.call import Answer, Call

_STATUS = {
    TooLarge: 413, NotFound: 404, Unauthenticated: 401, Denied: 403, Busy: 503, Unavailable: 503, Unsupported: 422,
    Invalid: 422, Corrupt: 500, Conflict: 409,
}  # fmt: skip
_TITLES = {
    400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    409: "Conflict", 413: "Content Too Large", 415: "Unsupported Media Type", 421: "Misdirected Request",
    422: "Unprocessable Content", 429: "Too Many Requests", 500: "Internal Server Error", 503: "Service Unavailable",
    504: "Gateway Timeout",
}  # fmt: skip
_JSON = b"content-type: application/json\r\n"
_PROBLEM = b"content-type: application/problem+json\r\n"
_PLAIN = (b"/v2", b"/v1")  # protocols whose errors are {"error": "…"}


class Refused(Exception):
    """A request that HTTP itself has a status for. `head`: more header lines."""

    def __init__(self, status: int, message: str, head: bytes = b""):
        super().__init__(message)
        self.status = status
        self.message = message
        self.head = head


def failed(call: Call, error: Exception, head: bytes = b"") -> Answer:
    """Return the answer to a request that ended in an error. `head`: header lines that it has anyhow."""
    if isinstance(error, Refused):
        return _problem(call, error.status, LeptonError(error.message), error.head + head)
    if not isinstance(error, LeptonError):  # a caller never sees a traceback; its kind is enough to find it
        return _problem(call, 500, LeptonError(f"the serving plane failed: {type(error).__name__}"), head)
    status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)
    if isinstance(error, Unavailable) and error.about.get("limit") == "deadline":
        status = 504
    if status == 422 and call.url.startswith(_PLAIN):
        status = 400  # these protocols know no other
    if status == 503:
        head += b"retry-after: %d\r\n" % max(1, round(error.retry_after or 1))
    if status == 401:
        head += b"www-authenticate: Bearer\r\n"
    return _problem(call, status, error, head)


def deadly(call: Call) -> Answer:
    """Return the answer to a request during which serving processes died, so that it is not begun again."""
    message = (
        "serving processes died while they computed this request, twice; it is not tried again: look at its values"
    )
    return _problem(call, 503, Unavailable(message), b"retry-after: 60\r\n")


def too_many(call: Call, after: float) -> Answer:
    """Return the answer to an address that asks more often than it may. `after`: in how many seconds it may again."""
    error = Busy("this address sends more requests a second than it may: send fewer, or wait", retry_after=after)
    return _problem(call, 429, error, b"retry-after: %d\r\n" % max(1, math.ceil(after)))


def _problem(call: Call, status: int, error: LeptonError, head: bytes) -> Answer:
    """Return an error as ``{"error"}``, or by RFC 9457."""
    if call.url.startswith(openai_errors.PATHS):
        return Answer(status, orjson.dumps(openai_errors.problem(status, error)), _JSON + head, close=status == 413)
    if call.url.startswith(_PLAIN):
        return Answer(status, orjson.dumps({"error": error.message}), _JSON + head, close=status == 413)
    said: Mapping[str, Any] = {
        "type": "about:blank",
        "title": _TITLES[status],
        "status": status,
        "detail": error.message,
        **error.to_dict(),
        "error": error.message,
    }
    return Answer(status, orjson.dumps(said), _PROBLEM + head, close=status == 413)
