"""Personal columns: what a column marked `pii` is stored as, and who reads it.

Each has a key of its own, from which the key of its part of each shard is derived; those parts are Parquet files of their own. The
keys lie in a sealed blob that only who has the permission `dataset:pii` may open: everybody else reads the rest of the table, and
for such a column gets an error that names it, or a mask. Nothing of its values is in the manifest: no statistics, no first rows,
no digest that a guess could be compared with.
"""

import base64
import hmac
import json
import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from leptonai.core.errors import Corrupt, Denied, FieldError, Invalid
from leptonai.core.nouns import Column, Dataset
from leptonai.core.ports import Store
from leptonai.core.signature import FeatureType
from leptonai.core.stages import Handle
from leptonai.data import shards

SHOWN = "<pii>"  # in the place of a value


class PersonalWriter:
    """Writes the personal columns of one version. An attempt that follows another goes on with its keys."""

    def __init__(self, handle: Handle, columns: Collection[str], dataset: str, saved: bytes | None = None):
        self.columns = tuple(columns)
        self._pepper = handle.pepper(dataset)
        if saved is not None:
            self.blob = saved.decode()
            self._keys = _open(handle.blobs, self.blob)
        else:
            self._keys = {f"{secrets.token_hex(8)} {name}": secrets.token_bytes(32) for name in self.columns}
            texts = {name: base64.b64encode(key).decode() for name, key in self._keys.items()}
            self.blob = handle.pii.write([json.dumps({"format": 1, "keys": texts}).encode()]).id
        self._names = {name.partition(" ")[2]: name for name in self._keys}

    def digest(self, part: pa.Table) -> str:
        """Return a keyed digest of the personal columns: the same for the same values in any version of the dataset."""
        return hmac.digest(self._pepper, shards.digest(part.select(self.columns)).encode(), "sha256").hex()

    def write(self, part: pa.Table, store: Store) -> dict[str, dict[str, Any]]:
        """Store each personal column; return what the manifest says of them."""
        found = {}
        for name in self.columns:
            salt = secrets.token_hex(16)
            key = _of_shard(self._keys[self._names[name]], salt)
            stored = store.write([shards.encrypted(part.select([name]), (), key)])
            found[name] = {"blob": stored.id, "bytes": stored.size, "key": self._names[name], "salt": salt}
        return found


class PersonalReader:
    """Reads the personal columns of one version, for who may; the keys are asked for when the first is read.

    With `mask` nobody reads them, and none of their values is there: missing ones, or zeros in images and tensors.
    """

    def __init__(self, dataset: Dataset, blobs: Store, *, mask: bool = False):
        self._dataset = dataset
        self._blobs = blobs
        self._mask = mask
        self._keys: dict[str, bytes] | None = None
        self.columns = tuple(map(_masked, dataset.columns)) if mask else dataset.columns

    def read(self, name: str, entry: Mapping[str, Any], store: Store, rows: int) -> pa.ChunkedArray:
        """Return a column of a shard. Raises `Denied` that names column and permission, `Corrupt`."""
        if self._mask:
            return _nothing(next(column for column in self.columns if column.name == name), rows)
        if self._keys is None:
            try:
                self._keys = {key: one for blob in self._dataset.pii for key, one in _open(self._blobs, blob).items()}
            except Denied:
                raise denied(self._dataset, name) from None
        if entry["key"] not in self._keys:
            raise Corrupt(f"the key of the personal column {name!r} is not there: restore it from a backup")
        key = _of_shard(self._keys[entry["key"]], entry["salt"])
        return shards.decrypted(entry["blob"], store, key, [name])[name]


def denied(dataset: Dataset, name: str) -> Denied:
    """Return the error of who reads a personal column without the permission."""
    return Denied(
        f"column {name!r} of dataset {dataset.name}@v{dataset.version} is personal: reading it needs the permission dataset:pii; "
        "leave it out, or ask for a mask (mask=True)",
        errors=[FieldError(name, "the permission dataset:pii")],
        permission="dataset:pii",
    )


