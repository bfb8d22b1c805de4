"""What the server checks and resolves at once, when labels are to be looked at."""

from typing import Any

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.nouns import Run
from leptonai.core.refs import DatasetRef
from leptonai.core.several import check_one
from leptonai.core.stages import Desk, Plan, prepared
from leptonai.labels.spec import Judging

_OWN = ("data", "validation", "target")  # of a train spec: what is asked for beside it


def prepare_judging(spec: Judging, desk: Desk) -> Plan:
    """Resolve data and model as a training does; a part of a version is refused, since rows are named by their number in it."""
    data = desk.dataset(spec.data)
    if not spec.data.startswith("ds_") and DatasetRef.parse(spec.data).splits:
        raise Invalid(
            f"data: {spec.data} is a part, and labels are looked at in a whole version: name {data.name}@v{data.version}",
            errors=[FieldError("data", "a whole version")],
        )
    ref = f"datasets:/{data.name}@v{data.version}"
    asked = {**_settings(spec, desk), **spec.train, "data": ref, "target": spec.target or data.target}
    plan = prepared("train", asked, desk)
    check_one(plan.spec, "a look at labels")
    exact = spec.model_copy(update={"data": ref, "target": plan.spec["target"], "train": plan.spec})
    return Plan(exact.model_dump(mode="json"), plan.opens, plan.flavour, f"labels-{data.name}"[:100])


def _settings(spec: Judging, desk: Desk) -> dict[str, Any]:
    """Return how a train Run learnt; early stopping has no place where nothing is validated."""
    for field in _OWN:
        if field in spec.train:
            raise Invalid(
                f"train: leave out {field}, which stands beside it", errors=[FieldError(f"train.{field}", "left out")]
            )
    if spec.run is None:
        return {}
    run: Run = desk.get(Run, spec.run)
    if run.stage != "train":
        raise Invalid(
            f"run: {run.id} is of stage {run.stage}, not a train Run", errors=[FieldError("run", "a train Run")]
        )
    return {**run.spec, "validation": None, "early_stopping": None}
