"""Bodies, headers and connections that nobody should send: each is refused with a reason, and the plane goes on."""

import json
import socket
import time
from collections.abc import Iterator

import pytest
from tests.support import bundles
from tests.support.plane import Plane

from leptonai.core.errors import Invalid

GOOD_TENSOR = '{"name": "x", "datatype": "FP64", "shape": [1], "data": [1]}'

BODIES: list[bytes] = [
    b"", b" ", b"\0", b"null", b"true", b"7", b'"rows"', b"[]", b"{}", b"[1, 2]", b"{", b"}", b"[", b"]", b'{"rows"', b'{"rows":',
    b'{"rows": ]', b'{"rows": [}', b'{"rows": [{"x": 1}]', b'{"rows": [{"x": 1}]}}', b'{"rows": [{"x": 1}]} x',
    b"{'rows': [{'x': 1}]}", b'{"rows": [{"x": 1,}]}', b'{"rows": [{"x": 1}],}', b'{"rows": [{x: 1}]}', b'{"rows": null}',
    b'{"rows": {}}', b'{"rows": "x"}', b'{"rows": 1}', b'{"rows": []}', b'{"rows": [[]]}', b'{"rows": [1]}', b'{"rows": [null]}',
    b'{"rows": ["x"]}', b'{"rows": [{}]}', b'{"rows": [[1]]}', b'{"rows": [{"x": NaN}]}', b'{"rows": [{"x": Infinity}]}',
    b'{"rows": [{"x": -Infinity}]}', b'{"rows": [{"x": 1e400}]}', b'{"rows": [{"x": -1e999}]}', b'{"rows": [{"x": ' + b"9" * 5000 + b"}]}",
    b'{"rows": [{"x": 0x10}]}', b'{"rows": [{"x": 01}]}', b'{"rows": [{"x": .5}]}', b'{"rows": [{"x": +1}]}', b'{"rows": [{"x": 1_000}]}',
    b'{"rows": [{"x": "1"}]}', b'{"rows": [{"x": true}]}', b'{"rows": [{"x": [1]}]}', b'{"rows": [{"x": {"y": 1}}]}',
    b'{"rows": [{"x": 1, "y": 2}]}', b'{"rows": [{"X": 1}]}', b'{"rows": [{"x ": 1}]}', b'{"rows": [{"x": 1}, {}]}',
    b'{"rows": [{"x": 1}], "row": 1}', b'{"rows": [{"x": 1}], "rows": [{"x": 2}]}', b'{"rows": [{"x": 1, "x": 2}]}',
    b'{"rows": [{"x": 1, "\\u0078": 2}]}', b'{"rows": [{"__proto__": 1}]}', b'{"rows": [{"x": "\xff"}]}', b'{"rows": [{"x": "\\ud800"}]}',
    b'{"rows": [{"x": "\\x"}]}', b'{"rows": [{"x": "a\nb"}]}', b'\xff\xfe{\0"\0', b"\xef\xbb\xbf{}", b"\x80\x04\x95\x0a\0\0\0\0\0\0\0cos\nsystem\n.",
    b"PK\x03\x04" + b"\0" * 60, b"<rows><x>1</x></rows>", b"x=1", b"rows: [{x: 1}]", b"x\n1\n", b"[" * 1000, b"[" * 100_000, b"[" * 2_000_000,
    b'{"rows":' * 1000, b'{"rows": ' + b"[" * 100 + b"]" * 100 + b"}", b'{"rows": [{"x": ' + b"[" * 63 + b"]" * 63 + b"}]}",
    b'{"a":' * 70 + b"1" + b"}" * 70, b'{"rows": [{"' + b"y" * 100_000 + b'": 1}]}', b'{"rows": [' + b"{}," * 50_000 + b"{}]}",
    b'{"inputs": []}', b'{"inputs": [{"name": "x"}]}', b'{"inputs": null}', b'{"inputs": {"x": [1]}}', b'{"instances": [[1]]}',
    b'{"inputs": [{"name": "x", "datatype": "FP64", "shape": [9223372036854775807, 9223372036854775807], "data": [1]}]}',
    b'{"inputs": [{"name": "x", "datatype": "FP64", "shape": [1e3], "data": [1]}]}',
    b'{"inputs": [{"name": "x", "datatype": "FP64", "shape": [' + b"1," * 5000 + b'1], "data": [1]}]}',
    b'{"inputs": [{"name": "x", "datatype": "OBJECT", "shape": [1], "data": [1]}]}',
]  # fmt: skip


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    made = Plane(tmp_path_factory.mktemp("plane"))
    made.load(bundles.adder(1))
    yield made
    made.close()
    assert made.log.read_text() == ""


