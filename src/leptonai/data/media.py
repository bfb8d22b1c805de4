"""Images, sounds and texts, a file for each row, with what is said of them: a class folder, or a table of labels."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.ports import Store
from leptonai.data.boxes import Notes
from leptonai.data.images import read_images
from leptonai.data.parts import contents
from leptonai.data.sounds import read_sounds
from leptonai.data.spec import IMAGES, MEDIA, NOTES, SOUNDS, WRITINGS, Import, SourceFile
from leptonai.data.tables import read_tables

_TEXT = pa.large_string()
_KEYS = ("file", "filename", "file_name", "path", "image", "audio", "text", "name", "id")
_TEXT_BYTES = 16 << 20  # of one table of texts
MAX_TEXT = 10 << 20  # bytes of one text
_KINDS = ((IMAGES, "image"), (SOUNDS, "sound"), (WRITINGS, "text"))


def is_media(files: Sequence[SourceFile], spec: Import) -> bool:
    """Whether the files are a row each. Raises `Invalid` when they are of several kinds, or nothing is said of one."""
    rows, _ = _parted(files, spec)
    media = [file for file in rows if file.label is not None or file.name.lower().endswith(MEDIA)]
    if not media:
        for name, given in (
            ("image_size", spec.image_size),
            ("audio_rate", spec.audio_rate),
            ("audio_seconds", spec.audio_seconds),
        ):
            if given is not None:
                what = "images" if name == "image_size" else "sounds"
                raise Invalid(
                    f"{name} is given, and there are no {what}: leave it out",
                    errors=[FieldError(name, f"only with {what}")],
                )
        return False
    kind = _kind(media[0])
    for file in rows:
        if _kind(file) != kind and file.label is None:
            raise Invalid(
                f"{file.name} is {_a(_kind(file))} and {media[0].name} is {_a(kind)}: make one dataset of each kind",
                errors=[FieldError(file.name, "files of one kind")],
            )
    alone = next((file for file in rows if file.label is None), None)
    if alone is not None and spec.labels is None and len(rows) == len(files):
        raise Invalid(
            f"{alone.name} lies in no class folder: give a folder that has a folder for each class, or a table with labels",
            errors=[FieldError(alone.name, "in a class folder")],
        )
    return True


def _kind(file: SourceFile) -> str:
    """Return what a file is by its name: "image", "sound" or "text"; else "table", or "image" in a class folder."""
    other = "table" if file.label is None else "image"
    return next((kind for endings, kind in _KINDS if file.name.lower().endswith(endings)), other)


def _a(kind: str) -> str:
    return f"an {kind}" if kind == "image" else f"a {kind}"


def read_media(files: Sequence[SourceFile], spec: Import, blobs: Store) -> Iterator[tuple[pa.Table, str, int]]:
    """Yield tables, each with its first file and the bytes read so far."""
    rows, notes = _parted(files, spec)
    boxes = Notes(notes, rows, blobs) if notes else None
    sizes: dict[str, tuple[int, int]] = {}
    said = (
        _Said(next(file for file in files if file.name == spec.labels), blobs, rows)
        if spec.labels is not None
        else None
    )

    def found() -> Iterator[tuple[str, bytes]]:
        return ((file.name, data) for file, data in contents(rows, blobs))

    at = done = 0
    for table in _tables(_kind(rows[0]), found, spec, sizes):
        some = rows[at : at + table.num_rows]
        if boxes is not None:
            table = table.append_column(*boxes.of(some, sizes))
        if said is not None:
            for name, values in said.of(some):
                table = table.append_column(name, values)
        elif some[0].label is not None:
            table = table.append_column(pa.field("label", _TEXT), pa.array([file.label for file in some], _TEXT))
        done += sum(file.size for file in some)
        yield table, some[0].name, done
        at += table.num_rows


def _parted(files: Sequence[SourceFile], spec: Import) -> tuple[list[SourceFile], list[SourceFile]]:
    """Return the files that are a row each, and those that say what is in images; a table of labels is neither."""
    rows = [file for file in files if file.name != spec.labels]
    if not any(file.label is None and _kind(file) == "image" for file in rows):
        return rows, []
    endings = (*NOTES, *WRITINGS, ".yaml")
    notes = [file for file in rows if file.label is None and file.name.lower().endswith(endings)]
    return [file for file in rows if file.label is not None or not file.name.lower().endswith(endings)], notes


def _tables(
    kind: str, files: Callable[[], Iterator[tuple[str, bytes]]], spec: Import, sizes: dict[str, tuple[int, int]]
) -> Iterator[pa.Table]:
    if kind == "sound":
        return read_sounds(files, spec.audio_rate, spec.audio_seconds)
    return _texts(files()) if kind == "text" else read_images(files, spec.image_size, sizes)


def _texts(files: Iterator[tuple[str, bytes]]) -> Iterator[pa.Table]:
    held: list[str] = []
    size = 0
    for name, data in files:
        if len(data) > MAX_TEXT:
            raise Invalid(
                f"{name} is longer than {MAX_TEXT >> 20} MiB: cut it into pieces", errors=[FieldError(name, "a text")]
            )
        try:
            held.append(data.removeprefix(b"\xef\xbb\xbf").decode())
        except UnicodeDecodeError as error:
            raise Invalid(
                f"{name} is not UTF-8 text: save it as UTF-8", errors=[FieldError(name, "UTF-8 text")]
            ) from error
        size += len(data)
        if size >= _TEXT_BYTES:
            yield pa.table({"text": pa.array(held, _TEXT)})
            held, size = [], 0
    if held:
        yield pa.table({"text": pa.array(held, _TEXT)})


class _Said:
    """A table that says more of each file: a column holds the file's name, whole, without folders or without ending."""

    def __init__(self, file: SourceFile, blobs: Store, rows: Sequence[SourceFile]):
        self._name = file.name.removeprefix("labels:")
        tables = [table for table, _ in read_tables(file, blobs, {})]
        self._table = pa.concat_tables(tables, promote_options="permissive")
        self._key = self._chosen(rows)
        values = pc.cast(self._table[self._key], _TEXT).to_pylist()
        self._at: dict[str, int] = {}
        for row, value in enumerate(values):
            if value in self._at:
                raise Invalid(
                    f"{self._name}, row {row + 1:,}: {value!r} was named in row {self._at[value] + 1:,} already",
                    errors=[FieldError(f"{self._name} row {row + 1}", "each file once")],
                )
            if value is not None:
                self._at[value] = row
        self._others = [name for name in self._table.column_names if name != self._key]

    def _chosen(self, rows: Sequence[SourceFile]) -> str:
        names = {name for file in rows[:1000] for name in _names(file.name)}
        for column in sorted(self._table.column_names, key=lambda it: it.lower() not in _KEYS):
            if not (
                pa.types.is_large_string(self._table[column].type) or pa.types.is_integer(self._table[column].type)
            ):
                continue
            if any(value in names for value in pc.cast(self._table[column], _TEXT).slice(0, 10_000).to_pylist()):
                return str(column)
        listed = ", ".join(self._table.column_names[:30])
        raise Invalid(
            f"{self._name}: none of its columns holds names of the files, such as {rows[0].name!r}: the columns are {listed}",
            errors=[FieldError(self._name, "a column with names of files")],
        )

    def of(self, files: Sequence[SourceFile]) -> Iterator[tuple[pa.Field, Any]]:
        """Yield the columns that the table has of these files. Raises `Invalid` for one that it does not name."""
        rows = []
        for file in files:
            row = next((self._at[name] for name in _names(file.name) if name in self._at), None)
            if row is None:
                raise Invalid(
                    f"{self._name} says nothing of {file.name}: add a row for it, or take the file out",
                    errors=[FieldError(file.name, f"a row in {self._name}")],
                )
            rows.append(row)
        taken: Mapping[str, Any] = {name: self._table[name].take(pa.array(rows)) for name in self._others}
        for name, values in taken.items():
            yield pa.field(name, values.type), values


def _names(name: str) -> tuple[str, ...]:
    """Return what a table may call a file: its path, its name, and both without their ending."""
    path = PurePosixPath(name)
    return (name, path.name, str(path.with_suffix("")), path.stem)
