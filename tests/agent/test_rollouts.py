"""Rollouts with a real server, agent and planes, under load: what is good goes through, what is bad is turned back, nothing fails."""

import os
import signal
import threading
import time
from collections import Counter
from typing import Any

import httpx
import pytest
from tests.support import bundles
from tests.support.site import Home, until

from leptonai.core.nouns import Model


class Load:
    """Callers that ask a service all the time; none of their requests may fail."""

    def __init__(self, home: Home, service: str, callers: int = 2, pause: float = 0.002):
        self.answers: Counter[int] = Counter()  # by version
        self.variants: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._url = until(lambda: home.status(service)["url"])
        self._headers = home.bearer
        self._pause = pause
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(i,)) for i in range(callers)]

    def _run(self, caller: int) -> None:
        x = caller
        with httpx.Client(headers=self._headers, timeout=60, trust_env=False) as client:
            while not self._stop.wait(self._pause):
                x += 1
                try:
                    answer = client.post(self._url, json={"rows": [{"x": x % 1000 + 1}]})
                    if answer.status_code != 200:
                        self.wrong.append(f"{answer.status_code} {answer.text[:200]}")
                        continue
                    self.answers[answer.json()["version"]] += 1
                    self.variants[answer.headers["x-leptonai-variant"]] += 1
                except Exception as error:
                    self.wrong.append(repr(error))

    def more(self, count: int) -> None:
        end = sum(self.answers.values()) + count
        until(lambda: sum(self.answers.values()) >= end or self.wrong, 60)

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def rollout(home: Home, name: str = "sum") -> dict[str, Any]:
    return dict(home.http.call("GET", f"/services/{name}")["rollout"] or {})


def over(home: Home, name: str = "sum", seconds: float = 90.0) -> dict[str, Any]:
    until(lambda: rollout(home, name)["phase"] in ("promoted", "rolled back"), seconds)
    return rollout(home, name)


def story(found: dict[str, Any]) -> str:
    return "\n".join(f"{one['what']}: {one['text']}" for one in found["story"])


QUICK = {"steps": [10, 50], "step_seconds": 4.0}


def same(version: int) -> bundles.Bundle:
    """A version that answers as the first does, nearly."""
    return bundles.near(version)


def test_a_version_that_is_as_good_goes_through_and_a_caller_notices_nothing(home: Home) -> None:
    one, two = home.keep(same(1), same(2))
    home.start()
    home.deploy("sum", one)
    home.settled("sum", "ready", one)
    with Load(home, "sum") as load:
        load.more(60)
        home.deploy("sum", two, **QUICK)
        assert home.http.call("GET", "/services/sum")["variants"][0]["model"] == one.id
        found = over(home)
        assert found["phase"] == "promoted", story(found)
        home.settled("sum", "ready", two)
        load.more(30)
    assert load.wrong == []
    assert load.variants["canary"] > 0
    told = story(found)
    whats = [one["what"] for one in found["story"]]
    assert whats[:3] + whats[-1:] == ["began", "loaded", "replayed", "promoted"], told
    assert "recorded requests" in told
    assert "answers agree" in told
    why = home.http.call("GET", "/services/sum/why")
    assert "It answers all" in " ".join(why["sentences"])
    actions = [row["name"] for row in home.http.call("GET", "/audit", params={"limit": 50})["items"]]
    assert {"service.loaded", "service.replayed", "service.promote", "service.deploy"} <= set(actions)


BAD = {
    "answers wrongly": (lambda: bundles.adder(2), "answers agree", "replayed"),
    "fails each twentieth request": (lambda: bundles.failing(2, modulus=20.0, like=1), "could not answer", "canary"),
    "is slow": (lambda: bundles.slow(2), "times is", ""),
    "cannot be loaded": (lambda: bundles.broken(2, "cut"), "could not be loaded", "loading"),
}


@pytest.mark.parametrize("how", BAD)
def test_a_version_that_is_bad_is_turned_back_and_fails_nobody(home: Home, how: str) -> None:
    make, why, _ = BAD[how]
    one, bad = home.keep(bundles.adder(1), make())
    home.start()
    home.deploy("sum", one)
    home.settled("sum", "ready", one)
    with Load(home, "sum") as load:
        load.more(100)
        home.deploy("sum", bad, steps=[25, 50], step_seconds=30.0)
        found = over(home)
        load.more(30)
    assert load.wrong == []
    assert found["phase"] == "rolled back", story(found)
    assert why in found["story"][-1]["text"], story(found)
    status = home.settled("sum", "failed", one)
    assert why in status["message"]
    assert home.http.call("GET", "/services/sum")["variants"] == [{"name": "stable", "model": one.id, "percent": 100}]


