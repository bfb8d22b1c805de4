"""The handles against a real server: a Run and what can be asked of it, a model, its version, a service."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars
import pytest
from sklearn.linear_model import LogisticRegression

import leptonai
from leptonai.core.errors import Conflict, Invalid, NotFound, Unavailable
from leptonai.core.states import RunState
from leptonai.sdk import client, registry, runs, services, show, sites
from leptonai.sdk.client import Client
from leptonai.sdk.models import Model


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server with a dataset, that lives as long as this file's tests."""
    folder = tmp_path_factory.mktemp("journey")
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(200, 2))
    lines = [f"{a:.4f},{b:.4f},{'yes' if a + b > 0 else 'no'}" for a, b in numbers]
    (folder / "points.csv").write_text("a,b,label\n" + "\n".join(lines) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEPTONAI_WARM", "none")
        kept = client.connect(home=folder / "home")
        leptonai.create_dataset("points", files=folder / "points.csv")
    yield kept
    client.disconnect()


@pytest.fixture(scope="module")
def model(server: Client) -> Model:
    """A model that was trained."""
    made = Model(LogisticRegression())
    made.fit("points", seed=3)
    return made


@pytest.fixture(scope="module")
def version(model: Model) -> registry.ModelVersion:
    """A version of it, with the metrics of its evaluation."""
    model.evaluate("points")
    return model.publish("points", aliases=["champion"])


@pytest.fixture(scope="module")
def service(version: registry.ModelVersion) -> services.Service:
    """A service that answers."""
    return version.deploy("points")


def test_a_run_tells_what_happened(model: Model, server: Client) -> None:
    run = leptonai.get_run(model._run.id)
    assert run.state is RunState.SUCCEEDED
    assert run.stage == "train"
    assert run.result is not None
    assert run.wait() is run
    assert {"loss", "accuracy"} <= set(run.metrics())
    assert all(isinstance(value, float) for values in run.metrics().values() for value in values)
    assert any("accuracy" in line for line in run.logs())
    assert list(run.logs(follow=True)) == list(run.logs())
    seen = [event.seq for event in run.events(follow=True)]
    assert seen == sorted(set(seen))
    assert [event.seq for event in run.events()] == seen
    assert "succeeded" in repr(run)
    assert run.id in run._repr_html_()
    assert run.id in [found.id for found in runs.list_runs(stage="train")]


def test_the_users_object_holds_the_weights(model: Model) -> None:
    mine = model.model
    assert isinstance(mine, LogisticRegression)
    assert mine.coef_.shape == (1, 2)
    predictions = model.predict("points")
    assert predictions.shape == (200, 2)
    assert np.allclose(predictions.sum(axis=1), 1, atol=1e-5)


def test_a_run_that_failed_raises_what_it_failed_with(server: Client) -> None:
    with pytest.raises(Invalid, match="nothing_like_it") as caught:
        Model(LogisticRegression()).fit("points", target="nothing_like_it")
    del caught
    broken = Model(LogisticRegression(C=-1.0))
    with pytest.raises(leptonai.LeptonError, match="C") as failed:
        broken.fit("points")
    run = leptonai.get_run(failed.value.about["run"])
    assert run.state is RunState.FAILED
    with pytest.raises(type(failed.value)):
        run.wait()
    assert "failed" in repr(run)
    again = run.retry()
    assert again.id != run.id
    assert again.record.spec == run.record.spec
    with pytest.raises(leptonai.LeptonError, match="C"):
        again.wait()


def test_following_shows_progress_on_stderr_where_it_is_asked_for(
    model: Model, server: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    runs.follow(server.http, model._run.id, title="fit", show_progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "fit" in err
    runs.follow(server.http, model._run.id)
    assert capsys.readouterr() == ("", "")


def test_a_version_says_what_it_is(version: registry.ModelVersion, tmp_path: Path) -> None:
    same = leptonai.get_model("models:/points@champion")
    assert same.record == version.record == leptonai.get_model(version.ref).record
    assert version.aliases == ["champion"]
    assert version.metrics["accuracy"] > 0.8
    assert version.signature.classes == ("no", "yes")
    assert version.lineage["dataset"]
    assert version.note == ""
    assert version.bytes == len(version.download("model.onnx", to=tmp_path / "m.onnx")) > 100
    assert (tmp_path / "m.onnx").stat().st_size == version.bytes
    assert "accuracy" in repr(version)
    assert "classification" in version._repr_html_()
    assert version.record.id in [found.record.id for found in registry.list_models("points")]
    with pytest.raises(NotFound, match=r"model\.onnx"):
        version.download("weights.pickle")
    with pytest.raises(Conflict, match="champion"):
        version.delete()


def test_an_alias_moves_to_another_version(model: Model, version: registry.ModelVersion) -> None:
    second = model.publish("points", metrics={"mine": 1.0})
    assert (second.version, second.metrics["mine"]) == (version.version + 1, 1.0)
    assert second.set_alias("champion").aliases == ["champion"]
    assert version.aliases == []
    version.set_alias("champion")
    second.delete()
    with pytest.raises(NotFound):
        leptonai.get_model(second.ref)


def test_a_service_takes_rows_as_people_have_them(service: services.Service) -> None:
    assert service.url.endswith("/services/points/predict")
    assert service.status.state == "ready"
    row = {"a": np.float32(2.0), "b": 1}
    one = service.predict(row)
    assert one["label"] == "yes"
    assert service.predict([row, row]) == [one, one]
    assert service.predict(polars.DataFrame({"a": [2.0, -2.0], "b": [1.0, -1.0]}))[1]["label"] == "no"
    head = leptonai.get_dataset("points").head(3)
    assert len(service.predict(head)) == 3
    assert json.dumps(one)
    for wrong, says in (({"a": 1.0}, "b"), ({"a": "x", "b": 1}, "a"), ([{"a": 1, "b": 1, "c": 1}], "c")):
        with pytest.raises(Invalid, match=says):
            service.predict(wrong)
    assert "points" in repr(service)
    assert service.url in service._repr_html_()
    assert service.name in [found.name for found in services.list_services()]


def test_a_service_is_found_moved_and_taken_away(model: Model, version: registry.ModelVersion) -> None:
    made = version.deploy("short-lived")
    assert leptonai.get_service("short-lived").predict({"a": 2, "b": 1})["label"] == "yes"
    assert version.deploy("short-lived").wait_ready().predict({"a": -2, "b": -1})["label"] == "no"
    made.delete()
    with pytest.raises(NotFound, match="short-lived"):
        leptonai.get_service("short-lived")
    until = time.monotonic() + 10
    with pytest.raises(leptonai.LeptonError):
        while time.monotonic() < until:
            made.predict({"a": 2, "b": 1})
            time.sleep(0.1)


def test_sites_say_who_is_there(server: Client) -> None:
    home = sites.get_site()
    assert home.name == "home"
    assert home.alive
    assert "home" in repr(home)
    assert "cores" in home.facts
    assert "Site home" in home._repr_html_()
    assert [site.name for site in sites.list_sites()] == ["home"]


def test_a_forked_child_has_a_connection_of_its_own(server: Client) -> None:
    server.http.call("GET", "/me")
    child = os.fork()
    if child == 0:  # never returns into pytest
        try:
            os._exit(0 if server.http.call("GET", "/me")["name"] == "local" else 1)
        except BaseException:
            os._exit(2)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert server.http.call("GET", "/me")["name"] == "local"


def test_a_host_where_nobody_answers_is_named() -> None:
    with Client(host="http://127.0.0.1:9") as nobody, pytest.raises(Unavailable, match=r"http://127\.0\.0\.1:9"):
        nobody.http.call("GET", "/me")


def test_a_key_that_is_set_without_a_host_is_noted_once(
    server: Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(client, "_said", set())
    monkeypatch.setattr(leptonai, "api_key", "k")
    for _ in range(3):
        assert client.current() is server
    assert capsys.readouterr().err == "lepton: no host is set, so the key is not used\n"
    assert show.notebook() is False
