"""Metrics of torchmetrics: right on batches of unequal sizes, put together again after a kill."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics
from tests.support.handle import FileHandle
from tests.support.warm import libraries
from tests.training.test_work import Dies, asked, cancer, handle_for, net, predictions

from leptonai.adapters.frameworks import torch_metrics
from leptonai.core import plugins
from leptonai.core.errors import Invalid
from leptonai.training.work import train


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    libraries()
    import torchmetrics  # noqa: F401


pytestmark = pytest.mark.usefixtures("here")


def test_what_is_measured_is_what_scikit_learn_measures_of_all_rows(tmp_path: Path) -> None:
    import torchmetrics

    handle = handle_for(tmp_path, cancer(), "diagnosis", 450)
    given = ["auroc", "balanced_accuracy", "matthews", torchmetrics.classification.BinaryF1Score(), "accuracy", own]
    spec = asked(handle, net(), {"metrics": given}, validation="test", epochs=2, batch_size=50)
    result = train(spec, handle)
    truth = (handle.datasets["test"].read()["diagnosis"] == result["encoding"]["classes"][1]).astype(int)
    scores = predictions(handle, result)
    said = scores.argmax(1)
    last = {name: values[-1] for name, values in result["history"].items()}
    assert last["val_auroc"] == pytest.approx(metrics.roc_auc_score(truth, scores[:, 1]), abs=1e-5)
    assert last["val_balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(truth, said), abs=1e-5)
    assert last["val_matthews"] == pytest.approx(metrics.matthews_corrcoef(truth, said), abs=1e-5)
    assert last["val_BinaryF1Score"] == pytest.approx(metrics.f1_score(truth, said), abs=1e-5)
    assert last["val_own"] == pytest.approx(last["val_accuracy"])


def own(output: Any, target: Any) -> Any:
    return (output.argmax(1) == target).float()


class Weighed(torch.nn.Module):
    """A loss of the user's own, as a class."""

    def forward(self, output: Any, target: Any) -> Any:
        return torch.nn.functional.cross_entropy(output, target, reduction="none") * (1 + target)


def test_a_training_with_them_goes_on_to_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leptonai.training.loop._PROGRESS_SECONDS", 0)
    whole = handle_for(tmp_path, cancer(), "diagnosis", 450)
    compiled = {"metrics": ["auroc", "cohen_kappa", "f1"], "loss": Weighed()}
    spec = asked(whole, net(), compiled, validation="test", epochs=2, batch_size=50, checkpoint_seconds=1e-9)
    wanted = train(spec, whole)
    dies = Dies(tmp_path / "dies", datasets=whole.datasets, after=13)
    dies.blobs, dies.raw = whole.blobs, whole.raw
    with pytest.raises(ConnectionAbortedError):
        train(spec, dies)
    again = FileHandle(tmp_path / "dies", datasets=whole.datasets)
    again.blobs, again.raw = whole.blobs, whole.raw
    found = train(spec, again)
    assert found["history"] == wanted["history"]
    assert whole.read(found["weights"]) == whole.read(wanted["weights"])


def test_parts_of_several_processes_are_put_together() -> None:
    rng = np.random.default_rng(0)
    scores, y = torch.from_numpy(rng.normal(size=(90, 3))), torch.from_numpy(rng.integers(0, 3, 90))
    for name in ("auroc", "cohen_kappa", "specificity"):
        one, two, all_ = (torch_metrics.made(name, "classification", 3, "softmax") for _ in range(3))
        all_.update(scores, y, y)
        one.update(scores[:20], y[:20], y[:20])
        two.update(scores[20:], y[20:], y[20:])
        one.take([one.kept(), two.kept()])
        assert one.result() == pytest.approx(all_.result())
    value = torch_metrics.made("spearman", "regression", 0, "value")
    value.update(torch.arange(5.0)[:, None], torch.arange(5.0) ** 2, (torch.arange(5.0) ** 2)[:, None])
    assert value.result() == pytest.approx(1.0)
    assert np.isnan(torch_metrics.made("pearson", "regression", 0, "value").result())


def test_one_that_does_not_suit_is_told() -> None:
    with pytest.raises(
        Invalid, match="metric 'auroc' does not suit a target of regression: use one of explained_variance"
    ):
        torch_metrics.made("auroc", "regression", 0, "value")
    with pytest.raises(Invalid, match="there is no metric 'aurocc': did you mean 'auroc'"):
        plugins.framework("torch").pack(net(), {"metrics": ["aurocc"]})
