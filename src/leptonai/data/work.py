"""What an import Run does: files in, encrypted shards and a sealed manifest out."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.stages import Handle
from leptonai.data import images
from leptonai.data.parts import contents, listed
from leptonai.data.spec import Import, SourceFile
from leptonai.data.tables import read_tables
from leptonai.data.version import VersionWriter

_LISTED = 1000  # files that the record names


def import_files(spec: Import, handle: Handle) -> dict[str, Any]:
    """Make a dataset version; return what `data.verbs.settle_import` needs. Raises `Invalid` that names file, row and column."""
    files = listed(spec, handle.blobs)
    writer = VersionWriter(handle, target=spec.target, types=spec.types, shard_rows=spec.shard_rows)
    total = sum(file.size for file in files)
    try:
        for table, file, first, done in _read(files, spec, handle):
            writer.add(table, file, first)
            handle.progress(writer.rows, max(writer.rows, round(writer.rows * total / max(1, done))), "rows")
        return {**writer.finish(_source(files, spec)), "name": spec.name}
    finally:
        writer.close()


def _source(files: Sequence[SourceFile], spec: Import) -> dict[str, Any]:
    named = [{"name": file.name, "size": file.size} for file in files[:_LISTED]]
    resized = {"image_size": list(spec.image_size)} if spec.image_size is not None else {}
    return {"files": named, "count": len(files), **resized}


def _read(files: Sequence[SourceFile], spec: Import, handle: Handle) -> Iterator[tuple[pa.Table, str, int, int]]:
    """Yield tables, each with the file it comes from, the number of its first row there, and the bytes read so far."""
    if _are_images(files, spec.image_size):
        yield from _read_images(files, spec, handle)
        return
    before = 0
    for file in files:
        first = 0
        for table, done in read_tables(file, handle.blobs, spec.types):
            yield table, file.name, first, before + done
            first += table.num_rows
        before += file.size


def _read_images(files: Sequence[SourceFile], spec: Import, handle: Handle) -> Iterator[tuple[pa.Table, str, int, int]]:
    def found() -> Iterator[tuple[str, str, bytes]]:
        return ((file.name, file.label or "", data) for file, data in contents(files, handle.blobs))

    at = done = 0
    for table in images.read_images(found, spec.image_size):
        done += sum(file.size for file in files[at : at + table.num_rows])
        yield table, files[at].name, 0, done
        at += table.num_rows


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
