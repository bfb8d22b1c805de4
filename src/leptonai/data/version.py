"""A dataset version in the making: tables come in one after the other, shards and a sealed manifest come out.

Memory is bounded whatever the number of rows: what columns mean is decided by the first 100,000 rows, which are held; the others
pass by.
"""

import hashlib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pyarrow as pa

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.nouns import Column, Dataset
from leptonai.core.signature import FeatureType
from leptonai.core.stages import Handle
from leptonai.data.blocks import as_array, layout
from leptonai.data.columns import choose_target
from leptonai.data.csv_table import SCHEMA_ROWS
from leptonai.data.describe import RowSample
from leptonai.data.growing import growing
from leptonai.data.origin import Origin, Piece
from leptonai.data.personal import SHOWN, PersonalReader, PersonalWriter, check_personal, veiled
from leptonai.data.shards import BLOCKS, ShardWriter
from leptonai.data.stored import conform, read_table, to_numpy
from leptonai.data.tables import check_alike, check_names, join, wrote_text

FORMAT = 1
PREVIEW_ROWS = 20
_PREVIEW_VALUES = 4096  # of one image or tensor; larger ones are only named
_PREVIEW_LETTERS = 4096  # of one text
_HEAD_BYTES = 64 << 20  # of the rows that are held until it is decided what the columns mean
_SAVED_EVERY = 16  # shards between two checkpoints


