"""How things look on the wire: problems, pages, ETags; and bodies that could mean two things."""

import json
import re
import socket
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import Response
from tests.server.conftest import API, Place, dataset, digest

from leptonai.core.errors import (
    Busy,
    Conflict,
    Denied,
    DiskFull,
    FieldError,
    Invalid,
    LeptonError,
    Stale,
    TooLarge,
    from_dict,
)
from leptonai.server import protocol, strict, wire
from leptonai.server.routes.table import Route
from leptonai.server.scopes import PUBLIC


def test_a_problem_has_everything_and_comes_back_as_the_error_it_was(place: Place) -> None:
    answer = place.ask("POST", "/keys", json={"name": "../x", "scopes": ["*"], "colour": 1})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert {"type", "title", "status", "detail", "code", "errors", "request_id"} <= body.keys()
    assert (body["status"], body["code"]) == (422, "invalid")
    assert answer.headers["x-request-id"] == body["request_id"]
    assert {e["field"] for e in body["errors"]} == {"name", "colour"}
    error = from_dict(body)
    assert isinstance(error, Invalid)
    assert error.message == body["detail"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Invalid("x", errors=[FieldError("f", "m")]), 422), (TooLarge("x"), 413), (Denied("x"), 403), (Conflict("x"), 409),
        (Stale("x"), 412), (Busy("x", retry_after=2.2), 503), (DiskFull("x"), 507), (LeptonError("x"), 500),
    ],
)  # fmt: skip
def test_statuses(error: LeptonError, status: int) -> None:
    answer = wire.problem(error, "req_1")
    assert answer.status_code == status
    assert type(from_dict(json.loads(bytes(answer.body)))) is type(error)
    assert ("retry-after" in answer.headers) == isinstance(error, Busy)
    if isinstance(error, Busy):
        assert answer.headers["retry-after"] == "3"


def test_every_error_has_a_status() -> None:
    def walk(kind: type[LeptonError]) -> list[type[LeptonError]]:
        return [kind, *(found for child in kind.__subclasses__() for found in walk(child))]

    assert all(400 <= wire.status_of(kind("x")) <= 599 for kind in walk(LeptonError))


def test_an_error_that_nobody_foresaw(tmp_path: object, caplog: pytest.LogCaptureFixture) -> None:
    def handler() -> Response:
        """Fail."""
        raise RuntimeError("the secret is 42")

    from pathlib import Path

    place = Place(Path(str(tmp_path)) / "home", [Route("GET", f"{API}/fail", PUBLIC, "Fail", handler)])
    try:
        answer = place.ask("GET", "/fail")
    finally:
        place.close()
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "42" not in answer.json()["message"].replace(answer.json()["request_id"], "")
    assert "Traceback" not in answer.text
    assert answer.json()["request_id"] in caplog.text
    assert "the secret is 42" in caplog.text


def test_unknown_paths_methods_and_parameters(place: Place) -> None:
    for method, path, status in (
        ("GET", "/nothing", 404), ("PATCH", "/runs", 405), ("GET", "/runs?colour=red", 422), ("GET", "/runs?limit=0", 422),
        ("GET", "/runs?limit=5&limit=6", 422), ("GET", "/runs?cursor=../x", 422), ("GET", "/runs?state=lost", 422),
        ("GET", "/runs?name=a%00b", 422), ("GET", "/runs/run_1/events?streams=colour", 422), ("GET", "//runs", 404),
        ("GET", "/runs/", 404), ("GET", "/runs/%2e%2e", 422), ("GET", "/runs/..%2f..%2fkeys", 404),
    ):  # fmt: skip
        answer = place.ask(method, path)
        assert (method, path, answer.status_code) == (method, path, status)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"]


BAD_JSON = {
    "no JSON": b"{", "NaN": b'{"name": NaN, "scopes": ["*"]}', "infinity": b'{"a": -Infinity}', "too large": b'{"a": 1e400}',
    "a name twice": b'{"name": "a", "name": "b", "scopes": ["*"]}', "deep": b"[" * 2_000_000, "deep and closed": b'{"a":' * 70 + b"1" + b"}" * 70,
    "half a surrogate pair": b'{"name": "\\ud800", "scopes": ["*"]}', "no UTF-8": b'{"name": "\xff"}', "many digits": b'{"a": ' + b"9" * 5000 + b"}",
    "a number": b"7", "a text": b'"x"', "nothing": b"", "a BOM": b'\xef\xbb\xbf{}', "null": b"null",
}  # fmt: skip


