"""How errors, records and lists look on the wire: RFC 9457 problems, ETags, pages. The only place that knows statuses."""

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from leptonai.core import errors
from leptonai.core.errors import FieldError, Invalid, LeptonError, NotFound, Stale
from leptonai.core.nouns import Record

REQUEST_ID = "leptonai_request_id"  # in the scope of a request

STATUS: dict[type[LeptonError], int] = {
    errors.LeptonError: 500,
    errors.Invalid: 422,
    errors.TooLarge: 413,
    errors.Unauthenticated: 401,
    errors.Denied: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.Stale: 412,
    errors.Fenced: 409,
    errors.Busy: 503,
    errors.DiskFull: 507,
    errors.Unavailable: 503,
}


def status_of(error: LeptonError) -> int:
    """Return the HTTP status of an error."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


class Json(Response):
    """JSON that never holds NaN: what is not a number is null."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the bytes; what is bytes already is JSON already."""
        return content if isinstance(content, bytes) else encode(content)


def encode(value: Any) -> bytes:
    """Return a value as JSON; NaN and infinity become null."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except ValueError:  # rare, so that only then every value is looked at
        return json.dumps(_finite(value), ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode()


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def problem(error: LeptonError, request_id: str = "") -> Response:
    """Return the error as application/problem+json."""
    status = status_of(error)
    body = {
        "type": f"urn:leptonai:error:{error.code}",
        "title": error.code.replace("_", " "),
        "status": status,
        "detail": error.message,
        "request_id": request_id,
        **error.to_dict(),
    }
    headers = {}
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="leptonai"'
    if isinstance(error, errors.Busy):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after or 1)))
    answer = Json(body, status, headers)
    answer.headers["Content-Type"] = "application/problem+json"
    return answer


def request_id(request: Request) -> str:
    """Return the id that `guard.Guard` gave this request."""
    return str(request.scope.get(REQUEST_ID, ""))


def crashed(id: str) -> LeptonError:
    """Return what a caller is told of an error that nobody foresaw: where to look, and nothing of the inside."""
    return LeptonError(f"something went wrong inside the server; its log has the reason under {id}")


async def on_crash(request: Request, error: Exception) -> Response:  # noqa: ARG001  the framework's signature
    """Answer for an error that nobody foresaw; the guard logs it."""
    return problem(crashed(request_id(request)), request_id(request))


async def on_error(request: Request, error: Exception) -> Response:
    """Answer with one of our errors."""
    assert isinstance(error, LeptonError)  # noqa: S101  registered for this class only
    return problem(error, request_id(request))


async def on_invalid(request: Request, error: Exception) -> Response:
    """Answer a request whose fields are wrong, naming each."""
    assert isinstance(error, RequestValidationError)  # noqa: S101
    return problem(invalid(error.errors()), request_id(request))


async def on_http(request: Request, error: Exception) -> Response:
    """Answer what the framework refused by itself: an unknown path, a wrong method."""
    assert isinstance(error, HTTPException)  # noqa: S101
    kind = {404: NotFound, 405: errors.Unsupported}.get(error.status_code, Invalid)
    words = {404: "there is no such path", 405: "this path does not take that method"}.get(
        error.status_code, error.detail
    )
    answer = problem(kind(f"{request.method} {request.url.path[:200]}: {words}"), request_id(request))
    if error.status_code == 405:
        answer.status_code = 405
        answer.headers.update(error.headers or {})
    return answer


def invalid(found: Sequence[Any], what: str = "") -> Invalid:
    """Return pydantic's errors as one of ours."""
    fields = []
    for item in found:
        place = ".".join(str(part) for part in item["loc"] if part not in {"body", "query", "path", "header"})
        message = (
            "there is no such field here"
            if item["type"] == "extra_forbidden"
            else str(item["msg"]).removeprefix("Value error, ")
        )
        fields.append(FieldError(".".join(filter(None, (what, place))) or "body", message))
    return Invalid(f"{fields[0].field}: {fields[0].message}" if fields else "the request is not valid", errors=fields)


_SECRET = {"key": {"digest", "check"}, "run": {"token"}, "blob": {"wrapped"}}  # what is kept, and is nobody's business


def dump(record: Record) -> dict[str, Any]:
    """Return a record as JSON data, without what is nobody's business."""
    return record.model_dump(mode="json", exclude=_SECRET.get(record.kind))


def text(record: Record) -> bytes:
    """Return a record as JSON text, without what is nobody's business. NaN is null there."""
    return record.model_dump_json(exclude=_SECRET.get(record.kind)).encode()


def one(record: Record, status: int = 200) -> Response:
    """Answer with a record and its ETag."""
    return Json(text(record), status, {"ETag": f'"{record.rev}"'})


def page(find: Callable[..., Sequence[Record]], limit: int, cursor: str | None) -> Response:
    """Answer with a page of what `find` finds, and the cursor of the next, which is null on the last."""
    found = find(limit=limit + 1, after=cursor)
    following = encode(found[limit - 1].id if len(found) > limit else None)
    return Json(b'{"items":[' + b",".join(map(text, found[:limit])) + b'],"next":' + following + b"}")


def matched(request: Request, record: Record) -> None:
    """Hold an If-Match header against the record. Raises `Stale`."""
    wanted = request.headers.get("if-match")
    if wanted is None or wanted.strip() == "*":
        return
    if f'"{record.rev}"' not in [tag.strip() for tag in wanted.split(",")]:
        raise Stale(
            f"the {record.kind} {record.name or record.id} is at revision {record.rev}, not {wanted[:80]}: read it again"
        )
