"""Shards: rows as Parquet files, each encrypted with a key of its own that lies in the sealed manifest.

The encryption is Parquet's own (Parquet Modular Encryption: AES-256-GCM, footer included), so any Parquet reader that is given
the key can read them. A key is made for one shard and used once; wrapping it is the sealed manifest's work.
"""

import base64
import contextlib
import hashlib
import secrets
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pqe

from leptonai.core.errors import Corrupt
from leptonai.core.ports import Store
from leptonai.core.signature import FeatureType
from leptonai.data.blocks import as_array

if TYPE_CHECKING:
    from leptonai.data.personal import PersonalReader, PersonalWriter

BLOCKS = (FeatureType.IMAGE, FeatureType.AUDIO, FeatureType.TENSOR)
_BLOCK_BYTES = (
    8 << 20
)  # a shard of images holds about this much: few enough that the threads that read them end together
_TEXT_BYTES = 64 << 20  # a shard of long texts ends with the row that goes beyond
_WRITERS = (
    2  # shards that are written at the same time: Arrow, the cipher and the disk work outside the interpreter's lock
)
_AHEAD = 3  # shards that are written or wait for it
_SAMPLE = 1 << 16  # bytes of a column that tell whether compressing it is worth while
_SHRUNK = 0.75  # of its size, at most, is left of a sample where it is


