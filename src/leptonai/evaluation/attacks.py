"""What a small change does to a model that is aimed at where it errs most, by the gradients of the model itself."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonai.core.errors import LeptonError
from leptonai.core.learning import Adversarial
from leptonai.core.nouns import Column
from leptonai.core.signature import FeatureType
from leptonai.core.stages import Predictor
from leptonai.evaluation.probing import Asked

Array = NDArray[Any]
SECONDS = 30.0  # that all of them may take
STEPS = 10  # of PGD
PICTURES = (1 / 255, 2 / 255, 4 / 255, 8 / 255, 16 / 255)  # of the range from black to white
NUMBERS = (0.02, 0.05, 0.1, 0.2, 0.4)  # standard deviations
_BATCH = 256


def attacks(
    asked: Asked, columns: Sequence[Column], predictor: Predictor | None, notes: list[str]
) -> list[dict[str, Any]]:
    """Return the mean error under FGSM and PGD, by severity from 1 to 5; a note says why there is none, or not all.

    Goodfellow, Shlens & Szegedy, ICLR 2015; Madry et al., ICLR 2018. All columns are attacked together, in units of what the model takes.
    """
    if predictor is None:
        notes.append(
            "attacks are not told: they go along gradients, which a published file has not; evaluate the training Run"
        )
        return []
    images = bool(columns) and all(column.type is FeatureType.IMAGE for column in columns)
    until = time.perf_counter() + SECONDS
    found: list[dict[str, Any]] = []
    for method, word in (("fgsm", "FGSM"), ("pgd", "PGD")):
        for severity, size in enumerate(PICTURES if images else NUMBERS, 1):
            if time.perf_counter() > until:
                notes.append(f"attacks by {word} are told up to severity {severity - 1}: they take too long")
                break
            rule = Adversarial.model_validate({"method": method, "epsilon": size, "steps": STEPS, "share": 1})
            try:
                error = _error(asked, predictor, rule)
            except LeptonError as refused:
                notes.append(f"attacks are not told: {refused.message}")
                return found
            if error is not None and np.isfinite(error):
                found.append({"way": word, "severity": severity, "size": size, "error": error})
    return found


def _error(asked: Asked, predictor: Predictor, rule: Adversarial) -> float | None:
    truth = asked.sample.truth
    parts = []
    for at in range(0, len(truth), _BATCH):
        rows = {name: values[at : at + _BATCH] for name, values in asked.sample.rows.items()}
        parts.append(np.asarray(predictor.attacked(rows, truth[at : at + _BATCH], rule)))
    return asked.mean(np.concatenate(parts))
