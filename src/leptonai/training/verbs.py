"""What the server checks and resolves at once, when a training, a prediction or an export is asked for."""

from collections.abc import Iterable
from typing import Any

from leptonai.core import personal, plugins
from leptonai.core.errors import Denied, FieldError, Invalid, NotFound, Unsupported
from leptonai.core.nouns import Blob, Dataset, Run
from leptonai.core.refs import DatasetRef
from leptonai.core.stages import FLAVOURS, RULES, Desk, Plan, load
from leptonai.core.states import RunState
from leptonai.training import columns, defaults, mitigating, several
from leptonai.training.augment.check import check_steps
from leptonai.training.augment.spec import AnyStep, Steps
from leptonai.training.learning_check import check_learning, check_workers
from leptonai.training.pretrained_verbs import check_starts, resolve
from leptonai.training.spec import Export, Fitted, Predict, Train

_OF = {"transformers": "torch"}  # the framework of a flavour that has another name


def prepare_train(spec: Train, desk: Desk) -> Plan:
    """Resolve the data to exact versions; check columns, code and early stopping. Raises `Invalid`, `NotFound`, `Denied`."""
    data, exact = _exact(spec.data, desk)
    found, opens, own = _beginning(spec, desk)
    found["data"] = exact
    facts = found.get("facts", spec.facts if own else {"texts": spec.facts.get("texts")})
    texts = bool(facts.get("texts"))
    goals, features = columns.pick_all(
        data.columns, several.targets_of(spec, data.target), spec.features, exact, texts=texts
    )
    if spec.learning.mitigate is not None:
        features = mitigating.seen(spec, data.columns, goals, features, exact)
        found["features"] = tuple(column.name for column in features)
    inputs = several.inputs_of(spec.inputs, facts.get("inputs", ()), features)
    features = several.columns_in(inputs, features) if inputs else features
    task = columns.task_of(goals[0]) if len(goals) == 1 else "several"
    _check_stopping(spec)
    steps = _declared(data, exact) if spec.augment is None else spec.augment
    check_steps(steps, features, classes=task in ("classification", "several"), arrays=goals[0].type in columns.WHOLE)
    names = tuple(goal.name for goal in goals)
    used = (*names, *(feature.name for feature in features), *mitigating.needs(spec))
    opens += personal.opens(data, desk, used)
    found |= {"target": names[0] if len(names) == 1 else names, "augment": steps, "inputs": inputs}
    if spec.checks:
        found["checks"], more = load(RULES)(spec.checks, desk, data)
        opens += more
    if spec.validation is not None:
        validation, found["validation"] = _exact(spec.validation, desk)
        _has(used, validation, found["validation"], "validation")
        opens += personal.opens(validation, desk, used)
    if own:
        opens.append(_own_code(spec, desk))
    if spec.callbacks is not None:
        opens.append(_uploaded(spec.callbacks, desk, "callbacks"))
    if own:
        found["flavour"] = spec.flavour or spec.framework
    elif texts and spec.pretrained is not None and "code" not in found:  # of a folder
        found |= {"framework": None, "flavour": "transformers"}
        if task != "generation":
            found["learning"] = defaults.text_learning(spec.learning)
        if "epochs" not in spec.model_fields_set:
            found["epochs"] = defaults.TEXT_EPOCHS
    elif "code" not in found:
        if spec.framework is not None:
            raise Invalid(
                "framework: it says how to read `code`, which is missing", errors=[FieldError("framework", "with code")]
            )
        found["flavour"] = defaults.flavour(features)
        if "epochs" not in spec.model_fields_set:
            found["epochs"] = defaults.epochs(features)
    framework = found.get("framework") or spec.framework or _OF.get(found["flavour"], found["flavour"])
    check_starts(spec.pretrained, framework)
    check_learning(spec, framework, task)
    mitigating.check(spec, steps)
    able = getattr(plugins.framework(framework), "several", False)
    several.check(spec.model_copy(update=found), goals, framework, able=able)
    check_workers(spec, framework)
    if found["flavour"] not in FLAVOURS:
        raise Invalid(
            f"flavour {found['flavour']!r} is not known: use one of {', '.join(FLAVOURS)}",
            errors=[FieldError("flavour", f"one of {', '.join(FLAVOURS)}")],
        )
    exactly = spec.model_copy(update=found).model_dump(mode="json")
    return Plan(exactly, tuple(dict.fromkeys(opens)), found["flavour"], f"train-{data.name}"[:100], spec.workers)


def _beginning(spec: Train, desk: Desk) -> tuple[dict[str, Any], list[str], bool]:
    """Return what the weights to begin with say of the model, the blobs they open, and whether the model is the user's own."""
    own = spec.code is not None and not (spec.pretrained is not None and spec.pretrained.whole)
    if spec.pretrained is None:
        return {}, [], own
    if own and spec.learning.lora is not None:
        raise Unsupported(
            "lora: with weights to begin with, the model has to be theirs: leave your model out, or put the weights into it before",
            errors=[FieldError("learning.lora", "without a model, or without pretrained")],
        )
    start = resolve(spec.pretrained, own, desk)
    if spec.pretrained.model is None:
        for blob in start.opens:
            _uploaded(blob, desk, "pretrained")
    return {"pretrained": start.pretrained, **start.model}, list(start.opens), own


