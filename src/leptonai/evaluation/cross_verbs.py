"""What the server checks and resolves at once, when a cross-validation is asked for."""

from typing import Any

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.nouns import Run
from leptonai.core.several import check_one
from leptonai.core.stages import Desk, Plan, prepared
from leptonai.evaluation.spec import CrossValidate

_OWN = ("data", "validation", "early_stopping")  # of a train spec: what has no place where folds are judged


def prepare_cross_validate(spec: CrossValidate, desk: Desk) -> Plan:
    """Resolve data and model as a training does. Raises `Invalid` or `NotFound`."""
    settings: dict[str, Any] = {}
    if spec.run is not None:
        run: Run = desk.get(Run, spec.run)
        if run.stage != "train":
            raise Invalid(
                f"run: {run.id} is of stage {run.stage}, not a train Run", errors=[FieldError("run", "a train Run")]
            )
        settings = dict(run.spec)
    asked = {**settings, **spec.train}
    if spec.by in ("group", "time") and spec.column is None:
        raise Invalid(
            f"by={spec.by!r} needs column, the name of a column", errors=[FieldError("column", "the name of a column")]
        )
    asked = {name: value for name, value in asked.items() if name not in _OWN} | {"data": spec.data}
    if spec.target is not None:
        asked["target"] = spec.target
    if spec.column is not None and spec.by == "group" and asked.get("features") is None:
        asked["features"] = _others(spec, desk, asked.get("target"))
    plan = prepared("train", asked, desk)
    check_one(plan.spec, "a cross-validation")
    found: dict[str, Any] = {"data": plan.spec["data"], "target": plan.spec["target"], "train": plan.spec}
    if spec.tune:
        found["tune"] = _study(spec, asked, desk)
    exact = spec.model_copy(update=found)
    return Plan(
        exact.model_dump(mode="json"), plan.opens, plan.flavour, f"cross-{plan.name.removeprefix('train-')}"[:100]
    )


def _study(spec: CrossValidate, asked: dict[str, Any], desk: Desk) -> dict[str, Any]:
    """Check what is varied in each fold, as a tuning does, and return it whole. Raises `Invalid` that names the field."""
    given = {name: value for name, value in asked.items() if name not in ("data", "target", *_OWN)}
    for name in ("data", "validation", "target", "train", "start", "built"):
        if name in spec.tune:
            right = "leave it out: a study within a fold has the data and the model of the cross-validation"
            raise Invalid(f"tune.{name}: {right}", errors=[FieldError(f"tune.{name}", right)])
    plan = prepared("tune", {**spec.tune, "data": spec.data, "target": asked.get("target"), "train": given}, desk)
    return {name: value for name, value in plan.spec.items() if name not in ("data", "validation", "target", "train")}


def _others(spec: CrossValidate, desk: Desk, target: str | None) -> list[str]:
    """Return the columns but the target and the one of the groups: a model that learnt a group's name knows nothing of a new one."""
    data = desk.dataset(spec.data)
    gone = {spec.column, target or data.target}
    return [column.name for column in data.columns if column.name not in gone]
