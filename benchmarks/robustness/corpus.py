"""Bodies that nobody should send, made from a good one of each product: the numbers are kept, one thing is wrong."""

import json
import random
import re
import zlib
from collections.abc import Iterator
from itertools import islice

COUNT = 200
_NUMBERS = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


def _data(good: bytes) -> tuple[bytes, bytes, bytes]:
    """Return what stands before the outermost list of numbers, the list, and what stands after it."""
    names = [name for name in (b'"data":', b'"instances":', b'"inputs":') if name in good]
    start = good.index(names[0]) + len(names[0])
    depth = 0
    for at in range(start, len(good)):
        depth += {ord("["): 1, ord("]"): -1}.get(good[at], 0)
        if depth == 0:
            return good[:start], good[start : at + 1], good[at + 1 :]
    raise AssertionError("the list ends")


def malformed(good: bytes, count: int = COUNT) -> list[bytes]:
    """Return so many bodies, each wrong in its own way."""
    found = list(dict.fromkeys(islice(_malformed(good), count)))
    assert len(found) == count, f"{len(found)} bodies"
    return found


def _malformed(good: bytes) -> Iterator[bytes]:
    rng = random.Random(7)
    before, data, after = _data(good)
    yield from (
        b"",
        b" ",
        b"\0",
        b"null",
        b"true",
        b"7",
        b'"x"',
        b"[]",
        b"{}",
        b"[1,2]",
        b"{",
        b"}",
        b"[",
        b"]",
        b"{}{}",
    )
    for value in (
        b"null",
        b"true",
        b"7",
        b'"x"',
        b"{}",
        b"[]",
        b"[[]]",
        b"[[[]]]",
        b'["x"]',
        b"[{}]",
        b'{"0":1}',
        b"[[1,2],[3]]",
    ):
        yield before + value + after  # of a wrong type or shape
    spots = [match.span() for match in _NUMBERS.finditer(data)]
    for start, stop in rng.sample(spots, 5):
        for value in (
            b'"abc"',
            b'"1,5"',
            b'""',
            b"{}",
            b'{"x":1}',
            b"[1,2]",
            b"[[1]]",
            b"nil",
            b"0x10",
            b"01",
            b".5",
            b"+1",
            b"1_000",
        ):
            yield before + data[:start] + value + data[stop:] + after  # text in numbers, ragged, no number
    for cut in rng.sample(range(1, len(good) - 1), 40):
        yield good[:cut]
    for at in rng.sample(range(1, len(before)), min(15, len(before) - 2)):
        yield good[:at] + rng.choice((b"\xff", b"\xc3(", b"\xed\xa0\x80")) + good[at:]  # no UTF-8
    for less in (1, 2, 100, 700):
        yield before + data[: spots[-less][0]].rstrip(b",[ ") + b"]" * (_depth(data)) + after  # too few numbers
    for more in (1, 2, 5):
        yield before + data[: spots[-1][1]] + b",1.0" * more + b"]" * _depth(data) + after  # too many
    yield from (
        good.replace(b'"', b"'"),
        good[:-1] + b",}",
        good + b"}",
        good + b"x",
        b"[" + good,
        good.replace(b":", b"=", 1),
    )
    for name in re.findall(rb'"(inputs|instances|name|shape|datatype|data)":', before):
        yield good.replace(b'"' + name + b'":', b'"' + name + b'_":', 1)  # a field is missing
    yield from (
        b"PK\x03\x04" + bytes(60),
        b"\x80\x04\x95\x0a\0\0\0\0\0\0\0cos\nsystem\n.",
        zlib.compress(good),
        good.decode().encode("utf-16"),
    )
    yield from (b"<x>1</x>", b"x=1", b"a,b\n1,2\n", b"\x89PNG\r\n\x1a\n" + bytes(50), b"%PDF-1.7")
    while True:
        yield rng.randbytes(rng.randrange(1, 400))


def _depth(data: bytes) -> int:
    return len(data) - len(data.rstrip(b"]"))


def numbers(good: bytes) -> dict[str, bytes]:
    """Return bodies with a number or a key that JSON has not, or has in more than one meaning, by what it is."""
    before, data, after = _data(good)
    start, stop = next(_NUMBERS.finditer(data)).span()
    odd = {name: before + data[:start] + name.encode() + data[stop:] + after
           for name in ("NaN", "Infinity", "-Infinity", "1e400", "-1e999")}  # fmt: skip
    odd["5,000 digits"] = before + data[:start] + b"9" * 5000 + data[stop:] + after
    key = re.findall(rb'"\w+":$', before)[0]
    odd["duplicate key"] = before + data + b"," + key + data + after
    return odd


def nested(good: bytes, depth: int) -> bytes:
    """Return a body whose list of numbers is so many lists in one another."""
    before, _, after = _data(good)
    return before + b"[" * depth + b"]" * depth + after


def huge_shapes(good: bytes) -> list[bytes]:
    """Return bodies of the V2 protocol whose shape claims what is not there."""
    body = json.loads(good)
    found = []
    for shape in ([10**9, 1, 28, 28], [2**31, 1, 28, 28], [2**62, 1, 28, 28], [2**63 - 1] * 4, [1, 1, 2**40, 28], [-1, 1, 28, 28],
                  [10**6, 1, 28, 28] * 8, [1] * 100_000):  # fmt: skip
        tensor = {**body["inputs"][0], "shape": shape, "data": [1.0]}
        found.append(json.dumps({**body, "inputs": [tensor]}).encode())
    return found
