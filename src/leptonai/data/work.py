"""What an import Run does: files in, encrypted shards and a sealed manifest out."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.nouns import Column, FeatureType
from leptonai.core.stages import Handle
from leptonai.data import images
from leptonai.data.columns import cast, choose_target, feature_type
from leptonai.data.describe import as_array, describe
from leptonai.data.shards import write_shards
from leptonai.data.spec import Import, SourceFile
from leptonai.data.tables import BlockType, join, read_table

FORMAT = 1
PREVIEW_ROWS = 20


def import_files(spec: Import, handle: Handle) -> dict[str, Any]:
    """Make a dataset version; return what `data.verbs.settle_import` needs. Raises `Invalid` that names file, row and column."""
    table, source = _read(spec, handle)
    target = choose_target(table.column_names, spec.target)
    if unknown := [name for name in spec.types if name not in table.column_names]:
        raise Invalid(
            f"types names a column {unknown[0]!r}, which is not there: the columns are {', '.join(table.column_names)}",
            errors=[FieldError(f"types.{unknown[0]}", "a column of the files")],
        )
    handle.say(f"{table.num_rows:,} rows, {table.num_columns} columns, target {target or 'none'}")
    columns, values = [], {}
    for name in table.column_names:
        kind = _kind(table[name], spec.types.get(name), is_target=name == target)
        values[name] = table[name] if isinstance(table[name].type, BlockType) else cast(name, table[name], kind)
        columns.append(describe(name, values[name], kind, is_target=name == target))
    if target is not None:
        _check_target(target, values[target])
    table = pa.table(values)
    handle.progress(0, table.num_rows, "rows")
    shards = write_shards(table, columns, spec.shard_rows, handle.raw)
    handle.progress(table.num_rows, table.num_rows, "rows")
    digest = _digest(columns, target, shards)
    manifest = {
        "format": FORMAT,
        "columns": [column.model_dump(mode="json") for column in columns],
        "target": target,
        "shards": shards,
        "digest": digest,
        "preview": _preview(table.slice(0, PREVIEW_ROWS), columns),
        "source": source,
    }
    stored = handle.blobs.write([json.dumps(manifest).encode()])
    return {
        "name": spec.name,
        "digest": digest,
        "rows": table.num_rows,
        "bytes": sum(shard["bytes"] for shard in shards),
        "columns": manifest["columns"],
        "target": target,
        "manifest": stored.id,
        "shards": [shard["blob"] for shard in shards],
        "source": source,
    }


def _read(spec: Import, handle: Handle) -> tuple[pa.Table, dict[str, Any]]:
    pictures = [file for file in spec.files if file.name.lower().endswith(images.ENDINGS)]
    labelled = [file for file in spec.files if file.label is not None]
    listed = [{"name": file.name, "size": file.size} for file in spec.files[:1000]]
    if pictures or labelled:
        if tables := [file for file in spec.files if file not in pictures and file.label is None]:
            raise Invalid(f"{tables[0].name} is not an image, and the other files are: make one dataset of each kind")
        if odd := [file for file in spec.files if file.label is None]:
            raise Invalid(
                f"{odd[0].name} lies in no class folder: images come as a folder with a folder for each class"
            )
        table, facts = images.read_images(_bytes(spec.files, handle), spec.image_size)
        return table, {"files": listed, **facts}
    if spec.image_size is not None:
        raise Invalid("image_size is given, and there are no images", errors=[FieldError("image_size", "leave it out")])
    tables = [read_table(name, data) for name, _, data in _bytes(spec.files, handle)]
    names = [file.name for file in spec.files]
    return (tables[0] if len(tables) == 1 else join(names, tables)), {"files": listed}


def _bytes(files: tuple[SourceFile, ...], handle: Handle) -> Iterator[tuple[str, str, bytes]]:
    """Yield name, label and bytes of each file. Small files share parts: the last part read is kept."""
    kept: tuple[str, bytes] = ("", b"")
    for number, file in enumerate(files):
        pieces = []
        for part in file.parts:
            if part != kept[0]:
                with handle.blobs.open(part) as opened:
                    kept = (part, opened.read())
            pieces.append(kept[1])
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        yield file.name, file.label or "", data[file.offset : file.offset + file.size]
        if number % 200 == 0:
            handle.progress(number, len(files), "files")


def _kind(values: pa.ChunkedArray, given: FeatureType | None, *, is_target: bool) -> FeatureType:
    if isinstance(values.type, BlockType):
        return FeatureType.IMAGE if values.type.dtype == "uint8" else FeatureType.TENSOR
    if given is not None:
        return given
    return feature_type(values, is_target=is_target)


def _check_target(target: str, values: pa.ChunkedArray) -> None:
    if isinstance(values.type, BlockType):
        return
    empty = pc.is_null(values, nan_is_null=pa.types.is_floating(values.type))
    count = pc.sum(empty).as_py() or 0
    if count:
        row = pc.index(empty, True).as_py() + 1
        rows = "1 row" if count == 1 else f"{count:,} rows"
        raise Invalid(
            f"the target {target!r} is empty in {rows}, first in row {row:,}: fill in or leave out those rows, or name another target",
            errors=[FieldError(f"{target} row {row}", "a value")],
        )


def _digest(columns: list[Column], target: str | None, shards: list[dict[str, Any]]) -> str:
    content = {
        "columns": [[c.name, c.type.value, c.dtype, list(c.shape)] for c in columns],
        "target": target,
        "shards": [[shard["rows"], shard["digest"]] for shard in shards],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _preview(table: pa.Table, columns: list[Column]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [{} for _ in range(table.num_rows)]
    for column in columns:
        if column.type in {FeatureType.IMAGE, FeatureType.TENSOR}:
            for row, array in zip(rows, as_array(table[column.name], column.dtype, column.shape), strict=True):
                row[column.name] = (
                    array.tolist() if array.size <= 4096 else f"<{column.type} {'x'.join(map(str, column.shape))}>"
                )
            continue
        for row, value in zip(rows, table[column.name].to_pylist(), strict=True):
            row[column.name] = value.isoformat() if hasattr(value, "isoformat") else None if value != value else value
    return rows
