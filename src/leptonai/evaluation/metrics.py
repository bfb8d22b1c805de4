"""How good predictions are, as scikit-learn defines it; averages over classes are macro averages."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonai.core.errors import Invalid, Unsupported
from leptonai.evaluation.curves import Ranked
from leptonai.evaluation.spec import Report

Array = NDArray[Any]


def classification(truth: Array, scores: Array, classes: Sequence[str | int], positive: int = 1) -> Report:
    """Report on a classifier. `truth`: class numbers (rows,); `scores`: probabilities (rows, classes).

    ROC AUC and average precision of two classes are those of the `positive` one; of more, the macro average of one against the rest.
    """
    from sklearn import metrics

    finite(scores)
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
    found |= _by_probability(truth, scores, classes, positive, notes)
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


def finite(scores: Array) -> None:
    """Raise `Invalid` that counts the rows for which a value is not finite."""
    bad = int(np.count_nonzero(~np.isfinite(scores.reshape(len(scores), -1)).all(axis=1)))
    if bad:
        rows = "row" if bad == 1 else "rows"
        raise Invalid(
            f"the model gives values that are not finite for {bad} {rows}: it did not learn; try a smaller learning rate"
        )


def probabilities(scores: Array) -> Array | None:
    """Return the scores of each row divided by their sum; None where they are none."""
    sums = scores.sum(axis=1, dtype=np.float64)
    if (scores < 0).any() or (sums <= 0).any():
        return None
    if np.abs(sums - 1).max() < 1e-6:  # as they are: division would tell equal ones apart
        return scores
    found: Array = scores / sums[:, None]
    return found


def losses(truth: Array, probabilities: Array, positive: int = 1) -> dict[str, Array]:
    """Return what each row adds to the metrics that are means: log_loss and brier, float64 (rows,).

    The Brier score of two classes is that of one of them, of more the sum over all (Brier, 1950), as scikit-learn has it.
    """
    right = probabilities[np.arange(len(truth)), truth].astype(np.float64)
    if probabilities.shape[1] == 2:
        squares = (probabilities[:, positive].astype(np.float64) - (truth == positive)) ** 2
    else:  # the sum of (p - y)², where y is 1 for the one class
        squares = np.einsum("ij,ij->i", probabilities, probabilities, dtype=np.float64) - 2 * right + 1
    return {"log_loss": -np.log(np.clip(right, np.finfo(np.float32).eps, 1)), "brier": squares}


def curves_of(truth: Array, classes: int, positive: int = 1) -> list[int]:
    """Return the classes over whose curves the areas are averaged."""
    return [positive] if classes == 2 else [int(number) for number in np.unique(truth)]


def _by_probability(
    truth: Array, scores: Array, classes: Sequence[str | int], positive: int, notes: list[str]
) -> dict[str, float]:
    from sklearn import metrics

    shares = probabilities(scores)
    if shares is None:
        notes.append(
            "log_loss, brier, ece and the areas under curves are not given: the model's scores are not probabilities"
        )
        return {}
    if not np.allclose(scores.sum(axis=1, dtype=np.float64), 1, atol=1e-3):
        notes.append("the model's scores do not add up to 1: for log_loss they were divided by their sum")
    found = {name: float(values.mean()) for name, values in losses(truth, shares, positive).items()}
    present = np.unique(truth)
    if len(present) < 2:
        notes.append(f"roc_auc and average_precision are not given: all rows are of class {classes[int(present[0])]!r}")
        return found
    asked = curves_of(truth, len(classes), positive)
    found["roc_auc"] = float(np.mean([metrics.roc_auc_score(truth == i, shares[:, i]) for i in asked]))
    found["average_precision"] = float(np.mean([Ranked(truth == i, shares[:, i]).average_precision() for i in asked]))
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

    finite(values)
    notes: list[str] = []
    y, p = side_by_side(truth, values)
    if len(y) != np.size(truth):
        each = values.size // len(values)
        notes.append(f"the model gives {each} values a row; each of them is compared with the row's one target")
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


def side_by_side(truth: Array, values: Array) -> tuple[Array, Array]:
    """Return targets and values, flat and float64, one of each for each comparison. Raises `Unsupported`."""
    truth = np.asarray(truth, dtype=np.float64)
    if truth.size != values.size:
        if truth.size != len(truth):
            raise Unsupported(
                f"the model gives values of shape {values.shape[1:]} a row for targets of shape {truth.shape[1:]}: "
                "they cannot be compared"
            )
        each = values.size // len(values)
        truth = np.broadcast_to(truth.reshape(len(truth), 1), (len(truth), each))
    return truth.reshape(-1), np.asarray(values, dtype=np.float64).reshape(-1)
