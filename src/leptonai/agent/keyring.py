"""How a Site gets at blobs: data keys from the server by HTTP; bytes from the store where it is within reach, else by HTTP."""

import base64
import hashlib
import io
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import quote

from leptonai.core import plugins
from leptonai.core.errors import Corrupt, Unsupported
from leptonai.core.personal import PII
from leptonai.core.ports import DataKey, Store, StoredBlob
from leptonai.sdk.http import Http


class HttpKeyring:
    """A `Keyring` that asks the server, which knows what the token at hand may open.

    With `remember`, a key that was given once is kept in memory: so a plane that dies while the server is away comes back.
    """

    def __init__(self, http: Http, *, remember: bool = False, scope: str = ""):
        self._http = http
        self._scope = scope
        self._known: dict[str, DataKey] | None = {} if remember else None

    def bind(self, blob: str, key: DataKey, size: int, plain: str) -> None:
        """Have the server remember the key of a blob; the same again is no error."""
        secret = base64.b64encode(key.secret).decode()
        body = {"uid": key.uid, "secret": secret, "size": size, "plain": plain, "scope": self._scope}
        self._http.call("PUT", _path(blob, "key"), json=body)

    def find(self, blob: str) -> DataKey:
        """Return the key of a blob. Raises `NotFound` or `Denied`."""
        if self._known is not None and blob in self._known:
            return self._known[blob]
        found = self._http.call("GET", _path(blob, "key"))
        key = DataKey(found["uid"], base64.b64decode(found["secret"]))
        if self._known is not None:
            self._known[blob] = key
        return key


class HttpStore:
    """A `Store` behind the server, for a Site that does not reach the store: ciphertext passes through it, as it is."""

    def __init__(self, http: Http):
        self._http = http

    def write(self, chunks: Iterable[bytes]) -> StoredBlob:
        """Store the bytes. Raises `DiskFull`."""
        data = b"".join(chunks)
        digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
        headers = {"Content-Digest": f"sha-256=:{digest}:", "Content-Type": "application/octet-stream"}
        answer = self._http.call("POST", "/blobs/raw", content=data, headers=headers, timeout=300)
        return StoredBlob(str(answer["blob"]), len(data))

    def open(self, id: str) -> BinaryIO:
        """Open a blob. Raises `NotFound`, or `Corrupt` when what came is not what its name says."""
        data = self._http.download(_path(id, "raw"))
        if hashlib.sha256(data).hexdigest() != id:
            raise Corrupt(f"blob {id} was altered on its way or in the store")
        return io.BytesIO(data)

    def list(self, prefix: str = "") -> Iterator[StoredBlob]:  # noqa: ARG002 - of the port
        """Raise `Unsupported`: a Site has no business with blobs it was not told of."""
        raise Unsupported("the blobs of a store cannot be listed from a Site")

    def delete(self, id: str) -> None:
        """Leave it to the server, which sweeps what no record names."""

    def written(self, id: str) -> datetime:  # noqa: ARG002 - of the port
        """Raise `Unsupported`: only the server sweeps."""
        raise Unsupported("when a blob was written is not told to a Site")

    def link(self, id: str, seconds: float) -> str | None:  # noqa: ARG002 - of the port
        """Return None."""
        return None


class Stores(NamedTuple):
    """The views on the blobs."""

    sealed: Store  # plaintext in, plaintext out
    raw: Store  # what is in it is encrypted already
    pii: Store  # sealed; what is written there takes a permission of its own to be read


def stores(http: Http, store_url: str | None, *, remember: bool = False) -> Stores:
    """Open the store at `store_url`, or behind the server where there is none."""
    raw: Any = plugins.store(store_url) if store_url else HttpStore(http)
    return Stores(
        plugins.sealed(raw, HttpKeyring(http, remember=remember)),
        raw,
        plugins.sealed(raw, HttpKeyring(http, scope=PII)),
    )


def _path(blob: str, what: str) -> str:
    return f"/blobs/{quote(blob, safe='')}/{what}"
