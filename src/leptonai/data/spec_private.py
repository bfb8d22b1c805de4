"""What you ask about personal data: to have it found, and steps that make it less personal.

The steps are values as those of `spec_clean`: `Anonymise` is a union that tells them apart by `step`. `anonymise.py` does them.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from leptonai.core.nouns import Frozen

Columns = Annotated[tuple[str, ...], Field(min_length=1, max_length=10_000)]


class FindPii(Frozen):
    """Look for personal data in a version, or a part of one."""

    data: str
    rows: int = Field(default=20_000, ge=1, le=1_000_000)  # that are looked at, from the first on
    country: str = Field(default="US", pattern=r"^[A-Z]{2}$")  # whose telephone numbers have no country code


class Personal(Frozen):
    """What was found in one column."""

    column: str
    kind: str  # email, phone, card, iban, identity, ip, name, address or birth_date
    share: float  # of the rows that have a value
    by: Literal["values", "name", "both"]  # how it is known: by what stands there, by what the column is called
    examples: tuple[str, ...] = ()  # with all but the first letter of each word hidden


class PiiReport(Frozen):
    """What was found in a version."""

    data: str
    rows: int  # that were looked at
    found: tuple[Personal, ...]
    marked: tuple[str, ...] = ()  # columns that are personal already, and were not looked at


class MaskValues(Frozen):
    """Hide the letters and digits of values, but for some at the beginning and at the end."""

    step: Literal["mask"] = "mask"
    columns: Columns
    first: int = Field(default=0, ge=0, le=100)
    last: int = Field(default=0, ge=0, le=100)


class HashValues(Frozen):
    """Put a keyed digest (HMAC-SHA256) in the place of each value: equal values stay equal, in all versions of the dataset."""

    step: Literal["hash"] = "hash"
    columns: Columns
    length: int = Field(default=16, ge=8, le=64)  # hex digits


class Generalise(Frozen):
    """Say less: numbers as ranges of a width, dates as their month or year, text as its beginning."""

    step: Literal["generalise"] = "generalise"
    columns: Columns
    width: float | None = Field(default=None, gt=0)
    date: Literal["year", "month", "day"] | None = None
    prefix: int | None = Field(default=None, ge=0, le=100)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if [self.width, self.date, self.prefix].count(None) != 2:
            raise ValueError("say one of width, date and prefix")
        return self


class KAnonymity(Frozen):
    """Say less in these columns, by as little as is needed, until each combination of their values has `k` rows (Sweeney 2002).

    Numbers become ranges, dates their month or year, codes of one length their beginning, all else ``*``. Up to a share `suppress`
    of the rows is left out, which costs less than to say less of all. Fails where both do not suffice.
    """

    step: Literal["k_anonymity"] = "k_anonymity"
    columns: Columns
    k: int = Field(default=5, ge=2, le=1_000_000)
    suppress: float = Field(default=0.05, ge=0, lt=1)


Anonymise = Annotated[MaskValues | HashValues | Generalise | KAnonymity, Field(discriminator="step")]


class Groups(Frozen):
    """How many rows share each combination of some columns."""

    columns: tuple[str, ...]
    groups: int
    smallest: int  # rows of the smallest group: the k that holds
    below: int  # groups that have fewer than `k` rows
    rows_below: int
    examples: tuple[dict[str, Any], ...] = ()  # the smallest groups: their values, and "rows"
