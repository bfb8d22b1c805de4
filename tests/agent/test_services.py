"""Services with a real server, agent and plane: deployed, moved, broken, killed, restarted."""

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
import tests.support.libraries  # noqa: F401 - what it sets in the environment is set before a test begins
from tests.support import bundles
from tests.support.site import Home, alive, until

from leptonai.core import settings
from leptonai.core.nouns import Model
from leptonai.core.nouns import Service as Record
from leptonai.sdk.client import Client
from leptonai.sdk.services import Service


def predict(home: Home, name: str, *rows: dict[str, Any]) -> httpx.Response:
    return post(home, home.status(name)["url"], *rows)


def post(home: Home, url: str, *rows: dict[str, Any]) -> httpx.Response:
    return httpx.post(url, json={"rows": list(rows)}, headers=home.bearer, timeout=30, trust_env=False)


def plane_of(home: Home) -> int:
    """One of the processes of the plane."""
    return home.children("leptonai.serving.plane")[0]


def test_deploy_move_break_and_delete(home: Home) -> None:
    one, two, bad, people = home.keep(
        bundles.adder(1), bundles.adder(2), bundles.broken(3, "no model"), bundles.people()
    )
    home.start()
    assert home.children("leptonai.serving.plane") == []  # not before there is a Service

    home.deploy("sum", one)
    status = home.settled("sum", "ready", one)
    assert status["url"].endswith("/services/sum/predict")
    assert predict(home, "sum", {"x": 1}).json()["predictions"] == [{"prediction": 1001.0}]
    until(lambda: home.http.call("GET", "/sites/home")["plane"] == status["url"].removesuffix("/services/sum/predict"))

    home.deploy("people", people)
    home.settled("people", "ready", people)
    assert predict(home, "sum", {"x": 1}).status_code == 200

    home.deploy("sum", two)
    home.settled("sum", "ready", two)
    assert predict(home, "sum", {"x": 1}).json()["version"] == 2

    for _ in range(2):  # the same again is another try, with the same answer
        rev = home.deploy("sum", bad)["rev"]
        status = home.settled("sum", "failed", two)
        assert status["rev"] == rev
        assert "model.onnx cannot be loaded" in status["message"]
        assert predict(home, "sum", {"x": 1}).json()["version"] == 2

    home.deploy("sum", one)
    home.settled("sum", "ready", one)
    home.http.call("DELETE", "/services/sum")
    url = status["url"]
    until(lambda: post(home, url, {"x": 1}).status_code == 404)
    assert predict(home, "people", {"x": 1}).status_code == 422

    home.http.call("DELETE", "/services/people")
    until(lambda: home.children("leptonai.serving.plane") == [])


def test_a_first_version_that_is_bad_can_be_replaced_and_removed(home: Home) -> None:
    bad, good = home.keep(bundles.broken(1, "other output"), bundles.adder(2))
    home.start()
    home.deploy("sum", bad)
    status = home.settled("sum", "failed")
    assert status["live"] == []
    assert "output 'prediction'" in status["message"]
    home.deploy("sum", good)
    home.settled("sum", "ready", good)
    home.deploy("sum", bad)
    home.settled("sum", "failed", good)
    home.http.call("DELETE", "/services/sum")
    until(lambda: home.children("leptonai.serving.plane") == [])


def test_a_blob_that_was_damaged_is_not_served(home: Home) -> None:
    (model,) = home.keep(bundles.adder(1))
    home.start()
    blob = model.files["model.onnx"]
    (path,) = [p for p in (home.folder / "blobs").rglob("*") if p.is_file() and (p.parent.name + p.name) == blob]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)
    home.deploy("sum", model)
    assert "damaged" in home.settled("sum", "failed")["message"]


def test_a_plane_that_is_killed_comes_back_and_no_caller_sees_it_refuse(home: Home) -> None:
    one, two, bad = home.keep(bundles.adder(1), bundles.adder(2, name="second"), bundles.broken(3, "cut"))
    home.start()
    home.deploy("one", one)
    home.deploy("two", two)
    home.settled("one", "ready", one)
    url = home.settled("two", "ready", two)["url"]
    home.deploy("one", bad)
    home.settled("one", "failed", one)
    stop, refused, answered = threading.Event(), list[str](), list[int]()

    def ask() -> None:
        while not stop.is_set():
            try:
                answered.append(post(home, url, {"x": 1}).json()["version"])
            except httpx.ConnectError as error:
                refused.append(str(error))
            except (httpx.ReadError, httpx.RemoteProtocolError):
                pass  # this one was inside the plane that was killed

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for _ in range(3):
            before = plane_of(home)
            os.kill(before, signal.SIGKILL)
            many = int(settings.number("planes"))
            until(lambda b=before, n=many: len(pids := home.children("leptonai.serving.plane")) == n and b not in pids)
            asked = len(answered)
            until(lambda asked=asked: len(answered) > asked + 3)
    finally:
        stop.set()
        thread.join()
    assert refused == []
    assert set(answered) == {2}
    assert home.settled("one", "failed", one)["url"].rpartition("/services/")[0] == url.rpartition("/services/")[0]
    assert predict(home, "one", {"x": 1}).json()["version"] == 1


