"""The ways to learn, as a person asks for them: by keywords, by a command line, over HTTP; and what is refused."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from tests.support.warm import libraries
from torch import nn

import leptonai
from leptonai.core.errors import Invalid, RunFailed
from leptonai.sdk import client
from leptonai.sdk.client import Client


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server with a dataset of a rare class, that lives as long as this file's tests."""
    libraries()
    folder = tmp_path_factory.mktemp("learning")
    rng = np.random.default_rng(0)
    rows = [(a, b, "rare" if a + b > 2.2 else "usual") for a, b in rng.normal(size=(400, 2))]
    (folder / "points.csv").write_text("a,b,label\n" + "\n".join(f"{a:.4f},{b:.4f},{y}" for a, b, y in rows) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEPTONAI_WARM", "none")
        kept = client.connect(home=folder / "home")
        leptonai.create_dataset("points", files=folder / "points.csv", target="label")
    for model in (LogisticRegression(), nn.Linear(2, 2)):  # the processes that hold their libraries stay for all tests
        leptonai.Model(model).fit("points")
    yield kept
    client.disconnect()


def test_keywords_and_callbacks_reach_the_run(server: Client, tmp_path: Path) -> None:
    notes = tmp_path / "notes"

    def note(epoch: int, logs: dict[str, float]) -> str | None:
        with notes.open("a") as file:
            file.write(f"{epoch} {logs['loss']:.3f}\n")
        return "stop" if epoch == 3 else None

    model = leptonai.Model(nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2)))
    model.compile(optimizer="adam", metrics=["recall"])
    history = model.fit(
        "points", epochs=20, learning_rate=0.02, schedule="cosine:warmup=1", clip_norm=1.0, ema=0.9, class_weights="balanced",
        accumulate=2, label_smoothing=0.02, weight_decay=0.01, adversarial="fgsm:epsilon=0.05", precision="fp32",
        callbacks=[note],
    )  # fmt: skip
    assert len(notes.read_text().splitlines()) == len(history.history["loss"]) == 4
    asked = history.run.record.spec["learning"]
    assert (asked["schedule"]["kind"], asked["ema"], asked["adversarial"]["method"]) == ("cosine", 0.9, "fgsm")
    assert "callback note asked for it" in "\n".join(history.run.logs())

    def fails(epoch: int, logs: dict[str, float]) -> None:
        raise ValueError("the disk is full")

    with pytest.raises(
        (RunFailed, Invalid), match="callback fails failed in on_epoch_end: ValueError: the disk is full"
    ):
        model.fit("points", callbacks=[fails])


def test_what_cannot_be_done_is_refused_before_a_run(server: Client) -> None:
    before = len(leptonai.list_runs())
    model = leptonai.Model(LogisticRegression())
    with pytest.raises(Invalid, match="ema: a model of sklearn cannot do it; models of keras and torch can"):
        model.fit("points", ema=0.9)
    with pytest.raises(Invalid, match=r"fit: schedule\.kind"):
        model.fit("points", schedule="cosin")
    with pytest.raises(TypeError, match="'emma'"):
        model.fit("points", emma=0.9)  # type: ignore[call-arg]
    with pytest.raises(Invalid, match="label has no class 'rarer'; it has rare, usual"):
        model.fit("points", class_weights={"rarer": 2})
    assert len(leptonai.list_runs()) == before + 1  # only that of the class that only its rows know


def test_the_same_over_http(server: Client) -> None:
    spec = {"data": "points", "learning": {"class_weights": "balanced"}}
    run = server.http.call("POST", "/runs", json={"stage": "train", "spec": spec})
    assert leptonai.get_run(run["id"]).wait().record.result["framework"] == "sklearn"


def test_lightgbm_learns_is_measured_and_published(server: Client) -> None:
    import lightgbm

    model = leptonai.Model(lightgbm.LGBMClassifier(n_estimators=30, num_leaves=4, n_jobs=1))
    train, test = leptonai.get_dataset("points").split(train_size=0.8)
    history = model.fit(
        train, validation_data=test, class_weights="balanced", early_stopping=leptonai.EarlyStopping(patience=5)
    )
    assert 5 < len(history.history["val_loss"]) <= 30
    report = model.evaluate(test)
    assert report.metrics["accuracy"] > 0.9
    version = model.publish("boosted")
    assert version.evaluate(test).metrics["accuracy"] == report.metrics["accuracy"]
    with pytest.raises(Invalid, match="ema: a model of lightgbm cannot do it"):
        model.fit("points", ema=0.9)


def test_a_model_of_ones_own_in_a_file(server: Client, tmp_path: Path) -> None:
    from leptonai.cli import run_code

    file = tmp_path / "own_net.py"
    file.write_text(
        "from torch import nn\nfrom torch.nn import functional\n\n\n"
        "def model():\n    return nn.Linear(2, 2)\n\n\n"
        "def loss(output, target):\n    return functional.cross_entropy(output, target, reduction='none') * 2\n\n\n"
        "class Right:\n    def __call__(self, output, target):\n        return (output.argmax(1) == target).float()\n\n\n"
        "metrics = [Right(), 'accuracy']\n"
    )
    spec = {"data": "points", "epochs": 2, **run_code.fields(file)}
    run = leptonai.get_run(server.http.call("POST", "/runs", json={"stage": "train", "spec": spec})["id"]).wait()
    history = run.record.result["history"]
    assert history["Right"] == pytest.approx(history["accuracy"])
    for text, words in (
        ("x = 1", "has no `model`"),
        ("1 / 0", "cannot be run: ZeroDivisionError"),
        (None, "there is no file"),
    ):
        wrong = tmp_path / "wrong.py"
        wrong.write_text(text) if text else wrong.unlink()
        with pytest.raises(Invalid, match=words):
            run_code.fields(wrong)