def test_promote_and_rollback_at_any_time(home: Home) -> None:
    one, two, three = home.keep(same(1), same(2), same(3))
    home.start()
    home.deploy("sum", one)
    home.settled("sum", "ready", one)
    with Load(home, "sum") as load:
        load.more(60)
        home.deploy("sum", two, steps=[25], step_seconds=600.0, agree=0.9)
        until(lambda: load.variants["canary"] > 5 or load.wrong)
        home.http.call("POST", "/services/sum/promote")
        home.settled("sum", "ready", two)
        home.deploy("sum", three, steps=[25], step_seconds=600.0)
        until(lambda: load.answers[3] > 5 or load.wrong)
        home.http.call("POST", "/services/sum/rollback")
        home.settled("sum", "ready", two)
        home.http.call("POST", "/services/sum/rollback")  # and back to the first, which is loaded anew
        home.settled("sum", "ready", one)
    assert load.wrong == []


def test_a_killed_agent_goes_on_at_the_same_step(home: Home) -> None:
    one, two = home.keep(same(1), same(2))
    home.start()
    home.deploy("sum", one)
    home.settled("sum", "ready", one)
    with Load(home, "sum") as load:
        load.more(60)
        home.deploy("sum", two, steps=[20, 50], step_seconds=8.0)
        until(lambda: rollout(home)["phase"] == "canary")
        before = rollout(home)
    assert load.wrong == []
    home.stop(kill=True)
    until(lambda: not home.children("leptonai.serving.plane"))
    home.start()
    now = rollout(home)
    assert (now["id"], now["phase"], now["step"]) == (before["id"], "canary", before["step"])
    with Load(home, "sum") as load:
        until(lambda: load.variants["canary"] > 0 or load.wrong, 60)
        found = over(home)
    assert found["phase"] == "promoted", story(found)
    assert load.wrong == []


def test_a_plane_that_is_killed_does_not_end_a_rollout(home: Home) -> None:
    one, two = home.keep(same(1), same(2))
    home.start()
    home.deploy("sum", one)
    home.settled("sum", "ready", one)
    with Load(home, "sum") as load:
        load.more(60)
        home.deploy("sum", two, steps=[20, 50], step_seconds=5.0)
        until(lambda: rollout(home)["phase"] == "canary")
    os.kill(home.children("leptonai.serving.plane")[0], signal.SIGKILL)
    found = over(home)
    assert found["phase"] == "promoted", story(found)


def test_a_test_of_two_versions_ends_by_itself_with_the_better_one(home: Home) -> None:
    one, two = home.keep(same(1), same(2))
    home.start()
    home.deploy("sum", one)
    url = home.settled("sum", "ready", one)["url"]
    body = {"model": two.id, "percent": 50, "alpha": 0.05, "least": 0.02}
    home.http.call("POST", "/services/sum/test", json=body)
    until(lambda: rollout(home)["phase"] == "watching")
    with httpx.Client(headers=home.bearer, trust_env=False, timeout=30) as client:
        for i in range(3000):
            answer = client.post(url, json={"rows": [{"x": 1}]}, headers={"X-Leptonai-Caller": f"user {i}"})
            worth = 0.9 if answer.json()["version"] == 2 else 0.5
            said = {"request_id": answer.headers["x-request-id"], "value": worth}
            feedback = url.replace("/predict", "/feedback")
            told = client.post(feedback, json=said, headers={"X-Leptonai-Caller": f"user {i}"})
            if told.status_code == 409 and rollout(home)["phase"] != "watching":
                break
        else:
            raise AssertionError("it did not end by itself")
    found = over(home)
    assert found["phase"] == "promoted", story(found)
    assert "always-valid p" in found["story"][-1]["text"]


@pytest.mark.slow
def test_a_shadow_is_watched_until_somebody_promotes_it(home: Home) -> None:
    one, two = home.keep(bundles.adder(1), bundles.failing(2))
    home.start()
    home.deploy("sum", one)
    home.settled("sum", "ready", one)
    with Load(home, "sum") as load:
        load.more(20)
        home.deploy("sum", two, strategy="shadow")
        until(lambda: rollout(home)["seen"].get("other", {}).get("failed", 0) > 10, 60)
        assert home.status("sum")["state"] == "ready"
        home.http.call("POST", "/services/sum/rollback")
        home.settled("sum", "ready", one)
    assert load.wrong == []
    assert set(load.variants) == {"stable"}


@pytest.mark.slow
def test_twenty_rollouts_under_load_fail_no_request(home: Home) -> None:
    every: list[Model] = home.keep(
        *(same(v) if v % 2 else bundles.failing(v, modulus=3.0, like=1) for v in range(1, 22))
    )
    home.start()
    home.deploy("sum", every[0])
    home.settled("sum", "ready", every[0])
    ends, told = Counter[str](), ""
    with Load(home, "sum", callers=4) as load:
        load.more(200)
        start = time.monotonic()
        for model in every[1:]:
            home.deploy("sum", model, steps=[10, 50], step_seconds=2.0)
            found = over(home)
            ends[found["phase"]] += 1
            told += f"{model.version}: {story(found)}\n"
        took = time.monotonic() - start
    print(f"20 rollouts in {took:.0f} s: {dict(ends)}, {sum(load.answers.values())} requests, {len(load.wrong)} failed")
    assert load.wrong == [], told
    assert ends == {"promoted": 10, "rolled back": 10}
