"""Wraps any store so that only ciphertext ever reaches it: envelope encryption with one data key for each blob."""

import contextlib
import hashlib
import secrets
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import BinaryIO

from leptonai.adapters.stores.stream import Bytes, decrypt, encrypt, plain_size
from leptonai.core.errors import LeptonError
from leptonai.core.ids import new_id
from leptonai.core.ports import DataKey, Keyring, Store, StoredBlob


def _associated(key: DataKey) -> bytes:
    """Return what a ciphertext is bound to: the format and the identity that the key was made for."""
    return b"leptonai/blob/1/" + key.uid.encode()


class _Tally:
    """Counts and digests the plaintext while it passes."""

    def __init__(self) -> None:
        self.size = 0
        self.digest = hashlib.sha256()

    def over(self, chunks: Iterable[Bytes]) -> Iterator[Bytes]:
        for chunk in chunks:
            self.size += memoryview(chunk).nbytes
            self.digest.update(chunk)
            yield chunk


class SealedStore:
    """A `Store` of plaintext over a `Store` of ciphertext.

    A blob's id is that of its ciphertext, so it tells nothing of the plaintext: the same bytes written twice have two ids.
    """

    def __init__(self, inner: Store, keyring: Keyring):
        self.inner = inner
        self.keyring = keyring

    def write(self, chunks: Iterable[Bytes]) -> StoredBlob:
        """Encrypt and store the bytes under a fresh key, then have the keyring remember it. Raises `DiskFull`."""
        key = DataKey(new_id("uid"), secrets.token_bytes(32))
        tally = _Tally()
        stored = self.inner.write(encrypt(key.secret, _associated(key), tally.over(chunks)))
        try:
            self.keyring.bind(stored.id, key, tally.size, tally.digest.hexdigest())
        except BaseException:  # whatever the reason: nobody can read these bytes, and nobody else has the same
            with contextlib.suppress(LeptonError):
                self.inner.delete(stored.id)
            raise
        return StoredBlob(stored.id, tally.size)

    def open(self, id: str) -> BinaryIO:
        """Open the plaintext of a blob. Raises `NotFound`, `Denied` or `Corrupt`, the last before a wrong byte is given."""
        key = self.keyring.find(id)
        return decrypt(self.inner.open(id), key.secret, _associated(key), f"blob {id}")

    def list(self, prefix: str = "") -> Iterator[StoredBlob]:
        """Yield the blobs of the store below, with the sizes of their plaintext (meaningless for one not sealed here)."""
        for blob in self.inner.list(prefix):
            yield StoredBlob(blob.id, plain_size(blob.size))

    def delete(self, id: str) -> None:
        """Forget a blob. Its key stays with the keyring: it opens nothing any more."""
        self.inner.delete(id)

    def written(self, id: str) -> datetime:
        """Return when a blob was written last. Raises `NotFound`."""
        return self.inner.written(id)

    def link(self, id: str, seconds: float) -> str | None:
        """Return a URL of the stored bytes, which are ciphertext, or None."""
        return self.inner.link(id, seconds)