@pytest.mark.parametrize("body", BAD_JSON.values(), ids=BAD_JSON.keys())
def test_bodies_that_are_no_plain_json(place: Place, body: bytes) -> None:
    answer = place.ask("POST", "/keys", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert place.ask("GET", "/health").status_code == 200


@given(st.recursive(st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x), max_leaves=30))  # fmt: skip
def test_what_is_plain_json_is_read_as_it_is(value: object) -> None:
    try:
        text = json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return
    assert strict.parse(text) == value
    assert strict.parse(json.dumps(value).encode()) == value


@given(st.binary(max_size=200))
def test_no_body_crashes_the_parser(body: bytes) -> None:
    try:
        strict.parse(body)
    except Invalid as error:
        assert error.errors[0].field == "body"


def test_a_body_needs_its_content_type_and_a_route_without_one_takes_none(place: Place) -> None:
    body = b'{"name": "x", "scopes": ["*"]}'
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        answer = place.ask("POST", "/keys", content=body, headers={"content-type": kind})
        assert answer.status_code == 422
        assert "Content-Type" in answer.json()["detail"]
    run = place.submit()["id"]
    answer = place.ask("POST", f"/runs/{run}/cancel", json={"force": True})
    assert answer.status_code == 422
    assert "no body" in answer.json()["detail"]


def test_bodies_are_capped_while_they_stream(place: Place) -> None:
    def endless() -> object:
        for _ in range(200):
            yield b"x" * (1 << 20)

    start = time.monotonic()
    for path, kind in (
        ("/keys", "application/json"),
        ("/runs", "application/json"),
        ("/blobs/known", "application/json"),
    ):
        said = place.ask("POST", path, content=b"x" * (9 << 20), headers={"content-type": kind})
        assert said.status_code == 413
        assert "at most 8 MiB" in said.json()["detail"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strict, "_BODY_SECONDS", 20.0)
        try:
            answer = place.ask("POST", "/keys", content=endless(), headers={"content-type": "application/json"})
        except Exception as error:  # the server closed the connection while we still sent, which is right too
            assert type(error).__name__ in ("WriteError", "ReadError", "RemoteProtocolError")
        else:
            assert answer.status_code == 413
    assert time.monotonic() - start < 30


def test_pages(place: Place) -> None:
    for version in range(1, 8):
        place.context.catalog.add(dataset(version=version, digest=str(version)))
    seen, cursor = [], None
    for expected in (3, 3, 1):
        page = place.ask("GET", "/datasets", params={"limit": 3, **({"cursor": cursor} if cursor else {})}).json()
        assert len(page["items"]) == expected
        seen += [item["version"] for item in page["items"]]
        cursor = page["next"]
    assert cursor is None
    assert seen == [7, 6, 5, 4, 3, 2, 1]
    assert place.ask("GET", "/datasets?limit=7").json()["next"] is None


def test_etags(place: Place) -> None:
    place.context.catalog.add(dataset())
    got = place.ask("GET", "/datasets/things")
    assert got.headers["etag"] == '"1"'
    stale = place.ask("DELETE", "/datasets/things", headers={"if-match": '"7"'})
    assert stale.status_code == 412
    assert stale.json()["code"] == "stale"
    assert place.ask("DELETE", "/datasets/things", headers={"if-match": '"7", "1"'}).status_code == 204
    assert place.ask("GET", "/datasets/things").status_code == 404


def test_nan_is_never_sent() -> None:
    class Loose(wire.Json):
        pass

    sent = bytes(Loose({"a": float("nan"), "b": [float("inf"), 1.5], "c": {"d": -0.0}}).body)
    assert strict.parse(sent) == {"a": None, "b": [None, 1.5], "c": {"d": 0.0}}
    record = dataset(source={"loss": float("nan"), "deep": [{"x": float("inf")}]})
    assert strict.parse(wire.text(record))["source"] == {"loss": None, "deep": [{"x": None}]}


