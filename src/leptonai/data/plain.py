"""Tables of any Arrow types in the few types that datasets have."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from leptonai.core.errors import FieldError, Invalid
from leptonai.data.blocks import array_column, layout, table


def plain(name: str, found: pa.Table) -> pa.Table:
    """Return a table whose nested objects are columns (``a.b``) and whose lists of numbers, all of one length, are tensors.

    Raises `Invalid` naming the column for what has no place in a dataset.
    """
    while any(pa.types.is_struct(field.type) for field in found.schema):
        found = found.flatten()
    if not found.num_columns:
        raise Invalid(f"{name} has no columns: there is no data in it", errors=[FieldError(name, "no columns")])
    return table(
        (field, found[at]) if layout(field) else _column(name, field, found[at])
        for at, field in enumerate(found.schema)
    )


def _column(file: str, field: pa.Field, values: pa.ChunkedArray) -> tuple[pa.Field, pa.ChunkedArray | pa.Array]:
    """Return a column in one of the few types that datasets have."""
    kind = field.type
    if pa.types.is_dictionary(kind):
        values = pc.cast(values, kind.value_type)
        kind = kind.value_type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return array_column(file, field.name, _stacked(file, field.name, values))
    if pa.types.is_string(kind) or pa.types.is_string_view(kind):
        values = pc.cast(values, pa.large_string())
    elif pa.types.is_decimal(kind) or pa.types.is_float16(kind):
        values = pc.cast(values, pa.float64())
    elif pa.types.is_time(kind) or pa.types.is_duration(kind) or not _known(kind):
        raise Invalid(
            f"{file}: column {field.name!r} holds {kind} values, which are not known: make them numbers or text, or leave the "
            "column out",
            errors=[FieldError(field.name, "numbers, text, dates or lists of numbers of one length")],
        )
    return pa.field(field.name, values.type), values


def _known(kind: pa.DataType) -> bool:
    return any(test(kind) for test in (pa.types.is_null, pa.types.is_large_string, pa.types.is_primitive))


def _stacked(file: str, name: str, values: pa.ChunkedArray) -> np.ndarray:
    kind = values.type.value_type
    lengths = pc.min_max(pc.list_value_length(values)).as_py()
    even = values.null_count == 0 and len(values) and lengths["min"] == lengths["max"]
    if not even or not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise Invalid(
            f"{file}: column {name!r} holds {values.type} values: lists must be of numbers, all of one length, none missing",
            errors=[FieldError(name, "lists of numbers of one length")],
        )
    flat = pc.cast(pc.list_flatten(values), pa.float32()).to_numpy()
    return np.ascontiguousarray(flat, np.float32).reshape(len(values), lengths["max"])
