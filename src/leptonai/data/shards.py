"""Shards: rows as Parquet files, each encrypted with a key of its own that lies in the sealed manifest.

The encryption is Parquet's own (Parquet Modular Encryption: AES-256-GCM, footer included), so any Parquet reader that is given
the key can read them. A key is made for one shard and used once; wrapping it is the sealed manifest's work.
"""

import base64
import hashlib
import io
import secrets
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pqe

from leptonai.core.errors import Corrupt
from leptonai.core.nouns import Column, FeatureType
from leptonai.core.ports import Store
from leptonai.data.blocks import as_array

BLOCKS = (FeatureType.IMAGE, FeatureType.TENSOR)
_BLOCK_BYTES = 16 << 20  # a shard of images holds about this much


def write_shards(
    table: pa.Table, columns: Sequence[Column], rows: int, store: Store, told: Callable[[int], None]
) -> list[dict[str, Any]]:
    """Write a table as shards of at most `rows` rows; return what the manifest says of each. `told` hears the rows done."""
    width = sum(int(np.dtype(c.dtype).itemsize * np.prod(c.shape)) for c in columns if c.type in BLOCKS)
    if width:
        rows = max(1, min(rows, _BLOCK_BYTES // width))
    shards = []
    for start in range(0, table.num_rows, rows):
        part = table.slice(start, rows)
        key = secrets.token_bytes(32)
        stored = store.write([_encrypted(part, columns, key)])
        shards.append(
            {
                "blob": stored.id,
                "rows": part.num_rows,
                "bytes": stored.size,
                "digest": digest(part),
                "key": base64.b64encode(key).decode(),
            }
        )
        told(start + part.num_rows)
    return shards


def _encrypted(part: pa.Table, columns: Sequence[Column], key: bytes) -> pa.Buffer:
    wide = {c.name for c in columns if c.type in BLOCKS}
    out = io.BytesIO()
    pq.write_table(
        part,
        out,
        # Pixels are stored as they are: reading them at full speed is worth more than their size.
        compression={c.name: "NONE" if c.name in wide else "LZ4" for c in columns},
        use_dictionary=[c.name for c in columns if c.type is FeatureType.CATEGORY and c.dtype == "str"],
        write_statistics=False,  # nobody asks a shard for some of its rows
        encryption_properties=pqe.create_encryption_properties(key),
    )
    return out.getbuffer()


def read_shard(shard: dict[str, Any], store: Store, columns: Sequence[str], words: Sequence[str] = ()) -> pa.Table:
    """Return the named columns of a shard; those of `words` as dictionaries. Raises `Corrupt` when it is not what was written."""
    with store.open(shard["blob"]) as file:
        data = file.read()
    key = base64.b64decode(shard["key"])
    try:
        opens = pqe.create_decryption_properties(key)
        with pq.ParquetFile(pa.BufferReader(data), decryption_properties=opens, read_dictionary=list(words)) as parquet:
            return parquet.read(list(columns))
    except (pa.ArrowException, OSError) as error:
        raise Corrupt(
            f"shard {shard['blob'][:12]} of the dataset cannot be decrypted: it was altered; restore it from a backup"
        ) from error


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
        if pa.types.is_large_string(values.type):
            filled = pc.fill_null(values, "")
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
