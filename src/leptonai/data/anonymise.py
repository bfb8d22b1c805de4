"""Steps that make data less personal: pure functions over Arrow tables and columns.

None of them is a proof that nobody can be found again; `k_anonymity` measures one risk of many (Sweeney 2002).
"""

import hmac
import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from leptonai.core.errors import FieldError, Invalid
from leptonai.data import spec_private as spec

HIDDEN = "•"
_TEXT = pa.large_string()
_EXAMPLES = 5


def drop(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """Return the table without these columns. Raises `Invalid` for one that is not there."""
    _there(table, columns)
    return table.drop_columns(list(columns))


def apply(table: pa.Table, step: spec.MaskValues | spec.HashValues | spec.Generalise, key: bytes) -> pa.Table:
    """Return the table with a step done; `key` is that of keyed digests, `Handle.pepper`. Raises `Invalid`."""
    _there(table, step.columns)
    for name in step.columns:
        values = table[name]
        if isinstance(step, spec.MaskValues):
            made = mask(values, step.first, step.last)
        elif isinstance(step, spec.HashValues):
            made = keyed_hash(values, key, step.length)
        else:
            made = _generalised(name, values, step)
        table = table.set_column(table.schema.get_field_index(name), name, made)
    return table


def mask(values: pa.ChunkedArray, first: int = 0, last: int = 0) -> pa.ChunkedArray:
    """Return text whose letters and digits are hidden, but for the first and the last ones; signs and missing values stay.

    A value that has no more letters and digits than are shown is hidden whole.
    """
    return _each(values, lambda text: _masked(text, first, last))


def _masked(text: str, first: int, last: int) -> str:
    shown = [at for at, sign in enumerate(text) if sign.isalnum()]
    keep = set(shown[:first] + shown[len(shown) - last :]) if len(shown) > first + last else set()
    return "".join(sign if at in keep or not sign.isalnum() else HIDDEN for at, sign in enumerate(text))


def keyed_hash(values: pa.ChunkedArray, key: bytes, length: int = 16) -> pa.ChunkedArray:
    """Return keyed digests (HMAC-SHA256, hex): equal values have equal ones, and without the key none is found by guessing.

    Values are compared as text, without white space around them and in Unicode's form NFC.
    """
    return _each(
        pc.utf8_normalize(pc.utf8_trim_whitespace(_text(values)), form="NFC"),
        lambda text: hmac.digest(key, b"leptonai/value/1/" + text.encode(), "sha256").hex()[:length],
    )


def bins(values: pa.ChunkedArray, width: float) -> pa.ChunkedArray:
    """Return numbers as ranges ``[30, 40)`` of a width, from 0 on; what is missing or not finite is missing."""
    numbers = pc.cast(values, pa.float64(), safe=False)
    low = pc.multiply(pc.floor(pc.divide(numbers, width)), width)

    def told(value: float | None) -> str | None:
        return None if value is None or value - value != 0 else f"[{value:g}, {value + width:g})"

    known = {value: told(value) for value in pc.unique(low).to_pylist()}
    return pa.chunked_array([pa.array([known.get(value) for value in low.to_pylist()], _TEXT)])


def coarse_date(values: pa.ChunkedArray, unit: str) -> pa.ChunkedArray:
    """Return dates as the beginning of their year, month or day."""
    return pc.cast(pc.floor_temporal(values, unit=unit), values.type)


def prefix(values: pa.ChunkedArray, length: int) -> pa.ChunkedArray:
    """Return the first letters of text, such as of a postcode, with ``*`` for what is left out."""
    return _each(values, lambda text: text if len(text) <= length else f"{text[:length]}*")


def _generalised(name: str, values: pa.ChunkedArray, step: spec.Generalise) -> pa.ChunkedArray:
    numeric = pa.types.is_integer(values.type) or pa.types.is_floating(values.type)
    if step.width is not None:
        if not numeric:
            raise _unfit(name, "numbers", "width")
        return bins(values, step.width)
    if step.date is not None:
        if not pa.types.is_timestamp(values.type):
            raise _unfit(name, "dates", "date")
        return coarse_date(values, step.date)
    return prefix(values, step.prefix or 0)


def k_anonymity(table: pa.Table, columns: Sequence[str], k: int) -> spec.Groups:
    """Return how many rows share each combination of the columns: the fewer, the easier somebody is found by them."""
    _there(table, columns)
    counts = table.select(list(columns)).group_by(list(columns)).aggregate([([], "count_all")])
    rows = counts["count_all"]
    small = counts.filter(pc.less(rows, k))
    order = pc.sort_indices(small, sort_keys=[("count_all", "ascending")])
    examples = small.take(order[:_EXAMPLES]).rename_columns([*columns, "rows"]).to_pylist()
    return spec.Groups(
        columns=tuple(columns),
        groups=counts.num_rows,
        smallest=pc.min(rows).as_py() or 0,
        below=small.num_rows,
        rows_below=pc.sum(small["count_all"]).as_py() or 0,
        examples=tuple({name: _plain(value) for name, value in row.items()} for row in examples),
    )


def in_large_groups(table: pa.Table, columns: Sequence[str], k: int) -> pa.Array:
    """Return which rows (bool) belong to groups of at least `k` rows."""
    _there(table, columns)
    names = [f"c{n}" for n in range(len(columns))]
    keys = table.select(list(columns)).rename_columns(names)
    codes = [_codes(keys[name]) for name in names]
    keyed = pa.table([*codes, pa.array(range(table.num_rows))], names=[*names, "row"])
    groups = keyed.group_by(names).aggregate([("row", "list"), ([], "count_all")])
    large = groups.filter(pc.greater_equal(groups["count_all"], k))["row_list"]
    return pc.is_in(keyed["row"], pc.list_flatten(large)).combine_chunks()


def _codes(values: pa.ChunkedArray) -> pa.Array:
    """Return numbers that are equal where values are, missing ones too."""
    indices = values.combine_chunks().dictionary_encode(null_encoding="encode").indices
    return pc.fill_null(indices, -1)


def _each(values: pa.ChunkedArray, made: Any) -> pa.ChunkedArray:
    """Return what is made of each text; the same text once only."""
    text = _text(values)
    known = {value: made(value) for value in pc.unique(text).to_pylist() if value is not None}
    chunks = [pa.array([known.get(value) for value in chunk.to_pylist()], _TEXT) for chunk in text.chunks]
    return pa.chunked_array(chunks, _TEXT)


def _text(values: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_dictionary(values.type):
        values = pc.cast(values, values.type.value_type)
    return pc.cast(values, _TEXT)


def _there(table: pa.Table, columns: Sequence[str]) -> None:
    for name in columns:
        if name not in table.column_names:
            listed = ", ".join(table.column_names[:30])
            raise Invalid(
                f"there is no column {name!r}: the columns are {listed}", errors=[FieldError(name, f"one of {listed}")]
            )


def _unfit(name: str, what: str, field: str) -> Invalid:
    return Invalid(f"column {name!r} holds no {what}: leave out {field}", errors=[FieldError(name, what)])


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value


def hidden(text: str) -> str:
    """Return an example that shows of each word its first letter or digit only, and at most 60 signs."""
    return re.sub(r"(?<=\w)\w", HIDDEN, text[:60]) + ("…" if len(text) > 60 else "")
