"""Shards: rows as Parquet files, each encrypted with a key of its own that lies in the sealed manifest.

The encryption is Parquet's own (Parquet Modular Encryption, AES-256-GCM, footer included), so any Parquet reader that is given
the key can read them.
"""

import base64
import hashlib
import io
import secrets
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pqe

from leptonai.core.errors import Corrupt
from leptonai.core.nouns import Column, FeatureType
from leptonai.core.ports import Store
from leptonai.data.describe import as_array

BLOCKS = (FeatureType.IMAGE, FeatureType.TENSOR)
_BLOCK_ROWS_BYTES = 64 << 20  # a shard of images holds about this much


def write_shards(table: pa.Table, columns: Sequence[Column], rows: int, store: Store) -> list[dict[str, Any]]:
    """Write a table as shards of at most `rows` rows; return what the manifest says of each."""
    width = sum(int(np.dtype(c.dtype).itemsize * np.prod(c.shape)) for c in columns if c.type in BLOCKS)
    if width:
        rows = max(1, min(rows, _BLOCK_ROWS_BYTES // width))
    plain = pa.table({c.name: _storage(table[c.name]) for c in columns})
    binary = {c.name for c in columns if c.type in BLOCKS}
    shards = []
    for start in range(0, plain.num_rows, rows):
        part = plain.slice(start, rows)
        key = secrets.token_bytes(32)
        out = io.BytesIO()
        pq.write_table(
            part,
            out,
            # Pixels are stored as they are: reading them at full speed is worth more than their size.
            compression={c.name: "NONE" if c.name in binary else "ZSTD" for c in columns},
            use_dictionary=[c.name for c in columns if c.dtype == "str"],
            write_statistics=[c.name for c in columns if c.name not in binary],
            encryption_properties=pqe.create_encryption_properties(key),
        )
        stored = store.write([out.getvalue()])
        shards.append(
            {
                "blob": stored.id,
                "rows": part.num_rows,
                "bytes": stored.size,
                "digest": digest(part),
                "key": base64.b64encode(key).decode(),
            }
        )
    return shards


def _storage(values: pa.ChunkedArray) -> pa.ChunkedArray:
    if isinstance(values.type, pa.ExtensionType):
        return pa.chunked_array([chunk.storage for chunk in values.chunks], values.type.storage_type)
    return values


def read_shard(shard: dict[str, Any], store: Store, columns: Sequence[str]) -> pa.Table:
    """Return the named columns of a shard. Raises `Corrupt` when it is not what was written."""
    with store.open(shard["blob"]) as file:
        data = file.read()
    key = base64.b64decode(shard["key"])
    try:
        return pq.read_table(
            pa.BufferReader(data), columns=list(columns), decryption_properties=pqe.create_decryption_properties(key)
        )
    except (pa.ArrowInvalid, OSError) as error:
        raise Corrupt(f"shard {shard['blob'][:12]} of the dataset cannot be decrypted: it was altered") from error


def _feed(found: Any, array: Any) -> None:
    flat: Any = np.ascontiguousarray(array)
    found.update(memoryview(flat).cast("B"))


def digest(table: pa.Table) -> str:
    """Return the SHA-256 of what a table holds: names, types, validity and values, whatever memory they lie in."""
    found = hashlib.sha256()
    for name in table.column_names:
        values = table[name].combine_chunks()
        if isinstance(values, pa.ChunkedArray):
            values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)
        found.update(f"{name}\0{values.type}\0{len(values)}\0".encode())
        if pa.types.is_fixed_size_binary(values.type):
            _feed(found, as_array(values, "uint8", (values.type.byte_width,)))
            continue
        _feed(found, np.packbits(pc.is_null(values).to_numpy(zero_copy_only=False)))
        if pa.types.is_large_string(values.type):
            filled = pc.fill_null(values, "")
            _feed(found, pc.binary_length(filled).to_numpy())
            found.update("".join(filled.to_pylist()).encode())
        else:
            if pa.types.is_timestamp(values.type):
                values = values.cast(pa.int64())
            zero = pa.scalar(False if pa.types.is_boolean(values.type) else 0, values.type)
            _feed(found, pc.fill_null(values, zero).to_numpy(zero_copy_only=False))
    return found.hexdigest()
