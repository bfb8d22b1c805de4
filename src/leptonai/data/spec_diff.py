"""What you ask of a difference, and what it tells."""

from typing import Annotated, Any

from pydantic import Field

from leptonai.core.nouns import Frozen


class Diff(Frozen):
    """Compare two dataset versions, row by row.

    With `key` rows are the same row where these columns are equal, and are added, removed, changed or the same. Without, a row is its
    values: it is added or removed, and a changed one is both.
    """

    before: str
    after: str
    key: Annotated[tuple[str, ...], Field(max_length=100)] = ()
    examples: int = Field(default=10, ge=0, le=1000)  # rows of each kind that are shown


class DiffReport(Frozen):
    """How two versions differ."""

    before: str
    after: str
    same: bool
    schema_: dict[str, Any] = Field(alias="schema", serialization_alias="schema")  # added, removed, retyped: by column
    rows: dict[str, int]  # before, after, added, removed, changed, same, repeated_keys
    changed: dict[str, int]  # changed values by column, of the changed rows that were compared
    compared: int  # changed rows that were compared value by value
    statistics: tuple[dict[str, Any], ...]  # column, statistic, before, after: where they differ
    examples: dict[
        str, tuple[dict[str, Any], ...]
    ]  # added, removed: row, values; changed: rows, values before and after
    notes: tuple[str, ...] = ()
