"""What the server checks and resolves at once when a model is to be found, and what it writes when one was."""

from collections.abc import Mapping
from typing import Any

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.nouns import Run, utcnow
from leptonai.core.refs import DatasetRef, Split
from leptonai.core.stages import AUTO_KIND, Changes, Desk, Plan, load, prepared
from leptonai.core.states import RunState
from leptonai.tuning.auto.spec import LEAST, Auto, Found

_TEST = 0.2  # the share of the rows that the chosen model is measured on
_FIXED = ("data", "validation", "target", "features", "seed")  # of a train spec: what stands beside it


def prepare_auto(spec: Auto, desk: Desk) -> Plan:
    """Resolve the data as a training does, and tell what kind of problem it is. Raises `Invalid`, `NotFound`, `Denied`."""
    if spec.budget < LEAST:
        raise Invalid(
            f"budget: {spec.budget:g} s is too little to try anything: give at least {LEAST:g} s",
            errors=[FieldError("budget", f"at least {LEAST:g} s")],
        )
    if spec.by in ("group", "time") and (spec.column is None or spec.test is None):
        lacks = (
            "column, the name of a column" if spec.column is None else "test, rows that are held out in the same way"
        )
        raise Invalid(
            f"by={spec.by!r} needs {lacks}", errors=[FieldError("column" if spec.column is None else "test", lacks)]
        )
    data, test = _parts(spec, desk)
    for field in _FIXED:
        if field in spec.train:
            raise Invalid(
                f"train: leave out {field}, which stands beside it", errors=[FieldError(f"train.{field}", "left out")]
            )
    version = desk.dataset(data)
    target = spec.target or version.target
    kind, more = load(AUTO_KIND)(spec.kind, version, target, _features(spec, version.columns, target))
    asked = {**spec.train, **more, "data": data, "target": spec.target, "seed": spec.seed}
    plan = prepared("train", {name: value for name, value in asked.items() if value is not None}, desk)
    measured = prepared("train", {**{k: v for k, v in asked.items() if v is not None}, "data": test}, desk)
    found = {
        "data": plan.spec["data"],
        "test": measured.spec["data"],
        "target": plan.spec["target"],
        "train": plan.spec,
        "kind": kind,
    }
    exact = spec.model_copy(update=found).model_dump(mode="json")
    opens = tuple(dict.fromkeys((*plan.opens, *measured.opens)))
    return Plan(exact, opens, plan.flavour, f"auto-{DatasetRef.parse(plan.spec['data']).name}"[:100])


def settle_auto(run: Run, result: Mapping[str, Any], desk: Desk) -> Changes:  # noqa: ARG001 - what every settle is given
    """Return the train Run of the chosen model, as if it had been asked for alone: to be evaluated, exported, asked again."""
    kept = Found.model_validate(result).kept
    made = Run.new(
        name=f"{run.name[:90]}-chosen",
        stage="train",
        spec=kept.spec,
        state=RunState.SUCCEEDED,
        site=run.site,
        parent=run.id,
        flavour=str(kept.spec["flavour"]),
        limits=run.limits,
        opens=tuple(dict.fromkeys((*run.opens, str(kept.spec["code"])))),
        max_attempts=run.max_attempts,
        attempt=1,
        started=run.started,
        ended=utcnow(),
        result=kept.fitted,
        by=run.by,
    )
    return Changes(add=(made,))


def _parts(spec: Auto, desk: Desk) -> tuple[str, str]:
    """Return what is learnt from, and what the chosen model is measured on: a fifth of the data, where nothing was given."""
    if spec.test is not None:
        return spec.data, spec.test
    version = desk.dataset(spec.data)
    given = DatasetRef(name=version.name) if spec.data.startswith("ds_") else DatasetRef.parse(spec.data)
    exact = given.model_copy(update={"name": version.name, "version": version.version, "on": None, "tag": None})
    halves = [Split(part=part, train_size=1 - _TEST, seed=spec.seed) for part in ("train", "test")]
    return tuple(str(exact.model_copy(update={"splits": (*exact.splits, half)})) for half in halves)  # type: ignore[return-value]


def _features(spec: Auto, columns: Any, target: str | None) -> tuple[str, ...] | None:
    """Return the columns to learn from; that of the groups is left out: who learnt a group's name knows nothing of a new one."""
    if spec.features is not None or spec.by != "group":
        return spec.features
    return tuple(column.name for column in columns if column.name not in (spec.column, target) and not column.pii)