@pytest.mark.parametrize("path", ["/services/adder/predict", "/v2/models/adder/infer"])
def test_a_corpus_of_bodies(served: Plane, path: str) -> None:
    assert len(BODIES) >= 60
    for body in BODIES:
        start = time.perf_counter()
        answer = served.client.post(path, content=body, headers={"content-type": "application/json"})
        assert 400 <= answer.status_code < 500, (body[:80], answer.status_code, answer.text)
        assert answer.json()["error"], body[:80]
        assert "Traceback" not in answer.text
        assert 'File "' not in answer.text
        assert len(answer.text) < 10_000, body[:80]
        assert time.perf_counter() - start < 5, body[:80]
    assert served.rows("adder", {"x": 1}).status_code == 200
    assert served.process.alive


def test_nesting_as_deep_as_allowed_is_read(served: Plane) -> None:
    deep = b'{"rows": [{"x": ' + b"[" * 61 + b"]" * 61 + b"}]}"
    assert "a number is needed" in served.client.post("/services/adder/predict", content=deep).text
    brackets_in_text = json.dumps({"rows": [{"x": "[{" * 200}]}).encode()
    assert "the text" in served.client.post("/services/adder/predict", content=brackets_in_text).text
    quoted = json.dumps({"rows": [{'x": [' * 100 + '\\"': 1}]}).encode()
    assert "not a column" in served.client.post("/services/adder/predict", content=quoted).text


@pytest.mark.parametrize(
    "name",
    [
        "..",
        "../x",
        "%2e%2e%2f",
        "%252e",
        "..;",
        "//x",
        "a%00b",
        "a%0d%0ab",
        "x" * 5000,
        "{{7*7}}",
        "$(id)",
        "%F0%9F%98%80",
        "None",
        "%3Cscript%3E",
    ],
)
def test_names_that_are_no_services(served: Plane, name: str) -> None:
    for path in (f"/services/{name}/predict", f"/v2/models/{name}/infer", f"/v2/models/adder/versions/{name}/infer"):
        answer = served.client.post(path, content=b'{"rows": [{"x": 1}]}')
        assert answer.status_code in (400, 404)  # 400: the client made another path of it
        assert len(answer.text) < 1000


@pytest.mark.parametrize(("method", "path"), [("GET", "/services/adder/predict"), ("PUT", "/v2/models/adder/infer"),
                                              ("POST", "/v2"), ("DELETE", "/metrics"), ("OPTIONS", "/services/adder/predict")])  # fmt: skip
def test_a_method_that_is_not_for_here(served: Plane, method: str, path: str) -> None:
    answer = served.client.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] in ("GET", "POST")


def test_a_body_over_the_limit_is_refused_early(served: Plane) -> None:
    chunk = b" " * 2**20
    answer = served.client.post("/services/adder/predict", content=(chunk for _ in range(20)))
    assert answer.status_code == 413
    assert "16777216 bytes" in answer.json()["detail"]
    assert served.client.post("/v2/models/adder/infer", content=chunk * 17).status_code == 413


