"""Which blobs a Run needs that reads a dataset version, and whether who asks may have it read personal columns."""

from collections.abc import Iterable

from leptonai.core.errors import Denied, FieldError
from leptonai.core.nouns import Dataset
from leptonai.core.stages import Desk

PII = "dataset:pii"  # the permission


def opens(data: Dataset, desk: Desk, columns: Iterable[str] | None = None, *, mask: bool = False) -> tuple[str, ...]:
    """Return the blobs that a Run opens to read these columns (None: all). Raises `Denied` that names a personal one.

    With `mask`, or where none of the columns is personal, the Run cannot read personal columns, whoever asks.
    """
    wanted = None if columns is None else set(columns)
    personal = [c.name for c in data.columns if c.pii and (wanted is None or c.name in wanted)]
    if mask or not personal:
        return (data.manifest, *data.shards)
    if not desk.may(PII):
        raise Denied(
            f"column {personal[0]!r} of dataset {data.name}@v{data.version} is personal: reading it needs the permission {PII}, "
            f"which {desk.by} lacks; leave it out, or ask for a mask",
            errors=[FieldError(personal[0], f"the permission {PII}")],
            permission=PII,
        )
    return (data.manifest, *data.shards, *data.pii)
