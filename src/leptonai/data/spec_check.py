"""Rules that rows have to keep, and what a check tells."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from leptonai.core.nouns import Frozen

Columns = Annotated[tuple[str, ...], Field(min_length=1, max_length=10_000)]


class _Bounds(Frozen):
    @model_validator(mode="after")
    def _has_bound(self) -> Self:
        low, high = getattr(self, "min", None), getattr(self, "max", None)
        if low is None and high is None:
            raise ValueError("give min, max or both")
        if low is not None and high is not None and type(low) is type(high) and low > high:
            raise ValueError("min is above max")
        return self


class Range(_Bounds):
    """Numbers, or times, lie between bounds, which belong to them. What is missing is not looked at."""

    rule: Literal["range"] = "range"
    column: str
    min: float | datetime | None = None
    max: float | datetime | None = None


class Unique(Frozen):
    """No two rows have the same values in these columns, taken together."""

    rule: Literal["unique"] = "unique"
    columns: Columns


class Regex(Frozen):
    """The whole text is as the pattern says (RE2's syntax, which takes linear time). What is missing is not looked at."""

    rule: Literal["regex"] = "regex"
    column: str
    pattern: str = Field(min_length=1, max_length=10_000)


class NotMissing(Frozen):
    """A value is there, in all rows or in all but a share of them."""

    rule: Literal["not_missing"] = "not_missing"
    columns: Columns
    at_most: float = Field(default=0.0, ge=0, lt=1)  # share of the rows in which one may be missing


class OneOf(Frozen):
    """The value is one of these. What is missing is not looked at."""

    rule: Literal["one_of"] = "one_of"
    column: str
    values: Annotated[tuple[bool | int | float | str, ...], Field(min_length=1, max_length=100_000)]


class ForeignKey(Frozen):
    """The value is one of those in a column of another dataset. What is missing is not looked at."""

    rule: Literal["foreign_key"] = "foreign_key"
    column: str
    to: str  # a dataset: its newest version where none is named
    key: str  # the column there
    at: str | None = None  # the exact version: the server fills it in


class Fresh(Frozen):
    """The newest time of a column is not older than this, when the check runs."""

    rule: Literal["fresh"] = "fresh"
    column: str
    within: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,6}(s|min|h|d|w)$")]


class RowCount(_Bounds):
    """There are so many rows."""

    rule: Literal["row_count"] = "row_count"
    min: int | None = Field(default=None, ge=0)
    max: int | None = Field(default=None, ge=0)


class KAnonymity(Frozen):
    """Each combination of values in these columns is shared by at least `k` rows (Sweeney 2002): nobody is found by them alone."""

    rule: Literal["k_anonymity"] = "k_anonymity"
    columns: Columns
    k: int = Field(default=5, ge=2, le=1_000_000)


Rule = Annotated[
    Range | Unique | Regex | NotMissing | OneOf | ForeignKey | Fresh | RowCount | KAnonymity,
    Field(discriminator="rule"),
]
Rules = Annotated[tuple[Rule, ...], Field(max_length=200)]


def names_of(declaration: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the columns that a rule, or a step of augmentation, speaks of; as JSON data."""
    return (*(declaration.get("columns") or ()), *filter(None, (declaration.get("column"),)))


class Check(Frozen):
    """Look whether the rows of a dataset version, or of a part of one, keep rules."""

    data: str
    rules: Annotated[tuple[Rule, ...], Field(min_length=1, max_length=200)]


class RuleReport(Frozen):
    """Whether one rule is kept."""

    rule: dict[str, Any]
    passed: bool
    bad: int  # rows
    text: str  # one sentence
    rows: tuple[dict[str, Any], ...] = ()  # the first bad ones: place (such as "people.csv, row 12"), value


class CheckReport(Frozen):
    """Whether rows keep rules."""

    data: str
    rows: int
    passed: bool
    rules: tuple[RuleReport, ...]