class VersionWriter:
    """Makes one version of rows that come in pieces. Raises `Invalid` that names file, row and column."""

    def __init__(
        self,
        handle: Handle,
        *,
        target: str | None = None,
        types: Mapping[str, FeatureType] | None = None,
        shard_rows: int = 65_536,
        pii: Collection[str] = (),
        name: str = "",
        watch: Any = None,
        unlabelled: bool = False,
    ):
        """`pii`: columns that get a key of their own, see `personal.py`; `name`: the dataset's, which they need.

        `watch` is shown all rows as they are stored, see `check_work.Watch`.
        """
        self._watch = watch
        self._handle = handle
        self._unlabelled = unlabelled
        self._wanted, self._types = target, dict(types or {})
        state = handle.restore() or {}
        saved = json.loads(state.get("shards", b"[]"))
        self._pii = frozenset(pii)
        self._personal = PersonalWriter(handle, sorted(self._pii), name, state.get("pii")) if pii else None
        self._shards = ShardWriter(handle.raw, shard_rows, saved, self._personal)
        self._saved = len(saved)
        self._head: list[tuple[pa.Table, Piece]] = []
        self._held = 0  # bytes of the head
        self._columns: list[Any] = []
        self._fields: list[
            tuple[str, pa.Field]
        ] = []  # of each column: the first file that has values, and what they are
        self._first: tuple[str, list[str]] = ("", [])  # the first file, and its columns
        self._sample = RowSample()
        self._preview = pa.table({})
        self._wrote_text = False
        self._target: str | None = None
        self._base: Dataset | None = None
        self.rows = 0

    def add(self, table: pa.Table, file: str, first: int) -> None:
        """Add rows that begin at row `first` (from 0) of a file."""
        if not table.num_rows:
            return
        self.rows += table.num_rows
        self._wrote_text = self._wrote_text or wrote_text(file)
        piece = Piece(file, first, table.num_rows)
        if self._columns:
            self._write(self._alike(table, file), Origin((piece,)))
            return
        self._head.append((table, piece))
        self._held += table.nbytes
        if self.rows >= SCHEMA_ROWS or self._held >= _HEAD_BYTES:
            self._decide()

    def begin(self, base: Dataset) -> None:
        """Begin with the rows of another version, whose shards are shared: they are read for what is known of the columns."""
        with self._handle.blobs.open(base.manifest) as file:
            shards = json.loads(file.read())["shards"]
        self._base = base
        self._types = {column.name: column.type for column in base.columns}
        self._wanted = base.target or ""
        self._unlabelled = self._unlabelled or any(c.name == base.target and c.nullable for c in base.columns)
        place = f"{base.name}@v{base.version}"
        personal = PersonalReader(base, self._handle.blobs, mask=True)  # who appends need not read them
        for shard in shards:
            table = read_table(shard, self._handle.raw, personal.columns, personal)
            if not self._columns:
                self._choose(table.schema, place)
                # Rows to come are held to what the columns mean, which is more than how they are stored.
                self._fields = [
                    (place, field if layout(field) else pa.field(field.name, pa.null())) for field in table.schema
                ]
            self._shards.share(shard)
            self._take(table, Origin((Piece(place, self.rows, table.num_rows),)))
            self.rows += table.num_rows

    def _decide(self) -> None:
        """Say what the columns mean, by the rows that are held, and write these."""
        origin = Origin(tuple(piece for _, piece in self._head))
        tables = [table for table, _ in self._head]
        table = join(origin, tables) if len(tables) > 1 else tables[0]
        self._head, tables = [], []
        self._choose(table.schema, origin.files[0])
        self._write(table, origin)

    def _choose(self, schema: pa.Schema, file: str) -> None:
        self._first = (file, schema.names)
        self._target = choose_target(schema.names, self._wanted)
        _check_types(self._types, schema.names)
        check_personal(self._pii, schema.names, self._target)
        for field in schema:
            is_target = field.name == self._target
            self._columns.append(growing(field, self._types.get(field.name), is_target=is_target))
            self._fields.append((file, field))

    def _alike(self, table: pa.Table, file: str) -> pa.Table:
        """Return a table with its columns in the order of the first."""
        one, names = self._first
        check_names(file, table.column_names, one, names)
        table = table.select(names)
        for at, field in enumerate(table.schema):
            check_alike(file, field, *self._fields[at])
            if pa.types.is_null(self._fields[at][1].type):
                self._fields[at] = (file, field)
        return table

    def _take(self, table: pa.Table, origin: Origin) -> pa.Table:
        """Count rows in what is known of the columns; return them as they are stored."""
        taken, kept = self._sample.choose(table.num_rows)
        found = {}
        for column in self._columns:
            found[column.name] = column.take(table[column.name], origin, taken, kept)
            table = table.drop_columns([column.name])  # what is converted needs no second copy
        stored = pa.table(found)
        if not self._preview.num_rows:
            self._preview = stored.slice(0, PREVIEW_ROWS)
        return stored

    def _write(self, table: pa.Table, origin: Origin) -> None:
        stored = self._take(table, origin)
        if self._watch is not None:
            self._watch.see(stored, origin)
        self._shards.add(stored, self._words())
        if len(self._shards.shards) >= self._saved + _SAVED_EVERY:
            self._saved = len(self._shards.shards)
            keys = {} if self._personal is None else {"pii": self._personal.blob.encode()}
            self._handle.save({"shards": json.dumps(self._shards.shards).encode(), **keys})

    def _words(self) -> set[str]:
        return {column.name for column in self._columns if column.has_few}

    def finish(self, source: Mapping[str, Any]) -> dict[str, Any]:
        """Write what is left; return what `data.verbs.settle_import` needs, but for the name."""
        if not self._columns:
            if not self._head:
                raise Invalid(
                    "there are no rows: there is no data in it", errors=[FieldError("files", "at least one row")]
                )
            self._decide()
        for grown in self._columns:
            if grown.name == self._target and grown.missing and not self._unlabelled:
                raise _empty_target(self._target, grown.missing, grown.first_missing)
        done = [column.done(self._wrote_text) for column in self._columns]
        columns = [veiled(column, self._base) if column.name in self._pii else column for column in done]
        if self._base is not None:
            _check_same(self._base, columns)
        self._handle.say(_summary(columns, self._target, self.rows))
        shards = self._shards.finish(self._words())
        facts = {
            "digest": content_digest(columns, self._target, shards),
            "columns": [column.model_dump(mode="json") for column in columns],
            "target": self._target,
            "source": dict(source),
        }
        manifest = {"format": FORMAT, **facts, "shards": shards, "preview": preview_rows(self._preview, columns)}
        parts = [part for shard in shards for part in (shard, *shard.get("pii", {}).values())]
        stored = self._handle.blobs.write([json.dumps(manifest, allow_nan=False).encode()])
        return {
            **facts,
            "rows": self.rows,
            "bytes": sum(part["bytes"] for part in parts),
            "manifest": stored.id,
            "shards": [part["blob"] for part in parts],
            "pii": [
                *(() if self._base is None else self._base.pii),
                *([] if self._personal is None else [self._personal.blob]),
            ],
        }

    def close(self) -> None:
        """End what works beside; what is not written yet is forgotten."""
        self._shards.close()


