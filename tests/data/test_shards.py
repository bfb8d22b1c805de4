"""Shards are written by several threads: in their order, compressed where it is worth while."""

import time
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from leptonai.core.errors import DiskFull
from leptonai.core.ports import StoredBlob
from leptonai.data.shards import ShardWriter, _codec

ROWS = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("values", "codec"),
    [
        (pa.array(ROWS.normal(size=20_000)), "NONE"),
        (pa.array(ROWS.integers(0, 100, 20_000)), "LZ4"),
        (pa.array(ROWS.normal(size=100)), "LZ4"),  # too few to tell
        (pa.array(["the same again"] * 20_000, pa.large_string()), "LZ4"),
        (pa.array([bytes(48)] * 20_000, pa.binary(48)), "NONE"),
        (pa.nulls(20_000), "LZ4"),
    ],
)
def test_what_hardly_becomes_smaller_is_stored_as_it_is(values: pa.Array, codec: str) -> None:
    assert _codec(pa.chunked_array([values])) == codec
    assert _codec(pa.chunked_array([values.slice(0, 7), values])) == codec


class Slow:
    """A store whose first blobs take longest, and whose disk is full after some."""

    def __init__(self, most: int):
        self.most = most
        self.blobs: list[bytes] = []

    def write(self, chunks: Any) -> StoredBlob:
        data = b"".join(bytes(chunk) for chunk in chunks)
        time.sleep(max(0.0, 0.03 - 0.01 * len(self.blobs)))
        if len(self.blobs) >= self.most:
            raise DiskFull("the disk is full")
        self.blobs.append(data)
        return StoredBlob(f"{len(data)}-{len(self.blobs)}", len(data))


def test_shards_keep_their_order() -> None:
    writer = ShardWriter(Slow(99), 100)  # type: ignore[arg-type]
    for at in range(0, 1050, 50):
        writer.add(pa.table({"a": np.arange(at, at + 50)}))
    shards = writer.finish()
    one = ShardWriter(Slow(99), 100)  # type: ignore[arg-type]
    one.add(pa.table({"a": np.arange(1050)}))
    assert [(s["rows"], s["digest"]) for s in shards] == [(s["rows"], s["digest"]) for s in one.finish()]
    assert [s["rows"] for s in shards] == [100] * 10 + [50]


def test_what_goes_wrong_beside_is_raised_and_no_thread_stays() -> None:
    writer = ShardWriter(Slow(2), 10)  # type: ignore[arg-type]
    with pytest.raises(DiskFull):
        for at in range(0, 1000, 10):
            writer.add(pa.table({"a": np.arange(at, at + 10)}))
        writer.finish()
    writer.close()
