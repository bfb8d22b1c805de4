"""Every route x every kind of caller who must not pass."""

from datetime import timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.responses import Response
from tests.server.conftest import Place

from leptonai.core.nouns import utcnow
from leptonai.server.app import make_app
from leptonai.server.routes import table
from leptonai.server.routes.table import API, Route, Routes, install
from leptonai.server.scopes import ANY_KEY, DECLARABLE, PERMISSIONS, PUBLIC, RUN_MAY, known, services, sites, spread

ROUTES = [route for route in table() if route.permission != PUBLIC]
PARAMETERS = {
    "id": "run_" + "0" * 26, "blob": "0" * 64, "name": "n", "site": "home", "alias": "champion", "ref": "n", "version": "1", "number": "0", "tag": "t",
}  # fmt: skip


def path_of(route: Route) -> str:
    return route.path.removeprefix(API).format(**PARAMETERS)


def test_the_table_is_not_empty_and_everything_public_is_meant_to_be() -> None:
    assert len(ROUTES) > 35
    assert [r.path for r in table() if r.permission == PUBLIC] == [f"{API}/health"]


def test_every_route_turns_away_who_must_not_pass(place: Place) -> None:
    none = place.key("site:read", name="narrow")
    others = {
        "no key": (None, 401),
        "no key of ours": ("secret", 401),
        "a key with a wrong checksum": (
            place.context.local_token[:-1] + ("0" if place.context.local_token[-1] != "0" else "1"),
            401,
        ),
        "an unknown key": (place.key("*", name="gone")[:-20] + "x" * 12, 401),
        "a key of another server": (new_unknown(), 401),
        "a revoked key": (place.key("*", name="revoked", revoked=utcnow()), 401),
        "an expired key": (place.key("*", name="expired", expires=utcnow() - timedelta(seconds=1)), 401),
        "a token of no run": ("lrt_run_" + "0" * 26 + "~" + "x" * 43, 401),
    }
    wrong: list[Any] = []
    for route in ROUTES:
        for who, (token, status) in others.items():
            answer = place.ask(route.method, path_of(route), token, content=b"{not json")
            if answer.status_code != status or answer.headers.get("www-authenticate") is None:
                wrong.append((route.method, route.path, who, answer.status_code))
        if route.permission not in (ANY_KEY, "site:read"):
            answer = place.ask(route.method, path_of(route), none, content=b"{not json")
            if answer.status_code != 403 or answer.json()["about"].get("permission") != route.permission:
                wrong.append(
                    (route.method, route.path, "a key without the permission", answer.status_code, answer.text)
                )
    assert wrong == []


def new_unknown() -> str:
    from leptonai.core.ids import new_id
    from leptonai.server.keys import new_token

    return new_token(new_id("key")).text


def test_the_right_scope_is_enough_and_no_more_is_needed(place: Place) -> None:
    tokens = {p: place.key(p, name=p.replace(":", "-")) for p in PERMISSIONS}
    for route in ROUTES:
        if route.permission in tokens:
            answer = place.ask(route.method, path_of(route), tokens[route.permission])
            assert answer.status_code not in (401, 403), (route, answer.text)


def test_the_token_of_a_run_passes_only_the_routes_for_it(place: Place) -> None:
    place.submit()
    token = place.claim()["token"]
    for route in ROUTES:
        answer = place.ask(route.method, path_of(route), token, content=b"{not json")
        if route.permission not in (*RUN_MAY, ANY_KEY):
            assert answer.status_code == 403, (route.method, route.path, answer.text)


def test_a_route_without_a_permission_stops_the_server(place: Place) -> None:
    def handler() -> Response:
        """Do nothing."""
        return Response()

    for permission in ("", "dataset:wriet", "none"):
        with pytest.raises(ValueError, match="permission"):
            Routes().route("GET", "/x", permission)(handler)
        with pytest.raises(ValueError, match="permission"):
            make_app(place.context, [Route("GET", "/x", permission, "", handler)])
    past = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    past.add_api_route("/past", handler)
    with pytest.raises(ValueError, match="/past is not in the route table"):
        install(past, table())


def test_scopes() -> None:
    assert spread(("dataset:write",)) == {
        "dataset:write", "dataset:read", "dataset:label", "blob:read", "blob:write"
    }  # fmt: skip
    assert spread(("service:write",)) == {"service:write", "service:read", "service:predict"}
    assert spread(("service:predict:churn", "service:read")) == {"service:predict:churn", "service:read"}
    assert services(("service:predict:a", "service:predict:b", "run:write")) == {"a", "b"}
    assert services(("service:read", "site:agent", "site:agent:a", "model:write")) == frozenset()
    for every in ("*", "service:predict", "service:write"):
        assert services((every, "service:predict:a")) == {"*"}
    assert spread(("site:agent:edge-1",)) == {
        "site:agent:edge-1", "site:agent", "site:read", "run:report", "run:read", "blob:read", "blob:write",
    }  # fmt: skip
    assert sites(("site:agent:edge-1", "run:read")) == {"edge-1"}
    assert sites(("site:agent",)) == sites(("*",)) == {"*"}
    assert sites(("run:write",)) == frozenset()
    assert all(known(p) for p in (*PERMISSIONS, "*", "site:agent:edge-1", "service:predict:" + "a" * 100))
    assert not any(
        known(p)
        for p in (
            "",
            "blob:read",
            "run:report",
            "any key",
            "site:agent:",
            "site:agent:../x",
            "x",
            "service:predict:",
            "service:predict:A",
            "service:predict:a:b",
            "service:read:a",
            "service:write:a",
        )
    )
    assert set(PERMISSIONS) <= DECLARABLE
