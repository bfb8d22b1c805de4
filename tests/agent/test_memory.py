"""What services keep in memory: pinned, loaded and unloaded, with a real server, agent and planes."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import tests.support.libraries  # noqa: F401 - what it sets in the environment is set before a test begins
from tests.support import bundles
from tests.support.site import Home, until

from leptonai.core.errors import Conflict, Unavailable
from leptonai.core.nouns import Model, Service
from leptonai.sdk import services
from leptonai.sdk.client import Client

CLIENTS: list[Client] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while CLIENTS:
        CLIENTS.pop().close()


def made(folder: Path, resident: int, **more: str) -> Home:
    return Home(folder, LEPTONAI_MODELS_RESIDENT=str(resident), LEPTONAI_PLANES="2", LEPTONAI_RACE_SECONDS="0", **more)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Home]:
    """A Site with room for three models."""
    home = made(tmp_path / "home", 3)
    yield home
    home.stop()


def begin(home: Home, many: int) -> list[Model]:
    models = home.keep(*(bundles.adder(n, name=f"m{n}") for n in range(1, many + 1)))
    home.start()
    until(lambda: home.http.call("GET", "/sites/home")["facts"].get("models_resident"))
    return models


def deploy(home: Home, models: list[Model], **more: Any) -> str:
    for number, model in enumerate(models, 1):
        home.deploy(f"s{number}", model, **more)
    url = ""
    for number, model in enumerate(models, 1):
        url = home.settled(f"s{number}", "ready", model)["url"].partition("/services/")[0]
    return url


def ask(home: Home, url: str, number: int) -> httpx.Response:
    body = {"rows": [{"x": 1}]}
    return httpx.post(f"{url}/services/s{number}/predict", json=body, headers=home.bearer, timeout=60, trust_env=False)


def words(home: Home) -> dict[str, str]:
    """Return what the server says of the memory of each service."""
    return {one["name"]: one["status"]["memory"] for one in home.http.pages("/services")}


def held(home: Home, name: str) -> services.Service:
    via = Client(home.http.base_url, home.bearer["authorization"].split()[1])
    CLIENTS.append(via)
    return services.Service(Service.model_validate(home.http.call("GET", f"/services/{name}")), via)


def test_a_pinned_service_stays_while_others_come_and_go(small: Home) -> None:
    models = begin(small, 6)
    small.deploy("s1", models[0], pin=True)
    url = deploy(small, models)
    assert small.http.call("GET", "/services/s1")["memory"]["pin"]
    for _ in range(2):
        for number in (2, 3, 4, 5, 6):
            assert ask(small, url, number).status_code == 200
            assert small.http.call("GET", "/services/s1")["status"]["memory"] == "resident"
    until(lambda: sorted(words(small).values()) == ["cold"] * 3 + ["resident"] * 3)
    # What is pinned while it is away comes at once.
    away = next(name for name, word in words(small).items() if word == "cold")
    service = held(small, away).pin()
    assert "pinned" in repr(service)
    until(lambda: words(small)[away] == "resident")
    # A third one would leave nothing for the others.
    with pytest.raises(Conflict, match=r"unpin one of s1, ") as refused:
        held(small, next(n for n in words(small) if n not in ("s1", away))).pin()
    assert "3 models would be pinned" in refused.value.message
    with pytest.raises(Conflict, match="pinned"):
        small.http.call("POST", "/services", json={"name": "s7", "model": models[1].id, "pin": True})
    service.unpin()
    # Also after the end of everything.
    small.stop(kill=True)
    small.start()
    until(lambda: small.http.call("GET", "/sites/home")["absent"] and words(small)["s1"] == "resident")


def test_load_and_unload_are_seen_by_the_server(small: Home) -> None:
    url = deploy(small, begin(small, 2))
    service = held(small, "s1")
    assert service.unload().record.status.memory == "unloaded"
    assert "unloaded" in repr(service)
    assert service.summary()["memory"] == "unloaded"
    assert ask(small, url, 1).status_code == 503
    with pytest.raises(Unavailable, match="lepton service load s1"):
        service.predict([{"x": 1}])
    assert service.load().record.status.memory == "resident"
    assert ask(small, url, 1).status_code == 200
    service.pin()

    def refused() -> bool:
        try:
            service.unload()
        except Conflict as error:
            assert "pinned" in error.message
            return True
        return False

    until(refused)  # the agent hears of the pin a moment later
    service.unpin()


def test_what_nobody_calls_rests_and_comes_back(tmp_path: Path) -> None:
    home = made(tmp_path / "home", 0, LEPTONAI_IDLE_SECONDS="1")
    try:
        models = home.keep(*(bundles.adder(n, name=f"m{n}") for n in (1, 2, 3)))
        home.start()
        url = deploy(home, models)
        held(home, "s2").memory(idle_seconds=0)  # never
        held(home, "s3").pin()
        until(lambda: words(home) == {"s1": "idle", "s2": "resident", "s3": "resident"})
        assert "nobody" in held(home, "s1").summary()["memory"]  # type: ignore[operator]
        ready = httpx.get(f"{url}/v2/models/s1/ready", headers=home.bearer, trust_env=False)
        assert ready.status_code == 200  # a call is answered: the first one after the model was loaded
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: ask(home, url, 1), range(16)))
        assert {answer.status_code for answer in answers} == {200}
        until(lambda: words(home)["s1"] == "resident")
        until(lambda: words(home)["s1"] == "idle")
    finally:
        home.stop()
