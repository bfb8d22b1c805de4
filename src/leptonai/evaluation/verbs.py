"""What the server checks and resolves at once, when an evaluation is asked for."""

from typing import Any

from leptonai.core import personal
from leptonai.core.errors import FieldError, Invalid, NotFound, Unsupported
from leptonai.core.nouns import Dataset, Model, Run
from leptonai.core.refs import DatasetRef
from leptonai.core.stages import Desk, Plan
from leptonai.core.states import RunState
from leptonai.evaluation.spec import Evaluate


def prepare_evaluate(spec: Evaluate, desk: Desk) -> Plan:
    """Resolve the data and what is measured. Raises `Invalid` or `NotFound`.

    For a published version the spec then names, beside the exact version, the export Run that made it: its result says
    which blobs the version is made of.
    """
    if (spec.run is None) == (spec.model is None):
        right = "either run (a train Run) or model (a published version)"
        raise Invalid(f"say what to measure: {right}", errors=[FieldError("run", right)])
    data: Dataset = desk.dataset(spec.data)
    exact = str(DatasetRef.parse(spec.data).model_copy(update={"name": data.name, "version": data.version}))
    found: dict[str, Any] = {"data": exact}
    opens: list[str] = []
    if spec.model is not None:
        model: Model = desk.model(spec.model)
        found |= {"run": model.run, "model": f"models:/{model.name}/{model.version}"}
        trained = _trained(str(model.lineage.get("run")), desk)
        if "model.onnx" in model.files:
            opens.append(model.files["model.onnx"])
    else:
        trained = _trained(spec.run or "", desk)
    results = [trained.result or {}]
    if spec.against is not None:
        other: Model = desk.model(spec.against)
        found |= {"against": f"models:/{other.name}/{other.version}", "against_run": other.run}
        results.append(_trained(str(other.lineage.get("run")), desk).result or {})
        opens += [other.files[name] for name in ("model.onnx",) if name in other.files]
    for one in results:
        if one["encoding"]["task"] == "generation":
            raise Unsupported(
                "a language model is measured while it learns, on validation data: its history has loss and perplexity; predict gives the "
                "perplexity of each text",
                errors=[FieldError("run", "a classifier or a regressor")],
            )
        _check_several(spec, one)
        _has_columns(one, data, exact)
        opens += [one["code"], one["weights"], *one.get("base", {}).values()]
    used = [feature["column"] for one in results for feature in one["encoding"]["features"]]
    if strange := [name for name in spec.sensitive if name not in {column.name for column in data.columns}]:
        raise Invalid(
            f"sensitive: {exact} has no column {strange[0]!r}", errors=[FieldError("sensitive", f"columns of {exact}")]
        )
    opens += personal.opens(data, desk, [*used, *spec.sensitive])
    if spec.outliers:
        found["learnt_from"], more = _learnt_from(trained, desk, results[0])
        opens += more
    result = results[0]
    exactly = spec.model_copy(update=found).model_dump(mode="json")
    return Plan(exactly, tuple(dict.fromkeys(opens)), str(result["flavour"]), f"evaluate-{data.name}"[:100])


def _learnt_from(trained: Run, desk: Desk, result: dict[str, Any]) -> tuple[str | None, tuple[str, ...]]:
    """Return what it learnt from, and the blobs of it; nothing where that is gone."""
    ref = str(trained.spec.get("data"))
    try:
        data: Dataset = desk.dataset(ref)
    except NotFound:
        return None, ()
    return ref, personal.opens(data, desk, [feature["column"] for feature in result["encoding"]["features"]])


def _trained(run_id: str, desk: Desk) -> Run:
    run: Run = desk.get(Run, run_id)
    if run.stage != "train":
        raise Invalid(
            f"run: {run_id} is of stage {run.stage}, not a train Run", errors=[FieldError("run", "a train Run")]
        )
    if run.state is not RunState.SUCCEEDED or run.result is None:
        raise Invalid(
            f"run: train Run {run_id} is {run.state}; only one that succeeded can be measured",
            errors=[FieldError("run", "a train Run that succeeded")],
        )
    return run


def _check_several(spec: Evaluate, result: dict[str, Any]) -> None:
    if not result["encoding"].get("goals"):
        return
    for field in ("costs", "positive", "importance", "explain", "outliers", "robustness", "against"):
        if getattr(spec, field) not in (None, False):
            raise Unsupported(
                f"{field}: it is for a model of one target, and this one predicts several: leave it out",
                errors=[FieldError(field, "left out")],
            )


def _has_columns(result: dict[str, Any], data: Dataset, where: str) -> None:
    encoding = result["encoding"]
    have = {column.name for column in data.columns}
    targets = [goal["column"] for goal in encoding.get("goals", ())] or [encoding["target"]]
    for name in (*(feature["column"] for feature in encoding["features"]), *targets):
        if name not in have:
            raise Invalid(
                f"data: {where} has no column {name!r}, which the model was trained with",
                errors=[FieldError(name, f"missing in {where}")],
            )
