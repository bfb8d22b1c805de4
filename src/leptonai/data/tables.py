"""CSV, Parquet and NPZ files as one table each. What cannot be read is named: file, row, column, and the way out."""

import csv
import gzip
import io
import zipfile
import zlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from leptonai.core.errors import FieldError, Invalid, TooLarge

SCHEMA_ROWS = 100_000  # types are inferred from these, and then hold for the whole file
MAX_RATIO = 200  # of a compressed file, and at least...
MAX_SMALL = 256 << 20  # ...this much is allowed whatever the ratio
NULLS = ["", "NA", "N/A", "NaN", "nan", "null", "NULL"]
ENDINGS = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet", ".npz")


def read_table(name: str, data: bytes) -> pa.Table:
    """Return the table in a file; its ending tells what it is. Raises `Invalid`."""
    low = name.lower()
    if not data:
        raise Invalid(f"{name} is empty: there is no data in it", errors=[FieldError(name, "is empty")])
    if low.endswith(".gz"):
        data, low = _gunzip(name, data), low.removesuffix(".gz")
    if low.endswith((".csv", ".tsv")):
        table = _csv(name, data, "\t" if low.endswith(".tsv") else ",")
    elif low.endswith(".parquet"):
        table = _parquet(name, data)
    elif low.endswith(".npz"):
        table = _npz(name, data)
    else:
        raise Invalid(
            f"{name} is not a kind of file that is known: use {', '.join(ENDINGS)}, or a folder of images by class"
        )
    if table.num_rows == 0:
        raise Invalid(f"{name} has a header and no rows: there is no data in it", errors=[FieldError(name, "no rows")])
    _check_names(name, table.column_names)
    return table


def join(names: Sequence[str], tables: Sequence[pa.Table]) -> pa.Table:
    """Return one table of several, in their order. Raises `Invalid` naming the file and the column that differ."""
    first = tables[0]
    for name, table in zip(names[1:], tables[1:], strict=True):
        if missing := [c for c in first.column_names if c not in table.column_names]:
            raise Invalid(
                f"{name} lacks the column {missing[0]!r}, which {names[0]} has: files of one dataset need the same columns"
            )
        if extra := [c for c in table.column_names if c not in first.column_names]:
            raise Invalid(
                f"{name} has a column {extra[0]!r}, which {names[0]} lacks: files of one dataset need the same columns"
            )
    ordered = [first, *(table.select(first.column_names) for table in tables[1:])]
    try:
        return pa.concat_tables(ordered, promote_options="permissive").unify_dictionaries()
    except pa.ArrowInvalid:
        for name, table in zip(names[1:], ordered[1:], strict=True):
            for column in first.column_names:
                mine, theirs = table.schema.field(column).type, first.schema.field(column).type
                try:
                    pa.concat_tables([first.select([column]), table.select([column])], promote_options="permissive")
                except pa.ArrowInvalid:
                    raise Invalid(
                        f"{name}: column {column!r} holds {mine} values, in {names[0]} it holds {theirs}: mend it, or give it "
                        f"one type for all files (types={{{column!r}: 'category'}})"
                    ) from None
        raise


def _check_names(name: str, columns: Sequence[str]) -> None:
    seen: set[str] = set()
    for column in columns:
        if column in seen:
            raise Invalid(f"{name} has two columns named {column!r}: rename one", errors=[FieldError(column, "twice")])
        if not column.strip():
            raise Invalid(
                f"{name} has a column without a name: give it one", errors=[FieldError(name, "unnamed column")]
            )
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
        raise Invalid(f"{name} is not a complete gzip file: {error}") from error
    return out.getvalue()


def _csv(name: str, data: bytes, delimiter: str) -> pa.Table:
    head = data[: min(len(data), 1 << 20)]
    line = max(1, len(head) // max(1, head.count(b"\n")))
    # One block holds the rows that types are inferred from; Arrow infers from the first block only.
    block = min(max(line * SCHEMA_ROWS, 1 << 20), 1 << 28, max(len(data), 1))
    parse = pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=b'"' in data)
    convert = pacsv.ConvertOptions(null_values=NULLS, strings_can_be_null=True, quoted_strings_can_be_null=False)
    try:
        # One thread: then an error tells its row.
        read = pacsv.ReadOptions(block_size=block, use_threads=False)
        return pacsv.read_csv(io.BytesIO(data), read_options=read, parse_options=parse, convert_options=convert)
    except pa.ArrowInvalid as error:
        raise _explained(name, data, delimiter, str(error)) from error


def _explained(name: str, data: bytes, delimiter: str, said: str) -> Invalid:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = data.count(b"\n", 0, error.start)
        return Invalid(
            f"{name}, row {row}: the file is not UTF-8 text: save it as UTF-8", errors=[FieldError(name, "UTF-8")]
        )
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        header = next(rows)
        for number, values in enumerate(rows, start=1):
            if values and len(values) != len(header):
                return Invalid(
                    f"{name}, row {number}: it has {len(values)} values, the header has {len(header)}: mend the row, or quote a "
                    f"value that holds {delimiter!r}",
                    errors=[FieldError(f"{name} row {number}", f"{len(header)} values")],
                )
    except (csv.Error, StopIteration) as error:
        return Invalid(f"{name} is not a CSV file that can be read: {error or said}")
    return _changed_type(name, text, delimiter, header, said)


