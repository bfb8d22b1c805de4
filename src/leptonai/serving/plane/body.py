"""JSON that strangers send: parsed only when it is not a trap.

A scan of the brackets comes before the parser, a part of the body at a time, so that deep nesting is seen where it begins and
costs nothing; NaN, Infinity and numbers beyond
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
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Invalid(f"the body is not JSON: {error}") from error
    if skeleton.count(b":") != _pairs(value, exact=False) and skeleton.count(b":") != _pairs(value, exact=True):
        raise Invalid(f"the body is not clear: an object in it names the key {_twice(body)!r} twice")
    return value


def trap(beginning: bytes) -> bool:
    """Return whether a body that begins so is refused for its depth, whatever follows."""
    try:
        _skeleton(beginning)
    except Invalid:
        return True
    return False


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


def _skeleton(body: bytes, size: int = _PART) -> bytes:
    """Return the brackets and colons outside of strings; `size`: of the parts that are looked at one by one. Raises `Invalid` where they are nested too deep."""
    found: list[bytes] = []
    opened = depth = at = 0
    inside = False  # a string, at the begin of a part
    while at < len(body):
        part = body[at : at + size]
        if b"\\" in part:
            if (len(part) - len(part.rstrip(b"\\"))) % 2:  # an escape is not cut in two
                part = body[at : at + size + 1]
            pieces = _ESCAPES.sub(b"", part).translate(None, _OTHERS).split(b'"')
        else:
            pieces = part.translate(None, _OTHERS).split(b'"')
        at += len(part)
        marks = b"".join(pieces[1::2] if inside else pieces[::2])
        inside ^= len(pieces) % 2 == 0
        opens = marks.count(b"[") + marks.count(b"{")
        opened += opens
        if opened > DEPTH_LIMIT and depth + _deepest(marks) > DEPTH_LIMIT:
            raise Invalid(f"the body is not JSON that can be read: it is nested more than {DEPTH_LIMIT} levels deep")
        depth += opens - marks.count(b"]") - marks.count(b"}")
        found.append(marks)
    return found[0] if len(found) == 1 else b"".join(found)


def _deepest(marks: bytes) -> int:
    """Return within how many others a bracket is opened, of those that begin here."""
    steps = _STEPS[np.frombuffer(marks, np.uint8)]
    return int(np.cumsum(steps, dtype=np.int32).max(initial=0))


def _pairs(value: Any, *, exact: bool) -> int:
    """Count the keys of all objects. Without `exact`, a list that starts with a plain value is taken to hold no object."""
    if type(value) is dict:
        return len(value) + sum(_pairs(v, exact=exact) for v in value.values() if type(v) in (dict, list))
    if type(value) is list and value and (exact or type(value[0]) in (dict, list)):
        return sum(_pairs(v, exact=exact) for v in value if type(v) in (dict, list))
    return 0
