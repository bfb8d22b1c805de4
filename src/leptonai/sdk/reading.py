"""The rows of a dataset in the user's own process: keys from the server, encrypted shards from there, or from where they lie.

On the machine of the server the shards are read where they are; elsewhere each is fetched once and kept, encrypted, in the
folder ``cache`` of the home folder, within LEPTONAI_DATA_CACHE.
"""

import io
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from leptonai.core import plugins
from leptonai.core.errors import MissingExtra

if TYPE_CHECKING:
    from leptonai.data.reader import DatasetReader
    from leptonai.sdk.client import Client
    from leptonai.sdk.datasets import Dataset


class ServerBlobs:
    """The plaintext of sealed blobs, as far as the key at hand opens them."""

    def __init__(self, via: "Client"):
        self._client = via

    def open(self, id: str) -> BinaryIO:
        """Fetch a blob. Raises `Denied`."""
        return io.BytesIO(self._client.http.download(id))


class ServerShards:
    """The shards of one version behind the server, as far as a reader needs a store."""

    def __init__(self, dataset: "Dataset"):
        self._client = dataset.client
        self._dataset = dataset.record.id
        self._numbers = {blob: number for number, blob in enumerate(dataset.record.shards)}

    def open(self, id: str) -> BinaryIO:
        """Fetch a shard, as it is stored."""
        return io.BytesIO(self._client.http.download(f"/datasets/{self._dataset}/shards/{self._numbers[id]}"))


def reader(dataset: "Dataset", memory: int | None = None, *, mask: bool = False) -> "DatasetReader":
    """Open the rows of a dataset, or of a part of one; `memory` bytes may be kept (default: half of what is free).

    With `mask` no value of a personal column is there; else they need the permission dataset:pii when they are read. Raises `Denied` without the permission dataset:read, `MissingExtra` where the libraries to read with are not installed.
    """
    try:
        from leptonai.data.loader_cache import near
        from leptonai.data.personal import PersonalReader
        from leptonai.data.reader import DatasetReader, share_of_memory
    except ImportError as error:
        raise MissingExtra(
            f"rows are read with {error.name}: install it with  pip install 'lepton-ai-sdk[platform]'"
        ) from error
    record, via = dataset.record, dataset.client
    told = via.http.call("GET", f"/datasets/{record.id}/shards")
    store: Any = _here(told["store"]) if via.host is None and told["store"] else None
    if store is None:
        store = near(ServerShards(dataset), via.home / "cache")  # type: ignore[arg-type]
    most = share_of_memory() if memory is None else memory
    personal = PersonalReader(record, ServerBlobs(via), mask=mask)  # type: ignore[arg-type]
    return DatasetReader(record, dataset.splits, told["shards"], store, most, personal)


@cache
def _here(folder: str) -> Any:
    """Return the store in a folder, or None where this user cannot read it."""
    return plugins.store(folder) if Path(folder).is_dir() and os.access(folder, os.R_OK | os.W_OK) else None
