"""What goes over the wire, without the wire: bodies, errors and event streams as bytes, read and written."""

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from leptonai.core import errors
from leptonai.core.errors import Invalid, LeptonError, Unavailable

API = "/api/v1"

_BY_STATUS: dict[int, type[LeptonError]] = {
    400: errors.Invalid,
    401: errors.Unauthenticated,
    403: errors.Denied,
    404: errors.NotFound,
    409: errors.Conflict,
    412: errors.Stale,
    413: errors.TooLarge,
    422: errors.Invalid,
    429: errors.Busy,
    503: errors.Busy,
    507: errors.DiskFull,
}
_RESERVED = {"message", "errors", "retry_after", "self"}


def encode(value: object) -> bytes:
    """Return `value` as JSON. Raises `Invalid` for what JSON cannot hold, NaN and infinity among it."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (ValueError, TypeError) as error:  # UnicodeEncodeError, of a lone surrogate, is a ValueError
        raise Invalid(f"this cannot be sent to the server as JSON: {error}") from error


def decode(body: bytes, where: str) -> Any:
    """Return what a JSON body holds. Raises `Unavailable` when whatever answers there is no server of ours."""
    try:
        return json.loads(body)
    except ValueError as error:
        raise Unavailable(
            f"{where} answers, but not as a leptonai server does: check the host, and any proxy between"
        ) from error


def digest_header(data: bytes) -> dict[str, str]:
    """Return the header that lets the server check a body (RFC 9530)."""
    return {"content-digest": f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"}


def digest_hex(data: bytes) -> str:
    """Return the SHA-256 of a plaintext, by which the server knows what this key stored already."""
    return hashlib.sha256(data).hexdigest()


def error_of(status: int, headers: Mapping[str, str], body: bytes, where: str) -> LeptonError:
    """Return the error that an answer of 400 and above tells."""
    try:
        problem = json.loads(body)
    except ValueError:
        problem = None
    wait = _seconds(headers.get("retry-after"))
    if not isinstance(problem, dict):
        text = body[:200].decode("utf-8", "replace").strip().partition("\n")[0]
        kind = _BY_STATUS.get(status, Unavailable)
        return kind(f"{where} answered {status}{': ' + text if text else ''}", retry_after=wait)
    message = problem.get("message") or problem.get("detail") or problem.get("error") or f"{where} answered {status}"
    facts = problem.get("about")
    about = {n: v for n, v in facts.items() if n not in _RESERVED} if isinstance(facts, dict) else {}
    fields, seconds = problem.get("errors"), problem.get("retry_after")
    if problem.get("request_id"):
        about.setdefault("request_id", problem["request_id"])
    known = {
        "code": problem.get("code") or _BY_STATUS.get(status, Unavailable).code,
        "message": str(message),
        "errors": [
            e
            for e in (fields if isinstance(fields, list) else ())
            if isinstance(e, dict) and {"field", "message"} <= e.keys()
        ],
        "retry_after": seconds if isinstance(seconds, (int, float)) else wait,
        "about": about,
    }
    return errors.from_dict(known)


def _seconds(text: str | None) -> float | None:
    try:
        return None if text is None else max(0.0, float(text))
    except ValueError:
        return None  # a date: nobody of ours sends one


def events(chunks: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Yield (id, event, data) of a server-sent event stream, given its lines.

    https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
    """
    id, event = "", ""
    data: list[str] = []
    for line in chunks:
        if not line:
            if data:
                yield id, event or "message", "\n".join(data)
            event, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "event":
            event = value
        elif field == "id":
            id = value
