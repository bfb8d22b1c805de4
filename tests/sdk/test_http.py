"""The client against servers that misbehave: what is repeated, what never is, and what the user is told."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptonai.core.errors import Busy, Conflict, DiskFull, Invalid, LeptonError, NotFound, Unauthenticated, Unavailable
from leptonai.sdk import wire
from leptonai.sdk.http import Http

Answer = tuple[int, dict[str, str], bytes]
CUT = (0, {}, b"")  # the connection is closed without an answer
OK = (200, {}, b'{"fine": true}')


class Script:
    """A server that answers as it is told, one answer after the other, the last for ever."""

    def __init__(self) -> None:
        self.answers: list[Answer | Callable[[BaseHTTPRequestHandler], None]] = [OK]
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                script.seen.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                now = script.answers[0] if len(script.answers) == 1 else script.answers.pop(0)
                if callable(now):
                    now(self)
                    return
                status, headers, data = now
                if status == 0:
                    self.close_connection = True
                    return
                self.send_response(status)
                for name, value in {"content-length": str(len(data)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815  names of the standard library

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.http = Http(self.url, "secret", timeout=5)

    def close(self) -> None:
        self.http.close()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def asked(self) -> list[str]:
        return [f"{method} {path}" for method, path, _, _ in self.seen]


@pytest.fixture
def script() -> Iterator[Script]:
    made = Script()
    yield made
    made.close()


def problem(status: int, code: str, message: str = "what is wrong", **more: Any) -> Answer:
    body = {"status": status, "code": code, "detail": message, "request_id": "req_1", **more}
    return (status, {"content-type": "application/problem+json"}, json.dumps(body).encode())


def test_a_call_and_its_answer(script: Script) -> None:
    assert script.http.call("POST", "/runs", json={"a": "é"}, params={"x": 1, "no": None}) == {"fine": True}
    method, path, headers, body = script.seen[0]
    assert (method, path, body) == ("POST", "/api/v1/runs?x=1", '{"a":"é"}'.encode())
    assert headers["authorization"] == "Bearer secret"
    assert headers["content-type"] == "application/json"
    assert headers["idempotency-key"]
    script.answers = [(204, {}, b"")]
    assert script.http.call("DELETE", "/keys/x") is None
    assert "idempotency-key" not in script.seen[1][2]


def test_errors_come_back_as_they_were_raised(script: Script) -> None:
    for status, code, kind in ((422, "invalid", Invalid), (404, "not_found", NotFound), (507, "disk_full", DiskFull)):
        script.answers = [
            problem(status, code, errors=[{"field": "f", "message": "m"}], about={"run": "r", "message": "x"})
        ]
        with pytest.raises(kind) as caught:
            script.http.call("GET", "/x")
        assert type(caught.value) is kind
        assert caught.value.message == "what is wrong"
        assert caught.value.errors[0].field == "f"
        assert caught.value.about == {"run": "r", "request_id": "req_1"}
    for status, kind in ((401, Unauthenticated), (409, Conflict), (500, Unavailable), (404, NotFound)):
        script.answers = [(status, {"content-type": "text/html"}, b"<h1>a proxy</h1>")]
        with pytest.raises(kind, match=str(status)):
            script.http.call("GET", "/x")


def test_what_is_no_server_of_ours(script: Script) -> None:
    script.answers = [(200, {"content-type": "text/html"}, b"<html>hello</html>")]
    with pytest.raises(Unavailable, match="not as a leptonai server"):
        script.http.call("GET", "/x")
    script.answers = [(301, {"location": "https://elsewhere/"}, b"")]
    with pytest.raises(Unavailable, match="https://elsewhere/"):
        script.http.call("GET", "/x")


def test_what_cannot_be_sent(script: Script) -> None:
    for value in ({"x": float("nan")}, {"x": object()}, {"x": "\ud800"}):
        with pytest.raises(Invalid, match="cannot be sent"):
            script.http.call("POST", "/x", json=value)
    with pytest.raises(Invalid):
        script.http.call("GET", "/\ud800")
    assert script.seen == []


def test_a_server_that_says_come_back_is_asked_again(script: Script) -> None:
    script.answers = [(503, {"retry-after": "0"}, b"{}"), (429, {"retry-after": "0"}, b"{}"), OK]
    assert script.http.call("DELETE", "/x") == {"fine": True}
    script.answers = [problem(503, "busy", retry_after=60)]
    script.answers[0][1]["retry-after"] = "60"  # type: ignore[index]
    start = time.monotonic()
    with pytest.raises(Busy) as caught:
        script.http.call("GET", "/x")
    assert caught.value.retry_after == 60
    assert time.monotonic() - start < 30, "a pause that long is for the caller to decide"
    before = len(script.seen)
    script.answers = [(503, {"retry-after": "0"}, b"{}")]
    with pytest.raises(Busy):
        script.http.call("GET", "/x")
    assert len(script.seen) - before == 4, "not for ever"


def test_a_connection_that_breaks(script: Script) -> None:
    for method in ("GET", "PUT"):
        script.answers = [CUT, OK]
        assert script.http.call(method, "/x") == {"fine": True}
    script.answers = [CUT, CUT, OK]
    script.seen.clear()
    script.http.call("POST", "/runs", json={})
    keys = {headers["idempotency-key"] for _, _, headers, _ in script.seen}
    assert len(script.seen) == 3
    assert len(keys) == 1, "each try carries the same key, so that the server has one effect of them"
    for method, path in (("DELETE", "/x"), ("POST", "/runs/r/events"), ("POST", "/sites/home/claim")):
        script.answers = [CUT, OK]
        script.seen.clear()
        with pytest.raises(Unavailable, match="no server answers"):
            script.http.call(method, path)
        assert len(script.seen) == 1, "what may have had its effect is not sent twice"


def test_a_body_that_cannot_be_sent_again_is_sent_once(script: Script) -> None:
    script.answers = [CUT, OK]
    with pytest.raises(Unavailable):
        script.http.call("PUT", "/x", content=iter([b"a", b"b"]))
    assert len(script.seen) <= 1


def test_nobody_there() -> None:
    http = Http("http://127.0.0.1:9", "k")
    with pytest.raises(Unavailable, match=r"http://127\.0\.0\.1:9 .*LEPTONAI_HOST.*lepton up"):
        http.call("GET", "/x")
    http.close()
    with pytest.raises(LeptonError):
        Http("http://127.0.0.1:port").call("GET", "/x")


def test_a_server_that_is_started_again(script: Script) -> None:
    asked: list[int] = []

    def revive() -> tuple[str, str]:
        asked.append(1)
        return script.url, "new"

    http = Http("http://127.0.0.1:9", "old", revive=revive)
    assert http.call("GET", "/x") == {"fine": True}
    assert (len(asked), http.base_url, script.seen[0][2]["authorization"]) == (1, script.url, "Bearer new")
    http.close()


def test_a_server_that_hangs(script: Script) -> None:
    hung, go_on = threading.Event(), threading.Event()
    script.answers = [lambda _: (go_on.wait(60), hung.set())]
    with pytest.raises(Unavailable, match="in time"):
        script.http.call("GET", "/x", timeout=0.2)
    assert not go_on.is_set()
    go_on.set()
    assert hung.wait(10)


def test_a_proxy_of_the_environment_is_not_for_this_machine(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert script.http.call("GET", "/x") == {"fine": True}
    monkeypatch.setenv("http_proxy", script.url)
    monkeypatch.setenv("no_proxy", "")
    abroad = Http("http://server.invalid")
    assert abroad.call("GET", "/x") == {"fine": True}
    assert script.asked[-1] == "GET http://server.invalid/api/v1/x"
    abroad.close()


def test_pages(script: Script) -> None:
    def page(items: list[int], following: str | None) -> Answer:
        return (200, {}, json.dumps({"items": items, "next": following}).encode())

    script.answers = [page([1, 2], "c1"), page([3], "c2"), page([4], None)]
    assert list(script.http.pages("/x", params={"name": "n"})) == [1, 2, 3, 4]
    assert script.asked[1] == "GET /api/v1/x?name=n&limit=100&cursor=c1"
    script.answers = [page([1, 2], "c1"), page([3], "c2")]
    assert list(script.http.pages("/x", limit=3)) == [1, 2, 3]
    assert script.asked[-1].endswith("limit=1&cursor=c1")


def test_an_upload_that_is_known_is_not_sent_again(script: Script) -> None:
    script.answers = [(200, {}, b'{"known": {}}'), (201, {}, b'{"blob": "b", "size": 4}')]
    assert script.http.upload(b"data") == "b"
    assert script.seen[1][2]["content-digest"].startswith("sha-256=:")
    digest = json.loads(script.seen[0][3])["digests"][0]
    script.answers = [(200, {}, json.dumps({"known": {digest: "b"}}).encode())]
    assert script.http.upload(b"data") == "b"
    assert script.asked[2:] == ["POST /api/v1/blobs/known"]


def test_a_fork_opens_connections_of_its_own(script: Script) -> None:
    script.http.call("GET", "/parent")
    pid = os.fork()
    if pid == 0:  # pragma: no cover - another process
        try:
            script.http.call("GET", "/child")
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    script.http.call("GET", "/parent")
    assert script.asked == [f"GET /api/v1/{who}" for who in ("parent", "child", "parent")]


# --------------------------------------------------------------------------------------------- event streams


def streamed(*parts: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.send_header("connection", "close")
        handler.end_headers()
        for part in parts:
            handler.wfile.write(part.encode())
            handler.wfile.flush()
        handler.close_connection = True

    return answer


def test_events_go_on_where_a_connection_broke(script: Script) -> None:
    script.answers = [
        streamed(": here\n\n", 'id: 1\nevent: log\ndata: {"n": 1}\n\n', 'id: 2\nevent: log\ndata: {"n":'),
        streamed('id: 2\nevent: log\ndata: {"n": 2}\n\n', 'id: 2\nevent: end\ndata: {"id": "r"}\n\n'),
    ]
    found = list(script.http.events("/runs/r/events", {"streams": "log", "after": 0}))
    assert found == [("log", {"n": 1}), ("log", {"n": 2}), ("end", {"id": "r"})]
    assert script.asked == [f"GET /api/v1/runs/r/events?streams=log&after={n}" for n in (0, 1)]
    assert script.seen[0][2]["accept"] == "text/event-stream"


def test_events_that_end_in_an_error(script: Script) -> None:
    script.answers = [problem(404, "not_found")]
    with pytest.raises(NotFound):
        list(script.http.events("/runs/r/events"))
    assert len(script.seen) == 1
    script.answers = [streamed()]
    with pytest.raises(Unavailable, match="cannot be read"):
        list(script.http.events("/runs/r/events"))


@given(
    st.lists(
        st.tuples(st.sampled_from(["log", "metric"]), st.text().map(lambda t: json.dumps({"line": t}))), max_size=6
    )
)
def test_events_are_read_as_they_were_written(wanted: list[tuple[str, str]]) -> None:
    text = "".join(f"id: {i}\nevent: {kind}\ndata: {data}\n\n: still here\n\n" for i, (kind, data) in enumerate(wanted))
    assert list(wire.events(text.split("\n"))) == [(str(i), kind, data) for i, (kind, data) in enumerate(wanted)]


@given(st.integers(100, 599), st.binary(max_size=100), st.text(max_size=10))
def test_no_answer_crashes_the_client(status: int, body: bytes, wait: str) -> None:
    assert isinstance(wire.error_of(status, {"retry-after": wait}, body, "x"), LeptonError)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x), max_leaves=8
    )
)
def test_no_problem_crashes_the_client(value: Any) -> None:
    for body in (value, {"code": value, "detail": value, "errors": value, "about": value, "retry_after": value}):
        try:
            text = json.dumps(body).encode()
        except UnicodeEncodeError:
            continue
        assert isinstance(wire.error_of(400, {}, text, "x"), LeptonError)
