"""More Services than fit into memory: with a real server, agent and planes."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import tests.support.libraries  # noqa: F401 - what it sets in the environment is set before a test begins
from tests.support import bundles
from tests.support.site import Home, until

from leptonai.serving.plane.main import POST_SECONDS


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Home]:
    """A Site with room for two models."""
    more = {"LEPTONAI_MODELS_RESIDENT": "2", "LEPTONAI_PLANES": "2", "LEPTONAI_RACE_SECONDS": "0"}
    made = Home(tmp_path / "home", **more)
    yield made
    made.stop()


def deploy(home: Home, many: int) -> str:
    models = home.keep(*(bundles.adder(n, name=f"m{n}") for n in range(1, many + 1)))
    home.start()
    for number, model in enumerate(models, 1):
        home.deploy(f"s{number}", model)
    url = ""
    for number, model in enumerate(models, 1):
        url = home.settled(f"s{number}", "ready", model)["url"].partition("/services/")[0]
    return url


def ask(home: Home, url: str, number: int) -> httpx.Response:
    body = {"rows": [{"x": 1}]}
    path = f"{url}/services/s{number}/predict"
    return httpx.post(path, json=body, headers=home.bearer, timeout=60, trust_env=False)


def index(home: Home, url: str) -> dict[str, Any]:
    answer = httpx.post(f"{url}/v2/repository/index", headers=home.bearer, timeout=30, trust_env=False)
    return {line["name"]: line for line in answer.json()}


def resident(home: Home, url: str) -> set[str]:
    return {name for name, line in index(home, url).items() if line["state"] == "READY"}


def test_five_services_answer_with_room_for_two(small: Home) -> None:
    url = deploy(small, 5)
    assert len(resident(small, url)) == 2
    with ThreadPoolExecutor(8) as pool:
        numbers = [1 + n * 3 % 5 for n in range(25)]
        answers = list(pool.map(lambda n: ask(small, url, n), numbers))
    for number, answer in zip(numbers, answers, strict=True):
        assert answer.status_code == 200, answer.text
        assert answer.json()["predictions"] == [{"prediction": 1000.0 * number + 1}]
    until(lambda: len(resident(small, url)) <= 2)
    ask(small, url, 3)
    assert "s3" in resident(small, url)
    assert index(small, url)["s3"]["reason"] == ""
    ready = httpx.get(f"{url}/v2/models/s{1}/ready", headers=small.bearer, trust_env=False)
    assert ready.status_code == 200  # a call would be answered
    assert httpx.get(f"{url}/v2/health/ready", trust_env=False).status_code == 200


def loads(home: Home, url: str) -> dict[str, float]:
    """Return how many versions each process loaded, once all have told their last count."""
    time.sleep(2 * POST_SECONDS)
    text = httpx.get(f"{url}/metrics", headers=home.bearer, timeout=30, trust_env=False).text
    lines = (line for line in text.splitlines() if line.startswith("leptonai_model_loads_total{"))
    return {line.split()[0]: float(line.split()[1]) for line in lines}


def test_calls_at_once_load_a_model_once(small: Home) -> None:
    url = deploy(small, 3)
    (away,) = (number for number in (1, 2, 3) if f"s{number}" not in resident(small, url))
    before = loads(small, url)
    with ThreadPoolExecutor(24) as pool:
        codes = {answer.status_code for answer in pool.map(lambda _: ask(small, url, away), range(48))}
    assert codes == {200}
    assert loads(small, url) == {process: count + 1 for process, count in before.items()}
    assert len(before) == 2


def test_unload_and_load(small: Home) -> None:
    url = deploy(small, 1)
    post = lambda op: httpx.post(  # noqa: E731
        f"{url}/v2/repository/models/s1/{op}", headers=small.bearer, timeout=30, trust_env=False
    )
    assert ask(small, url, 1).status_code == 200
    assert post("unload").status_code == 200
    assert post("unload").status_code == 200  # it is already
    answers = {ask(small, url, 1).status_code for _ in range(6)}
    assert answers == {503}
    assert index(small, url)["s1"]["reason"] == "unloaded"
    assert httpx.get(f"{url}/v2/models/s1/ready", headers=small.bearer, trust_env=False).status_code == 503
    assert post("load").status_code == 200
    assert {ask(small, url, 1).status_code for _ in range(6)} == {200}


def test_what_was_in_memory_is_again_after_a_restart(small: Home) -> None:
    url = deploy(small, 4)
    for number in (2, 4):
        assert ask(small, url, number).status_code == 200
        time.sleep(2 * POST_SECONDS)  # until each plane has said what was used
    until(lambda: resident(small, url) == {"s2", "s4"})
    small.stop()
    small.start()
    until(lambda: small.http.call("GET", "/sites/home")["plane"])

    def again() -> bool:
        try:
            return resident(small, url) == {"s2", "s4"}
        except (httpx.HTTPError, ValueError, TypeError):
            return False

    until(again, 30)
    answer = ask(small, url, 1)
    assert answer.status_code == 200, answer.text


def test_nothing_fails_while_models_come_and_go(small: Home) -> None:
    url = deploy(small, 4)
    stop, codes = threading.Event(), list[int]()

    def call(first: int) -> None:
        number = first
        while not stop.is_set():
            codes.append(ask(small, url, number).status_code)
            number = number % 4 + 1

    threads = [threading.Thread(target=call, args=(n,)) for n in (1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    until(lambda: len(codes) > 60, 60)
    stop.set()
    for thread in threads:
        thread.join()
    assert set(codes) == {200}
