"""Files in a bucket, read by the user's own credentials: those of the environment, which stay on his machine."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from io import RawIOBase
from typing import Any, BinaryIO, cast
from urllib.parse import parse_qsl

from leptonai.core.errors import FieldError, Invalid, Unsupported

_SCHEMES = ("s3://", "gs://", "az://", "abfs://", "abfss://")

Inside = tuple[str, int, Callable[[], BinaryIO], str]  # name, size, how it is opened, where it lies


def is_url(text: str) -> bool:
    """Whether a text names a bucket, or something in one."""
    return text.startswith(_SCHEMES)


def listed(url: str) -> list[Inside]:
    """Return the files at a URL: the one of that name, or all below it. Raises `Invalid` when there are none, or access is denied."""
    try:
        import obstore
        from obstore.store import from_url
    except ImportError as error:
        raise Unsupported("files in buckets are not read here yet:  pip install 'lepton-ai-sdk[platform]'") from error
    plain, _, query = url.partition("?")
    scheme, _, rest = plain.partition("://")
    bucket, _, prefix = rest.partition("/")
    given = dict(parse_qsl(query))
    try:
        store: Any = from_url(
            f"{scheme}://{bucket}",
            config=cast(Any, given),
            client_options={"allow_http": given.get("endpoint", "").startswith("http://")},
            retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=60)},
        )
        found = [item for page in obstore.list(store, prefix or None) for item in page]
        if prefix and not found:
            found = [obstore.head(store, prefix)]
    except Exception as error:  # of many kinds, one for each service
        raise _unreadable(plain, error) from error
    below = prefix.rstrip("/") + "/" if prefix else ""
    inside = [
        (
            _below(item["path"], below),
            int(item["size"]),
            _opener(obstore, store, item, f"{scheme}://{bucket}/{item['path']}"),
            f"{scheme}://{bucket}/{item['path']}",
        )
        for item in sorted(found, key=lambda item: str(item["path"]))
        if not any(part.startswith(".") for part in _below(item["path"], below).split("/")) and item["size"]
    ]
    if not inside:
        raise Invalid(f"{plain}: there is no file there", errors=[FieldError(plain, "a file, or a prefix of some")])
    return inside


def _below(path: str, prefix: str) -> str:
    return (
        path.removeprefix(prefix) if path.startswith(prefix) and prefix else path.rpartition("/")[2] if prefix else path
    )


def _opener(obstore: Any, store: Any, item: Any, place: str) -> Callable[[], BinaryIO]:
    def open_() -> BinaryIO:
        return cast(BinaryIO, _Object(chunks()))

    def chunks() -> Iterator[Any]:
        try:
            yield from obstore.get(store, item["path"]).stream(min_chunk_size=4 << 20)
        except Exception as error:  # of many kinds, one for each service
            raise _unreadable(place, error) from error

    return open_


class _Object(RawIOBase):
    """A file of a bucket that is read from its begin to its end."""

    def __init__(self, chunks: Iterator[Any]):
        self._chunks = chunks
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Return exactly `size` bytes, or what is left."""
        found = bytearray()
        while size < 0 or len(found) < size:
            if not self._left:
                chunk = next(self._chunks, None)
                if chunk is None:
                    break
                self._left = memoryview(bytes(chunk))
            taken = self._left[: None if size < 0 else size - len(found)]
            found += taken
            self._left = self._left[len(taken) :]
        return bytes(found)


def _unreadable(place: str, error: Exception) -> Invalid:
    return Invalid(
        f"{place} cannot be read: {_reason(error)}; the credentials are those of the environment, such as AWS_ACCESS_KEY_ID",
        errors=[FieldError(place, "a bucket that can be read")],
    )


def _reason(error: Exception) -> str:
    first = str(error).strip().splitlines() or [type(error).__name__]
    return first[0][:200]
