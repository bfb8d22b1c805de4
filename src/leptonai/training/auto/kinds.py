"""What kind of problem a dataset is, told from its schema alone."""

import re
from collections.abc import Sequence
from typing import Any

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.nouns import Column, Dataset
from leptonai.core.signature import FeatureType
from leptonai.training import columns as all_columns

_MANY = 20  # categories: so many have users and items, and few of other columns
_NAMES = re.compile(r"(user|item|customer|product|movie|book|member|article)([ _-]?(id|nr|number))?|(.+[ _-])?id")


def kind_of(
    asked: str, data: Dataset, target: str | None, features: Sequence[str] | None, time: str | None = None
) -> tuple[str, dict[str, Any]]:
    """Return the kind of problem, and the fields of a train spec that follow from it. Raises `Invalid`, `Unsupported`.

    text: there is a column of text; only columns of text are read · image: one column of images · ratings: two columns that name
    something, and a target of numbers · series: a time, and a target of numbers; `time`: the column of it · table: everything else that has columns of scalars.
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
    if asked == "series":
        return "series", {**fields, "features": _in_time(data.columns, target, features, time, where)}
    goal, chosen = all_columns.pick(data.columns, target, fields.get("features"), where)
    kind = _told(chosen, goal) if asked == "auto" else asked
    if kind == "series":
        return kind, {**fields, "features": [chosen[0].name]}
    if kind == "ratings":
        return kind, {**fields, "features": _two_names(chosen, goal, where)}
    if kind == "image" and _told(chosen, goal) != "image":
        raise _unfit(kind, where, "one column of images, with features=[…]")
    if all_columns.task_of(goal) == "regression" and goal.shape:
        raise Invalid(
            f"the target {goal.name!r} of {where} holds arrays of shape {goal.shape}: a model is found for one value a row",
            errors=[FieldError("target", "one value a row")],
        )
    return kind, fields


def _told(chosen: Sequence[Column], goal: Column) -> str:
    if len(chosen) == 1 and chosen[0].type == FeatureType.IMAGE and min(chosen[0].shape[:2]) >= 4:
        return "image"
    if len(chosen) == 2 and all(map(_is_name, chosen)) and _is_amount(goal):
        return "ratings"
    if len(chosen) == 1 and chosen[0].type == FeatureType.DATETIME and _is_amount(goal):
        return "series"
    return "table"


def _in_time(
    columns: Sequence[Column], target: str | None, features: Sequence[str] | None, time: str | None, where: str
) -> list[str]:
    """Return the column of the time, and those that may name a series; or the time, and what was named. Raises `Invalid`."""
    beside = [column for column in columns if column.name != target and not column.pii]
    times = [column.name for column in beside if column.type == FeatureType.DATETIME]
    if len(times) != 1 and time not in times:
        listed = ", ".join(times) or "none"
        right = (
            f'one column of times: name it with column=…, there are {listed}; import it with types={{…: "datetime"}}'
        )
        raise _unfit("series", where, right)
    moment = time or times[0]
    if moment not in times:
        raise _unfit("series", where, f"column={moment!r} to be a time; there are {', '.join(times)}")
    if features is None:
        more = [column.name for column in beside if column.type == FeatureType.CATEGORY]
    else:
        more = [name for name in features if name != moment]
    goal, _ = all_columns.pick(columns, target, [moment, *more], where)
    if not _is_amount(goal):
        raise _unfit("series", where, f"a target of numbers, and {goal.name!r} is of type {goal.type}")
    if others := [name for name in more if name in times]:
        raise _unfit("series", where, f"one time, and {others[0]!r} is another: leave it out of features")
    return [moment, *more]


def _is_name(column: Column) -> bool:
    """Whether a column plainly names something: many categories, or whole numbers that are called so."""
    if column.type == FeatureType.CATEGORY:
        return len(column.categories) >= _MANY
    return column.type == FeatureType.INTEGER and _NAMES.fullmatch(column.name.lower()) is not None


def _is_amount(goal: Column) -> bool:
    """Whether a target is a number; whole ones that were imported as classes are, where there are more than two."""
    if goal.type == FeatureType.CATEGORY:
        return goal.dtype == "int64" and len(goal.categories) > 2
    return all_columns.task_of(goal) == "regression" and not goal.shape


def _two_names(chosen: Sequence[Column], goal: Column, where: str) -> list[str]:
    """Return the columns of users and of items. Raises `Invalid` where they are not two, or the target is no number."""
    names = [column.name for column in chosen if column.type in (FeatureType.CATEGORY, FeatureType.INTEGER)]
    if len(names) != 2:
        listed = ", ".join(names) or "none"
        right = f"two columns, of users and of items, by categories or whole numbers; there are {listed}: name two with features=[…]"
        raise _unfit("ratings", where, right)
    if not _is_amount(goal):
        raise _unfit("ratings", where, f"a target of numbers, and {goal.name!r} is of type {goal.type}")
    return names


def _unfit(kind: str, where: str, right: str) -> Invalid:
    return Invalid(f"kind={kind!r} does not fit {where}: it needs {right}", errors=[FieldError("kind", right)])