def prepare_predict(spec: Predict, desk: Desk) -> Plan:
    """Resolve the data, and what the training Run learnt. Raises `Invalid` or `NotFound`."""
    fitted = learnt(spec.run, desk)
    data, exact = _exact(spec.data, desk)
    _has((feature.column for feature in fitted.encoding.features), data, exact, "data")
    used = (feature.column for feature in fitted.encoding.features)
    opens = (*personal.opens(data, desk, used), fitted.code, fitted.weights, *fitted.base.values())
    return Plan(
        spec.model_copy(update={"data": exact}).model_dump(mode="json"),
        opens,
        fitted.flavour,
        f"predict-{data.name}"[:100],
    )


def prepare_export(spec: Export, desk: Desk) -> Plan:
    """Check that there is something to export, and that the evaluation is one of it. Raises `Invalid` or `NotFound`."""
    fitted = learnt(spec.run, desk)
    data = desk.get(Dataset, fitted.dataset)
    if spec.evaluation is not None:
        _measured(spec, desk)
    used = (feature.column for feature in fitted.encoding.features)
    opens = (
        *personal.opens(data, desk, used),
        fitted.code,
        fitted.weights,
        *fitted.base.values(),
        *([fitted.events] if fitted.events else []),
    )
    return Plan(spec.model_dump(mode="json"), opens, fitted.flavour, f"export-{spec.name}"[:100])


def learnt(run_id: str, desk: Desk, field: str = "run") -> Fitted:
    """Return what a training Run learnt. Raises `NotFound`, or `Invalid` when it is no training that succeeded."""
    run = desk.get(Run, run_id)
    if run.stage != "train":
        raise Invalid(
            f"{field}: {run_id} is of stage {run.stage}, not a train Run", errors=[FieldError(field, "a train Run")]
        )
    if run.state is not RunState.SUCCEEDED or run.result is None:
        raise Invalid(
            f"{field}: train Run {run_id} is {run.state}; only one that succeeded has learnt something",
            errors=[FieldError(field, "a train Run that succeeded")],
        )
    return Fitted.model_validate(run.result)


def _measured(spec: Export, desk: Desk) -> None:
    run = desk.get(Run, spec.evaluation or "")
    if run.stage != "evaluate" or run.state is not RunState.SUCCEEDED:
        raise Invalid(
            f"evaluation: {run.id} is of stage {run.stage} and {run.state}; name an evaluate Run that succeeded",
            errors=[FieldError("evaluation", "an evaluate Run that succeeded")],
        )
    if run.spec.get("run") != spec.run:
        raise Invalid(
            f"evaluation: {run.id} measured run {run.spec.get('run')}, not {spec.run}, which is to be published",
            errors=[FieldError("evaluation", f"an evaluate Run of {spec.run}")],
        )


def _exact(ref: str, desk: Desk) -> tuple[Dataset, str]:
    data = desk.dataset(ref)
    return data, str(DatasetRef.parse(ref).model_copy(update={"name": data.name, "version": data.version}))


def _declared(data: Dataset, exact: str) -> tuple[AnyStep, ...]:
    """Return how the dataset says that rows are changed for who learns from them; those of a test part never are."""
    tests = any(split.part == "test" for split in DatasetRef.parse(exact).splits)
    return () if tests else Steps(augment=data.source.get("augment", ())).augment


def _has(names: Iterable[str], data: Dataset, where: str, field: str) -> None:
    have = {column.name for column in data.columns}
    if gone := [name for name in names if name not in have]:
        raise Invalid(
            f"{field}: {where} has no column {gone[0]!r}, which the model learns from",
            errors=[FieldError(name, f"missing in {where}") for name in gone],
        )


def _own_code(spec: Train, desk: Desk) -> str:
    known = plugins.names("frameworks")
    if spec.framework not in known:
        raise Invalid(
            f"framework {spec.framework!r} is not known: use one of {', '.join(known)}",
            errors=[FieldError("framework", f"one of {', '.join(known)}")],
        )
    return _uploaded(spec.code or "", desk, "code")


def _uploaded(id: str, desk: Desk, field: str) -> str:
    try:
        blob: Blob = desk.get(Blob, id)
    except NotFound:
        raise Invalid(
            f"{field}: there is no blob {id!r}; upload it first", errors=[FieldError(field, "a blob")]
        ) from None
    if blob.owner != desk.by:  # naming a blob must not open what somebody else wrote
        raise Denied(f"{field}: blob {id!r} was not uploaded by {desk.by}")
    return blob.id


def _check_stopping(spec: Train) -> None:
    rule = spec.early_stopping
    if rule is not None and rule.monitor.startswith("val_") and spec.validation is None:
        raise Invalid(
            f"early_stopping watches {rule.monitor!r}, and there is no validation data: give validation_data=…, or watch "
            f"{rule.monitor.removeprefix('val_')!r}",
            errors=[FieldError("early_stopping.monitor", "needs validation data")],
        )
