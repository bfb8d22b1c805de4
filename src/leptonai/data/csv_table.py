"""A CSV file as tables, block by block: types are told from the first rows, and then hold for all of them.

Read by polars where the text is plain, which is fast, else (quotes, blank lines, blanks around numbers) by Arrow, which is
exact about them. Both read the same values: whole numbers, numbers or text; what text means is decided in `columns`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import BinaryIO

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.signature import FeatureType
from leptonai.data.csv_cut import blocks
from leptonai.data.csv_text import Text, more, ragged, read_text, rows, say_row, unclosed
from leptonai.data.misfit import first_misfit, fits

SCHEMA_ROWS = 100_000
NULLS = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")

_CODE = r"^\s*-?0[0-9]"  # a whole number with zeros in front is a code, such as a postcode
_DIGITS = r"^\s*-?[0-9]{19,}\s*$"  # more than 64 bits hold: a number that long is a name
_LONG = 19
_FEW = 1000  # rows
_TEXT = pa.large_string()
_POLARS = {pa.int64(): pl.Int64, pa.float64(): pl.Float64, _TEXT: pl.String}
_WORDS = {pa.int64(): "a whole number", pa.float64(): "a number"}
BLOCK = 32 << 20  # of text that is one table
_ARROW_BLOCK = 8 << 20


def read_csv(
    name: str, file: BinaryIO, types: Mapping[str, FeatureType], *, tabs: bool = False, block: int = BLOCK
) -> Iterator[pa.Table]:
    """Yield the rows, about `block` bytes of text at a time.

    `types` are what the user says of columns. Raises `Invalid` naming row, column and the way out.
    """
    text: Text | None = None
    kinds: dict[str, pa.DataType] = {}
    lines = 0
    for data in blocks(name, file, block):
        if text is None:
            text = read_text(name, data, tabs=tabs)
            _check_twice(name, text.header)
        else:
            text = more(text, data, text.rows, lines)
        table, plain = _checked(text, types, kinds)
        # Counting ends of lines takes as long as reading: where each row is one line, it is not needed.
        lines += data.count(b"\n", 0, text.body) + table.num_rows if plain else data.count(b"\n")
        text = text._replace(rows=text.rows + table.num_rows)
        if table.num_rows:
            yield table


def _check_twice(name: str, header: Sequence[str]) -> None:
    if len(set(header)) < len(header):
        twice = next(column for column in header if header.count(column) > 1)
        raise Invalid(f"{name} has two columns named {twice!r}: rename one", errors=[FieldError(twice, "twice")])


def _checked(text: Text, types: Mapping[str, FeatureType], kinds: dict[str, pa.DataType]) -> tuple[pa.Table, bool]:
    """Return a block as a table, and whether each row is one line.

    What its columns are is kept in `kinds`, and holds for the next blocks.
    """
    if text.quoted and text.data.count(b'"') % 2 and (problem := unclosed(text)):
        raise problem
    try:
        return _table(text, types, kinds, _ARROW_BLOCK)
    except pa.ArrowInvalid as error:
        if "straddling" not in str(error):  # a value longer than what is read at once is no fault of the file
            raise ragged(text) or Invalid(f"{text.name} is not a CSV file that can be read: {error}") from error
    return _table(text, types, kinds, len(text.data))


def _table(
    text: Text, types: Mapping[str, FeatureType], kinds: dict[str, pa.DataType], block: int
) -> tuple[pa.Table, bool]:
    unknown = [column for column in text.header if column not in kinds]
    head = _head(text, block) if unknown else None
    told = {column: _kind(head[column], types.get(column)) for column in unknown} if head is not None else {}
    table, plain = _parse(text, {column: kinds.get(column) or told[column] for column in text.header}, block)
    found = {
        column: _decided(table[column], head.num_rows if head is not None and column in told else 0)
        for column in text.header
    }
    # A column that has no value yet is told by the next block.
    kinds |= {column: found[column].type for column in unknown if found[column].type != pa.null()}
    return pa.table(found), plain


def _head(text: Text, block: int) -> pa.Table:
    """Return the first rows as text."""
    kinds = dict.fromkeys(text.header, _TEXT)
    if not text.quoted and len(kinds) > 1:
        try:
            return _polars(text, kinds, SCHEMA_ROWS)
        except pl.exceptions.PolarsError:
            pass  # a row with too many values, of which Arrow says more
    reader = pacsv.open_csv(*_arrow(text, kinds, block))
    found, count = [], 0
    with reader:
        for batch in reader:
            found.append(batch)
            count += batch.num_rows
            if count >= SCHEMA_ROWS:
                break
    return pa.Table.from_batches(found, reader.schema).slice(0, SCHEMA_ROWS)


def _kind(values: pa.ChunkedArray, given: FeatureType | None) -> pa.DataType:
    """Return how a column is to be read; where that is text, `columns.cast` makes of it what the user says."""
    if given not in (None, FeatureType.NUMBER, FeatureType.INTEGER):
        return _TEXT
    told = _told(values)
    return pa.float64() if given is FeatureType.NUMBER and told == pa.int64() else told


def _told(values: pa.ChunkedArray) -> pa.DataType:
    if values.null_count == len(values):
        return _TEXT  # nothing is known yet: what comes later decides
    few = values.slice(0, _FEW)  # most columns of other numbers say so at once
    if fits(few, _to(pa.int64())) and fits(values, _to(pa.int64())):
        return _TEXT if _any(values, _CODE) else pa.int64()
    long = pc.max(pc.binary_length(values)).as_py() >= _LONG  # looked at closely only then: that is slow
    return pa.float64() if fits(values, _to(pa.float64())) and not (long and _any(values, _DIGITS)) else _TEXT


def _to(kind: pa.DataType) -> Callable[[pa.ChunkedArray], pa.ChunkedArray]:
    def convert(values: pa.ChunkedArray) -> pa.ChunkedArray:
        try:
            return pc.cast(values, kind)
        except pa.ArrowInvalid:  # perhaps for the blanks around it, which take long to look for
            return pc.cast(pc.utf8_trim_whitespace(values), kind)

    return convert


def _any(values: pa.ChunkedArray, pattern: str) -> bool:
    return pc.any(pc.match_substring_regex(values, pattern)).as_py() is True


def _parse(text: Text, kinds: Mapping[str, pa.DataType], block: int) -> tuple[pa.Table, bool]:
    if not text.quoted and len(kinds) > 1:
        try:
            table = _polars(text, kinds, None)
            # Polars sees a row with too many values, not one with too few: there the last one is missing.
            if not table[table.num_columns - 1].null_count or _even(text):
                return table, True
        except pl.exceptions.PolarsError:
            pass  # a word for "missing", blanks around a number, or a fault: Arrow knows the first two
    try:
        return pacsv.read_csv(*_arrow(text, kinds, block)), False
    except pa.ArrowInvalid as error:
        if "straddling" in str(error):
            raise
        if problem := ragged(text) or _misfit(text, kinds, block):
            raise problem from error
        raise


def _polars(text: Text, kinds: Mapping[str, pa.DataType], rows: int | None) -> pa.Table:
    schema = pl.Schema({column: _POLARS[kind] for column, kind in kinds.items()})
    frame = pl.read_csv(
        text.data, has_header=text.body > 0, schema=schema, separator=text.delimiter, quote_char=None, n_rows=rows
    )
    return _nulls(frame.to_arrow(compat_level=pl.CompatLevel.oldest()))


def _even(text: Text) -> bool:
    """Whether each row can have as many values as the header."""
    lines = text.data.count(b"\n", text.body) + (not text.data.endswith(b"\n"))
    return text.data.count(text.delimiter.encode(), text.body) == lines * (len(text.header) - 1)


def _nulls(table: pa.Table) -> pa.Table:
    """Return the table with the words for "missing" taken out of its text, as Arrow's reader does."""
    words = pa.array(NULLS, _TEXT)
    for at, field in enumerate(table.schema):
        if field.type == _TEXT:
            missing = pc.is_in(table[at], words)
            if pc.any(missing).as_py():
                table = table.set_column(at, field.name, pc.if_else(missing, pa.scalar(None, _TEXT), table[at]))
    return table


