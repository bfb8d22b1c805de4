"""Which web pages of other origins may call (Cross-Origin Resource Sharing, WHATWG Fetch). None, until the setting names some.

Without the answer's consent a browser lets no page of another origin read it, nor send JSON or a key; that is the right default for a
plane on one's own machine. A page that the plane itself answered is of its own origin and needs no consent.
"""

import re

from leptonai.core.errors import FieldError, Invalid
from leptonai.serving.plane.call import Answer, Call
from leptonai.serving.plane.problems import Refused

_ORIGIN = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]{1,253}")
_METHODS = b"access-control-allow-methods: GET, POST\r\n"
_HEADERS = (
    b"access-control-allow-headers: authorization, content-type, inference-header-content-length, traceparent, "
    b"x-leptonai-service, x-request-id, x-request-timeout-ms\r\n"
)
_SHOWN = (
    b"access-control-expose-headers: inference-header-content-length, retry-after, x-leptonai-model, "
    b"x-leptonai-variant, x-leptonai-version, x-request-id\r\n"
)
_SECONDS = b"access-control-max-age: 600\r\n"  # for which a browser need not ask again


def origins(setting: str | None) -> frozenset[bytes]:
    """Read the setting: origins such as ``https://ward.example`` with commas between, or ``*``. Raises `Invalid`."""
    names = [name.strip() for name in (setting or "").split(",") if name.strip()]
    for name in names:
        if name != "*" and not _ORIGIN.fullmatch(name):
            right = "origins such as https://ward.example:8443, with commas between, or *"
            raise Invalid(
                f"the setting origins (LEPTONAI_ORIGINS) has {name[:80]!r}; it takes {right}",
                errors=[FieldError("origins", right)],
            )
    return frozenset(name.encode() for name in names)


def consent(call: Call, allowed: frozenset[bytes]) -> bytes:
    """Return the header lines by which a browser lets the page of a call read the answer; none for other callers."""
    origin = call.headers.get(b"origin")
    if origin is None or not allowed or (origin not in allowed and b"*" not in allowed):
        return b""
    return b"access-control-allow-origin: %s\r\nvary: origin\r\n%s" % (origin, _SHOWN)


def preflight(call: Call, allowed: frozenset[bytes]) -> Answer | None:
    """Answer a browser that asks whether a page may call; None for any other request. Raises `Refused`."""
    if call.method != b"OPTIONS" or b"access-control-request-method" not in call.headers:
        return None
    if not consent(call, allowed):
        origin = call.headers.get(b"origin", b"").decode("latin-1")
        raise Refused(403, f"pages of {origin[:120]} may not call here: name it in the setting LEPTONAI_ORIGINS")
    return Answer(200, b"", _METHODS + _HEADERS + _SECONDS)
