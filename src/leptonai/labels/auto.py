"""What a Run does that labels the rest: models learn from the labelled part, are calibrated, and set what they are sure of."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.stages import FOLDS, Handle, load
from leptonai.labels.spec import Assigned, AutoLabel, AutoReport

Array = NDArray[Any]
_LEAST = 20  # held-out labels above a threshold, of fewer no precision is told


def label_rest(spec: AutoLabel, handle: Handle) -> dict[str, Any]:
    """Return an `AutoReport`, with the blob of the labels that were set. Raises `Invalid` where all rows have a label."""
    judged = load(FOLDS)(spec.train, spec.folds, handle)
    if not len(judged.rest):
        raise Invalid(
            f"all rows of {spec.data} have a label: import rows without one with unlabelled=True",
            errors=[FieldError("data", "rows without a label")],
        )
    warmth = temperature(judged.scores, judged.labels)
    held = calibrated(judged.scores, warmth)
    right = held.argmax(axis=1) == judged.labels
    least = threshold(held.max(axis=1), right, spec.precision)
    rest = calibrated(judged.rest_scores, warmth)
    sure = rest.max(axis=1) >= least
    above = held.max(axis=1) >= least
    count, correct = int(above.sum()), int(right[above].sum())
    report = AutoReport(
        data=spec.data, target=judged.target, labelled=len(judged.labels), rest=len(judged.rest), set=int(sure.sum()),
        coverage=float(sure.mean()), threshold=float(least), temperature=float(warmth), asked=spec.precision,
        precision=correct / count if count else None, held_out=count, lower=lower_bound(correct, count) if count else None,
    )  # fmt: skip
    assigned = Assigned(
        target=judged.target,
        rows=tuple(judged.rest[sure].tolist()),
        labels=tuple(judged.classes[at] for at in rest[sure].argmax(axis=1).tolist()),
    )
    stored = handle.blobs.write([assigned.model_dump_json().encode()])
    said = (
        "none was measured"
        if report.precision is None
        else f"{report.precision:.1%} of {count} held-out ones are right"
    )
    handle.say(
        f"{report.set:,} of {report.rest:,} rows are labelled ({report.coverage:.1%}); above the threshold {said}"
    )
    return {**report.model_dump(mode="json"), "labels": stored.id}


def temperature(scores: Array, labels: Array) -> float:
    """Return the power of the scores at which held-out labels are likeliest (Guo and others 2017), from 0.05 to 20."""
    from scipy.optimize import minimize_scalar

    logs = np.log(np.clip(scores.astype(np.float64), 1e-9, 1))

    def loss(log_power: float) -> float:
        warm = logs * np.exp(log_power)
        top = warm.max(axis=1, keepdims=True)
        sums = top[:, 0] + np.log(np.exp(warm - top).sum(axis=1))
        return float((sums - warm[np.arange(len(labels)), labels]).mean())

    return float(1 / np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


def calibrated(scores: Array, warmth: float) -> Array:
    """Return probabilities at a temperature."""
    logs = np.log(np.clip(scores.astype(np.float64), 1e-9, 1)) / warmth
    powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def threshold(confidence: Array, right: Array, precision: float) -> float:
    """Return the least confidence from which on held-out labels hold the precision; 2 where none does, or too few are left.

    At each confidence one more wrong answer is counted than was seen, in part: (right + ½) / (all + 1), so that a short run of
    right ones is not taken for certainty (Jeffreys).
    """
    order = np.argsort(-confidence, kind="stable")
    count = np.arange(1, len(order) + 1)
    held = (np.cumsum(right[order]) + 0.5) / (count + 1)
    ranked = confidence[order]
    last = np.append(ranked[1:] < ranked[:-1], True)  # equal confidences stand or fall together
    good = np.flatnonzero((held >= precision) & last & (count >= _LEAST))
    return float(ranked[good[-1]]) if len(good) else 2.0


def lower_bound(right: int, count: int) -> float:
    """Return the bound below which a share is with a chance of 5 % (Clopper and Pearson 1934)."""
    from scipy.special import betaincinv

    return float(betaincinv(right, count - right + 1, 0.05)) if right else 0.0