def test_many_rows_are_computed_in_slices(served: Plane) -> None:
    rows = [{"x": i} for i in range(50_000)]
    answer = served.rows("adder", *rows)
    assert answer.status_code == 200
    assert [one["prediction"] for one in answer.json()["predictions"]] == [1000.0 + i for i in range(50_000)]


def raw(plane: Plane, data: bytes, *, wait: float = 5.0) -> bytes:
    """Send bytes as they are and return what comes until the plane hangs up, or says nothing for a while."""
    with socket.create_connection(("127.0.0.1", plane.port)) as line:
        line.settimeout(wait)
        got = b""
        try:
            line.sendall(data)
            while part := line.recv(65536):
                got += part
        except OSError:
            pass
        return got


def test_headers_that_are_too_large(served: Plane) -> None:
    start = b"GET /v2 HTTP/1.1\r\nhost: localhost\r\n"
    one = raw(served, start + b"x: " + b"a" * 2_000_000 + b"\r\n\r\n")
    many = raw(served, start + b"".join(b"x-%d: a\r\n" % i for i in range(20_000)) + b"\r\n")
    line = raw(served, b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n")
    for answer in (one, many, line):
        assert answer.startswith((b"HTTP/1.1 431", b"HTTP/1.1 400")) or answer == b""  # closed while it was still sent
    assert served.client.get("/v2").status_code == 200


def test_a_request_without_a_host(served: Plane) -> None:
    assert raw(served, b"GET /v2 HTTP/1.1\r\n\r\n", wait=1).startswith(b"HTTP/1.1 400")
    assert raw(served, b"GET /v2 HTTP/1.0\r\n\r\n", wait=1).startswith(b"HTTP/1.1 200")


def test_two_lengths_of_one_body_are_refused(served: Plane) -> None:
    head = b"POST /services/adder/predict HTTP/1.1\r\nhost: localhost\r\n"
    both = raw(served, head + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", wait=2)
    assert both.startswith(b"HTTP/1.1 400")
    twice = raw(served, head + b"content-length: 4\r\ncontent-length: 5\r\n\r\nabcde", wait=2)
    assert twice.startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost:80:80", "[::2]", "10.0.0.1"])
def test_a_name_that_is_made_to_point_here(served: Plane, host: str) -> None:
    assert served.client.get("/v2", headers={"host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:80"])
def test_names_of_this_machine(served: Plane, host: str) -> None:
    assert served.client.get("/v2", headers={"host": host}).status_code == 200


def test_pipelined_requests_are_answered_in_order(served: Plane) -> None:
    body = b'{"rows": [{"x": %d}]}'
    requests = []
    for i in range(20):
        data = body % i
        requests.append(
            b"POST /services/adder/predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%s"
            % (len(data), data)
        )
    got = raw(served, b"".join(requests), wait=2)
    assert [f'"prediction":{1000 + i}.0' in part.decode() for i, part in enumerate(got.split(b"HTTP/1.1 ")[1:])] == [
        True
    ] * 20


def test_clients_that_hang_up_in_the_middle(served: Plane) -> None:
    for data in (
        b"POST /serv",
        b"POST /services/adder/predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{",
    ):
        with socket.create_connection(("127.0.0.1", served.port)) as line:
            line.sendall(data)
    assert served.rows("adder", {"x": 1}).status_code == 200


def test_silent_connections_are_closed(served: Plane) -> None:
    quiet = {
        "silent": b"",
        "headers": b"GET /v2 HTTP/1.1\r\nhost: lo",
        "after one request": b"GET /v2 HTTP/1.1\r\nhost: localhost\r\n\r\nGET /v2 HT",
    }
    lines = {name: socket.create_connection(("127.0.0.1", served.port)) for name in quiet}
    try:
        start = time.monotonic()
        for name, data in quiet.items():
            lines[name].sendall(data)
        for line in lines.values():
            line.settimeout(20)
            try:
                while line.recv(65536):
                    pass
            except ConnectionResetError:
                pass
        assert time.monotonic() - start < 16
        assert served.rows("adder", {"x": 1}).status_code == 200
    finally:
        for line in lines.values():
            line.close()


class Line:
    """A connection that sends what no client library would, and reads the answer while it sends."""

    def __init__(self, served: Plane, head: bytes):
        self.socket = socket.create_connection(("127.0.0.1", served.port), timeout=10)
        self.socket.sendall(b"POST /services/adder/predict HTTP/1.1\r\nhost: localhost\r\n" + head + b"\r\n\r\n")

    def ended(self) -> bytes:
        with self.socket:
            got = b""
            while part := self.socket.recv(65536):
                got += part
            return got


@pytest.mark.parametrize("length", [b"16777217", b"1073741824", b"10000000000", b"9" * 30])
def test_a_body_that_is_announced_too_large_is_not_waited_for(served: Plane, length: bytes) -> None:
    answer = Line(served, b"content-length: " + length).ended()
    assert answer.startswith((b"HTTP/1.1 413", b"HTTP/1.1 400"))  # 400: a number that no parser can hold
    assert served.rows("adder", {"x": 1}).status_code == 200


def test_a_body_without_end_is_refused_where_the_limit_is(served: Plane) -> None:
    line = Line(served, b"transfer-encoding: chunked")
    piece = b"100000\r\n" + b" " * 2**20 + b"\r\n"
    for _ in range(17):
        line.socket.sendall(piece)
    assert line.ended().startswith(b"HTTP/1.1 413")


def test_who_is_refused_while_it_sends_is_told_so(served: Plane) -> None:
    """To hang up on bytes that were not read would undo the answer."""
    line = Line(served, b"content-length: 40000000")
    for _ in range(40):
        line.socket.sendall(b" " * 1_000_000)
    assert line.ended().startswith(b"HTTP/1.1 413")
    big = Line(served, b"x-big: " + b"a" * 2_000_000)
    assert big.ended().startswith((b"HTTP/1.1 431", b"HTTP/1.1 400"))


def test_an_endless_sender_is_hung_up_on(served: Plane) -> None:
    line = Line(served, b"content-length: 10000000000")
    with line.socket, pytest.raises(OSError):
        for _ in range(1000):
            line.socket.sendall(b" " * 1_000_000)
    assert served.rows("adder", {"x": 1}).status_code == 200


def test_a_key_that_stands_twice_is_named(served: Plane) -> None:
    answer = served.client.post("/services/adder/predict", content=b'{"rows": [{"x": 1, "x": 2}]}')
    assert answer.status_code == 400
    assert "'x' twice" in answer.json()["detail"]


def test_deep_nesting_is_refused_quickly(served: Plane) -> None:
    body = b'{"rows": ' + b"[" * 2_000_000 + b"]" * 2_000_000 + b"}"
    flat = b'{"rows": ' + b" " * 4_000_000 + b"}"
    took = {}
    for name, one in (("deep", body), ("flat", flat), ("deep again", body), ("flat again", flat)):
        start = time.perf_counter()
        assert served.client.post("/services/adder/predict", content=one).status_code == 400
        took[name] = time.perf_counter() - start
    assert min(took["deep"], took["deep again"]) < 20 * min(took["flat"], took["flat again"]) + 0.1


def test_a_model_that_needs_more_memory_than_there_is_harms_nobody(served: Plane) -> None:
    """It is refused when it is loaded, or, when its hunger hangs on what it is asked, the one who asked is told."""
    with pytest.raises(Invalid):
        served.process.load(*bundles.hungry(always=True))
    served.load(bundles.hungry(always=False))
    assert served.rows("hungry", {"x": 1}).status_code == 200
    start = time.perf_counter()
    answer = served.rows("hungry", {"x": 2.0**42})
    assert 400 <= answer.status_code < 600
    assert answer.json()["error"]
    assert time.perf_counter() - start < 5
    assert served.rows("hungry", {"x": 1}).status_code == 200
    assert served.rows("adder", {"x": 1}).status_code == 200
    assert served.process.alive
