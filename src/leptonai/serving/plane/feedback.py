"""What callers say an answer was worth: ``POST /services/{name}/feedback``, while a test of two versions goes on.

No answer is remembered for it. Who was dealt which version follows from the caller, or from the id of the request, so any
process can tell it; hence what came with the request (the id, and the header that callers are known by) comes again here.
"""

import math
from typing import Any

import orjson

from leptonai.core.errors import Conflict, FieldError, Invalid
from leptonai.serving.plane.call import Answer, Call
from leptonai.serving.plane.problems import Refused
from leptonai.serving.plane.router import Route

_FORM = '{"request_id": "…", "value": 0.0 to 1.0} or {"request_id": "…", "prediction": …, "label": …}'


def take(call: Call, route: Route) -> Answer:
    """Count a value, or whether a prediction was the label. Raises `Invalid`; `Conflict` when no test goes on."""
    if call.method != b"POST":
        raise Refused(405, "use POST here", b"allow: POST\r\n")
    split = route.split
    if split is None or not split.line.test:
        raise Conflict(
            f"service {route.service} tests no two versions: begin with  lepton service test {route.service}"
        )
    request, value = _read(call.body)
    variant = split.tell(call, request, value)
    return Answer(200, orjson.dumps({"request_id": request, "variant": variant, "counted": variant is not None}))


def _read(body: bytes) -> tuple[str, float]:
    try:
        asked: Any = orjson.loads(body)
    except ValueError as error:
        raise Invalid(f"the body is not JSON: {error}") from None
    if type(asked) is not dict or set(asked) not in ({"request_id", "value"}, {"request_id", "prediction", "label"}):
        raise Invalid(f"the body must be {_FORM}", errors=[FieldError("body", _FORM)])
    request = asked["request_id"]
    if type(request) is not str or not 0 < len(request) <= 128:
        right = "must be the X-Request-Id of an answer: 1 to 128 characters"
        raise Invalid(f"request_id {right}", errors=[FieldError("request_id", right)])
    if "label" in asked:
        return request, 1.0 if asked["prediction"] == asked["label"] else 0.0
    value = asked["value"]
    if type(value) not in (int, float, bool) or not math.isfinite(value) or not 0 <= value <= 1:
        right = "must be a number from 0 (bad) to 1 (good)"
        raise Invalid(f"value {right}", errors=[FieldError("value", right)])
    return request, float(value)
