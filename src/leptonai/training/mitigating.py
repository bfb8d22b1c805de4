"""Groups that are to be treated alike: whether a column can say what they are, and who is in which."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonai.core.errors import FieldError, Invalid, Unsupported
from leptonai.core.nouns import Column
from leptonai.core.ports import Learner
from leptonai.core.signature import FeatureType
from leptonai.training import trainee
from leptonai.training.rows import Rows
from leptonai.training.spec import Train

_MOST, _FEWEST = 20, 10  # groups, and rows in each of them: rates of fewer are chance
_FIELD = "learning.mitigate"


def needs(spec: Train) -> tuple[str, ...]:
    """Return the columns that it reads beside what the model sees."""
    return () if spec.learning.mitigate is None else (spec.learning.mitigate.column,)


def seen(
    spec: Train, columns: Sequence[Column], goals: Sequence[Column], features: Sequence[Column], where: str
) -> tuple[Column, ...]:
    """Return what the model sees: without the sensitive column, unless it was named. Raises `Invalid` for one that makes no groups."""
    (name,) = needs(spec)
    known = {column.name: column for column in columns}
    if name not in known:
        shown = ", ".join(list(known)[:30]) + (", …" if len(known) > 30 else "")
        raise Invalid(f"mitigate: {where} has no column {name!r}; it has {shown}", errors=[FieldError(_FIELD, shown)])
    if name in {goal.name for goal in goals}:
        raise Invalid(
            f"mitigate: {name!r} is the target: name the column of the groups", errors=[FieldError(_FIELD, "a column")]
        )
    column = known[name]
    if column.type not in (FeatureType.CATEGORY, FeatureType.BOOLEAN, FeatureType.INTEGER):
        raise Invalid(
            f"mitigate: {name!r} is of type {column.type}: make groups of it, a category of at most {_MOST} values",
            errors=[FieldError(_FIELD, "a category")],
        )
    if len(column.categories) > _MOST:
        raise _too_many(name, len(column.categories))
    goal = goals[0]
    if goal.type is FeatureType.CATEGORY and len(goal.categories) != 2:
        raise Invalid(
            f"mitigate is for two classes, and the target {goal.name!r} has {len(goal.categories)}",
            errors=[FieldError(_FIELD, "a target of two classes")],
        )
    left = tuple(one for one in features if spec.features is not None or one.name != name)
    if not left:
        raise Invalid(
            f"mitigate: {where} has no column to learn from beside {name!r}", errors=[FieldError("features", "others")]
        )
    return left


def check(spec: Train, steps: Sequence[Any]) -> None:
    """Raise `Unsupported` where rows are changed or made, which are of no group."""
    if spec.learning.mitigate is not None and steps:
        raise Unsupported(
            f"mitigate: augment changes or makes rows ({steps[0].op}), which are of no group: leave one out",
            errors=[FieldError(_FIELD, "without augment")],
        )


def groups(spec: Train, rows: Rows) -> NDArray[np.int64] | None:
    """Return the group of each row that is learnt from, by number; None where none was asked for. Raises `Invalid` for few rows, or many groups."""
    rule = spec.learning.mitigate
    if rule is None:
        return None
    words, found = _grouped(rows.values(rule.column))
    if len(words) > _MOST:
        raise _too_many(rule.column, len(words))
    if len(words) < 2:
        raise Invalid(
            f"mitigate: all {rows.count:,} rows have the same {rule.column!r}",
            errors=[FieldError(_FIELD, "two groups")],
        )
    odds = rule.constraint == "equalized_odds"
    y = np.asarray(rows.labels) if odds else np.zeros(len(found), np.int64)
    counts = np.bincount(found * 2 + y, minlength=2 * len(words)).reshape(-1, 2)[:, : 1 + odds]
    if few := [word for word, count in zip(words, counts.min(axis=1).tolist(), strict=True) if count < _FEWEST]:
        of = "of each class " if odds else ""
        raise Invalid(
            f"mitigate: of {rule.column!r} {', '.join(few[:10])} there are less than {_FEWEST} rows {of}to learn from: join groups, or "
            "leave these rows out",
            errors=[FieldError(_FIELD, f"groups of {_FEWEST} rows")],
        )
    return found


def told(spec: Train, learner: Learner, rows: Rows) -> dict[str, float]:
    """Return accuracy and the differences between groups, with and without what was asked for; nothing where nothing was."""
    if spec.learning.mitigate is None:
        return {}
    _, found = _grouped(rows.values(spec.learning.mitigate.column))
    return trainee.by_groups(learner, *rows.all(), found)


def _grouped(values: NDArray[Any]) -> tuple[list[str], NDArray[np.int64]]:
    listed = ["missing" if value is None or value != value else str(value) for value in values.tolist()]
    words, found = np.unique(np.array(listed, dtype=object).astype(str), return_inverse=True)
    return words.tolist(), found.astype(np.int64)


def _too_many(name: str, count: int) -> Invalid:
    return Invalid(
        f"mitigate: {name!r} has {count} values, and at most {_MOST} groups can be treated alike: make groups of them",
        errors=[FieldError(_FIELD, f"at most {_MOST} values")],
    )
