"""JSON that strangers send: parsed only when it is not a trap.

A scan of the brackets comes before the parser, so that deep nesting costs nothing; NaN, Infinity and numbers beyond
float64 are no JSON to the parser; an object that names a key twice is refused, since nobody can say which one is meant.
"""

import re
from typing import Any

import numpy as np
import orjson

from leptonai.core.errors import Invalid

DEPTH_LIMIT = 64

_SKELETON = b'[]{}":'  # what is left of a body when the scan throws all else away
_OTHERS = bytes(set(range(256)) - set(_SKELETON))
_ESCAPES = re.compile(rb"\\.", re.DOTALL)


def load(body: bytes) -> Any:
    """Return the JSON value of a body. Raises `Invalid` with the place where it is none."""
    skeleton = _skeleton(body)
    if skeleton.count(b"[") + skeleton.count(b"{") > DEPTH_LIMIT and _depth(skeleton) > DEPTH_LIMIT:
        raise Invalid(f"the body is not JSON that can be read: it is nested more than {DEPTH_LIMIT} levels deep")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Invalid(f"the body is not JSON: {error}") from error
    if skeleton.count(b":") != _pairs(value, exact=False) and skeleton.count(b":") != _pairs(value, exact=True):
        raise Invalid("the body is not clear: an object in it names one key twice")
    return value


def _skeleton(body: bytes) -> bytes:
    """Return the brackets and colons outside of strings."""
    if b"\\" in body:
        body = _ESCAPES.sub(b"", body)
    return b"".join(body.translate(None, _OTHERS).split(b'"')[::2])


def _depth(skeleton: bytes) -> int:
    marks = np.frombuffer(skeleton, np.uint8)
    opens = (marks == ord("[")) | (marks == ord("{"))
    closes = (marks == ord("]")) | (marks == ord("}"))
    return int((opens.astype(np.int64) - closes).cumsum().max())


def _pairs(value: Any, *, exact: bool) -> int:
    """Count the keys of all objects. Without `exact`, a list that starts with a plain value is taken to hold no object."""
    if type(value) is dict:
        return len(value) + sum(_pairs(v, exact=exact) for v in value.values() if type(v) in (dict, list))
    if type(value) is list and value and (exact or type(value[0]) in (dict, list)):
        return sum(_pairs(v, exact=exact) for v in value if type(v) in (dict, list))
    return 0