def test_headers_for_browsers_and_an_id_on_every_answer(place: Place) -> None:
    ids = set()
    for answer in (place.ask("GET", "/health", None), place.ask("GET", "/runs", None), place.ask("GET", "/no", None)):
        ids.add(answer.headers["x-request-id"])
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "server" not in answer.headers
        assert "access-control-allow-origin" not in answer.headers
    assert len(ids) == 3


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::2]", "a@127.0.0.1"]
)
def test_a_name_that_was_made_to_point_here_is_not_answered(place: Place, host: str) -> None:
    answer = place.ask("GET", "/health", headers={"host": host})
    assert answer.status_code in (400, 422)
    assert place.ask("GET", "/health", headers={"host": "LOCALHOST:1"}).status_code == 200
    assert place.ask("GET", "/health", headers={"host": "[::1]:80"}).status_code == 200


def raw(place: Place, data: bytes, seconds: float = 5.0) -> bytes:
    """Send bytes as they are and return all that comes until the server closes."""
    host, port = place.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=seconds) as line:
        line.sendall(data)
        found = b""
        try:
            while piece := line.recv(65536):
                found += piece
        except TimeoutError:
            found += b"(still open)"
        except ConnectionResetError:  # it had more to say than the server wanted to hear
            found = found or b"HTTP/1.1 400 and closed"
        return found


def test_requests_that_two_servers_could_read_differently(place: Place) -> None:
    head = b"POST /api/v1/keys HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
    for more in (
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"Content-Length: -1\r\n\r\n", b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", b"X: a\0b\r\n\r\n",
        b"Big: " + b"x" * 2_000_000 + b"\r\n\r\n",
    ):  # fmt: skip
        said = raw(place, head + more)
        assert re.match(rb"HTTP/1.1 4\d\d", said), said[:200]
    assert re.match(rb"HTTP/1.1 4\d\d", raw(place, b"GET /api/v1/health HTTP/1.1\r\nConnection: close\r\n\r\n"))


def test_who_does_not_say_what_he_wants_loses_the_connection(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(strict, "SILENT_SECONDS", 0.3)
    head = b"POST /api/v1/keys HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    key = b"Authorization: Bearer " + place.context.local_token.encode() + b"\r\nContent-Type: application/json\r\n"
    for data in (b"", b"GET /ap", head):
        assert b"(still open)" not in raw(place, data)
    said = raw(place, head + b"Connection: close\r\n" + key + b"Content-Length: 50\r\n\r\n{")
    assert b"did not arrive" in said


def test_the_description_names_every_route_with_its_permission(place: Place) -> None:
    found = place.ask("GET", "/openapi.json", None).json()
    assert found["openapi"].startswith("3.1")
    assert found["paths"]["/api/v1/runs"]["post"]["x-permission"] == "the stage's"
    assert found["paths"]["/api/v1/health"]["get"]["security"] == []
    assert found["paths"]["/api/v1/keys"]["post"]["security"] == [{"key": []}]
    assert all(o["summary"] for p in found["paths"].values() for o in p.values())
    assert [path for path in found["paths"] if path.endswith("/metrics")], "it is described too"
    for path in found["paths"]:
        if path.endswith(("/metrics", "/{blob}", "/raw")) and "get" in found["paths"][path]:
            assert "application/json" not in found["paths"][path]["get"]["responses"]["200"]["content"], path


def test_metrics_have_routes_as_labels_and_nothing_a_caller_made_up(place: Place) -> None:
    place.ask("GET", "/runs/run_" + "0" * 26)
    place.ask("GET", "/made-up-by-me")
    place.ask("POST", "/blobs", content=b"x", headers=digest(b"x"))
    found = place.ask("GET", "/metrics")
    assert place.ask("GET", "/metrics", None).status_code == 401
    assert found.headers["content-type"].startswith("text/plain")
    assert 'leptonai_http_requests_total{method="GET",route="/api/v1/runs/{id}",code="404"} 1' in found.text
    assert "made-up" not in found.text
