"""Whether a model treats groups of rows alike: rates and errors by group, and their largest differences, by Fairlearn."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonai.core.nouns import Run
from leptonai.evaluation.subgroups import Levels

Array = NDArray[Any]
_EXTRA = "fairness is told by Fairlearn:  pip install 'lepton-ai-sdk[evaluation]'"


def of_columns(
    sensitive: Sequence[str],
    columns: Sequence[Levels],
    truth: Array,
    predicted: Array,
    positive: int | None,
    notes: list[str],
) -> tuple[dict[str, dict[str, float]], tuple[dict[str, Any], ...]]:
    """Return the differences of each sensitive column, and the figures of each of its groups; a note says why there are none.

    `truth`, `predicted`: class numbers (rows,), or values where `positive` is None and they are floats. Of two classes: differences
    between groups of the share that is said to be `positive` (demographic parity) and of the true and false positive rates (equalised
    odds: the larger of the two); always that of accuracy, or of the mean absolute error.
    """
    try:
        from fairlearn import metrics
    except ImportError:
        notes.append(_EXTRA)
        return {}, ()
    from sklearn.metrics import accuracy_score, mean_absolute_error

    known = {column.name: column for column in columns}
    values = np.issubdtype(predicted.dtype, np.floating)
    told: dict[str, Any] = {"mae": mean_absolute_error} if values else {"accuracy": accuracy_score}
    if positive is not None:
        truth, predicted = (truth == positive).astype(int), (predicted == positive).astype(int)
        told |= {
            "selection_rate": metrics.selection_rate,
            "true_positive_rate": metrics.true_positive_rate,
            "false_positive_rate": metrics.false_positive_rate,
        }
    elif not values:
        notes.append("parity and odds are not told: they are for two classes")
    differences: dict[str, dict[str, float]] = {}
    groups: list[dict[str, Any]] = []
    for name in sensitive:
        column = known.get(name)
        if (why := _why_not(column)) is not None or column is None:
            notes.append(f"fairness by {name!r} is not told: {why}")
            continue
        words = np.array(column.words, dtype=object)[column.codes]
        frame = metrics.MetricFrame(
            metrics={**told, "rows": metrics.count}, y_true=truth, y_pred=predicted, sensitive_features=words
        )
        between = frame.difference(method="between_groups")
        found = {f"{next(iter(told))}_difference": float(between.iloc[0])}
        if positive is not None:
            found["parity_difference"] = float(between["selection_rate"])
            found["odds_difference"] = float(max(between["true_positive_rate"], between["false_positive_rate"]))
        differences[name] = found
        table = frame.by_group
        for group, row in table.loc[[word for word in column.words if word in table.index]].iterrows():
            groups.append({"column": name, "group": str(group), **{key: float(value) for key, value in row.items()}})
        if few := [str(group) for group, rows in frame.by_group["rows"].items() if rows < 30]:
            notes.append(
                f"fairness by {name!r}: of {', '.join(few[:10])} there are less than 30 rows, so that differences may be chance"
            )
    return differences, tuple(groups)


def _why_not(column: Levels | None) -> str | None:
    if column is None:
        return "the dataset has no such column of numbers, categories, booleans or dates, or all rows are alike in it"
    if (column.codes < 0).any():
        return f"it has more than {len(column.words)} values; make groups of them"
    return None


def learnt(run: Run) -> list[str]:
    """Return a sentence on what treating groups alike changed, where the training was asked for it."""
    rule = (run.spec.get("learning") or {}).get("mitigate")
    history = (run.result or {}).get("history") or {}
    if not rule or not history:
        return []
    prefix, rows = ("val_", "its validation rows") if "val_accuracy" in history else ("", "the rows it learnt from")
    moved = (
        f"{name.replace('_', ' ')} from {history[f'{prefix}plain_{name}'][-1]:.3g} to {history[f'{prefix}{name}'][-1]:.3g}"
        for name in ("parity_difference", "odds_difference", "accuracy")
    )
    return [
        f"it learnt with mitigate={rule['column']!r} ({rule['constraint']}), which on {rows} moved the {', the '.join(moved)}"
    ]