def _changed_type(name: str, text: str, delimiter: str, header: list[str], said: str) -> Invalid:
    """Explain a value that does not fit the type that the rows before it had."""
    kind = said.partition("conversion error to ")[2].partition(":")[0] or "the type of the rows before"
    for at, column in enumerate(header):
        if f"column '{column}'" not in said and f"CSV column #{at}:" not in said:
            continue
        words = {"int64": "a whole number", "double": "a number", "bool": "true or false"}.get(kind, f"a {kind}")
        row, value = _find_misfit(text, delimiter, at, kind)
        where = f", row {row:,}" if row else ""
        return Invalid(
            f"{name}{where}: column {column!r} holds {value!r}, which is not {words} as in the rows before: mend it, or read the "
            f"column as text (types={{{column!r}: 'category'}})",
            errors=[FieldError(f"{column} row {row}", words)],
        )
    return Invalid(f"{name} is not a CSV file that can be read: {said}")


def _find_misfit(text: str, delimiter: str, at: int, kind: str) -> tuple[int, str]:
    def fits(value: str) -> bool:
        if value in NULLS:
            return True
        try:
            if kind == "int64":
                int(value)
            elif kind == "double":
                float(value)
            elif kind == "bool":
                return value.lower() in {"true", "false", "0", "1"}
            else:
                return len(value) >= 8 and value[:4].isdigit()
        except ValueError:
            return False
        return True

    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    next(rows)
    for number, row in enumerate(rows, start=1):
        if row and not fits(row[at].strip()):
            return number, row[at]
    return 0, "?"


def _parquet(name: str, data: bytes) -> pa.Table:
    try:
        table = pq.read_table(pa.BufferReader(data))
    except (pa.ArrowInvalid, OSError) as error:
        raise Invalid(f"{name} is not a Parquet file that can be read: {error}") from error
    for field in table.schema:
        simple = (
            pa.types.is_primitive(field.type) or pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
        )
        if pa.types.is_dictionary(field.type):
            table = table.set_column(
                table.column_names.index(field.name), field.name, table[field.name].cast(field.type.value_type)
            )
        elif not simple:
            raise Invalid(
                f"{name}: column {field.name!r} holds {field.type} values, which are not known: flatten it, or leave it out"
            )
    return table


def _npz(name: str, data: bytes) -> pa.Table:
    limit = max(MAX_SMALL, len(data) * MAX_RATIO)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(member.file_size for member in archive.infolist()) > limit:
                raise TooLarge(
                    f"{name} unpacks to more than {MAX_RATIO} times its size: save it without compression if that is right"
                )
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            found = {key: arrays[key] for key in arrays.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, MemoryError) as error:
        raise Invalid(
            f"{name} is not an NPZ file of plain arrays (an array of Python objects is never loaded): {error}"
        ) from error
    if not found:
        raise Invalid(f"{name} holds no array")
    if scalar := [key for key, array in found.items() if array.ndim == 0]:
        raise Invalid(f"{name}: array {scalar[0]!r} has no axis of rows: give it one, or leave it out")
    rows = {key: len(array) for key, array in found.items()}
    if len(set(rows.values())) > 1:
        raise Invalid(
            f"{name}: its arrays have different numbers of rows ({rows}): the first axis of all must be the same"
        )
    return pa.table({key: arrow_of(name, key, array) for key, array in found.items()})


def arrow_of(file: str, name: str, array: np.ndarray) -> pa.Array:
    """Return an array as a column; arrays of more than one axis become fixed-size binary, their shape kept in the field."""
    if array.ndim == 1:
        if array.dtype.kind in "OV":
            raise Invalid(f"{file}: array {name!r} holds {array.dtype} values, which are not known")
        return pa.array(array.astype(str) if array.dtype.kind in "SU" else array)
    if array.dtype.kind not in "fiub":
        raise Invalid(f"{file}: array {name!r} holds {array.dtype} values in {array.ndim} axes; only numbers can")
    image = array.dtype == np.uint8 and (array.ndim == 3 or (array.ndim == 4 and array.shape[3] in (1, 3, 4)))
    if image and array.ndim == 3:
        array = array[..., None]
    if not image:
        array = array.astype("float32")
    return Blocks.array(np.ascontiguousarray(array))


class Blocks:
    """Images and tensors as columns: rows of fixed-size binary, in an extension-free form that Parquet stores compactly."""

    @staticmethod
    def array(values: np.ndarray) -> pa.Array:
        """Return (rows, *shape) as fixed-size binary; dtype and shape go into the type's name, see `shape_of`."""
        size = int(values.dtype.itemsize * np.prod(values.shape[1:]))
        flat = pa.FixedSizeBinaryArray.from_buffers(pa.binary(size), len(values), [None, pa.py_buffer(values)])
        return pa.ExtensionArray.from_storage(BlockType(size, str(values.dtype), values.shape[1:]), flat)


class BlockType(pa.ExtensionType):  # type: ignore[misc]
    """In memory only: says the dtype and the shape of a fixed-size binary column until the manifest does."""

    def __init__(self, size: int, dtype: str, shape: tuple[int, ...]):
        self.dtype, self.shape = dtype, shape
        super().__init__(pa.binary(size), "leptonai.block")

    def __arrow_ext_serialize__(self) -> bytes:
        return f"{self.storage_type.byte_width}|{self.dtype}|{','.join(map(str, self.shape))}".encode()

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> "BlockType":
        size, dtype, shape = serialized.decode().split("|")
        return cls(int(size), dtype, tuple(int(n) for n in shape.split(",")))
