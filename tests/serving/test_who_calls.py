"""Who may call what, on the wire: with a key, with another one, with none, and after it was taken away."""

import contextlib
import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import bundles
from tests.support.plane import Plane

from leptonai.core.errors import Invalid
from leptonai.serving import frames
from leptonai.serving.table import Line
from leptonai.serving.workers import ANSWER, slot

ANY, ONE = b"lepton_any~secret", b"lepton_one~secret"


def line(token: bytes, name: str, services: list[str]) -> list[object]:
    return [hashlib.sha256(token).hexdigest(), name, services, None]


@pytest.fixture
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    made = Plane(tmp_path_factory.mktemp("plane"))
    made.process.keys([line(ANY, "any", ["*"]), line(ONE, "one", ["adder"])])
    made.load(bundles.adder(1), other=bundles.adder(2, name="other"), open=bundles.adder(3, name="open"))
    made.process.route([Line.one(name, id, name == "open") for name, id in made.table.items()])
    yield made
    made.close()
    assert made.log.read_text() == ""


def ask(served: Plane, service: str, token: bytes | None = None, path: str = "/services/{}/predict") -> int:
    headers = {} if token is None else {"authorization": f"Bearer {token.decode()}"}
    body = (
        {"rows": [{"x": 1}]}
        if "predict" in path
        else {"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [1]}]}
    )
    answer = served.client.post(path.format(service), json=body, headers=headers)
    if answer.status_code == 401:
        assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.status_code == 200 or answer.json()["error"]
    return answer.status_code


@pytest.mark.parametrize("path", ["/services/{}/predict", "/v2/models/{}/infer"])
def test_each_key_calls_what_it_may(served: Plane, path: str) -> None:
    assert [ask(served, name, None, path) for name in ("adder", "other", "open", "nobody")] == [401, 401, 200, 401]
    assert [ask(served, name, ANY, path) for name in ("adder", "other", "open", "nobody")] == [200, 200, 200, 404]
    assert [ask(served, name, ONE, path) for name in ("adder", "other", "open", "nobody")] == [200, 403, 200, 403]
    assert [ask(served, name, b"wrong", path) for name in ("adder", "open")] == [401, 200]


def test_what_is_said_of_a_model_is_for_who_may_call_it(served: Plane) -> None:
    def get(path: str, token: bytes) -> int:
        return served.client.get(path, headers={"authorization": f"Bearer {token.decode()}"}).status_code

    for path in ("/v2/models/{}", "/v2/models/{}/ready", "/v2/models/{}/versions/1", "/v1/models/{}"):
        assert get(path.format("adder"), ONE) == 200
        assert get(path.format("other"), ONE) == 403
        assert get(path.format("adder"), b"wrong") == 401
    for path in ("/v2", "/v2/health/live", "/v2/health/ready", "/ping"):
        assert served.client.get(path).status_code == 200


def test_lists_hold_what_one_may_call(served: Plane) -> None:
    def listed(token: bytes) -> tuple[list[str], list[str]]:
        headers = {"authorization": f"Bearer {token.decode()}"}
        first = served.client.get("/v1/models", headers=headers).json()["models"]
        index = served.client.post("/v2/repository/index", headers=headers).json()
        return sorted(first), sorted(one["name"] for one in index)

    assert listed(ANY) == (["adder", "open", "other"], ["adder", "open", "other"])
    assert listed(ONE) == (["adder", "open"], ["adder", "open"])


def test_a_key_that_is_taken_away_opens_nothing_more(served: Plane) -> None:
    assert ask(served, "other", ANY) == 200
    served.process.keys([line(ONE, "one", ["adder"])])
    assert ask(served, "other", ANY) == 401
    assert ask(served, "adder", ONE) == 200


def test_a_key_is_taken_away_while_a_version_is_being_loaded(served: Plane, tmp_path: Path) -> None:
    model, _ = bundles.adder(9, name="slow")
    begun, go_on = threading.Event(), threading.Event()

    def framework() -> None:
        """A process of a framework whose first answer takes long, and is that it cannot."""
        connection, _ = listener.accept()
        with connection:
            frames.receive(connection)
            begun.set()
            go_on.wait(30)
            error = {"code": "invalid", "message": "it was too slow", "errors": [], "retry_after": None, "about": {}}
            frames.send(connection, {"op": "failed", "error": error})

    def load() -> None:
        with contextlib.suppress(Invalid):
            served.process.load(model, {}, tmp_path)

    with socket.socket(socket.AF_UNIX) as listener:
        place = slot(tmp_path, 0)
        place.mkdir(parents=True)
        listener.bind(str(place / ANSWER))
        listener.listen(1)
        threads = [threading.Thread(target=do) for do in (framework, load)]
        for thread in threads:
            thread.start()
        try:
            assert begun.wait(20)
            assert ask(served, "other", ANY) == 200
            start = time.perf_counter()
            served.process.keys([line(ONE, "one", ["adder"])])
            assert time.perf_counter() - start < 10
            assert ask(served, "other", ANY) == 401
            assert threads[1].is_alive(), "it is still being loaded"
        finally:
            go_on.set()
            for thread in threads:
                thread.join(30)
