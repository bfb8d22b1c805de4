"""What the server checks and resolves at once when a model is to be found, and what it writes when one was."""

from collections.abc import Mapping
from typing import Any

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.nouns import Run
from leptonai.core.refs import DatasetRef
from leptonai.core.stages import AUTO_KIND, Changes, Desk, Plan, load, prepared
from leptonai.tuning.auto.spec import LEAST, Auto, Found
from leptonai.tuning.shared import check_beside, halves, train_run

_TEST = 0.2  # the share of the rows that the chosen model is measured on
_FIXED = ("data", "validation", "target", "features", "seed")  # of a train spec: what stands beside it


def prepare_auto(spec: Auto, desk: Desk) -> Plan:
    """Resolve the data as a training does, and tell what kind of problem it is. Raises `Invalid`, `NotFound`, `Denied`."""
    if spec.budget < LEAST:
        raise Invalid(
            f"budget: {spec.budget:g} s is too little to try anything: give at least {LEAST:g} s",
            errors=[FieldError("budget", f"at least {LEAST:g} s")],
        )
    check_beside(spec.train, _FIXED)
    version = desk.dataset(spec.data)
    target = spec.target or version.target
    kind, more = load(AUTO_KIND)(spec.kind, version, target, _features(spec, version.columns, target), spec.column)
    by = _by(spec, kind)
    data, test = _parts(spec, kind, desk)
    asked = {**spec.train, **more, "target": spec.target, "seed": spec.seed}
    asked = {name: value for name, value in asked.items() if value is not None}
    plan = prepared("train", {**asked, "data": data}, desk)
    measured = None if test is None else prepared("train", {**asked, "data": test}, desk)
    found = {
        "data": plan.spec["data"],
        "test": None if measured is None else measured.spec["data"],
        "target": plan.spec["target"],
        "train": plan.spec,
        "kind": kind,
        "by": by,
    }
    exact = spec.model_copy(update=found).model_dump(mode="json")
    opens = tuple(dict.fromkeys((*plan.opens, *(measured.opens if measured else ()))))
    return Plan(exact, opens, plan.flavour, f"auto-{DatasetRef.parse(plan.spec['data']).name}"[:100])


def settle_auto(run: Run, result: Mapping[str, Any], desk: Desk) -> Changes:  # noqa: ARG001 - what every settle is given
    """Return the train Run of the chosen model."""
    kept = Found.model_validate(result).kept
    return Changes(add=(train_run(run, kept, f"{run.name[:90]}-chosen"),))


def _by(spec: Auto, kind: str) -> str:
    """Return how folds are made. Raises `Invalid` for what they cannot be made by."""
    if kind == "series":
        if spec.by not in ("auto", "time"):
            raise Invalid(
                f"by={spec.by!r}: a series is judged in time: leave by out", errors=[FieldError("by", "left out")]
            )
        return "time"
    if spec.horizon is not None:
        raise Invalid(
            f"horizon is of a series, and this is a {kind}: leave it out, or ask with kind='series'",
            errors=[FieldError("horizon", "left out")],
        )
    if spec.by in ("group", "time") and (spec.column is None or spec.test is None):
        lacks = (
            "column, the name of a column" if spec.column is None else "test, rows that are held out in the same way"
        )
        raise Invalid(
            f"by={spec.by!r} needs {lacks}", errors=[FieldError("column" if spec.column is None else "test", lacks)]
        )
    return spec.by


def _parts(spec: Auto, kind: str, desk: Desk) -> tuple[str, str | None]:
    """Return what is learnt from, and what the chosen model is measured on: a fifth of the data, where nothing was given.

    A series is measured on the last of its own steps: None.
    """
    if spec.test is not None or kind == "series":
        return spec.data, spec.test
    return halves(spec.data, _TEST, spec.seed, desk)


def _features(spec: Auto, columns: Any, target: str | None) -> tuple[str, ...] | None:
    """Return the columns to learn from; that of the groups is left out: who learnt a group's name knows nothing of a new one."""
    if spec.features is not None or spec.by != "group":
        return spec.features
    return tuple(column.name for column in columns if column.name not in (spec.column, target) and not column.pii)
