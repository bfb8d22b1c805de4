"""Tables from files of any kind, piece by piece, and several of them as one.

What cannot be read is named: file, row, column, the way out.
"""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import BufferedReader, RawIOBase
from typing import Any, BinaryIO, cast

import pyarrow as pa

from leptonai.core.errors import FieldError, Invalid, TooLarge
from leptonai.core.ports import Store
from leptonai.core.signature import FeatureType
from leptonai.data.arrow_file import read_arrow
from leptonai.data.blocks import layout
from leptonai.data.csv_table import read_csv
from leptonai.data.jsonl_table import read_jsonl
from leptonai.data.npz_file import read_npz
from leptonai.data.origin import Origin
from leptonai.data.parquet_file import read_parquet
from leptonai.data.parts import opened
from leptonai.data.spec import PACKED, TABLES, SourceFile
from leptonai.data.xz_file import Xz

MAX_RATIO = 200  # of a compressed file, and at least...
MAX_SMALL = 256 << 20  # ...this much is allowed whatever the ratio
_UNPACK: Mapping[str, Callable[[Any], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": Xz,
    ".zst": lambda file: pa.CompressedInputStream(file, "zstd"),
}
_ALIKE = "files of one dataset need the same columns"


def wrote_text(name: str) -> bool:
    """Whether a file of this name writes all values as text."""
    low = name.lower()
    return low.endswith(tuple(text + packed for text in (".csv", ".tsv") for packed in ("", *PACKED)))


def read_tables(file: SourceFile, blobs: Store, types: Mapping[str, FeatureType]) -> Iterator[tuple[pa.Table, int]]:
    """Yield the rows of a file as tables, each with the bytes read so far; its ending tells what it is.

    `types`: what the user says of columns. Raises `Invalid`.
    """
    name, low = file.name, file.name.lower()
    if not file.size:
        raise Invalid(f"{name} is empty: there is no data in it", errors=[FieldError(name, "is empty")])
    if not low.endswith(TABLES):
        right = f"{', '.join(TABLES)}, or a folder of images by class"
        raise Invalid(f"{name} is not a kind of file that is known: use {right}", errors=[FieldError(name, right)])
    rows = 0
    with opened(file, blobs) as source:
        for table in _tables(file, low, source, types):
            if not rows:
                _check_header(name, table.column_names)
            rows += table.num_rows
            yield table, min(source.tell(), file.size)
    if not rows:
        raise Invalid(f"{name} has columns and no rows: there is no data in it", errors=[FieldError(name, "no rows")])


def _tables(file: SourceFile, low: str, source: BinaryIO, types: Mapping[str, FeatureType]) -> Iterator[pa.Table]:
    if low.endswith(".parquet"):
        return read_parquet(file.name, source)
    if low.endswith((".arrow", ".feather")):
        return read_arrow(file.name, source)
    if low.endswith(".npz"):
        return read_npz(file.name, source, file.size)
    packed = next((ending for ending in PACKED if low.endswith(ending)), None)
    if packed is not None:
        source = cast(BinaryIO, BufferedReader(_Unpacked(file, _UNPACK[packed](source)), 1 << 20))
        if not source.peek(1):  # type: ignore[attr-defined]  # a BufferedReader has it
            raise Invalid(f"{file.name} is empty: there is no data in it", errors=[FieldError(file.name, "is empty")])
        low = low.removesuffix(packed)
    if low.endswith((".jsonl", ".ndjson")):
        return read_jsonl(file.name, source)
    return read_csv(file.name, source, types, tabs=low.endswith(".tsv"))


class _Unpacked(RawIOBase):
    """What is in a compressed file, as far as it does not grow beyond all reason."""

    def __init__(self, file: SourceFile, source: BinaryIO):
        self._file = file
        self._source = source
        self._left = max(MAX_SMALL, file.size * MAX_RATIO)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._source.read(len(buffer))
        except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise Invalid(
                f"{self._file.name} is not a compressed file that can be read to its end: {error}",
                errors=[FieldError(self._file.name, "a compressed file")],
            ) from error
        self._left -= len(data)
        if self._left < 0:
            raise TooLarge(
                f"{self._file.name} unpacks to more than {MAX_RATIO} times its size: unpack it yourself if that is right"
            )
        buffer[: len(data)] = data
        return len(data)


def join(origin: Origin, tables: Sequence[pa.Table]) -> pa.Table:
    """Return one table of several, in their order. Raises `Invalid` naming the file and the column that differ."""
    first, one = tables[0], origin.files[0]
    for name, table in zip(origin.files[1:], tables[1:], strict=True):
        check_names(name, table.column_names, one, first.column_names)
    ordered = [table.select(first.column_names) for table in tables]
    columns = [_joined(at, origin.files, ordered) for at in range(first.num_columns)]
    fields = [
        pa.field(field.name, column.type, metadata=field.metadata)
        for field, column in zip(first.schema, columns, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def check_names(name: str, columns: Sequence[str], one: str, wanted: Sequence[str]) -> None:
    """Raise `Invalid` unless a file has the columns that the first one has, in any order."""
    if missing := [column for column in wanted if column not in columns]:
        raise Invalid(f"{name} lacks the column {missing[0]!r}, which {one} has: {_ALIKE}")
    if extra := [column for column in columns if column not in wanted]:
        raise Invalid(f"{name} has a column {extra[0]!r}, which {one} lacks: {_ALIKE}")


def check_alike(name: str, field: pa.Field, one: str, known: pa.Field) -> None:
    """Raise `Invalid` unless the values of a column in one file join those in another: whole numbers join numbers."""
    if pa.types.is_null(field.type) or pa.types.is_null(known.type):
        return
    try:
        if layout(field) != layout(known):
            raise pa.ArrowInvalid
        pa.unify_schemas([pa.schema([pa.field("", it.type)]) for it in (known, field)], promote_options="permissive")
    except pa.ArrowException:
        column = field.name
        raise Invalid(
            f"{name}: column {column!r} holds {_words(field)}, and in {one} it holds {_words(known)}: mend it, or give it one "
            f"type in all files (types={{{column!r}: 'category'}})",
            errors=[FieldError(f"{name}, {column}", _words(known))],
        ) from None


def _joined(at: int, names: Sequence[str], tables: Sequence[pa.Table]) -> pa.ChunkedArray:
    """Return one column of all tables. Nothing but whole numbers among numbers changes its type in silence."""
    fields = [table.schema.field(at) for table in tables]
    known = next((n for n, field in enumerate(fields) if field.type != pa.null()), 0)
    for name, field in zip(names, fields, strict=True):
        check_alike(name, field, names[known], fields[known])
    alone = [pa.table({fields[0].name: table.column(at)}) for table in tables]
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


def _check_header(name: str, columns: Sequence[str]) -> None:
    seen: set[str] = set()
    for column in columns:
        if column in seen:
            raise Invalid(f"{name} has two columns named {column!r}: rename one", errors=[FieldError(column, "twice")])
        if not column.strip():
            raise Invalid(f"{name} has a column without a name: give it one", errors=[FieldError(name, "a name")])
        seen.add(column)
