"""What the server checks and resolves at once when a tuning is asked for, and what it writes when one has ended."""

from collections.abc import Iterable, Mapping
from typing import Any

from leptonai.core import learning
from leptonai.core.errors import FieldError, Invalid
from leptonai.core.nouns import Run
from leptonai.core.refs import DatasetRef
from leptonai.core.several import check_one
from leptonai.core.stages import Changes, Desk, Plan, load, prepared, stage
from leptonai.core.states import RunState
from leptonai.tuning import space
from leptonai.tuning.shared import check_beside, halves, train_run
from leptonai.tuning.spec import Tune, Tuned

_BESIDE = ("data", "validation", "target")  # of a train spec: what stands beside it
_OWN = ("seed", "augment")  # of a train spec: given in any case
_TRIALS = 20  # where no budget is given
_VALIDATION = 0.2  # the share of the rows that trials are measured on, where no validation data is given


def prepare_tune(spec: Tune, desk: Desk) -> Plan:
    """Resolve data and model as a training does; check space, goals and budget. Raises `Invalid`, `NotFound`, `Denied`."""
    space.check(spec.space)
    _check_given(spec)
    _check_goals(spec)
    _check_sampler(spec)
    _check_first(spec)
    _check_start(spec, desk)
    found: dict[str, Any] = {}
    if spec.trials is None and spec.seconds is None and spec.sampler != "grid":
        found["trials"] = _TRIALS
    data, validation = _parts(spec, desk)
    check_beside(spec.train, _BESIDE)
    asked = {**spec.train, "data": data, "validation": validation, "target": spec.target}
    plan = prepared("train", {name: value for name, value in asked.items() if value is not None}, desk)
    check_one(plan.spec, "a tuning")
    found |= {
        "data": plan.spec["data"],
        "validation": plan.spec["validation"],
        "target": plan.spec["target"],
        "train": plan.spec,
    }
    exact = spec.model_copy(update=found).model_dump(mode="json")
    name = DatasetRef.parse(plan.spec["data"]).name
    return Plan(exact, plan.opens, plan.flavour, f"tune-{name}"[:100])


def settle_tune(run: Run, result: Mapping[str, Any], desk: Desk) -> Changes:  # noqa: ARG001 - what every settle is given
    """Return the train Runs of the best trials."""
    tuned = Tuned.model_validate(result)
    best = {number: tuned.kept[str(number)] for number in tuned.front}
    return Changes(add=tuple(train_run(run, kept, f"{run.name[:80]}-trial-{number}") for number, kept in best.items()))


def _parts(spec: Tune, desk: Desk) -> tuple[str, str | None]:
    """Return what is learnt from, and what is measured on: a part of the data, where a goal needs it and none is given."""
    if spec.validation is not None or not any(goal.metric.startswith("val_") for goal in spec.goals):
        return spec.data, spec.validation
    return halves(spec.data, _VALIDATION, spec.seed, desk)


def _check_given(spec: Tune) -> None:
    """Raise where what is varied is also given for all trials."""
    train = load(stage("train").spec)
    for name in spec.space:
        given, plain = (
            (spec.train.get("learning") or {}, learning.Learning.model_fields)
            if name in learning.ALL
            else (spec.train, train.model_fields)
        )
        if name in _OWN or name not in plain:
            continue
        value = given.get(name)
        if value is not None and value != plain[name].get_default(call_default_factory=True):
            raise Invalid(
                f"space: {name} is varied, and it is also given as {value!r:.80} for all trials: leave one of them out",
                errors=[FieldError(f"space.{name}", "given once")],
            )


def _check_goals(spec: Tune) -> None:
    names = [goal.metric for goal in spec.goals]
    if len(set(names)) < len(names):
        raise Invalid("goals: a metric is named twice", errors=[FieldError("goals", "each metric once")])
    if len(names) > 1 and spec.pruner != "none":
        raise Invalid(
            f"pruner: {spec.pruner} compares trials by one goal, and there are {len(names)}: leave it out, or give one goal",
            errors=[FieldError("pruner", "none")],
        )


def _check_sampler(spec: Tune) -> None:
    if spec.sampler == "grid":
        space.grid(spec.space)
    if spec.sampler in ("cmaes", "gp") and len(spec.goals) > 1:
        raise Invalid(
            f"sampler: {spec.sampler} follows one goal, and there are {len(spec.goals)}: use tpe or nsga2",
            errors=[FieldError("sampler", "tpe or nsga2")],
        )
    if spec.sampler == "cmaes" and all(one.kind == "choice" for one in spec.space.values()):
        raise Invalid(
            "sampler: cmaes needs numbers, and the space holds choices only: use tpe",
            errors=[FieldError("sampler", "tpe")],
        )


def _check_first(spec: Tune) -> None:
    for at, params in enumerate(spec.first):
        try:
            space.placed(spec.space, params)
        except ValueError as error:
            raise Invalid(
                f"first: settings {at + 1} are not in the space: {error}",
                errors=[FieldError(f"first.{at}", str(error))],
            ) from error


def _check_start(spec: Tune, desk: Desk) -> None:
    for id in spec.start:
        run = desk.get(Run, id)
        if run.stage != "tune" or run.state is not RunState.SUCCEEDED:
            raise Invalid(
                f"start: {id} is of stage {run.stage} and {run.state}; name a tune Run that succeeded",
                errors=[FieldError("start", "a tune Run that succeeded")],
            )
        known: Iterable[str] = Tuned.model_validate(run.result).space
        if not set(known) & set(spec.space):
            raise Invalid(
                f"start: {id} varied {', '.join(known)}, and none of it is in this space",
                errors=[FieldError("start", "a study of some of the same settings")],
            )
