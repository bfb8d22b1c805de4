"""Rows out of the encrypted store: frames in memory, and files that are written shard by shard."""

import contextlib
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leptonai.core.errors import DiskFull, FieldError, Invalid, MissingExtra, Unsupported
from leptonai.core.nouns import Column
from leptonai.core.signature import FeatureType
from leptonai.sdk import reading
from leptonai.sdk.show import Progress

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

    from leptonai.sdk.datasets import Dataset

BLOCKS = (FeatureType.IMAGE, FeatureType.TENSOR, FeatureType.AUDIO)
# https://owasp.org/www-community/attacks/CSV_Injection; what is a number cannot be a formula.
FORMULA = r"^[=+\-@\t\r]"
NUMBER = r"^[+\-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+\-]?[0-9]+)? *$"


def chosen(dataset: "Dataset", columns: Sequence[str] | None) -> list[Column]:
    """Return the columns that are asked for, in that order."""
    by_name = {column.name: column for column in dataset.columns}
    return list(by_name.values()) if columns is None else [by_name[name] for name in columns if name in by_name]


def tables(dataset: "Dataset", columns: Sequence[str] | None, *, mask: bool = False) -> Iterator["pyarrow.Table"]:
    """Yield the rows, shard by shard. Raises `Invalid` for a column that is not there."""
    import pyarrow

    wanted = {column.name: column for column in chosen(dataset, columns)}
    for table in reading.reader(dataset, mask=mask).tables(columns):
        plain = [_tensors(table[name], wanted[name]) for name in table.column_names]
        yield pyarrow.table(plain, table.column_names)


def _tensors(values: Any, column: Column) -> Any:
    """Return a column with images and tensors as what Arrow calls fixed-shape tensors."""
    import pyarrow

    if column.type not in BLOCKS:
        return values
    from leptonai.data.blocks import as_array

    array = as_array(values, column.dtype, column.shape)
    flat = pyarrow.FixedSizeListArray.from_arrays(
        pyarrow.array(array.reshape(-1)), int(array[0].size if len(array) else 1)
    )
    kind = pyarrow.fixed_shape_tensor(flat.type.value_type, column.shape)
    return pyarrow.chunked_array([pyarrow.ExtensionArray.from_storage(kind, flat)])


def arrow(dataset: "Dataset", columns: Sequence[str] | None, *, mask: bool = False) -> "pyarrow.Table":
    """Return the rows as an Arrow table."""
    import pyarrow

    return pyarrow.concat_tables(list(tables(dataset, columns, mask=mask)))


def polars_frame(dataset: "Dataset", columns: Sequence[str] | None, *, mask: bool = False) -> "polars.DataFrame":
    """Return the rows as a polars data frame."""
    try:
        import polars
    except ImportError as error:
        raise MissingExtra("a data frame needs polars: pip install 'lepton-ai-sdk[platform]'") from error
    table = arrow(dataset, columns, mask=mask)
    found = {}
    for column in chosen(dataset, columns):
        values = table[column.name]
        whole = values.combine_chunks() if column.type in BLOCKS else values
        found[column.name] = whole.to_numpy_ndarray() if column.type in BLOCKS else polars.from_arrow(values)
    return polars.DataFrame(found)


def pandas_frame(dataset: "Dataset", columns: Sequence[str] | None, *, mask: bool = False) -> "pandas.DataFrame":
    """Return the rows as a pandas data frame."""
    try:
        import pandas
    except ImportError as error:
        raise MissingExtra("this data frame needs pandas: pip install pandas") from error
    table = arrow(dataset, columns, mask=mask)
    found = {}
    for column in chosen(dataset, columns):
        values = table[column.name]
        if column.type in BLOCKS:
            found[column.name] = pandas.Series(list(values.combine_chunks().to_numpy_ndarray()))
        else:
            found[column.name] = values.to_pandas()
    return pandas.DataFrame(found)


def parquet(dataset: "Dataset", path: Path, columns: Sequence[str] | None, *, mask: bool = False) -> int:
    """Write a Parquet file, and return the number of rows."""
    import pyarrow.parquet

    def write(file: Any) -> int:
        rows, writer = 0, None
        try:
            for table in _followed(dataset, columns, path, mask):
                writer = writer or pyarrow.parquet.ParquetWriter(file, table.schema, compression="zstd")
                writer.write_table(table)
                rows += table.num_rows
        finally:
            if writer is not None:
                writer.close()
        return rows

    return written(path, write)


def csv(dataset: "Dataset", path: Path, columns: Sequence[str] | None, *, mask: bool = False) -> int:
    """Write a CSV file that no spreadsheet takes for a program, and return the number of rows."""
    import pyarrow.csv

    wide = next((column for column in chosen(dataset, columns) if column.type in (*BLOCKS, FeatureType.BOXES)), None)
    if wide is not None:
        raise Unsupported(
            f"column {wide.name!r} holds {wide.type} values, which a CSV file cannot: export to a .parquet file, or leave it out "
            "with columns=[…]",
            errors=[FieldError("columns", f"without {wide.name}")],
        )

    def write(file: Any) -> int:
        rows, writer = 0, None
        try:
            for table in _followed(dataset, columns, path, mask):
                found = harmless(table)
                writer = writer or pyarrow.csv.CSVWriter(file, found.schema)
                writer.write_table(found)
                rows += found.num_rows
        finally:
            if writer is not None:
                writer.close()
        return rows

    return written(path, write)


def harmless(table: "pyarrow.Table") -> "pyarrow.Table":
    """Return a table in which no text, and no name of a column, begins as a formula does."""
    import pyarrow as pa
    import pyarrow.compute as pc

    def safe(values: Any) -> Any:
        if pa.types.is_timestamp(values.type):
            return pc.strftime(values, "%Y-%m-%dT%H:%M:%S")
        if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
            return values
        risky = pc.and_(pc.match_substring_regex(values, FORMULA), pc.invert(pc.match_substring_regex(values, NUMBER)))
        mark, between = (pa.scalar(text, values.type) for text in ("'", ""))
        return pc.if_else(risky, pc.binary_join_element_wise(mark, values, between), values)

    names = safe(pa.array(table.column_names, pa.large_string())).to_pylist()
    return pa.table([safe(column) for column in table.columns], names)


def _followed(dataset: "Dataset", columns: Sequence[str] | None, path: Path, mask: bool) -> Iterator["pyarrow.Table"]:
    done = 0
    with Progress(f"export {path.name}") as progress:
        for table in tables(dataset, columns, mask=mask):
            yield table
            done += table.num_rows
            progress.update(done, dataset.rows, "rows")


def written(path: Path, write: Any) -> int:
    """Write a file beside its place and bring it there when it is whole. Raises `Invalid`, `DiskFull`."""
    temp = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temp.open("xb") as file:
            rows: int = write(file)
        temp.replace(path)
    except OSError as error:
        kind = DiskFull if error.errno == 28 else Invalid
        raise kind(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temp.unlink(missing_ok=True)
    return rows
