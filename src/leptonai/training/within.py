"""A study within a fold: settings are chosen by rows that the fold's model learns from, and never by those that it is judged on."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from leptonai.core.stages import Handle, Reader, load, stage
from leptonai.training.spec import Train

_ROWS, _HELD_OUT = "the rows of the fold", "the rows held out of them"


class Choice(NamedTuple):
    """What a study came to: the settings, the train spec with them, and how many trials it took."""

    params: dict[str, Any]
    train: Train
    trials: int


def tuned(asked: Mapping[str, Any], train: Train, learnt_from: Reader, held_out: Reader, handle: Handle) -> Choice:
    """Have the stage that tunes choose settings. `asked`: fields of its spec; trials learn from some rows and are judged on others."""
    study = stage("tune")
    within = {"data": _ROWS, "validation": _HELD_OUT, "checks": ()}
    spec = load(study.spec).model_validate(
        {
            **asked, "data": _ROWS, "validation": _HELD_OUT, "target": train.target, "parallel": 1, "seed": train.seed,
            "train": {**train.model_dump(mode="json", exclude_unset=True), **within},
        }
    )  # fmt: skip
    found = load(study.work)(spec, _Within(handle, {_ROWS: learnt_from, _HELD_OUT: held_out}))
    best = found["best"]
    params = next(trial["params"] for trial in found["trials"] if trial["number"] == best)
    kept = Train.model_validate(found["kept"][str(best)]["spec"])
    back = {"data": train.data, "validation": None, "early_stopping": None, "checks": train.checks}
    return Choice(params, kept.model_copy(update=back), len(found["trials"]))


class _Within:
    """A Handle of the same Run, whose datasets are these rows, and whose journal and checkpoints nobody takes up again."""

    def __init__(self, handle: Handle, data: Mapping[str, Reader]):
        self._handle, self._data = handle, data
        self._noted: list[dict[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handle, name)

    def data(self, ref: str, *, mask: bool = False) -> Reader:  # noqa: ARG002  (these rows are read already)
        return self._data[ref]

    def note(self, *entries: Mapping[str, Any]) -> None:
        self._noted += map(dict, entries)

    def noted(self) -> list[dict[str, Any]]:
        return list(self._noted)

    def save(self, state: Mapping[str, bytes]) -> None:
        """Keep nothing: a fold is short, and begins again."""

    def restore(self) -> dict[str, bytes] | None:
        return None

    def log(self, step: int, **metrics: float) -> None:
        """Say nothing: the metrics of the Run are those of its folds."""

    def progress(self, done: float, total: float, unit: str) -> None:
        """Say nothing: the Run counts folds."""


def half(places: Any, *, by_time: bool) -> tuple[Any, Any]:
    """Return which rows (bool) trials learn from, and which they are judged on: the last block of time, or one fold of five."""
    held_out = places == (places.max() if by_time else 0)
    return np.asarray(~held_out), np.asarray(held_out)
