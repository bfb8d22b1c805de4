"""What you ask to have cleaned: steps, in the order in which they are applied, each a value that can be kept and read again.

A step that names no columns takes all that it fits, but never the target.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from leptonai.core.nouns import Frozen, Name
from leptonai.core.signature import FeatureType
from leptonai.data.spec_private import Generalise, HashValues, KAnonymity, MaskValues

Columns = Annotated[tuple[str, ...], Field(max_length=10_000)]
Value = bool | int | float | str
BLANKS = ("?", "-", "NA", "N/A", "n/a", "na", "NaN", "nan", "null", "NULL", "None", "none", "missing", "")
"""Words that most often stand for nothing."""

Every = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,6}(us|ms|s|min|h|d|w|mo)$")]
Aggregate = Literal["mean", "sum", "min", "max", "first", "last", "count"]


class DropDuplicates(Frozen):
    """Leave out rows that are there already: in all columns, or in those named. The first one stays."""

    step: Literal["drop_duplicates"] = "drop_duplicates"
    columns: Columns = ()


class Blank(Frozen):
    """Make values missing that only stand for nothing, such as ``?`` or ``-999``. Without columns: in all of words."""

    step: Literal["blank"] = "blank"
    columns: Columns = ()
    values: Annotated[tuple[Value, ...], Field(min_length=1, max_length=1000)] = BLANKS


class Impute(Frozen):
    """Fill in what is missing: numbers by mean or median, all by the most frequent value or a constant; or leave out the row."""

    step: Literal["impute"] = "impute"
    columns: Columns = ()
    by: Literal["mean", "median", "most_frequent", "constant", "drop"] = "median"
    value: Value | None = None  # of `constant`

    @model_validator(mode="after")
    def _has_value(self) -> Self:
        if (self.by == "constant") != (self.value is not None):
            raise ValueError("value goes with by='constant', and is needed there")
        return self


class Outliers(Frozen):
    """Numbers far from the others: bring them to the bound, flag them in a column of their own, or leave out their rows.

    Bounds: `iqr` is `factor` times the distance of the quartiles beyond them (Tukey's fences), `zscore` `factor` standard
    deviations from the mean, `quantiles` the two in `between`.
    """

    step: Literal["outliers"] = "outliers"
    columns: Columns = ()
    by: Literal["iqr", "zscore", "quantiles"] = "iqr"
    do: Literal["clip", "flag", "drop"] = "clip"
    factor: float | None = Field(default=None, gt=0)  # default: 1.5 for iqr, 3 for zscore
    between: tuple[float, float] = (0.01, 0.99)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not 0 <= self.between[0] < self.between[1] <= 1:
            raise ValueError("between takes two shares of the rows, such as [0.01, 0.99]")
        return self


class Cast(Frozen):
    """Give columns another type. A value that does not fit is an error that names its row, or becomes a missing one."""

    step: Literal["cast"] = "cast"
    types: Annotated[dict[str, FeatureType], Field(min_length=1)]
    misfits: Literal["error", "missing"] = "error"


class Text(Frozen):
    """Write text in one way: Unicode's normal form, white space once and none at the ends, upper or lower case."""

    step: Literal["text"] = "text"
    columns: Columns = ()
    unicode: Literal["NFC", "NFKC"] | None = "NFC"
    space: bool = True
    case: Literal["lower", "upper"] | None = None


class DenoiseImages(Frozen):
    """Take noise out of images: by the median of `size` × `size` pixels, or a Gaussian of deviation `sigma`."""

    step: Literal["denoise_images"] = "denoise_images"
    columns: Columns = ()
    by: Literal["median", "gaussian"] = "median"
    size: int = Field(default=3, ge=3, le=31)
    sigma: float = Field(default=1.0, gt=0, le=20)

    @model_validator(mode="after")
    def _odd(self) -> Self:
        if self.size % 2 == 0:
            raise ValueError("size is an odd number of pixels, such as 3")
        return self


class Smooth(Frozen):
    """Take noise out of signals by the filter of Savitzky and Golay (1964).

    Of a tensor each row is a signal, along its first axis; a column of numbers is one signal, row after row.
    """

    step: Literal["smooth"] = "smooth"
    columns: Annotated[tuple[str, ...], Field(min_length=1)]
    window: int = Field(default=11, ge=3, le=1001)
    order: int = Field(default=2, ge=0, le=10)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.window % 2 == 0 or self.order >= self.window:
            raise ValueError("window is an odd number of points, more than order")
        return self


class Resample(Frozen):
    """One row for each span of time. Numbers are aggregated as said, other columns keep their last value.

    `group` names columns whose values tell several series apart. A span without rows is left out, or there with missing values,
    or with those of the span before.
    """

    step: Literal["resample"] = "resample"
    time: str
    every: Every
    aggregate: Aggregate = "mean"
    each: dict[str, Aggregate] = Field(default_factory=dict)  # by column, where it is another one
    group: Columns = ()
    gaps: Literal["leave_out", "missing", "previous"] = "leave_out"


class Series(Frozen):
    """Columns that a model of a time series learns from: what was before, what the calendar says, and what is to be foretold.

    Rows must come in the order of time, for each value of `group` by itself. Of each of `columns` (default: all numbers) there is a
    column for each lag (``power_lag_24``: the value 24 rows before) and each window (``power_mean_7``: the mean of this row and the
    six before). `horizon` makes ``power_ahead_24`` of the target, its value 24 rows later, which is the target from then on. The
    first rows of a series, which have no past, and the last, which have no future, are left out, or `incomplete` keeps the first.
    """

    step: Literal["series"] = "series"
    time: str
    columns: Columns = ()
    group: Columns = ()
    lags: Annotated[tuple[Annotated[int, Field(ge=1, le=10_000)], ...], Field(max_length=500)] = ()
    windows: Annotated[tuple[Annotated[int, Field(ge=2, le=10_000)], ...], Field(max_length=100)] = ()
    horizon: int = Field(default=0, ge=0, le=10_000)
    calendar: tuple[Literal["hour", "weekday", "day", "week", "month", "quarter", "year", "day_of_year"], ...] = ()
    incomplete: Literal["leave_out", "missing"] = "leave_out"

    @model_validator(mode="after")
    def _asks(self) -> Self:
        if not (self.lags or self.windows or self.horizon or self.calendar):
            raise ValueError("give lags, windows, a horizon or words of the calendar: at least one")
        return self


class CapCategories(Frozen):
    """Keep the most frequent values of a column, and call all others by one word."""

    step: Literal["cap_categories"] = "cap_categories"
    columns: Columns = ()
    keep: int = Field(default=20, ge=1, le=10_000)
    at_least: int = Field(default=1, ge=1)  # rows that a value needs to be kept
    other: str = "other"


class Drop(Frozen):
    """Leave out columns."""

    step: Literal["drop"] = "drop"
    columns: Annotated[tuple[str, ...], Field(min_length=1)]


class Select(Frozen):
    """Keep these columns, in this order."""

    step: Literal["select"] = "select"
    columns: Annotated[tuple[str, ...], Field(min_length=1)]


class Rename(Frozen):
    """Give columns other names: the old one, then the new one."""

    step: Literal["rename"] = "rename"
    names: Annotated[dict[str, str], Field(min_length=1)]


Step = Annotated[
    DropDuplicates
    | Blank
    | Impute
    | Outliers
    | Cast
    | Text
    | DenoiseImages
    | Smooth
    | Resample
    | Series
    | CapCategories
    | Drop
    | Select
    | Rename
    | MaskValues
    | HashValues
    | Generalise
    | KAnonymity,
    Field(discriminator="step"),
]


class Clean(Frozen):
    """Make a new version of a dataset version by steps; the old one stays.

    `learn_from` names a part of the same version, such as the training part of a split: what steps learn (a mean, a bound) is then
    learnt from its rows only. A dry run makes nothing, and reports the same.
    """

    data: str
    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=100)]
    name: Name | None = None  # of the new dataset; default: that of the old one
    learn_from: str | None = None
    dry_run: bool = False


class StepReport(Frozen):
    """What one step did."""

    step: dict[str, Any]
    rows_before: int
    rows_after: int
    changed: dict[str, int] = Field(default_factory=dict)  # values, by column
    learnt: dict[str, Any] = Field(default_factory=dict)  # by column
    examples: tuple[
        dict[str, Any], ...
    ] = ()  # row (from 1), column, before, after; or the values of a row that was left out


class CleanReport(Frozen):
    """What cleaning did, or would do."""

    data: str
    rows_before: int
    rows_after: int
    columns: tuple[str, ...]
    steps: tuple[StepReport, ...]
