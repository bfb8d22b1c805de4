"""A column that grows while rows come in: what it means is decided by its first rows, what is known of it by all of them.

Rows are stored in the form that is right when they come; where later ones change it (whole numbers that become numbers), it is
the reader that makes one type of all shards, see `stored.to_numpy`.
"""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.nouns import Column
from leptonai.core.signature import FeatureType
from leptonai.data import describe
from leptonai.data.blocks import as_array, block, is_image, layout
from leptonai.data.columns import CODE, MAX_CLASSES, cast, is_numbered, provisional
from leptonai.data.describe import Moments, Numbers, Words, block_sample, describe_block
from leptonai.data.origin import Origin

_NUMERIC = (FeatureType.NUMBER, FeatureType.INTEGER)
_DTYPES = {FeatureType.NUMBER: "float64", FeatureType.BOOLEAN: "bool", FeatureType.DATETIME: "int64"}


class GrowingColumn:
    """A column of single values."""

    def __init__(self, name: str, given: FeatureType | None, *, is_target: bool):
        self.name = name
        self._given = given
        self._is_target = is_target
        self._kind = given
        self._rows = self._missing = 0
        self.first_missing: str | None = None  # where a value is missing for the first time
        self._numbers, self._words, self._moments = Numbers(), Words(), Moments()

    def take(self, values: pa.ChunkedArray, origin: Origin, taken: Any, kept: Any) -> pa.ChunkedArray:
        """Return more rows in the form in which they are stored. Raises `Invalid` that names file and row."""
        if self._kind is None and values.type != pa.null():
            self._kind = provisional(values, is_target=self._is_target)
        if self._kind is FeatureType.INTEGER and self._given is None and pa.types.is_floating(values.type):
            self._kind = FeatureType.NUMBER
        if self._kind is not None:
            values = cast(self.name, values, self._kind, origin)
        self._count(values, origin, taken, kept)
        return values

    @property
    def missing(self) -> int:
        """How many values are missing."""
        return self._missing

    @property
    def has_few(self) -> bool:
        """Whether it holds words, of which there are few so far."""
        return (
            self._kind in (FeatureType.CATEGORY, FeatureType.TEXT)
            and self._words.tally is not None
            and (
                self._given is FeatureType.CATEGORY
                or len(self._words.tally) <= _few(self._rows, is_target=self._is_target)
            )
        )

    def _count(self, values: pa.ChunkedArray, origin: Origin, taken: Any, kept: Any) -> None:
        nan = self._kind is FeatureType.NUMBER
        missing = pc.is_null(values, nan_is_null=nan and values.type != pa.null())
        if (count := pc.sum(missing).as_py() or 0) and self.first_missing is None:
            self.first_missing = origin.place(pc.index(missing, True).as_py())
        self._missing += count
        self._rows += len(values)
        if self._kind in _NUMERIC or self._kind is None:
            self._numbers.add(values, taken, kept)
        if self._kind is FeatureType.DATETIME:
            self._moments.add(values)
        elif values.type != pa.null() and (
            self._kind not in _NUMERIC or (self._kind is FeatureType.INTEGER and self._is_target)
        ):
            self._words.add(values)
            if self._given is FeatureType.CATEGORY and self._words.tally is None:
                raise _no_category(self.name, self._words.longest)

    def done(self, wrote_text: bool) -> Column:
        """Return what the column became."""
        kind = self._kind or FeatureType.NUMBER
        tally = self._words.tally
        if self._given is None and kind is FeatureType.TEXT:
            few = tally is not None and len(tally) <= _few(self._rows, is_target=self._is_target)
            kind = FeatureType.CATEGORY if few else FeatureType.TEXT
        if self._given is None and kind is FeatureType.INTEGER and self._is_target and is_numbered(tally):
            kind = FeatureType.CATEGORY
        stats: dict[str, Any] = {"count": self._rows, "missing": self._missing}
        categories: tuple[str | int, ...] = ()
        dtype = _DTYPES.get(kind, "str")
        if kind in _NUMERIC:
            stats |= self._numbers.told()
            if kind is FeatureType.INTEGER:
                dtype = "float64" if self._missing else "int64"  # NumPy's whole numbers know no missing one
        elif kind is FeatureType.DATETIME:
            stats |= self._moments.told()
        elif kind is FeatureType.TEXT:
            stats |= self._words.lengths()
        else:
            self._words.tally = tally = self._coded(kind, wrote_text=wrote_text)
            stats |= self._words.told(is_target=self._is_target)
            categories = tuple(sorted(int(value) if isinstance(value, bool) else value for value in tally))
            if kind is FeatureType.CATEGORY and tally and not any(isinstance(value, str) for value in tally):
                dtype = "int64"
        return Column(
            name=self.name,
            type=kind,
            dtype=dtype,
            nullable=stats["missing"] > 0,
            categories=categories,
            stats=stats,
        )

    def _coded(self, kind: FeatureType, *, wrote_text: bool) -> dict[Any, int]:
        """Return the counts of a category by values of one type: plain whole numbers that a text file holds are numbers."""
        tally = self._words.tally or {}
        if kind is not FeatureType.CATEGORY:
            return tally
        words = [value for value in tally if isinstance(value, str)]
        whole = self._given is FeatureType.CATEGORY and wrote_text and all(CODE.fullmatch(word) for word in words)
        if not words or (len(words) == len(tally) and not whole):
            return tally
        found: dict[Any, int] = {}
        for value, count in tally.items():
            key = int(value) if whole else str(value)
            found[key] = found.get(key, 0) + count
        return found


