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

    image: one column of images · table: everything else that has columns of scalars.
    """
    where = f"datasets:/{data.name}@v{data.version}"
    goal, chosen = all_columns.pick(data.columns, target, features, where)
    kind = _told(chosen) if asked == "auto" else asked
    if kind == "image" and not all(column.type == FeatureType.IMAGE for column in chosen):
        raise _unfit(kind, where, "one column of images, with features=[…]")
    if all_columns.task_of(goal) == "regression" and goal.shape:
        raise Invalid(
            f"the target {goal.name!r} of {where} holds arrays of shape {goal.shape}: a model is found for one value a row",
            errors=[FieldError("target", "one value a row")],
        )
    return kind, {} if features is None else {"features": list(features)}


def _told(chosen: Sequence[Column]) -> str:
    if len(chosen) == 1 and chosen[0].type == FeatureType.IMAGE and min(chosen[0].shape[:2]) >= 4:
        return "image"
    return "table"


def _unfit(kind: str, where: str, right: str) -> Invalid:
    return Invalid(f"kind={kind!r} does not fit {where}: it needs {right}", errors=[FieldError("kind", right)])