class ShardWriter:
    """Writes tables that come one after the other as shards of `rows` rows, or less where rows are wide.

    Encoding, encryption and the disk work in threads of their own, beside whoever makes the next table; at most three shards
    are in their hands. Shards in `known`, those of an earlier attempt, are not written again when their rows are the same.
    """

    def __init__(
        self,
        store: Store,
        rows: int,
        known: Sequence[dict[str, Any]] = (),
        personal: "PersonalWriter | None" = None,
    ):
        self._store = store
        self._personal = personal
        self._rows = rows
        self._known = list(known)
        self._held: list[pa.Table] = []
        self._waiting = 0
        self._text = 0  # bytes of text in the rows that wait
        self._pool = ThreadPoolExecutor(_WRITERS, thread_name_prefix="shards")
        self._pending: deque[Future[dict[str, Any]]] = deque()
        self.shards: list[dict[str, Any]] = []  # what the manifest says of those that are written

    def add(self, table: pa.Table, words: Collection[str] = ()) -> None:
        """Add rows. Columns in `words` have few different values: they are stored as a dictionary and indices."""
        self._held.append(table)
        self._waiting += table.num_rows
        self._text += _text_bytes(table)
        width = sum(field.type.byte_width for field in table.schema if pa.types.is_fixed_size_binary(field.type))
        each = max(1, min(self._rows, _BLOCK_BYTES // width)) if width else self._rows
        while self._waiting >= each or self._text > _TEXT_BYTES:
            count = self._next(each)
            if not count:
                return
            self._write(count, words)

    def share(self, shard: dict[str, Any]) -> None:
        """Take a shard of another version as the next one, as it is; only before any rows are added."""
        self.shards.append(shard)

    def finish(self, words: Collection[str] = ()) -> list[dict[str, Any]]:
        """Write what is left, and return all shards."""
        if self._waiting:
            self._write(self._waiting, words)
        while self._pending:
            self.shards.append(self._pending.popleft().result())
        self.close()
        return self.shards

    def close(self) -> None:
        """End the threads. What is not written yet is forgotten."""
        self._pool.shutdown(cancel_futures=True)

    def _next(self, each: int) -> int:
        """Return how many rows the next shard has, which follows from the rows alone; 0 where more have to come first."""
        if self._text > _TEXT_BYTES:
            ends = np.cumsum(np.concatenate([_text_lengths(table) for table in self._held]))
            each = min(each, int(np.searchsorted(ends, _TEXT_BYTES, "right")) + 1)
        return each if self._waiting >= each else 0

    def _write(self, count: int, words: Collection[str]) -> None:
        taken, left = [], count
        while left:
            table = self._held[0]
            taken.append(table.slice(0, left))
            if table.num_rows <= left:
                self._held.pop(0)
            else:
                self._held[0] = table.slice(left)
            left -= taken[-1].num_rows
        self._waiting -= count
        self._text -= sum(map(_text_bytes, taken))
        while len(self._pending) >= _AHEAD:
            self.shards.append(self._pending.popleft().result())
        number = len(self.shards) + len(self._pending)
        self._pending.append(self._pool.submit(self._shard, number, _one(taken), frozenset(words)))

    def _shard(self, number: int, part: pa.Table, words: Collection[str]) -> dict[str, Any]:
        public = part if self._personal is None else part.drop_columns(list(self._personal.columns))
        content = digest(public)
        if self._personal is not None:
            content = hashlib.sha256(f"{content} {self._personal.digest(part)}".encode()).hexdigest()
        if number < len(self._known) and self._known[number]["digest"] == content:
            return self._known[number]
        key = secrets.token_bytes(32)
        stored = self._store.write([encrypted(public, words, key)])
        own = {} if self._personal is None else {"pii": self._personal.write(part, self._store)}
        return {
            "blob": stored.id,
            "rows": part.num_rows,
            "bytes": stored.size,
            "digest": content,
            "key": base64.b64encode(key).decode(),
            **own,
        }


def _texts(table: pa.Table) -> list[pa.ChunkedArray]:
    return [
        values
        for values in table.columns
        if pa.types.is_large_string(values.type) or pa.types.is_large_binary(values.type)
    ]


def _text_bytes(table: pa.Table) -> int:
    return sum(pc.sum(pc.binary_length(values)).as_py() or 0 for values in _texts(table))


def _text_lengths(table: pa.Table) -> np.ndarray:
    """Return how many bytes of text each row has."""
    found = np.zeros(table.num_rows, np.int64)
    for values in _texts(table):
        found += pc.fill_null(pc.binary_length(values), 0).to_numpy()
    return found


def _one(tables: list[pa.Table]) -> pa.Table:
    """Return tables as one; numbers among whole numbers make all of them numbers, and nothing else changes."""
    return tables[0] if len(tables) == 1 else pa.concat_tables(tables, promote_options="permissive")


def encrypted(part: pa.Table, words: Collection[str], key: bytes) -> pa.Buffer:
    """Return a table as an encrypted Parquet file; columns in `words` as a dictionary and indices."""
    out = pa.BufferOutputStream()
    pq.write_table(
        part,
        out,
        compression={name: _codec(part[name]) for name in part.column_names},
        use_dictionary=[name for name in part.column_names if name in words],
        write_statistics=False,  # nobody asks a shard for some of its rows
        encryption_properties=pqe.create_encryption_properties(key),
    )
    return out.getvalue()


def _codec(values: pa.ChunkedArray) -> str:
    """Return how a column is compressed. Pixels, and what hardly becomes smaller, are stored as they are: reading them at full
    speed is worth more than their size."""
    if pa.types.is_fixed_size_binary(values.type):
        return "NONE"
    data = max(
        (chunk.buffers()[-1] for chunk in values.chunks), key=lambda one: 0 if one is None else one.size, default=None
    )
    if data is None or data.size < _SAMPLE:
        return "LZ4"
    middle = (data.size - _SAMPLE) // 2
    sample = data.slice(middle, _SAMPLE)
    return "LZ4" if pa.Codec("lz4_raw").compress(sample).size < _SHRUNK * _SAMPLE else "NONE"


def read_shard(
    shard: dict[str, Any],
    store: Store,
    columns: Sequence[str],
    words: Sequence[str] = (),
    personal: "PersonalReader | None" = None,
) -> pa.Table:
    """Return the named columns of a shard; those of `words` as dictionaries. Raises `Corrupt` when it is not what was written.

    Personal columns are read by `personal`, which raises `Denied` for who may not.
    """
    own = shard.get("pii", {}) if personal is not None else {}
    plain = [name for name in columns if name not in own]
    found: dict[str, pa.ChunkedArray] = {}
    if personal is not None:
        found = {name: personal.read(name, own[name], store, shard["rows"]) for name in columns if name in own}
    if plain or not columns:
        table = decrypted(shard["blob"], store, base64.b64decode(shard["key"]), plain, words)
        if not found:
            return table
        found |= {name: table[name] for name in plain}
    return pa.table({name: found[name] for name in columns})


def read_blocks(
    shard: dict[str, Any],
    store: Store,
    columns: Sequence[str],
    rows: int,
    words: Sequence[str] = (),
    personal: "PersonalReader | None" = None,
) -> Iterator[pa.Table]:
    """Yield what `read_shard` returns in blocks of `rows` rows: they pass through little memory, on the way to where they belong."""
    own = shard.get("pii", {}) if personal is not None else {}
    plain = [name for name in columns if name not in own]
    if len(plain) < len(columns) or not plain:
        table = read_shard(shard, store, columns, words, personal)
        yield from (table.slice(at, rows) for at in range(0, table.num_rows, rows))
        return
    with _opened(shard["blob"], store, base64.b64decode(shard["key"]), words) as parquet:
        for block in parquet.iter_batches(rows, columns=plain, use_threads=False):
            yield pa.Table.from_batches([block]).select(plain)


def decrypted(blob: str, store: Store, key: bytes, columns: Sequence[str], words: Sequence[str] = ()) -> pa.Table:
    """Return columns of a file that `encrypted` made. Raises `Corrupt`."""
    with _opened(blob, store, key, words) as parquet:
        return parquet.read(list(columns)).select(list(columns))


@contextlib.contextmanager
def _opened(blob: str, store: Store, key: bytes, words: Sequence[str]) -> Iterator[pq.ParquetFile]:
    source = _source(blob, store)
    try:
        opens = pqe.create_decryption_properties(key)
        with pq.ParquetFile(
            source, decryption_properties=opens, read_dictionary=list(words), pre_buffer=False
        ) as parquet:
            yield parquet
    except (pa.ArrowException, OSError, KeyError) as error:  # another part in the place of this one has other columns
        raise Corrupt(
            f"shard {blob[:12]} of the dataset cannot be decrypted: it was altered; restore it from a backup"
        ) from error


def _source(blob: str, store: Store) -> pa.NativeFile:
    """Open a shard. One that lies on this machine is read as it lies: the cipher checks each byte, so its digest need not.

    It is mapped, not copied: memory that a process touches for the first time costs more than the cipher. A blob is never
    shortened, only unlinked, so the mapping stays whole.
    """
    if (place := getattr(store, "path", None)) is not None:
        with contextlib.suppress(FileNotFoundError):
            return pa.memory_map(str(place(blob)))
        return pa.memory_map(str(place(blob)))  # another process made room in a cache just then
    with store.open(blob) as file:
        return pa.BufferReader(file.read())


def digest(table: pa.Table) -> str:
    """Return the SHA-256 of what a table holds: names, types, which values are there, and the values; wherever they lie."""
    found = hashlib.sha256()
    for name in table.column_names:
        values = table[name]
        found.update(f"{name}\0{values.type}\0{len(values)}\0".encode())
        if pa.types.is_fixed_size_binary(values.type):
            _feed(found, as_array(values, "uint8", (values.type.byte_width,)))
            continue
        _feed(found, np.packbits(pc.is_null(values).to_numpy()))
        if pa.types.is_null(values.type):
            continue
        if pa.types.is_large_string(values.type) or pa.types.is_large_binary(values.type):
            filled = pc.fill_null(values, "" if pa.types.is_large_string(values.type) else b"")
            _feed(found, pc.binary_length(filled).to_numpy())
            for chunk in filled.chunks:
                _, offsets, data = chunk.buffers()
                ends = np.frombuffer(offsets, np.int64, count=len(chunk) + 1, offset=chunk.offset * 8)
                if len(chunk) and data is not None:
                    found.update(memoryview(data)[ends[0] : ends[-1]])
        else:
            if pa.types.is_timestamp(values.type):
                values = pc.cast(values, pa.int64())
            zero = pa.scalar(False if pa.types.is_boolean(values.type) else 0, values.type)
            _feed(found, pc.fill_null(values, zero).to_numpy())
    return found.hexdigest()


def _feed(found: Any, array: Any) -> None:
    flat: Any = np.ascontiguousarray(array)
    if flat.size:
        found.update(memoryview(flat).cast("B"))