def _arrow(
    text: Text, kinds: Mapping[str, pa.DataType], block: int
) -> tuple[pa.BufferReader, pacsv.ReadOptions, pacsv.ParseOptions, pacsv.ConvertOptions]:
    return (
        pa.BufferReader(pa.py_buffer(text.data).slice(text.body)),
        pacsv.ReadOptions(column_names=list(kinds), block_size=min(block, 2**31 - 1)),
        pacsv.ParseOptions(delimiter=text.delimiter, newlines_in_values=text.quoted),
        pacsv.ConvertOptions(
            column_types=dict(kinds), null_values=list(NULLS), strings_can_be_null=True, quoted_strings_can_be_null=True
        ),
    )


def _decided(values: pa.ChunkedArray, seen: int) -> pa.ChunkedArray:
    """Return a column whose `seen` first rows are all empty as what the rest of it is; other columns as they are."""
    if not seen or values.type != _TEXT or values.slice(0, seen).null_count < min(seen, len(values)):
        return values
    if values.null_count == len(values):
        return pa.chunked_array([pa.nulls(len(values))])
    kind = _told(values)
    return values if kind == _TEXT else _to(kind)(values)


def _misfit(text: Text, kinds: Mapping[str, pa.DataType], block: int) -> Invalid | None:
    """Return what is wrong with the first value that is not of the type of its column; None when all are."""
    table = pacsv.read_csv(*_arrow(text, dict.fromkeys(kinds, _TEXT), block))
    numeric = [(column, _to(kind)) for column, kind in kinds.items() if kind != _TEXT]
    found = [(first_misfit(table[column], to), column) for column, to in numeric if not fits(table[column], to)]
    if not found:
        return None
    row, column = min(found)
    alone = table[column].slice(row, 1)
    value = alone[0].as_py()
    row += text.rows
    line = next((line for number, line, _ in rows(text) if number == row + 1), row + 2)
    way = "number" if fits(alone, _to(pa.float64())) else "category"
    return Invalid(
        f"{text.name}, {say_row(row + 1, line)}: column {column!r} holds {value[:60]!r}, which is not {_WORDS[kinds[column]]} as "
        f"in the rows before: mend it, or give the column another type (types={{{column!r}: {way!r}}})",
        errors=[FieldError(f"{text.name} row {row + 1}, {column}", _WORDS[kinds[column]])],
    )
