"""Reads the body of a request: no more than is allowed, in no more time than is fair, and JSON that means one thing only.

Python's parser takes NaN, `1e400`, and the last of two equal names; what is nested a thousand deep, or holds half of a
surrogate pair, would fail much later, inside a database. All of these are refused here.
"""

import asyncio
import json
import math
import re
from collections.abc import AsyncIterator
from typing import Any

from anyio.to_thread import run_sync
from fastapi import Request
from starlette.requests import ClientDisconnect

from leptonai.core.errors import FieldError, Invalid, TooLarge

SILENT_SECONDS = 15.0  # between two pieces of a body
_BODY_SECONDS = 60.0  # for all of a JSON body
_DEPTH = 64
_INLINE = 64 << 10  # larger documents are parsed off the event loop
_MARKS = re.compile(rb'"(?:[^"\\]|\\.)*"|([\[{])|([\]}])', re.DOTALL)
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")


def said_length(request: Request) -> int | None:
    """Return Content-Length, if it is a number."""
    text = request.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None


async def pieces(request: Request, limit: int) -> AsyncIterator[bytes]:
    """Yield a body as it arrives. Raises `TooLarge` as soon as it is over `limit`, `Invalid` when the caller falls silent."""
    if (said_length(request) or 0) > limit:
        raise _large(limit)
    size, stream = 0, request.stream()
    while True:
        try:
            piece = await asyncio.wait_for(anext(stream), SILENT_SECONDS)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise Invalid(f"the body did not arrive: nothing came for {SILENT_SECONDS:g} s") from None
        except ClientDisconnect:
            raise Invalid("the caller went away before the body had arrived") from None
        size += len(piece)
        if size > limit:
            raise _large(limit)
        if piece:
            yield piece


def _large(limit: int) -> TooLarge:
    right = f"at most {limit >> 20} MiB" if limit >= 1 << 20 else f"at most {limit >> 10} KiB"
    return TooLarge(f"the body is too large: it may have {right}", errors=[FieldError("body", right)])


async def body_of(request: Request, limit: int) -> bytes:
    """Return the whole body. Raises `TooLarge`, `Invalid`."""
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            return b"".join([piece async for piece in pieces(request, limit)])
    except TimeoutError:
        raise Invalid(f"the body did not arrive within {_BODY_SECONDS:g} s") from None


async def json_of(body: bytes) -> Any:
    """Return what a JSON body holds. Raises `Invalid`."""
    return parse(body) if len(body) <= _INLINE else await run_sync(parse, body)


def parse(body: bytes) -> Any:
    """Return what JSON text holds. Raises `Invalid` for anything that is not plain, finite, well-formed JSON."""
    _shallow(body)
    try:
        value = json.loads(body, parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_distinct)
        if _HALF.search(body):
            json.dumps(value, ensure_ascii=False).encode()
    except Invalid:
        raise
    except UnicodeError:
        raise _wrong("it holds text that is no Unicode (half of a surrogate pair, or not UTF-8)") from None
    except json.JSONDecodeError as error:
        raise _wrong(f"{error.msg} at line {error.lineno}, column {error.colno}") from None
    except (ValueError, RecursionError):
        raise _wrong("a number in it has too many digits") from None
    return value


def _wrong(reason: str) -> Invalid:
    return Invalid(f"the body is not JSON that can be read: {reason}", errors=[FieldError("body", reason)])


def _no_constant(name: str) -> Any:
    raise _wrong(f"{name} is not a JSON value")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _wrong(f"the number {text[:40]} is too large")
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise _wrong(f"the name {twice[:80]!r} is there twice in one object")
    return found


def _shallow(body: bytes) -> None:
    depth = 0
    for mark in _MARKS.finditer(body):
        if mark[1]:
            depth += 1
            if depth > _DEPTH:
                raise _wrong(f"it is nested more than {_DEPTH} deep")
        elif mark[2]:
            depth -= 1
