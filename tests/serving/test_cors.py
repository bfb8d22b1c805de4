"""Web pages of other origins: none may call, until the setting names them."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.support import bundles
from tests.support.plane import Plane

from leptonai.core.errors import Invalid
from leptonai.serving.plane.cors import origins

PAGE = "https://ward.example"
ASKS = {"origin": PAGE, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}


@pytest.fixture
def open_plane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plane]:
    monkeypatch.setenv("LEPTONAI_ORIGINS", f"{PAGE}, http://localhost:3000")
    made = Plane(tmp_path)
    made.load(bundles.adder(1))
    yield made
    made.close()


def ask(plane: Plane, **headers: str) -> httpx.Response:
    return plane.client.post("/services/adder/predict", json={"rows": [{"x": 1}]}, headers=headers)


def test_a_page_that_is_named_may_call_and_read_every_answer(open_plane: Plane) -> None:
    asked = open_plane.client.options("/services/adder/predict", headers=ASKS)
    assert asked.status_code == 200
    assert asked.headers["access-control-allow-origin"] == PAGE
    assert "authorization" in asked.headers["access-control-allow-headers"]
    for _ in range(3):  # also where the head of the request was seen before
        answer = ask(open_plane, origin=PAGE)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert "x-request-id" in answer.headers["access-control-expose-headers"]
    wrong = open_plane.client.post("/services/none/predict", json={}, headers={"origin": PAGE})
    assert (wrong.status_code, wrong.headers["access-control-allow-origin"]) == (404, PAGE)


def test_other_pages_and_other_callers_are_told_nothing_of_it(open_plane: Plane) -> None:
    for headers in ({"origin": "https://evil.example"}, {"origin": "null"}, {}):
        answer = open_plane.client.post("/services/adder/predict", json={"rows": [{"x": 1}]}, headers=headers)
        assert answer.status_code == 200
        assert "access-control-allow-origin" not in answer.headers
    refused = open_plane.client.options("/v2", headers={**ASKS, "origin": "https://evil.example"})
    assert refused.status_code == 403
    assert "https://evil.example" in refused.json()["error"]


def test_without_the_setting_no_page_may_call(plane: Plane) -> None:
    plane.load(bundles.adder(1))
    assert plane.client.options("/services/adder/predict", headers=ASKS).status_code == 403
    assert "access-control-allow-origin" not in ask(plane, origin=PAGE).headers


@pytest.mark.parametrize(
    "wrong", ["ward.example", "https://ward.example/path", "https://a\r\nb", "ftp://x", "https://"]
)
def test_what_is_no_origin_is_refused_by_name(wrong: str) -> None:
    with pytest.raises(Invalid, match="LEPTONAI_ORIGINS"):
        origins(f"{PAGE},{wrong}")


def test_how_the_setting_is_read() -> None:
    assert origins(None) == origins(" , ") == frozenset()
    assert origins(f" {PAGE} ,*") == {PAGE.encode(), b"*"}
