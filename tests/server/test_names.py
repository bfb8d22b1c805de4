"""Names that mean something to a file system, a shell, a template or a database mean nothing here: 4xx, and nothing else."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from tests.server.conftest import Place
from tests.support.names import NAMES

from leptonai.server.routes import table
from leptonai.server.routes.table import API

FINE = {"con.txt"}  # reserved elsewhere; here a name never becomes a path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One server for all names: none of them leaves anything in it."""
    with contextlib.closing(Place(tmp_path_factory.mktemp("names") / "home")) as made:
        assert made.ask("GET", "/runs").status_code == 200  # its files are open before the watch begins
        yield made


@pytest.mark.parametrize("parameter", ["id", "blob", "name", "site", "alias", "ref", "version"])
def test_path_parameters(place: Place, parameter: str) -> None:
    good = {
        "id": "run_" + "0" * 26,
        "blob": "0" * 64,
        "name": "n",
        "site": "home",
        "alias": "a",
        "ref": "n",
        "version": "1",
    }
    bodies: dict[str, Any] = {"alias": {"version": 1}, "status": {}, "key": {}}
    for route in table():
        if f"{{{parameter}}}" not in route.path:
            continue
        for name in NAMES:
            path = route.path.removeprefix(API)
            for other, value in good.items():
                path = path.replace(
                    f"{{{other}}}", quote(name, safe="").replace(".", "%2E") if other == parameter else value
                )
            body = bodies.get(path.rsplit("/", 1)[-1], bodies["alias"] if "aliases" in path else None)
            answer = place.ask(route.method, path, json=body) if body is not None else place.ask(route.method, path)
            assert 400 <= answer.status_code < 500, (route.method, route.path, name, answer.status_code, answer.text)


@pytest.mark.parametrize("name", NAMES)
def test_names_in_bodies_and_queries(place: Place, name: str) -> None:
    part = "0" * 64
    good_file = {"name": "a.csv", "size": 1, "parts": [part]}
    asked: list[tuple[str, str, Any]] = [
        ("POST", "/runs", {"stage": "import", "spec": {"name": name, "files": [good_file]}}),
        ("POST", "/runs", {"stage": name, "spec": {}}),
        ("POST", "/runs", {"stage": "train", "spec": {"data": name}}),
        ("POST", "/runs", {"stage": "predict", "spec": {"run": name, "data": "x"}}),
        ("POST", "/runs", {"stage": "export", "spec": {"run": "run_" + "0" * 26, "name": name}}),
        ("POST", "/services", {"name": name, "model": "m/1"}),
        ("POST", "/services", {"name": "s", "model": name}),
        ("POST", "/services", {"name": "s", "model": "m/1", "site": name}),
        ("POST", "/keys", {"name": name, "scopes": ["run:read"]}),
        ("POST", "/keys", {"name": "k", "scopes": [name]}),
        ("POST", "/blobs/known", {"digests": [name]}),
    ]
    if name:
        asked.append(("POST", "/runs", {"stage": "import", "spec": {"name": "n", "files": [good_file]}, "name": name}))
        asked.append(
            ("POST", "/runs", {"stage": "import", "spec": {"name": "n", "files": [good_file]}, "parent": name})
        )
    for method, path, body in asked:
        answer = place.ask(method, path, json=body)
        assert 400 <= answer.status_code < 500, (path, body, answer.text)
        assert answer.json()["detail"]
    for path in ("/runs", "/datasets", "/models", "/aliases", "/audit", "/services"):
        answer = place.ask("GET", path, params={"name": name})
        assert answer.status_code in (200, 422), (path, answer.text)
        assert answer.status_code == 422 or answer.json()["items"] == []
        assert place.ask("GET", path, params={"cursor": name}).status_code in (200, 422)


def test_half_a_surrogate_pair(place: Place) -> None:
    body = json.dumps({"name": "\ud800", "scopes": ["run:read"]}).encode()
    answer = place.ask("POST", "/keys", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422


def test_names_that_look_odd_and_are_fine(place: Place) -> None:
    for name in FINE:
        assert place.ask("POST", "/keys", json={"name": name, "scopes": ["run:read"]}).status_code == 201