def _check_types(types: Mapping[str, FeatureType], names: Sequence[str]) -> None:
    for name in types:
        if name not in names:
            listed = ", ".join(names[:30])
            raise Invalid(
                f"types names a column {name!r}, which is not there: the columns are {listed}",
                errors=[FieldError(f"types.{name}", f"one of {listed}")],
            )


def _check_same(base: Dataset, columns: Sequence[Column]) -> None:
    """Refuse rows that make categories of whole numbers into words: the rows before would change what they are."""
    for before, now in zip(base.columns, columns, strict=True):
        if before.type is FeatureType.CATEGORY and before.dtype != now.dtype:
            was, new = ("whole numbers", "words") if before.dtype == "int64" else ("words", "whole numbers")
            known = {str(value) for value in before.categories}
            odd = next((value for value in now.categories if str(value) not in known), "")
            raise Invalid(
                f"column {now.name!r} holds {was} in {base.name}@v{base.version} and {new} such as {odd!r} in the rows to append: "
                "mend them",
                errors=[FieldError(now.name, was)],
            )


def _empty_target(target: str | None, count: int, place: str) -> Invalid:
    rows = "1 row" if count == 1 else f"{count:,} rows"
    return Invalid(
        f"the target {target!r} is empty in {rows}, first in {place}: fill in or leave out those rows, or name another "
        "target (target=…); where labels are found later, import with unlabelled=True",
        errors=[FieldError(f"{place}, {target}", "a value")],
    )


def _summary(columns: Sequence[Column], target: str | None, rows: int) -> str:
    kind = next((f" ({column.type})" for column in columns if column.name == target), "")
    return f"{rows:,} rows, {len(columns)} columns, target: {target or 'none'}{kind}"


def content_digest(columns: Sequence[Column], target: str | None, shards: Sequence[Mapping[str, Any]]) -> str:
    """Return the digest of the content: what the columns are, and what the rows hold; not of how they are encrypted."""
    content = {
        "columns": [[c.name, c.type.value, c.dtype, list(c.shape)] for c in columns],
        "target": target,
        "shards": [[shard["rows"], shard["digest"]] for shard in shards],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def preview_rows(table: pa.Table, columns: Sequence[Column]) -> list[dict[str, Any]]:
    """Return rows as JSON has them."""
    rows: list[dict[str, Any]] = [{} for _ in range(table.num_rows)]
    for column in columns:
        if column.pii:
            for row in rows:
                row[column.name] = SHOWN
            continue
        values = conform(table[column.name], column)
        if column.type in BLOCKS:
            for row, array in zip(rows, as_array(values, column.dtype, column.shape), strict=True):
                named = f"<{column.type} {'x'.join(map(str, column.shape))}>"
                row[column.name] = _plain(array.tolist()) if array.size <= _PREVIEW_VALUES else named
        elif column.type is FeatureType.BOXES:
            for row, boxes in zip(rows, to_numpy(values, column), strict=True):
                row[column.name] = [[column.categories[int(kind)], *corners] for kind, *corners in boxes.tolist()]
        else:
            for row, value in zip(rows, values.to_pylist(), strict=True):
                row[column.name] = _plain(value)
    return rows


def _plain(value: Any) -> Any:
    """Return a value that JSON has: dates as text; what is no finite number as nothing."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str) and len(value) > _PREVIEW_LETTERS:
        return f"{value[: _PREVIEW_LETTERS - 1]}…"
    return value.isoformat() if hasattr(value, "isoformat") else value
