"""What an import Run does: files in, encrypted shards and a sealed manifest out."""

from collections.abc import Generator, Sequence
from typing import Any

import pyarrow as pa

from leptonai.core.ahead import ahead
from leptonai.core.errors import FieldError, Invalid
from leptonai.core.stages import FITTING, Handle, load
from leptonai.data.check_work import Watch
from leptonai.data.idx_file import read_idx
from leptonai.data.media import is_media, read_media
from leptonai.data.parts import listed, unchanged
from leptonai.data.personal import redacted
from leptonai.data.spec import ARRAYS, Import, SourceFile
from leptonai.data.tables import read_tables
from leptonai.data.version import VersionWriter

_LISTED = 1000  # files that the record names


def import_files(spec: Import, handle: Handle) -> dict[str, Any]:
    """Make a dataset version; return what `data.verbs.settle_import` needs. Raises `Invalid` that names file, row and column."""
    files = listed(spec, handle.blobs)
    base = handle.data(spec.base).dataset if spec.base is not None else None
    pii = spec.pii if base is None else tuple(column.name for column in base.columns if column.pii)
    watch = Watch(spec.checks, handle, pii, spec.name) if spec.checks else None
    writer = VersionWriter(
        handle,
        target=spec.target,
        types=spec.types,
        shard_rows=spec.shard_rows,
        pii=pii,
        name=spec.name,
        watch=watch,
        unlabelled=spec.unlabelled,
    )
    total = sum(file.size for file in files)
    try:
        if base is not None:
            writer.begin(base)
            if watch is not None:
                watch.begin(str(spec.base), handle)
            spec = spec.model_copy(update={"types": {column.name: column.type for column in base.columns}})
        for table, file, first, done in ahead(_read(files, spec, handle)):
            writer.add(table, file, first)
            handle.progress(writer.rows, max(writer.rows, round(writer.rows * total / max(1, done))), "rows")
        unchanged(files)
        made = writer.finish(_source(files, spec))
        if watch is not None:
            watch.end()
        if spec.augment:
            load(FITTING)(spec.augment, made["columns"], made["target"])
        return {**made, "name": spec.name}
    except Invalid as error:
        raise redacted(error, pii) from None
    finally:
        writer.close()


def _source(files: Sequence[SourceFile], spec: Import) -> dict[str, Any]:
    named = [{"name": file.name, "size": file.size} for file in files[:_LISTED]]
    options = spec.model_dump(
        mode="json", include={"image_size", "audio_rate", "audio_seconds", "base"}, exclude_none=True
    )
    rules = [rule.model_dump(mode="json", exclude={"at"}, exclude_none=True) for rule in spec.checks or ()]
    said = {"checks": rules, "augment": list(spec.augment or ())}
    return {"files": named, "count": len(files), **options, **{word: value for word, value in said.items() if value}}


def _read(
    files: Sequence[SourceFile], spec: Import, handle: Handle
) -> Generator[tuple[pa.Table, str, int, int], None, None]:
    """Yield tables, each with the file it comes from, the number of its first row there, and the bytes read so far."""
    if is_media(files, spec):
        for table, name, done in read_media(files, spec, handle.blobs):
            yield table, name, 0, done
        return
    before = 0
    arrays = [file for file in files if file.name.lower().endswith(ARRAYS)]
    if arrays:
        if other := next((file for file in files if file not in arrays), None):
            raise Invalid(
                f"{other.name} is no IDX file and {arrays[0].name} is one: make one dataset of each kind",
                errors=[FieldError(other.name, "files of one kind")],
            )
        first = 0
        for table, name in read_idx(files, handle.blobs):
            yield table, name, first, before
            first += table.num_rows
        return
    for file in files:
        first = 0
        for table, done in read_tables(file, handle.blobs, spec.types):
            yield table, file.name, first, before + done
            first += table.num_rows
        before += file.size
