"""JSON that strangers send: parsed only when it is not a trap.

A scan of the brackets comes before the parser, so that deep nesting costs nothing; NaN, Infinity and numbers beyond
float64 are no JSON to the parser; an object that names a key twice is refused, since nobody can say which one is meant.
"""

import json
import re
from typing import Any

import numpy as np
import orjson

from leptonai.core.errors import Invalid

DEPTH_LIMIT = 64

_SKELETON = b'[]{}":'  # what is left of a body when the scan throws all else away
_OTHERS = bytes(set(range(256)) - set(_SKELETON))
_PART = 2**16  # bytes
_STEPS = np.zeros(256, np.int8)
_STEPS[[ord("["), ord("{")]] = 1
_STEPS[[ord("]"), ord("}")]] = -1
_ESCAPES = re.compile(rb"\\.", re.DOTALL)


def load(body: bytes) -> Any:
    """Return the JSON value of a body. Raises `Invalid` with the place where it is none."""
    skeleton = _skeleton(body)
    if skeleton.count(b"[") + skeleton.count(b"{") > DEPTH_LIMIT and _too_deep(skeleton):
        raise Invalid(f"the body is not JSON that can be read: it is nested more than {DEPTH_LIMIT} levels deep")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Invalid(f"the body is not JSON: {error}") from error
    if skeleton.count(b":") != _pairs(value, exact=False) and skeleton.count(b":") != _pairs(value, exact=True):
        raise Invalid(f"the body is not clear: an object in it names the key {_twice(body)!r} twice")
    return value


def _twice(body: bytes) -> str:
    """Return the first key that stands twice in one object of a body that is JSON."""
    found: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                found.append(name)
            seen.add(name)

    json.loads(body, object_pairs_hook=look, parse_int=float)  # Python's integers refuse more than 4,300 digits
    return found[0][:80] if found else ""


def _skeleton(body: bytes) -> bytes:
    """Return the brackets and colons outside of strings."""
    if b"\\" in body:
        body = _ESCAPES.sub(b"", body)
    return b"".join(body.translate(None, _OTHERS).split(b'"')[::2])


def _too_deep(skeleton: bytes) -> bool:
    """Whether brackets are open within too many others. It looks at a part at a time, so a trap is seen at its beginning."""
    open_before = 0
    for start in range(0, len(skeleton), _PART):
        marks = np.frombuffer(skeleton, np.uint8, min(_PART, len(skeleton) - start), start)
        steps = _STEPS[marks]
        depths = np.cumsum(steps, dtype=np.int32)
        if open_before + int(depths.max()) > DEPTH_LIMIT:
            return True
        open_before += int(depths[-1])
    return False


def _pairs(value: Any, *, exact: bool) -> int:
    """Count the keys of all objects. Without `exact`, a list that starts with a plain value is taken to hold no object."""
    if type(value) is dict:
        return len(value) + sum(_pairs(v, exact=exact) for v in value.values() if type(v) in (dict, list))
    if type(value) is list and value and (exact or type(value[0]) in (dict, list)):
        return sum(_pairs(v, exact=exact) for v in value if type(v) in (dict, list))
    return 0
