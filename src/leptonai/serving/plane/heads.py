"""The head of an answer, as it stands on the wire."""

import re

_REASONS = {
    200: b"OK", 204: b"No Content", 400: b"Bad Request", 401: b"Unauthorized", 403: b"Forbidden", 404: b"Not Found",
    405: b"Method Not Allowed", 408: b"Request Timeout", 409: b"Conflict", 413: b"Content Too Large", 415: b"Unsupported Media Type",
    421: b"Misdirected Request", 422: b"Unprocessable Content", 429: b"Too Many Requests",
    431: b"Request Header Fields Too Large", 500: b"Internal Server Error", 503: b"Service Unavailable",
    504: b"Gateway Timeout",
}  # fmt: skip
STARTS = {status: b"HTTP/1.1 %d %s\r\n" % (status, reason) for status, reason in _REASONS.items()}
ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")
_TRACE = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def answer_head(status: int, lines: bytes, id: bytes, trace: bytes | None, *, keep: bool, old: bool) -> bytes:
    """Return the head of an answer. `lines`: header lines that it has; `id`: of the request; `trace`: its ``traceparent``, which
    comes back; `keep`: the connection stays; `old`: the client spoke HTTP/1.0.
    """
    return b"%s%sx-request-id: %s\r\n%s%s\r\n" % (
        STARTS[status],
        lines,
        id,
        b"traceparent: %s\r\n" % trace if trace is not None and _TRACE.fullmatch(trace) else b"",
        (b"connection: keep-alive\r\n" if old else b"") if keep else b"connection: close\r\n",
    )
