"""What the server checks and resolves at once, when an explanation is asked for."""

from leptonai.core import personal
from leptonai.core.errors import FieldError, Invalid, NotFound, Unsupported
from leptonai.core.nouns import Dataset, Model, Run, Service
from leptonai.core.refs import DatasetRef
from leptonai.core.several import check_one
from leptonai.core.stages import Desk, Plan
from leptonai.evaluation.spec import Explain


def prepare_explain(spec: Explain, desk: Desk) -> Plan:
    """Resolve the version, and the rows that stand for what is not known. Raises `Invalid`, `NotFound`, `Unsupported`."""
    if (spec.model is None) == (spec.service is None):
        right = "either model (a published version) or service (the name it answers under)"
        raise Invalid(f"say what to explain: {right}", errors=[FieldError("model", right)])
    model: Model = desk.model(spec.model if spec.model is not None else _served(spec.service or "", desk))
    if model.signature.task not in ("classification", "regression"):
        raise Unsupported(
            f"{model.name}/{model.version} is of task {model.signature.task}: classifiers and regressors are explained",
            errors=[FieldError("model", "a classifier or a regressor")],
        )
    trained: Run = desk.get(Run, str(model.lineage.get("run")))
    check_one({"inputs": None, **trained.spec}, "an explanation")
    result = trained.result or {}
    learnt_from = spec.data or str(trained.spec["data"])
    try:
        data: Dataset = desk.dataset(learnt_from)
    except NotFound as gone:
        right = "a dataset with the model's columns, whose rows stand for what is not known"
        raise Invalid(
            f"data: {learnt_from}, which the model learnt from, is gone: name {right}",
            errors=[FieldError("data", right)],
        ) from gone
    exact = str(DatasetRef.parse(learnt_from).model_copy(update={"name": data.name, "version": data.version}))
    used = [tensor.name for tensor in model.signature.inputs]
    have = {column.name for column in data.columns}
    if lacking := [name for name in used if name not in have]:
        raise Invalid(
            f"data: {exact} has no column {lacking[0]!r}, which the model needs",
            errors=[FieldError(name, f"missing in {exact}") for name in lacking],
        )
    graph = [model.files["model.onnx"]] if "model.onnx" in model.files else []
    native = spec.gradients or not graph
    weights = [result["code"], result["weights"], *result.get("base", {}).values()] if native else []
    opens = (spec.rows, *graph, *weights, *personal.opens(data, desk, used))
    found = {"data": exact, "run": model.run, "model": f"models:/{model.name}/{model.version}", "service": None}
    exactly = spec.model_copy(update=found).model_dump(mode="json")
    flavour = str(result["flavour"]) if native else "sklearn"
    return Plan(exactly, tuple(dict.fromkeys(opens)), flavour, f"explain-{model.name}"[:100])


def _served(name: str, desk: Desk) -> str:
    found = desk.find(Service, {"name": name}, limit=1)
    if not found:
        raise NotFound(f"there is no service {name!r}: see  lepton service list")
    return str(found[0].variants[0].model)
