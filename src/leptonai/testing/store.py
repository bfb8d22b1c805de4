"""What every `Store` must do. Subclass `StoreContract`, give it your store and a way to reach its bytes behind its back."""

import hashlib
import random
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.request import urlopen

import pytest

from leptonai.core.errors import Corrupt, NotFound
from leptonai.core.ports import Store, StoredBlob

SEGMENT = 1 << 20
SIZES = (0, 1, 55, 56, SEGMENT - 57, SEGMENT - 56, SEGMENT - 55, SEGMENT, 2 * SEGMENT, 3 * SEGMENT + 1)
NO_IDS = (
    "",
    "ab",
    "../../etc/passwd",
    "f" * 63,
    "F" * 64,
    "g" * 64,
    "f" * 63 + "\n",
    "0" * 62 + "/x",
    "/" * 64,
    "ab/" + "0" * 61,
)


def some_bytes(size: int, seed: int = 0) -> bytes:
    """Return bytes that do not repeat."""
    return random.Random(seed).randbytes(size)  # noqa: S311  # test data


class StoreContract:
    """The promise of `core.ports.Store`, as tests."""

    @pytest.fixture
    def store(self) -> Store:
        """Give an empty store."""
        raise NotImplementedError

    def stored(self, store: Store, id: str) -> bytes:
        """Return the bytes that lie in the store under this id, as they are."""
        raise NotImplementedError

    def tamper(self, store: Store, id: str, data: bytes) -> None:
        """Replace the bytes that lie in the store under this id, behind its back."""
        raise NotImplementedError

    @staticmethod
    def read(store: Store, id: str) -> bytes:
        with store.open(id) as file:
            return file.read()

    @staticmethod
    def read_in_pieces(store: Store, id: str, size: int) -> Iterator[bytes]:
        with store.open(id) as file:
            while piece := file.read(size):
                yield piece

    # ------------------------------------------------------------------------------------------ write and read

    @pytest.mark.parametrize("size", SIZES)
    def test_gives_back_what_was_written(self, store: Store, size: int) -> None:
        data = some_bytes(size)
        blob = store.write([data])
        assert blob.size == size
        assert self.read(store, blob.id) == data

    def test_the_id_is_the_digest_of_what_is_stored(self, store: Store) -> None:
        blob = store.write([b"hello"])
        assert blob.id == hashlib.sha256(self.stored(store, blob.id)).hexdigest()

    @pytest.mark.parametrize("piece", [1000, 65_536, SEGMENT, SEGMENT + 1])
    def test_how_it_is_cut_makes_no_difference(self, store: Store, piece: int) -> None:
        data = some_bytes(2 * SEGMENT + 77)
        blob = store.write(data[start : start + piece] for start in range(0, len(data), piece))
        assert self.read(store, blob.id) == data
        assert b"".join(self.read_in_pieces(store, blob.id, piece)) == data

    def test_takes_empty_pieces_and_views(self, store: Store) -> None:
        blob = store.write([b"", memoryview(b"ab"), bytearray(b"c"), b""])  # type: ignore[list-item]
        assert blob.size == 3
        assert self.read(store, blob.id) == b"abc"

    def test_lines_can_be_read(self, store: Store) -> None:
        blob = store.write([b"one\ntwo\n", b"three"])
        with store.open(blob.id) as file:
            assert list(file) == [b"one\n", b"two\n", b"three"]

    def test_the_same_bytes_can_be_written_twice(self, store: Store) -> None:
        first, second = store.write([b"same"]), store.write([b"same"])
        assert self.read(store, first.id) == self.read(store, second.id) == b"same"

    def test_many_writers_at_once(self, store: Store) -> None:
        blobs: list[StoredBlob] = []
        threads = [
            threading.Thread(target=lambda seed=seed: blobs.append(store.write([some_bytes(200_000, seed % 3)])))
            for seed in range(9)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(self.read(store, blob.id) for blob in blobs) == sorted(
            some_bytes(200_000, seed % 3) for seed in range(9)
        )

    def test_a_write_that_breaks_off_leaves_nothing(self, store: Store) -> None:
        def broken() -> Iterator[bytes]:
            yield some_bytes(2 * SEGMENT)
            raise KeyError("the source")

        with pytest.raises(KeyError, match="the source"):
            store.write(broken())
        assert list(store.list()) == []

    # ------------------------------------------------------------------------------------------ list and delete

    def test_lists_what_is_there(self, store: Store) -> None:
        blobs = {store.write([some_bytes(size)]) for size in (0, 5, SEGMENT + 9)}
        assert set(store.list()) == blobs
        assert [blob.id for blob in store.list()] == sorted(blob.id for blob in blobs)
        for blob in blobs:
            for length in (1, 2, 3, 63, 64):
                assert blob in set(store.list(blob.id[:length]))
                assert all(found.id.startswith(blob.id[:length]) for found in store.list(blob.id[:length]))
        assert list(store.list("zz")) == list(store.list("../")) == []

    def test_says_when_a_blob_was_written(self, store: Store) -> None:
        blob = store.write([b"dated"])
        assert abs((datetime.now(UTC) - store.written(blob.id)).total_seconds()) < 3600
        store.delete(blob.id)
        with pytest.raises(NotFound):
            store.written(blob.id)

    def test_forgets(self, store: Store) -> None:
        blob, other = store.write([b"a"]), store.write([b"b"])
        store.delete(blob.id)
        store.delete(blob.id)
        assert list(store.list()) == [other]
        with pytest.raises(NotFound, match=blob.id):
            store.open(blob.id)

    def test_a_blob_that_is_not_there(self, store: Store) -> None:
        with pytest.raises(NotFound, match="0" * 64):
            store.open("0" * 64)
        store.delete("0" * 64)

    @pytest.mark.parametrize("id", NO_IDS)
    def test_an_id_that_is_none(self, store: Store, id: str) -> None:
        with pytest.raises(NotFound):
            store.open(id)
        store.delete(id)

    def test_a_link_reads_the_stored_bytes(self, store: Store) -> None:
        blob = store.write([b"linked"])
        url = store.link(blob.id, 60)
        if url is not None:
            with urlopen(url, timeout=30) as answer:  # noqa: S310  # what the store itself gave
                assert answer.read() == self.stored(store, blob.id)

    # ------------------------------------------------------------------------------------------ damage

    def nothing_wrong_is_given(self, store: Store, id: str, damaged: bytes) -> None:
        """Store `damaged` in place of a blob: each way to read must raise `Corrupt` before it gives one byte."""
        self.tamper(store, id, damaged)
        with pytest.raises(Corrupt):
            self.read(store, id)
        given: list[bytes] = []
        with pytest.raises(Corrupt):
            given.extend(self.read_in_pieces(store, id, 4096))
        assert given == []

    def test_damage_is_found(self, store: Store) -> None:
        data = some_bytes(2 * SEGMENT + 1000)
        blob, other = store.write([data]), store.write([some_bytes(2 * SEGMENT + 1000, 1)])
        good = self.stored(store, blob.id)
        flipped = bytearray(good)
        flipped[len(good) // 2] ^= 1
        swapped = good[:100] + good[SEGMENT : SEGMENT + 500] + good[600:SEGMENT] + good[100:600] + good[SEGMENT + 500 :]
        assert len(swapped) == len(good)
        for damaged in (
            bytes(flipped),
            swapped,
            good[:-1],
            good[:SEGMENT],
            b"",
            good + b"\0",
            good + good,
            self.stored(store, other.id),
        ):
            self.nothing_wrong_is_given(store, blob.id, damaged)
        self.tamper(store, blob.id, good)
        assert self.read(store, blob.id) == data
