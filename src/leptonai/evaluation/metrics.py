"""How good predictions are, as scikit-learn defines it; averages over classes are macro averages."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonai.core.errors import Invalid, Unsupported
from leptonai.evaluation.spec import Report

Array = NDArray[Any]


def classification(truth: Array, scores: Array, classes: Sequence[str | int]) -> Report:
    """Report on a classifier. `truth`: class numbers (rows,); `scores`: probabilities (rows, classes).

    ROC AUC of two classes is that of the second; of more, the macro average of one against the rest.
    """
    from sklearn import metrics

    _finite(scores)
    numbers = range(len(classes))
    predicted = scores.argmax(axis=1)
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        truth, predicted, labels=list(numbers), zero_division=0
    )
    notes: list[str] = []
    found = {
        "accuracy": float(metrics.accuracy_score(truth, predicted)),
        "precision": float(np.mean(precision)),
        "recall": float(np.mean(recall)),
        "f1": float(np.mean(f1)),
    }
    found |= _by_probability(truth, scores, classes, notes)
    _note_absent(support, classes, notes)
    return Report(
        task="classification",
        rows=len(truth),
        metrics=found,
        classes=tuple(classes),
        confusion=tuple(tuple(map(int, row)) for row in metrics.confusion_matrix(truth, predicted, labels=list(numbers))),
        per_class={
            str(name): {
                "precision": float(precision[i]), "recall": float(recall[i]), "f1": float(f1[i]), "rows": float(support[i])
            }
            for i, name in enumerate(classes)
        },
        notes=tuple(notes),
    )  # fmt: skip


def _finite(scores: Array) -> None:
    bad = int(np.count_nonzero(~np.isfinite(scores.reshape(len(scores), -1)).all(axis=1)))
    if bad:
        rows = "row" if bad == 1 else "rows"
        raise Invalid(
            f"the model gives values that are not finite for {bad} {rows}: it did not learn; try a smaller learning rate"
        )


def _by_probability(truth: Array, scores: Array, classes: Sequence[str | int], notes: list[str]) -> dict[str, float]:
    from sklearn import metrics

    sums = scores.sum(axis=1, dtype=np.float64)
    if (scores < 0).any() or (sums <= 0).any():
        notes.append("log_loss and roc_auc are not given: the model's scores are not probabilities")
        return {}
    if not np.allclose(sums, 1, atol=1e-3):
        notes.append("the model's scores do not add up to 1: for log_loss they were divided by their sum")
    probabilities = scores / sums[:, None]
    chosen = np.clip(probabilities[np.arange(len(truth)), truth], np.finfo(np.float32).eps, 1)
    found = {"log_loss": float(-np.log(chosen).mean())}
    present = np.unique(truth)
    if len(present) < 2:
        notes.append(f"roc_auc is not given: all rows are of class {classes[int(present[0])]!r}")
    elif len(classes) == 2:
        found["roc_auc"] = float(metrics.roc_auc_score(truth, probabilities[:, 1]))
    else:
        found["roc_auc"] = float(np.mean([metrics.roc_auc_score(truth == i, probabilities[:, i]) for i in present]))
    return found


def _note_absent(support: Array, classes: Sequence[str | int], notes: list[str]) -> None:
    if absent := [str(name) for name, rows in zip(classes, support, strict=True) if not rows]:
        shown = ", ".join(absent[:10]) + (", …" if len(absent) > 10 else "")
        notes.append(f"no row is of class {shown}: averages count it as 0, and roc_auc leaves it out")


def regression(truth: Array, values: Array) -> Report:
    """Report on a regressor. `truth`: (rows, …); `values`: the same shape, or several values a row for one target.

    In that case (a layer applied to every column, say) each value is compared with the row's target, as in training.
    """
    from sklearn import metrics

    _finite(values)
    truth = np.asarray(truth, dtype=np.float64)
    notes: list[str] = []
    if truth.size != values.size:
        each = values.size // len(values)
        if truth.size != len(truth):
            raise Unsupported(
                f"the model gives values of shape {values.shape[1:]} a row for targets of shape {truth.shape[1:]}: "
                "they cannot be compared"
            )
        notes.append(f"the model gives {each} values a row; each of them is compared with the row's one target")
        truth = np.broadcast_to(truth.reshape(len(truth), 1), (len(truth), each))
    y, p = truth.reshape(-1), np.asarray(values, dtype=np.float64).reshape(-1)
    found = {
        "mae": float(metrics.mean_absolute_error(y, p)),
        "rmse": float(metrics.root_mean_squared_error(y, p)),
    }
    if len(np.unique(y)) < 2:
        notes.append("r2 is not given: all targets are the same")
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found["r2"] = float(metrics.r2_score(y, p))
    return Report(task="regression", rows=len(truth), metrics=found, notes=tuple(notes))
