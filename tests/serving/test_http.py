"""HTTP as clients of all kinds speak it: ahead of time, in pieces, in old versions, and hanging up in the middle."""

import hashlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import bundles
from tests.support.plane import Plane

from leptonai.serving.table import Line

ROWS = b'{"rows": [{"x": %d}]}'


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    made = Plane(tmp_path_factory.mktemp("plane"))
    made.load(bundles.adder(1))
    yield made
    made.close()
    assert made.log.read_text() == ""


def post(x: int, *head: bytes, version: bytes = b"1.1") -> bytes:
    body = ROWS % x
    lines = [
        b"POST /services/adder/predict HTTP/" + version,
        b"Host: localhost",
        b"Content-Length: %d" % len(body),
        *head,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


class Wire:
    """A connection, and the answers that come over it."""

    def __init__(self, served: Plane):
        self.socket = socket.create_connection(("127.0.0.1", served.port), timeout=10)
        self._data = b""

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.socket.sendall(piece)

    def answer(self, head_only: bool = False) -> tuple[int, dict[str, str], bytes]:
        while b"\r\n\r\n" not in self._data:
            self._more()
        head, _, self._data = self._data.partition(b"\r\n\r\n")
        start, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        size = 0 if head_only else int(headers.get("content-length", 0))
        while len(self._data) < size:
            self._more()
        body, self._data = self._data[:size], self._data[size:]
        return int(start.split()[1]), headers, body

    def _more(self) -> None:
        piece = self.socket.recv(65536)
        assert piece, f"the connection ended after {self._data!r}"
        self._data += piece

    @property
    def ended(self) -> bool:
        return self.socket.recv(1) == b""


def value(answer: tuple[int, dict[str, str], bytes]) -> float:
    import json

    assert answer[0] == 200, answer
    return float(json.loads(answer[2])["predictions"][0]["prediction"]) - 999  # it adds 1000


def test_requests_sent_ahead_are_answered_in_their_order(served: Plane) -> None:
    with Wire(served) as wire:
        wire.send(b"".join(post(i) for i in range(200)))
        assert [value(wire.answer()) for _ in range(200)] == [i + 1.0 for i in range(200)]


def test_who_says_that_nothing_more_comes_gets_all_its_answers(served: Plane) -> None:
    for count in (1, 2, 40):
        with Wire(served) as wire:
            wire.send(b"".join(post(i) for i in range(count)))
            wire.socket.shutdown(socket.SHUT_WR)
            assert [value(wire.answer()) for _ in range(count)] == [i + 1.0 for i in range(count)]
            assert wire.ended


def test_an_error_between_others_keeps_its_place(served: Plane) -> None:
    with Wire(served) as wire:
        wire.send(
            post(1) + post(2).replace(b'"x"', b'"z"') + post(3) + b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n"
        )
        assert value(wire.answer()) == 2.0
        assert wire.answer()[0] == 422
        assert value(wire.answer()) == 4.0
        assert wire.answer()[0] == 404


def test_a_request_may_come_in_any_pieces(served: Plane) -> None:
    whole = post(7) + post(8)
    for size in (1, 2, 3, 7, 50):
        with Wire(served) as wire:
            wire.send(*(whole[at : at + size] for at in range(0, len(whole), size)))
            assert [value(wire.answer()), value(wire.answer())] == [8.0, 9.0]


def test_chunked_bodies(served: Plane) -> None:
    start = b"POST /services/adder/predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = ROWS % 4
    with Wire(served) as wire:
        wire.send(start, *(b"1\r\n" + body[i : i + 1] + b"\r\n" for i in range(len(body))), b"0\r\n\r\n", post(5))
        assert [value(wire.answer()), value(wire.answer())] == [5.0, 6.0]


@pytest.mark.parametrize("type", [b"Content-Type: application/json", b"Accept: */*"])
def test_a_trap_is_answered_at_its_beginning_and_the_rest_of_it_thrown_away(served: Plane, type: bytes) -> None:
    head = [b"POST /services/adder/predict HTTP/1.1", b"Host: localhost", type, b"Content-Length: 8000000", b"\r\n"]
    with Wire(served) as wire:
        wire.send(b"\r\n".join(head), b'{"rows": ', b"[" * 100_000)
        status, headers, body = wire.answer()
        assert (status, headers["connection"]) == (400, "close")
        assert b"nested more than 64 levels deep" in body
        wire.send(b"[" * 4_000_000)  # nobody hangs up on who still sends
        assert wire.ended
    with Wire(served) as wire:
        wire.send(post(5))
        assert value(wire.answer()) == 6


def test_what_is_no_json_is_not_looked_at_as_such(served: Plane) -> None:
    raw = b"[" * 200_000
    head = [b"POST /services/adder/predict HTTP/1.1", b"Host: localhost", b"Content-Length: %d" % len(raw)]
    with Wire(served) as wire:
        wire.send(b"\r\n".join([*head, b"Content-Type: image/png", b"\r\n"]), raw)
        status, headers, body = wire.answer()
        assert status in (415, 422)
        assert b"nested" not in body
        assert headers.get("connection") != "close"
        wire.send(post(5))
        assert value(wire.answer()) == 6


def test_a_client_that_waits_to_be_told_to_go_on(served: Plane) -> None:
    head, _, body = post(3, b"Expect: 100-continue").partition(b"\r\n\r\n")
    with Wire(served) as wire:
        wire.send(head + b"\r\n\r\n")
        assert wire.answer()[0] == 100
        wire.send(body)
        assert value(wire.answer()) == 4.0


@pytest.mark.parametrize(
    ("head", "version", "stays"),
    [
        ((), b"1.1", True),
        ((b"Connection: close",), b"1.1", False),
        ((), b"1.0", False),
        ((b"Connection: keep-alive",), b"1.0", True),
    ],
)
def test_a_connection_stays_as_long_as_both_want(
    served: Plane, head: tuple[bytes, ...], version: bytes, stays: bool
) -> None:
    with Wire(served) as wire:
        wire.send(post(1, *head, version=version))
        answer = wire.answer()
        assert value(answer) == 2.0
        assert (answer[1].get("connection") != "close") is stays
        if stays:
            wire.send(post(2, *head, version=version))
            assert value(wire.answer()) == 3.0
        else:
            assert wire.ended


def test_an_upgrade_that_is_offered_is_not_taken(served: Plane) -> None:
    with Wire(served) as wire:
        wire.send(
            b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM\r\n\r\n"
        )
        status, headers, body = wire.answer()
        assert (status, headers["connection"]) == (200, "close")
        assert b"leptonai" in body


def test_head_has_the_length_and_no_body(served: Plane) -> None:
    with Wire(served) as wire:
        wire.send(b"HEAD /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n" + post(1))
        status, headers, _ = wire.answer(head_only=True)
        assert status == 200
        assert int(headers["content-length"]) > 10
        assert value(wire.answer()) == 2.0


@pytest.mark.parametrize("name", [b"Host: localhost", b"Authorization: Bearer x", b"Content-Type: text/plain"])
def test_a_header_that_may_stand_once_stands_once(served: Plane, name: bytes) -> None:
    with Wire(served) as wire:
        wire.send(post(1, name, name))
        assert wire.answer()[0] == 400


def test_who_hangs_up_early_harms_nobody(served: Plane) -> None:
    for cut in range(1, len(post(1)), 3):
        with Wire(served) as wire:
            wire.send(post(1)[:cut])
    for _ in range(50):
        with Wire(served) as wire:
            wire.send(post(1) * 3)
    assert served.rows("adder", {"x": 1}).json()["predictions"] == [{"prediction": 1001.0}]


def test_who_does_not_read_holds_up_nobody_else(served: Plane) -> None:
    big = b'{"rows": [' + b",".join([b'{"x": 1}'] * 20_000) + b"]}"
    request = b"POST /services/adder/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(big) + big
    with Wire(served) as greedy:
        greedy.socket.settimeout(0.5)
        sent = 0
        try:
            for _ in range(60):
                greedy.send(request)
                sent += 1
        except TimeoutError:
            pass
        assert sent < 60, "what it sends ahead waits in its own socket"
        start = time.perf_counter()
        assert served.rows("adder", {"x": 1}).status_code == 200
        assert time.perf_counter() - start < 5


def test_a_deadline_of_the_caller(served: Plane) -> None:
    with Wire(served) as wire:
        wire.send(post(1, b"X-Request-Timeout-Ms: 2000"))
        assert value(wire.answer()) == 2.0
        wire.send(post(1, b"X-Request-Timeout-Ms: soon"))
        status, _, body = wire.answer()
        assert (status, b"X-Request-Timeout-Ms" in body) == (400, True)


def test_a_remembered_request_is_checked_anew_when_keys_or_services_change(tmp_path: Path) -> None:
    """Heads of requests are remembered; that they were admitted holds no longer than the tables of keys and routes."""
    plane = Plane(tmp_path)
    digest = hashlib.sha256(b"mine").hexdigest()
    request = post(1, b"Authorization: Bearer mine")
    try:
        plane.load(bundles.adder(1))
        ids = [plane.table["adder"]]
        model, files = bundles.adder(2)
        plane.process.load(model, files)
        ids.append(model.id)
        plane.process.keys([[digest, "mine", ["adder"], None]])
        plane.process.route([Line.one("adder", ids[1], False), Line.one("spare", ids[0], False)])
        with Wire(plane) as wire:

            def ask() -> tuple[int, str | None]:
                wire.send(request)
                status, headers, _ = wire.answer()
                return status, headers.get("x-leptonai-version")

            assert [ask() for _ in range(3)] == [(200, "2")] * 3
            plane.process.route([Line.one("adder", ids[0], False)])
            assert ask() == (200, "1")
            plane.process.keys([])
            assert ask()[0] == 401
            plane.process.keys([[digest, "mine", ["other"], None]])
            assert ask()[0] == 403
            plane.process.keys([[digest, "mine", ["*"], time.time() + 0.5]])
            assert ask() == (200, "1")
            time.sleep(0.6)
            assert ask()[0] == 401
    finally:
        plane.close()