class GrowingBlock:
    """A column of images or tensors, all of one shape."""

    def __init__(
        self, name: str, given: FeatureType | None, dtype: str, shape: tuple[int, ...], rate: int | None = None
    ):
        self.name = name
        self._rate = rate
        self.missing = 0
        self.first_missing = None
        self.has_few = False
        self._dtype, self._shape = dtype, shape
        natural = FeatureType.IMAGE if is_image(dtype, shape) else FeatureType.TENSOR
        if rate is not None:
            natural = FeatureType.AUDIO
        if given not in (None, natural, FeatureType.TENSOR):
            raise Invalid(
                f"column {name!r} holds arrays of shape {'x'.join(map(str, shape))}, which cannot be {given} values: leave out "
                f"types={{{name!r}: {given!r}}}",
                errors=[FieldError(f"types.{name}", str(natural))],
            )
        self._kind = given or natural
        self._floats = self._kind is FeatureType.TENSOR and natural is FeatureType.IMAGE
        self._rows = 0
        self._sample: Any = None

    def take(self, values: pa.ChunkedArray, _origin: Origin, _taken: Any, _kept: Any) -> pa.ChunkedArray:
        """Return more rows in the form in which they are stored."""
        if self._floats:
            field, array = block(self.name, as_array(values, self._dtype, self._shape).astype("float32"))
            values = pa.chunked_array([array], field.type)
        self._rows += len(values)
        if self._sample is None:
            self._sample = block_sample(values, "float32" if self._floats else self._dtype, self._shape)
        return values

    def done(self, _wrote_text: bool) -> Column:
        """Return what the column became."""
        dtype = "float32" if self._floats else self._dtype
        found = describe_block(self.name, self._rows, self._sample, dtype, self._shape, self._kind)
        return found if self._rate is None else found.model_copy(update={"stats": {**found.stats, "rate": self._rate}})


class GrowingBoxes:
    """A column of boxes in images."""

    def __init__(self, name: str, given: FeatureType | None, classes: list[str]):
        if given not in (None, FeatureType.BOXES):
            raise Invalid(
                f"column {name!r} holds boxes: leave out its type", errors=[FieldError(f"types.{name}", "boxes")]
            )
        self.name = name
        self.missing = 0
        self.first_missing = None
        self.has_few = False
        self._classes = classes
        self._rows = 0
        self._counts = np.zeros(len(classes), np.int64)

    def take(self, values: pa.ChunkedArray, _origin: Origin, _taken: Any, _kept: Any) -> pa.ChunkedArray:
        """Return more rows in the form in which they are stored."""
        self._rows += len(values)
        found = np.frombuffer(b"".join(values.to_pylist()), np.float32).reshape(-1, 5)
        self._counts += np.bincount(found[:, 0].astype(np.int64), minlength=len(self._classes))
        return values

    def done(self, _wrote_text: bool) -> Column:
        """Return what the column became."""
        counts = [[name, int(count)] for name, count in zip(self._classes, self._counts, strict=True)]
        stats = {"count": self._rows, "missing": 0, "boxes": int(self._counts.sum()), "counts": counts}
        return Column(
            name=self.name, type=FeatureType.BOXES, dtype="float32", categories=tuple(self._classes), stats=stats
        )


def growing(
    field: pa.Field, given: FeatureType | None, *, is_target: bool
) -> GrowingColumn | GrowingBlock | GrowingBoxes:
    """Return what gathers a column of this kind. Raises `Invalid` when it cannot be what the user says it is."""
    classes = (field.metadata or {}).get(b"boxes")
    if classes is not None:
        return GrowingBoxes(field.name, given, json.loads(classes))
    found = layout(field)
    if found is None:
        return GrowingColumn(field.name, given, is_target=is_target)
    rate = (field.metadata or {}).get(b"rate")
    return GrowingBlock(field.name, given, *found, int(rate) if rate else None)


def _no_category(name: str, longest: int) -> Invalid:
    long = longest > describe.MAX_WORD
    most = f"{describe.MAX_WORD if long else describe.MAX_DISTINCT:,}"
    what = f"a value of {longest:,} characters" if long else f"more than {most} different values"
    why = f"and one of a category has at most {most}" if long else "which is the most that a category has"
    return Invalid(
        f"column {name!r} has {what}, {why}: import it as text (types={{{name!r}: 'text'}})",
        errors=[FieldError(f"types.{name}", f"at most {most} {'characters' if long else 'categories'}")],
    )


def _few(rows: int, *, is_target: bool) -> int:
    """Return how many different words make a category, and not text."""
    return MAX_CLASSES if is_target else max(20, int(rows**0.5))