def test_a_restart_brings_back_the_last_good_version_at_the_same_address(home: Home) -> None:
    one, bad = home.keep(bundles.adder(1), bundles.broken(2, "nothing"))
    bad = bad.model_copy(update={"files": {}})
    home.start()
    home.deploy("sum", one)
    url = home.settled("sum", "ready", one)["url"]
    until(lambda: home.http.call("GET", "/sites/home")["plane"])
    plane = plane_of(home)
    home.stop(kill=True)
    until(lambda: not alive(plane))
    home.start()
    until(lambda: home.children("leptonai.serving.plane"))
    until(lambda: _version(home, url) == 1)
    assert home.settled("sum", "ready", one)["url"] == url


def _version(home: Home, url: str) -> Any:
    try:
        return post(home, url, {"x": 1}).json().get("version")
    except httpx.TransportError:
        return None


def test_a_restart_while_the_wanted_version_is_bad(home: Home) -> None:
    one, bad = home.keep(bundles.adder(1), bundles.broken(2, "cut"))
    home.start()
    home.deploy("sum", one)
    home.settled("sum", "ready", one)
    home.deploy("sum", bad)
    url = home.settled("sum", "failed", one)["url"]
    home.stop()
    home.start()
    until(lambda: _version(home, url) == 1 or _version(home, home.status("sum")["url"] or url) == 1)
    home.settled("sum", "failed", one)


def test_a_version_that_was_turned_back_leaves_no_trace_when_the_good_one_is_deployed_again(home: Home) -> None:
    good, bad = home.keep(bundles.adder(1), bundles.broken(2, "cut"))
    home.start()
    home.deploy("sum", good)
    home.settled("sum", "ready", good)
    home.deploy("sum", bad)
    assert "model.onnx cannot be loaded" in home.settled("sum", "failed", good)["message"]
    home.stop(kill=True)
    home.start()
    home.settled("sum", "failed", good)  # still true, and still it answers; who waits for it does not wait longer
    with Client(home.http.base_url, home.bearer["authorization"].split()[1]) as client:
        record = Record.model_validate(client.http.call("GET", "/services/sum"))
        Service(record, client).wait_ready(5.0)
    assert predict(home, "sum", {"x": 1}).json()["version"] == 1
    home.deploy("sum", good, strategy="now")
    assert home.settled("sum", "ready", good)["message"] == ""
    story = home.http.call("GET", "/services/sum")["rollout"]["story"]
    assert story[-1]["text"].endswith("deployed adder/1, which answers already")
    home.stop(kill=True)
    home.start()
    home.settled("sum", "ready", good)


def test_nothing_of_a_model_is_in_a_file_or_an_environment(home: Home) -> None:
    (model,) = home.keep(bundles.adder(1))
    home.start()
    home.deploy("sum", model)
    home.settled("sum", "ready", model)
    plane = Path(f"/proc/{plane_of(home)}")
    assert b"LEPTONAI_API_KEY" not in (plane / "environ").read_bytes()
    for path in home.folder.rglob("*"):
        if path.is_file() and not path.is_socket():
            assert b"prediction\x12" not in path.read_bytes(), path


@pytest.fixture
def native(tmp_path: Path) -> tuple[Model, dict[str, bytes]]:
    """A scikit-learn model without an ONNX file, as training and export leave it."""
    from sklearn.linear_model import LogisticRegression

    from leptonai.core import plugins
    from leptonai.core.signature import FeatureType, Signature, TensorSpec
    from leptonai.training.spec import Encoding, FeatureCode, Fitted

    framework = plugins.framework("sklearn")
    packed = framework.pack(LogisticRegression(), {})
    learner = framework.load(packed.code)
    import numpy as np

    x = np.array([[-1.0], [-2.0], [1.0], [2.0]], np.float32)
    y = np.array([0, 0, 1, 1])
    learner.begin(x, y, "classification", 2, 0)
    learner.step(x, y)
    encoding = Encoding(
        features=(FeatureCode(column="x", op="scale", type="number", dtype="float64"),),
        target="y",
        task="classification",
        classes=("cold", "warm"),
    )
    fitted = Fitted(
        framework="sklearn", flavour="sklearn", code="0", weights="0", encoding=encoding, activation=learner.activation, history={},
        epochs=1, data="datasets:/d@v1", dataset="ds_1", parameters=2, seed=0, versions={},
    )  # fmt: skip
    signature = Signature(
        inputs=(TensorSpec(name="x", datatype="FP64", shape=(-1,), type=FeatureType.NUMBER),),
        outputs=(
            TensorSpec(name="label", datatype="BYTES", shape=(-1,), categories=("cold", "warm")),
            TensorSpec(name="probabilities", datatype="FP32", shape=(-1, 2)),
        ),
        task="classification",
        classes=("cold", "warm"),
    )
    files = {
        "code": packed.code,
        "model.skops": learner.weights(),
        "fitted.json": json.dumps(fitted.model_dump(mode="json")).encode(),
    }
    return bundles.record("native", 1, signature, files, flavour="sklearn"), files


