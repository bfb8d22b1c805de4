"""What you ask for when labels are to be written into a dataset: a next version with them."""

from typing import Self

from pydantic import Field, model_validator

from leptonai.core.nouns import Frozen


class Relabel(Frozen):
    """Make the next version of a dataset, with labels of some rows set: those of a Run or those that are given here.

    The others stay as they are; the lineage says where the labels come from.
    """

    data: str  # a whole version
    target: str | None = None  # the column; None: the dataset's target
    run: str | None = None  # an auto_label Run, or a label_errors Run, whose suggestions are taken
    rows: tuple[int, ...] = Field(default=(), max_length=100_000)  # numbers in the version, from 0
    labels: tuple[str | int | float | bool | None, ...] = Field(
        default=(), max_length=100_000
    )  # None: no label any more
    note: str = Field(default="", max_length=1000)  # who says so; kept in the lineage

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.run is None) != bool(self.rows):
            raise ValueError("give rows and labels, or a run that found them: one of the two")
        if len(self.rows) != len(self.labels):
            raise ValueError("rows and labels must be equally many")
        if len(set(self.rows)) != len(self.rows) or min(self.rows, default=0) < 0:
            raise ValueError("each row is named once, by a number from 0")
        return self
