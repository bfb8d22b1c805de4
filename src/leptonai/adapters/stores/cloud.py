"""Keeps blobs in object storage: ``s3://bucket/prefix``, ``gs://bucket/prefix``, ``az://account/container/prefix``.

Credentials come from the standard environment variables of each cloud, which obstore reads; what those do not say can
stand in the URL, such as ``s3://bucket/prefix?endpoint=http://127.0.0.1:9000&region=eu-west-1``. The key of an object is
``prefix/<id>``. That an upload arrives as sent, the store checks itself (the request is signed with its digest).
"""

import contextlib
import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import IO, Any, BinaryIO, cast
from urllib.parse import parse_qsl, urlsplit

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError, UnknownConfigurationKeyError
from obstore.store import from_url

from leptonai.adapters.stores.local import check_id, damaged, is_id, no_blob
from leptonai.core.errors import DiskFull, Invalid, NotFound, Unavailable
from leptonai.core.ports import StoredBlob

_IN_MEMORY = 8 << 20  # bytes; what is larger passes through a temporary file
_PART = 8 << 20  # bytes of one part of a large upload
_CONNECT = timedelta(seconds=5)
_GIVE_UP = timedelta(seconds=30)
_METADATA_SERVICE = "169.254.169.254"  # where a cloud's machine gets credentials; asked when there are no others


def _spool() -> IO[bytes]:
    return cast(IO[bytes], tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY))


def _copy(chunks: Iterable[Any], file: IO[bytes]) -> StoredBlob:
    """Write `chunks` to a temporary file, from its start, and return their digest and size."""
    size, digest = 0, hashlib.sha256()
    for chunk in chunks:
        view = memoryview(chunk).cast("B")
        size += len(view)
        digest.update(view)
        try:
            file.write(view)
        except OSError as error:
            raise DiskFull(
                f"the folder for temporary files ({tempfile.gettempdir()}) cannot be written: {error.strerror}; make room there"
            ) from error
    file.seek(0)
    return StoredBlob(digest.hexdigest(), size)


class CloudStore:
    """A `Store` in a bucket."""

    def __init__(self, url: str):
        parts = urlsplit(url)
        self.url = parts._replace(query="", fragment="").geturl()  # without what may be secret
        if not parts.netloc:
            raise Invalid(f"store URL {self.url!r} names no bucket: it must be like s3://bucket/prefix")
        config = dict(parse_qsl(parts.query))
        options: Any = {"connect_timeout": _CONNECT}
        if config.get("endpoint", "").startswith("http://"):
            options["allow_http"] = True
        try:
            self._store: Any = from_url(
                self.url,
                config=cast(Any, config),
                client_options=options,
                retry_config={"max_retries": 4, "retry_timeout": _GIVE_UP},
            )
        except (BaseError, UnknownConfigurationKeyError, ValueError) as error:
            raise Invalid(f"store {self.url} cannot be used: {_first_line(error)}") from error

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turn an error of the network or of the cloud into a sentence. `FileNotFoundError` passes."""
        try:
            yield
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise Unavailable(
                f"store {self.url} refuses these credentials: check them, and what they may do there"
            ) from error
        except BaseError as error:
            if _METADATA_SERVICE in str(error):
                raise Unavailable(
                    f"there are no credentials for store {self.url}: set its standard variables, such as "
                    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
                ) from error
            raise Unavailable(f"store {self.url} cannot be reached or does not answer: {_first_line(error)}") from error

    def _no_bucket(self) -> NotFound:
        return NotFound(f"store {self.url} has no such bucket: create it, or correct the URL")

    def write(self, chunks: Iterable[bytes]) -> StoredBlob:
        """Store the bytes; when this returns the cloud has acknowledged them. Raises `DiskFull`, `Unavailable`.

        An object's key is the digest of all of it, so the bytes go to a temporary file first. One that is there already is
        overwritten by its equal: that mends a damaged one, which a conditional create would acknowledge.
        """
        with _spool() as file:
            blob = _copy(chunks, file)
            try:
                with self._told():
                    obstore.put(self._store, blob.id, file, chunk_size=_PART, max_concurrency=4)
            except FileNotFoundError:
                raise self._no_bucket() from None
        return blob

    def open(self, id: str) -> BinaryIO:
        """Open a blob. Raises `NotFound`, or `Corrupt` before a byte of a damaged one is given.

        It is fetched as a whole and checked before this returns: up to 8 MiB in memory, more in a temporary file.
        """
        check_id(id)
        file = _spool()
        try:
            with self._told():
                blob = _copy(obstore.get(self._store, id).stream(min_chunk_size=1 << 20), file)
            if blob.id != id:
                raise damaged(id, self.url)
        except FileNotFoundError as error:
            file.close()
            raise (self._no_bucket() if "NoSuchBucket" in str(error) else no_blob(id, self.url)) from None
        except BaseException:
            file.close()
            raise
        return cast(BinaryIO, file)

    def list(self, prefix: str = "") -> Iterator[StoredBlob]:
        """Yield the blobs whose id starts with `prefix`, sorted by id, as clouds do."""
        if not is_id(prefix.ljust(64, "0")):
            return
        with self._told():
            for page in obstore.list(self._store, offset=prefix[:63] or None):
                for entry in page:
                    id = entry["path"]
                    if not id.startswith(prefix) and id > prefix:
                        return
                    if id.startswith(prefix) and is_id(id):
                        yield StoredBlob(id, entry["size"])

    def delete(self, id: str) -> None:
        """Forget a blob; one that is not there is no error."""
        with contextlib.suppress(FileNotFoundError, NotFound), self._told():
            obstore.delete(self._store, check_id(id))

    def written(self, id: str) -> datetime:
        """Return when a blob was written last, by the cloud's clock. Raises `NotFound`."""
        try:
            with self._told():
                return obstore.head(self._store, check_id(id))["last_modified"]
        except FileNotFoundError:
            raise no_blob(id, self.url) from None

    def link(self, id: str, seconds: float) -> str | None:
        """Return a presigned URL that reads the stored bytes for `seconds`. Raises `Unavailable` where none can be signed."""
        with self._told():
            return str(obstore.sign(self._store, "GET", check_id(id), timedelta(seconds=seconds)))


def _first_line(error: BaseException) -> str:
    """Return the part of a long error that a person can read."""
    return str(error).strip().split("\n", 1)[0][:300]