def test_a_native_model_is_served_by_its_framework_in_a_process_of_its_own(
    home: Home, native: tuple[Model, dict[str, bytes]]
) -> None:
    broken_files = {**native[1], "code": b"junk"}
    broken = bundles.record("native", 2, native[0].signature, broken_files, flavour="sklearn"), broken_files
    model, bad = home.keep(native, broken)
    home.start()
    home.deploy("warmth", model)
    status = home.settled("warmth", "ready", model, 60)
    answer = predict(home, "warmth", {"x": -3}, {"x": 3}, {"x": None})
    assert answer.status_code == 200, answer.text
    assert [one["label"] for one in answer.json()["predictions"][:2]] == ["cold", "warm"]
    plane = status["url"].rpartition("/services/")[0]
    said = httpx.get(f"{plane}/v2/models/warmth", headers=home.bearer, trust_env=False).json()
    assert said["platform"] == "sklearn"

    home.deploy("warmth", bad)
    assert home.settled("warmth", "failed", model, 60)["message"]
    assert predict(home, "warmth", {"x": 3}).json()["version"] == 1

    folder = home.folder / "jobs" / f"native-{model.id}" / "w0"
    worker = _listener(folder / "answer.sock")
    assert [oct(p.stat().st_mode & 0o777) for p in (folder, folder / "answer.sock")] == ["0o700", "0o600"]
    os.kill(worker, signal.SIGKILL)
    answers = [predict(home, "warmth", {"x": 3}) for _ in range(3)]  # the first waits for the next process
    assert [one.status_code for one in answers] == [200, 200, 200], answers[0].text
    assert _listener(folder / "answer.sock") != worker

    os.kill(plane_of(home), signal.SIGKILL)
    until(lambda: _label(home, status["url"]) == "warm")
    home.http.call("DELETE", "/services/warmth")
    until(lambda: not folder.exists())


def _label(home: Home, url: str) -> Any:
    try:
        return post(home, url, {"x": 3}).json()["predictions"][0]["label"]
    except (httpx.TransportError, KeyError):
        return None


def _listener(path: Path) -> int:
    """Return the process whose working folder is the socket's."""

    def look() -> int | None:
        for process in Path("/proc").iterdir():
            if process.name.isdigit():
                try:
                    if (process / "cwd").readlink() == path.parent and alive(int(process.name)) and path.exists():
                        return int(process.name)
                except OSError:
                    continue
        return None

    return int(until(look))


def test_what_won_a_race_computes_also_after_a_restart(tmp_path: Path) -> None:
    """The race is held after the version answers. Which way wins depends on the machine: here it is written down before."""
    home = Home(tmp_path / "home", LEPTONAI_RACE_SECONDS="0.05")
    try:
        (one,) = home.keep(bundles.adder(1))
        home.start()
        home.deploy("sum", one)
        home.settled("sum", "ready", one)
        races = home.folder / "races.json"
        until(races.exists)
        home.stop()
        kept = json.loads(races.read_text())
        (key,) = kept
        kept[key]["chosen"] = {"runtime": "onnx", "threads": 2, "precision": "fp32", "device": "cpu"}
        races.write_text(json.dumps(kept))
        home.start()
        home.settled("sum", "ready", one)
        assert predict(home, "sum", {"x": 1}).json()["predictions"] == [{"prediction": 1001.0}]
        assert json.loads(races.read_text())[key]["chosen"]["threads"] == 2
    finally:
        home.stop()


@pytest.mark.slow
def test_what_was_not_raced_before_is_raced_after_a_restart(tmp_path: Path) -> None:
    home = Home(tmp_path / "home", LEPTONAI_RACE_SECONDS="0")
    races = home.folder / "races.json"
    try:
        (one,) = home.keep(bundles.adder(1))
        home.start()
        home.deploy("sum", one)
        home.settled("sum", "ready", one)
        home.stop()
        assert not races.exists()
        home._environment["LEPTONAI_RACE_SECONDS"] = "0.05"
        home.start()
        until(races.exists)
    finally:
        home.stop()
