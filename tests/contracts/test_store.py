"""The contract of `Store` on a local folder and on a real S3 server, plain and sealed."""

from collections.abc import Iterator
from pathlib import Path

import obstore
import pytest
from tests.support.keyring import MemoryKeyring
from tests.support.s3 import S3, s3_server

from leptonai.adapters.stores.cloud import CloudStore
from leptonai.adapters.stores.local import LocalStore
from leptonai.adapters.stores.sealed import SealedStore
from leptonai.core.errors import Corrupt, Denied, NotFound, Unavailable
from leptonai.core.ports import DataKey, Store
from leptonai.testing.store import SEGMENT, StoreContract, some_bytes


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


def local_path(store: LocalStore, id: str) -> Path:
    return store.folder / id[:2] / id[2:]


class TestLocalStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return LocalStore(tmp_path / "blobs")

    def stored(self, store: LocalStore, id: str) -> bytes:  # type: ignore[override]
        return local_path(store, id).read_bytes()

    def tamper(self, store: LocalStore, id: str, data: bytes) -> None:  # type: ignore[override]
        local_path(store, id).write_bytes(data)

    def test_every_byte_of_a_blob_counts(self, store: Store) -> None:
        blob = store.write([some_bytes(1500)])
        good = self.stored(store, blob.id)  # type: ignore[arg-type]
        for index in range(len(good)):
            bad = bytearray(good)
            bad[index] ^= 1 << index % 8
            self.tamper(store, blob.id, bytes(bad))  # type: ignore[arg-type]
            with pytest.raises(Corrupt):
                store.open(blob.id)


class TestCloudStore(StoreContract):
    @pytest.fixture
    def store(self, s3: S3) -> Store:
        return CloudStore(s3.url())

    def stored(self, store: CloudStore, id: str) -> bytes:  # type: ignore[override]
        return bytes(obstore.get(store._store, id).bytes())

    def tamper(self, store: CloudStore, id: str, data: bytes) -> None:  # type: ignore[override]
        obstore.put(store._store, id, data)

    def test_a_large_blob_goes_up_in_parts(self, store: Store) -> None:
        data = some_bytes(20 * SEGMENT + 3)
        blob = store.write([data])
        assert self.read(store, blob.id) == data

    def test_a_wrong_secret(self, s3: S3) -> None:
        with pytest.raises(Unavailable, match="refuses these credentials") as caught:
            CloudStore(s3.url("p", secret="wrong")).write([b"x"])
        assert "wrong" not in caught.value.message

    def test_a_store_that_does_not_answer(self) -> None:
        url = "s3://bucket/p?endpoint=http://127.0.0.1:9&region=x&access_key_id=a&secret_access_key=b"
        with pytest.raises(Unavailable, match="s3://bucket/p cannot be reached"):
            CloudStore(url).open("0" * 64)


class Sealed(StoreContract):
    """Sealed over another store."""

    under: StoreContract

    def stored(self, store: SealedStore, id: str) -> bytes:  # type: ignore[override]
        return self.under.stored(store.inner, id)

    def tamper(self, store: SealedStore, id: str, data: bytes) -> None:  # type: ignore[override]
        self.under.tamper(store.inner, id, data)

    def test_only_ciphertext_reaches_the_store_below(self, store: SealedStore) -> None:
        text = b"a sentence that must not be found " * 100
        blob, again = store.write([text]), store.write([text])
        assert blob.id != again.id
        for id in (blob.id, again.id):
            assert b"sentence" not in self.stored(store, id)
        assert store.keyring.bound[blob.id] == store.keyring.bound[again.id]  # type: ignore[attr-defined]

    def test_a_blob_in_place_of_another(self, store: SealedStore) -> None:
        first, second = store.write([b"one"]), store.write([b"two"])
        keys = store.keyring.keys  # type: ignore[attr-defined]
        keys[first.id], keys[second.id] = keys[second.id], keys[first.id]
        for blob in (first, second):
            with pytest.raises(Corrupt):
                self.read(store, blob.id)

    def test_a_key_of_another_identity(self, store: SealedStore) -> None:
        blob = store.write([b"one"])
        keys = store.keyring.keys  # type: ignore[attr-defined]
        keys[blob.id] = DataKey("uid_other", keys[blob.id].secret)
        with pytest.raises(Corrupt):
            self.read(store, blob.id)

    def test_a_keyring_that_refuses_leaves_nothing(self, store: SealedStore, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise Denied("no")

        monkeypatch.setattr(store.keyring, "bind", refuse)
        with pytest.raises(Denied):
            store.write([b"x"])
        assert list(store.inner.list()) == []

    def test_a_blob_without_a_key(self, store: SealedStore) -> None:
        blob = store.inner.write([b"not sealed"])
        with pytest.raises(NotFound):
            store.open(blob.id)


class TestSealedLocalStore(Sealed):
    under = TestLocalStore()

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return SealedStore(LocalStore(tmp_path / "blobs"), MemoryKeyring())


class TestSealedCloudStore(Sealed):
    under = TestCloudStore()

    @pytest.fixture
    def store(self, s3: S3) -> Store:
        return SealedStore(CloudStore(s3.url()), MemoryKeyring())
