"""Requests that two servers in a row could take for different ones (request smuggling): each is refused, or means one thing."""

import re
import socket
from collections.abc import Iterator

import pytest
from tests.support import bundles
from tests.support.plane import Plane

GOOD = b'{"rows": [{"x": 1}]}'
HIDDEN = b"GET /v2/health/live HTTP/1.1\r\nhost: localhost\r\n\r\n"
HEAD = b"POST /services/adder/predict HTTP/1.1\r\nhost: localhost\r\n"
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(GOOD), GOOD)

# Head lines, and what follows the head: in one reading of the head it is a body, in another it holds one more request.
PAIRS = {
    "length and chunked": (b"content-length: 4\r\ntransfer-encoding: chunked", b"0\r\n\r\n" + HIDDEN),
    "chunked and length": (b"transfer-encoding: chunked\r\ncontent-length: 5", b"0\r\n\r\n" + HIDDEN),
    "two lengths": (b"content-length: 0\r\ncontent-length: %d" % len(HIDDEN), HIDDEN),
    "two lengths in one": (b"content-length: 0, %d" % len(HIDDEN), HIDDEN),
    "a length with a sign": (b"content-length: +%d" % len(HIDDEN), HIDDEN),
    "a length below zero": (b"content-length: -1", HIDDEN),
    "a length in hexadecimal": (b"content-length: 0x10", HIDDEN),
    "a length that is too long to count": (b"content-length: 18446744073709551616", HIDDEN),
    "a length with a space in it": (b"content-length: 1 0", HIDDEN),
    "a space before the colon": (b"content-length : %d" % len(HIDDEN), HIDDEN),
    "another coding": (b"transfer-encoding: xchunked", CHUNKED + HIDDEN),
    "a coding after chunked": (b"transfer-encoding: chunked, identity", CHUNKED + HIDDEN),
    "two codings": (b"transfer-encoding: chunked\r\ntransfer-encoding: identity", CHUNKED + HIDDEN),
    "a vertical tab before chunked": (b"transfer-encoding: \x0bchunked", CHUNKED + HIDDEN),
    "a folded line": (b"transfer-encoding:\r\n chunked", CHUNKED + HIDDEN),
    "a size that is no number": (b"transfer-encoding: chunked", b"0x5\r\nabcde\r\n0\r\n\r\n" + HIDDEN),
    "a size below zero": (b"transfer-encoding: chunked", b"-5\r\nabcde\r\n0\r\n\r\n" + HIDDEN),
    "a size that is too long to count": (b"transfer-encoding: chunked", b"f" * 20 + b"\r\nabcde\r\n0\r\n\r\n" + HIDDEN),
    "a size that is too small": (b"transfer-encoding: chunked", b"2\r\n" + GOOD + b"\r\n0\r\n\r\n" + HIDDEN),
    "bare line feeds": (b"content-length: 0\ntransfer-encoding: chunked", HIDDEN),
    "a NUL in a name": (b"transfer\0-encoding: chunked", CHUNKED + HIDDEN),
    "a carriage return in a value": (b"x: a\rcontent-length: 10", HIDDEN),
}  # fmt: skip


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    made = Plane(tmp_path_factory.mktemp("plane"))
    made.load(bundles.adder(1))
    yield made
    made.close()
    assert made.log.read_text() == ""


def sent(served: Plane, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as line:
        line.sendall(data)
        line.shutdown(socket.SHUT_WR)
        got = b""
        try:
            while part := line.recv(65536):
                got += part
        except ConnectionResetError:
            pass
        return got


@pytest.mark.parametrize("name", PAIRS)
def test_what_could_be_read_in_two_ways_is_refused(served: Plane, name: str) -> None:
    lines, rest = PAIRS[name]
    got = sent(served, HEAD + lines + b"\r\n\r\n" + rest)
    statuses = re.findall(rb"HTTP/1\.1 (\d+)", got)
    assert b'"live"' not in got, "the hidden request was answered"
    assert len(statuses) <= 1
    assert all(400 <= int(status) < 500 for status in statuses), got
    assert served.rows("adder", {"x": 1}).status_code == 200


def test_the_plain_forms_mean_what_they_say(served: Plane) -> None:
    plain = HEAD + b"content-length: %d\r\n\r\n" % len(GOOD) + GOOD
    chunked = HEAD + b"transfer-encoding: chunked\r\n\r\n" + CHUNKED
    got = sent(served, plain + chunked + HIDDEN)
    assert re.findall(rb"HTTP/1\.1 (\d+)", got) == [b"200"] * 3
