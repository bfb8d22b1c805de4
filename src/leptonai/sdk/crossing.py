"""Cross-validation of a model that is not trained yet."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from leptonai.evaluation.spec import CrossValidate
from leptonai.evaluation.spec import Report as ReportRecord
from leptonai.sdk import client, runs
from leptonai.sdk.results import Report
from leptonai.sdk.specs import check, sent

if TYPE_CHECKING:
    from leptonai.sdk.datasets import Dataset
    from leptonai.sdk.models import Model

_ABOUT = (
    "target",
    "costs",
    "positive",
    "slices",
    "resamples",
    "confidence",
    "curve",
    "noise",
)  # what is not of the training


def cross_validate(
    model: "Model",
    data: "Dataset | str",
    *,
    folds: int,
    by: str,
    column: str | None,
    show_progress: bool | None,
    **asked: Any,
) -> Report:
    """Pack the model as a training does, start the Run, follow it, and return its report."""
    from leptonai.sdk.models import reference

    study = asked.pop("tune", None)
    about = {name: asked.pop(name) for name in _ABOUT if name in asked}
    document = {
        **about, "data": reference(data, "data"), "folds": folds, "by": by, "column": column, "seed": asked.get("seed", 0), "train": asked,
    }  # fmt: skip
    if study is not None:
        document["tune"] = study_of(study)
    check(CrossValidate, document, "cross_validate")  # before the code travels
    via = client.current()
    if model._framework is not None:
        packed = model._framework.pack(model.model, model._compiled)
        document["train"] = {**asked, **model._travel(packed, via.http.upload(packed.code))}
    record = runs.submit(via.http, "cross_validate", sent(check(CrossValidate, document, "cross_validate")))
    record = runs.follow(via.http, record.id, title="cross-validate", show_progress=show_progress)
    return Report(ReportRecord.model_validate(record.result), runs.Run(record, via))


def study_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is tuned within each fold as the spec has it: `space`, `goal` and `budget` in few words, as `Model.tune` takes them."""
    from leptonai.sdk.tuning import read_space
    from leptonai.tuning import words

    more = {name: value for name, value in given.items() if name not in ("space", "goal", "budget")}
    found = {**more, "space": read_space(given.get("space") or {})}
    if given.get("goal"):
        found["goals"] = words.goals(given["goal"])
    if given.get("budget"):
        found |= words.budget(given["budget"])
    return found
