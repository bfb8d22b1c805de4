"""The prediction log as Parquet: one row for each row of a request, what personal data is in it left out or hashed."""

import hashlib
import hmac
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from leptonai.core.nouns import PredictionLog
from leptonai.serving.seen import Seen

DIGEST = 16  # hexadecimal digits of a hashed value

_FACTS = {
    "time": pa.timestamp("us", "UTC"), "request_id": pa.string(), "row": pa.int32(), "model": pa.string(),
    "version": pa.string(), "variant": pa.string(), "status": pa.int16(), "seconds": pa.float64(), "key": pa.string(),
}  # fmt: skip


def redacted(entry: Seen, log: PredictionLog, salt: bytes) -> Seen:
    """Return the request as it may be kept. A hashed value is a keyed digest, so that who has the file cannot try values."""
    inputs = {}
    for name, found in entry.inputs.items():
        if name in log.hash:
            inputs[name] = np.array([_digest(value, salt) for value in found.tolist()], object)
        elif name not in log.drop:
            inputs[name] = found
    return entry._replace(inputs=inputs)


def _digest(value: Any, salt: bytes) -> str:
    return hmac.digest(salt, repr(value).encode("utf-8", "surrogatepass"), hashlib.sha256).hex()[:DIGEST]


def parquet(entries: Sequence[Seen]) -> tuple[bytes, int]:
    """Return requests that one version answered as a Parquet file, and its number of rows.

    The columns: when, which request and which of its rows, what answered, and ``input.NAME`` and ``output.NAME``; a tensor is a
    list of its values in row-major order, whose shape is in the column's metadata.
    """
    sizes = [min((len(found) for found in entry.inputs.values()), default=1) for entry in entries]
    columns: dict[str, Any] = {name: [] for name in _FACTS}
    for entry, size in zip(entries, sizes, strict=True):
        facts = (
            datetime.fromtimestamp(entry.time, UTC), entry.id, None, entry.model, entry.version, entry.variant, entry.status,
            entry.seconds, entry.key,
        )  # fmt: skip
        for name, value in zip(_FACTS, facts, strict=True):
            columns[name] += range(size) if name == "row" else [value] * size
    arrays = [pa.array(columns[name], kind) for name, kind in _FACTS.items()]
    fields = [pa.field(name, kind) for name, kind in _FACTS.items()]
    for side in ("inputs", "outputs"):
        for name in dict.fromkeys(name for entry in entries for name in getattr(entry, side)):
            found = [getattr(entry, side).get(name) for entry in entries]
            field, array = _column(f"{side[:-1]}.{name}", found, sizes)
            fields.append(field)
            arrays.append(array)
    table = pa.Table.from_arrays(arrays, schema=pa.schema(fields))
    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd")
    return file.getvalue(), table.num_rows


def _column(name: str, found: Sequence[Any], sizes: Sequence[int]) -> tuple[Any, Any]:
    shapes = {one.shape[1:] for one in found if one is not None}
    tensor = shapes != {()}
    pieces = [
        pa.array(_values(one[:size], tensor)) if one is not None else None
        for one, size in zip(found, sizes, strict=True)
    ]
    kind = next(piece.type for piece in pieces if piece is not None)
    whole = [
        piece.cast(kind) if piece is not None else pa.nulls(size, kind)
        for piece, size in zip(pieces, sizes, strict=True)
    ]
    shape = ",".join(map(str, next(iter(shapes)))) if tensor and len(shapes) == 1 else ""
    metadata: Mapping[str, str] | None = {"shape": shape} if shape else None
    return pa.field(name, kind, metadata=metadata), pa.chunked_array(whole, kind)


def _values(found: Any, tensor: bool) -> Any:
    if not tensor:
        return found.tolist() if found.dtype == np.object_ else found
    flat: Iterable[Any] = found.reshape(len(found), -1)
    return [row.tolist() for row in flat] if found.dtype == np.object_ else list(flat)
