"""What an import Run does: files in, encrypted shards and a sealed manifest out."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.nouns import Column, FeatureType
from leptonai.core.stages import Handle
from leptonai.data import images
from leptonai.data.blocks import as_array, block, is_image, layout
from leptonai.data.columns import cast, choose_target, feature_type, missing
from leptonai.data.describe import describe, describe_block
from leptonai.data.parts import contents, listed
from leptonai.data.shards import BLOCKS, write_shards
from leptonai.data.spec import Import, SourceFile
from leptonai.data.tables import Origin, join, read_table

FORMAT = 1
PREVIEW_ROWS = 20
_PREVIEW_VALUES = 4096  # of one image or tensor; larger ones are only named
_LISTED = 1000  # files that the record names


def import_files(spec: Import, handle: Handle) -> dict[str, Any]:
    """Make a dataset version; return what `data.verbs.settle_import` needs. Raises `Invalid` that names file, row and column."""
    files = listed(spec, handle.blobs)
    table, origin = _read(files, spec, handle)
    target = choose_target(table.column_names, spec.target)
    _check_types(spec.types, table.column_names)
    columns, values = [], {}
    for name in table.column_names:
        column, values[name] = _column(table, name, spec.types.get(name), origin, is_target=name == target)
        columns.append(column)
        table = table.drop_columns([name])  # what is converted needs no second copy
    if target is not None:
        _check_target(target, values[target], origin)
    handle.say(_summary(columns, target, sum(origin.rows)))
    made = _stored(columns, target, pa.table(values), spec.shard_rows, _source(files, spec), handle)
    return {**made, "name": spec.name}


def _stored(
    columns: list[Column], target: str | None, table: pa.Table, each: int, source: dict[str, Any], handle: Handle
) -> dict[str, Any]:
    rows = table.num_rows
    shards = write_shards(table, columns, each, handle.raw, lambda done: handle.progress(done, rows, "rows"))
    facts = {
        "digest": _digest(columns, target, shards),
        "columns": [column.model_dump(mode="json") for column in columns],
        "target": target,
        "source": source,
    }
    preview = _preview(table.slice(0, PREVIEW_ROWS), columns)
    manifest = {"format": FORMAT, **facts, "shards": shards, "preview": preview}
    stored = handle.blobs.write([json.dumps(manifest, allow_nan=False).encode()])
    return {
        **facts,
        "rows": rows,
        "bytes": sum(shard["bytes"] for shard in shards),
        "manifest": stored.id,
        "shards": [shard["blob"] for shard in shards],
    }


def _source(files: Sequence[SourceFile], spec: Import) -> dict[str, Any]:
    named = [{"name": file.name, "size": file.size} for file in files[:_LISTED]]
    resized = {"image_size": list(spec.image_size)} if spec.image_size is not None else {}
    return {"files": named, "count": len(files), **resized}


def _read(files: Sequence[SourceFile], spec: Import, handle: Handle) -> tuple[pa.Table, Origin]:
    names = tuple(file.name for file in files)
    found = contents(files, handle.blobs, lambda done: handle.progress(done, len(names), "files"))
    if _are_images(files, spec.image_size):
        table = images.read_images(((file.name, file.label or "", data) for file, data in found), spec.image_size)
        return table, Origin(names, (1,) * len(names))
    tables = [read_table(file.name, data, spec.types) for file, data in found]
    origin = Origin(names, tuple(table.num_rows for table in tables))
    return (tables[0] if len(tables) == 1 else join(origin, tables)), origin


def _are_images(files: Sequence[SourceFile], image_size: tuple[int, int] | None) -> bool:
    """Whether the files are images by class. Raises `Invalid` when they are of several kinds."""
    pictures = [file for file in files if file.name.lower().endswith(images.ENDINGS)]
    by_class = [file for file in files if file.label is not None]
    if not pictures and not by_class:
        if image_size is not None:
            raise Invalid(
                "image_size is given, and there are no images: leave it out",
                errors=[FieldError("image_size", "only with images")],
            )
        return False
    mixed = next((f for f in files if f.label is None and not f.name.lower().endswith(images.ENDINGS)), None)
    if mixed is not None:
        other = (pictures or by_class)[0].name
        raise Invalid(
            f"{mixed.name} is a table and {other} is an image: make one dataset of each kind",
            errors=[FieldError(mixed.name, "files of one kind")],
        )
    alone = next((file for file in files if file.label is None), None)
    if alone is not None:
        raise Invalid(
            f"{alone.name} lies in no class folder: give a folder that has a folder for each class",
            errors=[FieldError(alone.name, "in a class folder")],
        )
    return True


def _check_types(types: Mapping[str, FeatureType], names: list[str]) -> None:
    for name in types:
        if name not in names:
            listed = ", ".join(names[:30])
            raise Invalid(
                f"types names a column {name!r}, which is not there: the columns are {listed}",
                errors=[FieldError(f"types.{name}", f"one of {listed}")],
            )


def _column(
    table: pa.Table, name: str, given: FeatureType | None, origin: Origin, *, is_target: bool
) -> tuple[Column, pa.ChunkedArray]:
    """Return a column as it is described and as it is stored."""
    values = table[name]
    found = layout(table.schema.field(name))
    if found is None:
        kind = given or feature_type(values, is_target=is_target)
        values = cast(name, values, kind, origin)
        return describe(name, values, kind, is_target=is_target), values
    dtype, shape = found
    natural = FeatureType.IMAGE if is_image(dtype, shape) else FeatureType.TENSOR
    if given not in (None, natural, FeatureType.TENSOR):
        raise Invalid(
            f"column {name!r} holds arrays of shape {'x'.join(map(str, shape))}, which cannot be {given} values: leave out "
            f"types={{{name!r}: {given!r}}}",
            errors=[FieldError(f"types.{name}", str(natural))],
        )
    if given is FeatureType.TENSOR and natural is FeatureType.IMAGE:
        field, array = block(name, as_array(values, dtype, shape).astype("float32"))
        values, dtype = pa.chunked_array([array], field.type), "float32"
        natural = FeatureType.TENSOR
    return describe_block(name, values, dtype, shape, natural), values


def _check_target(target: str, values: pa.ChunkedArray, origin: Origin) -> None:
    empty = missing(values)
    if count := pc.sum(empty).as_py():
        rows = "1 row" if count == 1 else f"{count:,} rows"
        place = origin.place(pc.index(empty, True).as_py())
        raise Invalid(
            f"the target {target!r} is empty in {rows}, first in {place}: fill in or leave out those rows, or name another "
            "target (target=…)",
            errors=[FieldError(f"{place}, {target}", "a value")],
        )


def _summary(columns: list[Column], target: str | None, rows: int) -> str:
    kind = next((f" ({column.type})" for column in columns if column.name == target), "")
    return f"{rows:,} rows, {len(columns)} columns, target: {target or 'none'}{kind}"


def _digest(columns: list[Column], target: str | None, shards: list[dict[str, Any]]) -> str:
    """Return the digest of the content: what the columns are, and what the rows hold; not of how they are encrypted."""
    content = {
        "columns": [[c.name, c.type.value, c.dtype, list(c.shape)] for c in columns],
        "target": target,
        "shards": [[shard["rows"], shard["digest"]] for shard in shards],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _preview(table: pa.Table, columns: list[Column]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [{} for _ in range(table.num_rows)]
    for column in columns:
        if column.type in BLOCKS:
            for row, array in zip(rows, as_array(table[column.name], column.dtype, column.shape), strict=True):
                named = f"<{column.type} {'x'.join(map(str, column.shape))}>"
                row[column.name] = _plain(array.tolist()) if array.size <= _PREVIEW_VALUES else named
        else:
            for row, value in zip(rows, table[column.name].to_pylist(), strict=True):
                row[column.name] = _plain(value)
    return rows


def _plain(value: Any) -> Any:
    """Return a value that JSON has: dates as text; what is no finite number as nothing."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value.isoformat() if hasattr(value, "isoformat") else value
