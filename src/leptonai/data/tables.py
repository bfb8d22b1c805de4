"""Tables from files of any kind, and several of them as one. What cannot be read is named: file, row, column, the way out."""

import gzip
import io
import zlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

import pyarrow as pa

from leptonai.core.errors import FieldError, Invalid, TooLarge
from leptonai.core.nouns import FeatureType
from leptonai.data.blocks import layout
from leptonai.data.csv_table import read_csv
from leptonai.data.npz_file import read_npz
from leptonai.data.parquet_file import read_parquet

MAX_RATIO = 200  # of a compressed file, and at least...
MAX_SMALL = 256 << 20  # ...this much is allowed whatever the ratio
ENDINGS = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet", ".npz")
_TEXTS = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
_ALIKE = "files of one dataset need the same columns"


class Origin(NamedTuple):
    """Which file each row came from, so that a message can say so."""

    files: tuple[str, ...]
    rows: tuple[int, ...]  # of each file

    @property
    def wrote_text(self) -> bool:
        """Whether a file writes all values as text, so that text need not have been meant."""
        return any(name.lower().endswith(_TEXTS) for name in self.files)

    def place(self, row: int) -> str:
        """Return file and number, from 1, of a row that is counted from 0 over all files."""
        ends = list(accumulate(self.rows))
        at = min(bisect_right(ends, row), len(ends) - 1)
        return f"{self.files[at]}, row {row - (ends[at] - self.rows[at]) + 1:,}"


def read_table(name: str, data: bytes, types: Mapping[str, FeatureType]) -> pa.Table:
    """Return the table in a file; its ending tells what it is. `types`: what the user says of columns. Raises `Invalid`."""
    if not data:
        raise Invalid(f"{name} is empty: there is no data in it", errors=[FieldError(name, "is empty")])
    low = name.lower()
    if not low.endswith(ENDINGS):
        right = f"{', '.join(ENDINGS)}, or a folder of images by class"
        raise Invalid(f"{name} is not a kind of file that is known: use {right}", errors=[FieldError(name, right)])
    if low.endswith(".gz"):
        data, low = _gunzip(name, data), low.removesuffix(".gz")
    if low.endswith(".parquet"):
        table = read_parquet(name, data)
    elif low.endswith(".npz"):
        table = read_npz(name, data)
    else:
        table = read_csv(name, data, types, tabs=low.endswith(".tsv"))
    if table.num_rows == 0:
        raise Invalid(f"{name} has columns and no rows: there is no data in it", errors=[FieldError(name, "no rows")])
    _check_names(name, table.column_names)
    return table


def join(origin: Origin, tables: Sequence[pa.Table]) -> pa.Table:
    """Return one table of several, in their order. Raises `Invalid` naming the file and the column that differ."""
    first, one = tables[0], origin.files[0]
    for name, table in zip(origin.files[1:], tables[1:], strict=True):
        if missing := [c for c in first.column_names if c not in table.column_names]:
            raise Invalid(f"{name} lacks the column {missing[0]!r}, which {one} has: {_ALIKE}")
        if extra := [c for c in table.column_names if c not in first.column_names]:
            raise Invalid(f"{name} has a column {extra[0]!r}, which {one} lacks: {_ALIKE}")
    ordered = [table.select(first.column_names) for table in tables]
    columns = [_joined(at, origin.files, ordered) for at in range(first.num_columns)]
    fields = [
        pa.field(field.name, column.type, metadata=field.metadata)
        for field, column in zip(first.schema, columns, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def _joined(at: int, names: Sequence[str], tables: Sequence[pa.Table]) -> pa.ChunkedArray:
    """Return one column of all tables. Whole numbers join numbers; nothing else changes its type in silence."""
    fields = [table.schema.field(at) for table in tables]
    column = fields[0].name
    known = next((n for n, field in enumerate(fields) if field.type != pa.null()), 0)
    for name, field in zip(names, fields, strict=True):
        try:
            if layout(field) != layout(fields[known]):
                raise pa.ArrowInvalid
            parts = [pa.schema([pa.field(column, f.type)]) for f in (fields[known], field)]
            pa.unify_schemas(parts, promote_options="permissive")
        except pa.ArrowException:
            raise Invalid(
                f"{name}: column {column!r} holds {_words(field)}, and in {names[known]} it holds {_words(fields[known])}: mend "
                f"it, or give it one type in all files (types={{{column!r}: 'category'}})",
                errors=[FieldError(f"{name}, {column}", _words(fields[known]))],
            ) from None
    alone = [pa.table({column: table.column(at)}) for table in tables]
    return pa.concat_tables(alone, promote_options="permissive").column(0)


def _words(field: pa.Field) -> str:
    if found := layout(field):
        return f"arrays of shape {'x'.join(map(str, found[1]))}"
    kind = field.type
    for test, words in (
        (pa.types.is_boolean, "true or false"),
        (pa.types.is_integer, "whole numbers"),
        (pa.types.is_floating, "numbers"),
        (pa.types.is_temporal, "dates"),
        (pa.types.is_large_string, "text"),
        (pa.types.is_null, "nothing"),
    ):
        if test(kind):
            return words
    return f"{kind} values"


def _check_names(name: str, columns: Sequence[str]) -> None:
    seen: set[str] = set()
    for column in columns:
        if column in seen:
            raise Invalid(f"{name} has two columns named {column!r}: rename one", errors=[FieldError(column, "twice")])
        if not column.strip():
            raise Invalid(f"{name} has a column without a name: give it one", errors=[FieldError(name, "a name")])
        seen.add(column)


def _gunzip(name: str, data: bytes) -> bytes:
    limit = max(MAX_SMALL, len(data) * MAX_RATIO)
    out = io.BytesIO()
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            while chunk := file.read(1 << 20):
                out.write(chunk)
                if out.tell() > limit:
                    raise TooLarge(
                        f"{name} unpacks to more than {MAX_RATIO} times its size: unpack it yourself if that is right"
                    )
    except (OSError, EOFError, zlib.error) as error:
        raise Invalid(
            f"{name} is not a gzip file that can be read to its end: {error}", errors=[FieldError(name, "a gzip file")]
        ) from error
    if not out.tell():
        raise Invalid(f"{name} is empty: there is no data in it", errors=[FieldError(name, "is empty")])
    return out.getvalue()
