"""What kind of problem a dataset is, told from its schema alone."""

from collections.abc import Sequence
from typing import Any

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.nouns import Column, Dataset
from leptonai.core.signature import FeatureType
from leptonai.training import columns as all_columns


def kind_of(
    asked: str, data: Dataset, target: str | None, features: Sequence[str] | None
) -> tuple[str, dict[str, Any]]:
    """Return the kind of problem, and the fields of a train spec that follow from it. Raises `Invalid`, `Unsupported`.

    text: there is a column of text; only columns of text are read · image: one column of images · table: everything else that has
    columns of scalars.
    """
    where = f"datasets:/{data.name}@v{data.version}"
    beside = [column for column in data.columns if column.name != target and not column.pii]
    named = [column for column in beside if features is None or column.name in features]
    texts = [column for column in named if column.type == FeatureType.TEXT]
    fields: dict[str, Any] = {} if features is None else {"features": list(features)}
    if texts and asked in ("auto", "text"):
        all_columns.pick(data.columns, target, features, where, texts=True)
        return "text", {**fields, "features": [column.name for column in texts], "facts": {"texts": True}}
    if asked == "text":
        raise _unfit(asked, where, "a column of text")
    if texts and features is None:
        fields = {"features": [column.name for column in named if column.type != FeatureType.TEXT]}
    goal, chosen = all_columns.pick(data.columns, target, fields.get("features"), where)
    kind = _told(chosen) if asked == "auto" else asked
    if kind == "image" and _told(chosen) != "image":
        raise _unfit(kind, where, "one column of images, with features=[…]")
    if all_columns.task_of(goal) == "regression" and goal.shape:
        raise Invalid(
            f"the target {goal.name!r} of {where} holds arrays of shape {goal.shape}: a model is found for one value a row",
            errors=[FieldError("target", "one value a row")],
        )
    return kind, fields


def _told(chosen: Sequence[Column]) -> str:
    if len(chosen) == 1 and chosen[0].type == FeatureType.IMAGE and min(chosen[0].shape[:2]) >= 4:
        return "image"
    return "table"


def _unfit(kind: str, where: str, right: str) -> Invalid:
    return Invalid(f"kind={kind!r} does not fit {where}: it needs {right}", errors=[FieldError("kind", right)])
