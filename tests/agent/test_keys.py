"""Who may call a Service, with a real server, agent and plane: made, used, revoked, ended, public; and the server away."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import tests.support.libraries  # noqa: F401 - what it sets in the environment is set before a test begins
from tests.support import bundles
from tests.support.site import Home, until

from leptonai.agent.keys import line
from leptonai.core.nouns import Model
from leptonai.sdk.client import Client
from leptonai.sdk.services import Service


@pytest.fixture
def served(home: Home) -> tuple[Home, str, list[Model]]:
    """A home with the services `sum` and `other`, and the address of the first."""
    models = home.keep(bundles.adder(1), bundles.adder(2), bundles.broken(3, "no model"))
    home.start()
    home.deploy("sum", models[0])
    home.deploy("other", models[1])
    home.settled("other", "ready", models[1])
    return home, home.settled("sum", "ready", models[0])["url"], models


def status(url: str, key: str | None = None) -> int:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    return httpx.post(url, json={"rows": [{"x": 1}]}, headers=headers, timeout=30, trust_env=False).status_code


def make(home: Home, name: str, *scopes: str, **more: Any) -> str:
    return str(home.http.call("POST", "/keys", json={"name": name, "scopes": scopes, **more})["secret"])


def took(url: str, key: str, wanted: int, seconds: float) -> float:
    start = time.perf_counter()
    until(lambda: status(url, key) == wanted, seconds)
    return time.perf_counter() - start


def test_a_key_that_is_revoked_fails_within_a_second(served: tuple[Home, str, list[Model]]) -> None:
    home, url, _ = served
    other = url.replace("/sum/", "/other/")
    key, one = make(home, "caller", "service:predict"), make(home, "narrow", "service:predict:sum")
    assert took(url, one, 200, 10) < 10
    assert [status(url, k) for k in (None, "nonsense", key, one)] == [401, 401, 200, 200]
    assert [status(other, k) for k in (None, key, one)] == [401, 200, 403]
    assert status(url, make(home, "reader", "service:read", "run:write")) == 401
    times = []
    for name, secret in (("caller", key), ("narrow", one)):
        home.http.call("DELETE", f"/keys/{name}")
        times.append(took(url, secret, 401, 10))
        time.sleep(0.2)
        assert {status(url, secret) for _ in range(20)} == {401}, "every process of the plane was told"
    assert min(times) < 1, "one of them at least, when the machine is busy"


def test_a_key_ends_by_the_clock_also_while_the_server_is_away(served: tuple[Home, str, list[Model]]) -> None:
    home, url, _ = served
    ends = datetime.now(UTC) + timedelta(seconds=2.5)
    key = make(home, "brief", "service:predict", expires=ends.isoformat())
    until(lambda: status(url, key) == 200, 2)
    until(lambda: status(url, key) == 401, 5)
    assert datetime.now(UTC) >= ends


def test_a_public_service_needs_no_key_until_it_is_closed(served: tuple[Home, str, list[Model]]) -> None:
    home, url, models = served
    assert status(url) == 401
    assert home.deploy("sum", models[0], public=True)["public"] is True
    until(lambda: status(url) == 200, 5)
    assert status(url, "sk-anything") == 200
    assert status(url.replace("/sum/", "/other/")) == 401
    home.deploy("sum", models[1])  # moves it, and says nothing of who may call
    home.settled("sum", "ready", models[1])
    assert status(url) == 200
    home.deploy("sum", models[2], public=False)  # a bad version; that it is closed holds all the same
    home.settled("sum", "failed", models[1])
    until(lambda: status(url) == 401, 5)
    assert status(url, home.bearer["authorization"].removeprefix("Bearer ")) == 200


def test_keys_hold_over_a_restart_and_the_token_of_before_does_not(served: tuple[Home, str, list[Model]]) -> None:
    home, url, models = served
    key, before = make(home, "caller", "service:predict"), home.bearer["authorization"].removeprefix("Bearer ")
    assert status(url, before) == 200
    until(lambda: home.http.call("GET", "/sites/home")["plane"], 10)
    home.stop()
    home.start()
    url = home.settled("sum", "ready", models[0])["url"]
    assert status(url, key) == 200
    assert status(url, before) == 401
    assert status(url, home.bearer["authorization"].removeprefix("Bearer ")) == 200


def test_the_sdk_sends_its_key_by_itself(served: tuple[Home, str, list[Model]]) -> None:
    home, url, _ = served
    key = make(home, "sdk", "service:predict", "service:read")
    until(lambda: status(url, key) == 200, 2)
    from leptonai.core.errors import Denied, Unauthenticated
    from leptonai.core.nouns import Service as Record

    def predict(token: str, name: str = "sum") -> Any:
        with Client(host=home.http.base_url, api_key=token) as via:
            return Service(Record.model_validate(home.http.call("GET", f"/services/{name}")), via).predict({"x": 1})

    assert predict(key)["prediction"] == 1001.0
    with Client(home=home.folder) as via:  # what this machine's programs do: the token is in the home folder
        service = Service(Record.model_validate(via.http.call("GET", "/services/sum")), via)
        assert service.predict({"x": 1})["prediction"] == 1001.0
    with pytest.raises(Unauthenticated, match="opens nothing here"):
        predict(make(home, "reader", "service:read"))
    narrow = make(home, "narrow", "service:predict:sum")
    until(lambda: status(url, narrow) == 200, 2)
    with pytest.raises(Denied, match="service:predict:other"):
        predict(narrow, "other")


def test_no_key_is_in_a_file_or_a_log(served: tuple[Home, str, list[Model]], tmp_path: Path) -> None:
    home, url, _ = served
    key = make(home, "caller", "service:predict")
    until(lambda: status(url, key) == 200, 2)
    for path in home.folder.rglob("*"):
        if path.is_file():
            assert key.encode() not in path.read_bytes(), path


def test_the_line_of_a_key() -> None:
    told = {"name": "k", "check": "ab", "services": ["a"], "expires": "2030-01-01T00:00:00+00:00"}
    assert line(told) == ["ab", "k", ["a"], datetime(2030, 1, 1, tzinfo=UTC).timestamp(), False, False]
    assert line({**told, "expires": None})[3] is None