def _open(blobs: Store, blob: str) -> dict[str, bytes]:
    with blobs.open(blob) as file:
        return {name: base64.b64decode(key) for name, key in json.loads(file.read())["keys"].items()}


def _of_shard(key: bytes, salt: str) -> bytes:
    """Return the key of one file: no key encrypts two, as AES-GCM asks."""
    return hmac.digest(key, b"leptonai/column/1/" + bytes.fromhex(salt), "sha256")


def veiled(column: Column, base: Dataset | None = None) -> Column:
    """Return what may be known of a personal column: what it is called and means, and how many values are missing.

    The rows of `base`, which come first, were masked when they were counted; how many values they lack is known of it.
    """
    kind = FeatureType.TEXT if column.type is FeatureType.CATEGORY else column.type
    stats = {word: column.stats[word] for word in ("count", "missing") if word in column.stats}
    before = next((one for one in base.columns if one.name == column.name), None) if base is not None else None
    if base is not None and before is not None and not column.shape:
        stats["missing"] += before.stats["missing"] - base.rows
    nullable = stats.get("missing", 0) > 0
    known = (0, 1) if kind is FeatureType.BOOLEAN else ()
    dtype = "str" if kind is FeatureType.TEXT else column.dtype
    return column.model_copy(
        update={"pii": True, "type": kind, "dtype": dtype, "categories": known, "stats": stats, "nullable": nullable}
    )


def _masked(column: Column) -> Column:
    """Return the column as a reader gives it who masks it."""
    dtype = "float64" if column.type is FeatureType.INTEGER else column.dtype
    return column.model_copy(update={"nullable": True, "dtype": dtype}) if column.pii else column


def _nothing(column: Column, rows: int) -> pa.ChunkedArray:
    if column.shape:
        width = int(np.prod(column.shape)) * np.dtype(column.dtype).itemsize
        return pa.chunked_array([pa.array([bytes(width)] * rows, pa.binary(width))])
    return pa.chunked_array([pa.nulls(rows, _TYPES.get(column.type, pa.large_string()))])


_TYPES = {
    FeatureType.NUMBER: pa.float64(),
    FeatureType.INTEGER: pa.float64(),
    FeatureType.BOOLEAN: pa.bool_(),
    FeatureType.DATETIME: pa.timestamp("us"),
}


def check_personal(columns: Collection[str], names: Sequence[str], target: str | None) -> None:
    """Raise `Invalid` for a personal column that is not there, is the target, or leaves no other column."""
    listed = ", ".join(names[:30])
    for name in columns:
        if name not in names:
            raise Invalid(
                f"pii names a column {name!r}, which is not there: the columns are {listed}",
                errors=[FieldError("pii", f"one of {listed}")],
            )
        if name == target:
            raise Invalid(
                f"the target {name!r} cannot be personal: who trains reads it; name another target, or none (target='')",
                errors=[FieldError("pii", f"not {name}")],
            )
    if set(names) <= set(columns):
        raise Invalid("pii names every column: leave one that is not", errors=[FieldError("pii", "not every column")])


_PLACE = re.compile(r"\b(row|line) [\d,]+")


def redacted(error: Invalid, columns: Collection[str]) -> Invalid:
    """Return an error of an import without what a personal column holds; one that cannot hold such a value as it is."""
    field = error.errors[0].field if error.errors else ""
    known = any(field.endswith(f", {name}") for name in columns)
    if not columns or not (known or (_PLACE.search(error.message) and "'" in error.message and ", " not in field)):
        return error
    right = error.errors[0].message if error.errors else "readable"
    place = field or "the file"
    return type(error)(
        f"{place}: it should be {right}, and what it is is not shown, since there are personal columns (pii): mend it",
        errors=error.errors,
    )
