"""As many replicas as the queue needs: on a real server with its agent and planes, under load, with nobody left without an answer."""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.predictors import Doubler, packed
from tests.support.site import Home, until

from leptonai.adapters.executors.local import LocalExecutor
from leptonai.agent.native_process import NativeProcess
from leptonai.agent.scaler import Asked, Scaler, _Held
from leptonai.core.replicas import Replicas
from leptonai.serving.scaling import Scaling

PAUSE = 50_000  # x for which `Doubler` takes 50 ms


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path / "home", LEPTONAI_PLANES="2", LEPTONAI_RACE_SECONDS="0")
    yield made
    made.stop()


class Load:
    """Callers who ask again as soon as they have their answer."""

    def __init__(self, url: str, headers: dict[str, str]):
        self.codes: Counter[int] = Counter()
        self.wrong = 0
        self.words = ""  # of the last that went wrong
        self.pause = 0.0  # of each caller, between two requests
        self._url, self._headers = url, headers
        self._wanted = 0
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(16)
        self._lock = threading.Lock()

    def callers(self, count: int) -> None:
        """Have so many."""
        for number in range(self._wanted, count):
            self._pool.submit(self._ask, number)
        self._wanted = count

    def _ask(self, number: int) -> None:
        with httpx.Client(headers=self._headers, timeout=30, trust_env=False) as client:
            while number < self._wanted and not self._stop.is_set():
                try:
                    answer = client.post(self._url, json={"rows": [{"x": PAUSE + number}]})
                    code, right = answer.status_code, answer.json()["predictions"][0]["y"] == 2 * (PAUSE + number)
                except (httpx.HTTPError, KeyError) as error:
                    code, right = 0, False
                    self.words = f"{error!r} {answer.text if isinstance(error, KeyError) else ''}"
                with self._lock:
                    self.codes[code] += 1
                    self.wrong += not right
                self._stop.wait(self.pause)

    def end(self) -> None:
        self._stop.set()
        self._pool.shutdown()


@contextmanager
def load(home: Home, url: str) -> Iterator[Load]:
    made = Load(url, home.bearer)
    try:
        yield made
    finally:
        made.end()


def replicas(home: Home, name: str) -> dict[str, Any]:
    return dict(home.http.call("GET", f"/services/{name}/replicas"))


def workers(home: Home) -> list[int]:
    """Return the processes that work in the folders of workers."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                where = (process / "cwd").readlink()
            except OSError:
                continue
            if where.parent.parent == home.folder / "jobs" and where.parent.name.startswith("native-"):
                found.append(int(process.name))
    return sorted(found)


@pytest.mark.slow
def test_up_and_down_under_load_and_no_request_fails(small: Home) -> None:
    (model,) = small.keep(packed(Doubler, "double", max_batch=1))
    small.start()
    asked = {"min": 1, "max": 3, "wait_ms": 40, "down_seconds": 1}
    small.deploy("double", model, replicas=asked)
    url = small.settled("double", "ready", model)["url"]
    assert len(until(lambda: workers(small))) == 1
    with load(small, url) as callers:
        callers.callers(6)
        until(lambda: (now := small.status("double")["replicas"]) and now["ready"] == 3)
        pids = workers(small)
        assert len(pids) == 3
        os.kill(pids[-1], signal.SIGKILL)  # in the middle of a request: another one takes its place
        until(lambda: len(set(workers(small)) - set(pids)) == 1 and len(workers(small)) == 3)
        callers.callers(1)
        callers.pause = 0.2
        until(lambda: len(workers(small)) == 1)
        callers.pause = 0.0
        callers.callers(4)
        time.sleep(0.3)
    assert set(callers.codes) == {200}, callers.codes
    assert callers.wrong == 0
    said = until(lambda: (s := replicas(small, "double")) and len(s["changes"]) >= 3 and s)
    texts = [change["text"] for change in said["changes"]]
    assert any("p90 wait" in text and "over 40 ms" in text for text in texts), texts
    assert any("would have been enough" in text for text in texts), texts
    assert said["replicas"] == asked
    text = httpx.get(f"{url.partition('/services/')[0]}/metrics", headers=small.bearer, trust_env=False).text
    assert (
        'leptonai_service_replicas{model="double",version="1",variant="stable",service="double",state="ready"}' in text
    )


def test_a_version_begins_with_as_many_as_the_one_whose_place_it_takes(tmp_path: Path) -> None:
    class Running:
        def workers(self) -> dict[str, NativeProcess]:
            return {}

    executor = LocalExecutor()
    try:
        (model, _) = packed(Doubler, "double")
        range_ = Replicas(min=1, max=3)
        found = Scaler(Running(), list, list, lambda: None, stopping := threading.Event())
        stopping.set()
        found.ask({model.id: Asked(range_, ("a",)), "next": Asked(range_, ("a", "b")), "other": Asked(range_, ("c",))})
        assert [found.first(id) for id in (model.id, "next", "other", "unknown")] == [1, 1, 1, None]
        state = Scaling(Replicas(min=1, max=8), 5, 0.0)
        found._held[model.id] = _Held(NativeProcess(executor, model, {}, tmp_path), state)
        assert [found.first(id) for id in ("next", "other")] == [3, 1]
    finally:
        executor.close()
