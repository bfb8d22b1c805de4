"""What a diff Run does."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from leptonai.core.nouns import Column
from leptonai.core.signature import FeatureType
from leptonai.core.stages import Handle
from leptonai.data import diffing
from leptonai.data.cleaning.rows import changed as changed_values
from leptonai.data.pieces import Version
from leptonai.data.shards import BLOCKS
from leptonai.data.spec_diff import Diff, DiffReport

_COMPARED = 10_000  # changed rows that are compared value by value
_WORDS = (FeatureType.CATEGORY, FeatureType.TEXT)
_NUMBERS = (FeatureType.NUMBER, FeatureType.INTEGER)


def diff(spec: Diff, handle: Handle) -> dict[str, Any]:
    """Compare two versions; return the blob of a `DiffReport`, and a few figures."""
    before, after = Version(spec.before, handle), Version(spec.after, handle)
    old, new = ({column.name: column for column in version.columns} for version in (before, after))
    shared = [name for name in new if name in old and _alike(old[name], new[name])]
    schema = {
        "added": {name: column.type.value for name, column in new.items() if name not in old},
        "removed": {name: column.type.value for name, column in old.items() if name not in new},
        "retyped": {
            name: [old[name].type.value, column.type.value]
            for name, column in new.items()
            if name in old and (old[name].type, old[name].shape) != (column.type, column.shape)
        },
    }
    one = diffing.prints(before, shared, spec.key)
    handle.progress(before.rows, before.rows + after.rows, "rows")
    other = diffing.prints(after, shared, spec.key)
    handle.progress(before.rows + after.rows, before.rows + after.rows, "rows")
    found = diffing.compare(one, other)
    values, examples, compared = _changes(before, after, shared, found, spec)
    counts = {
        "before": before.rows, "after": after.rows, "added": len(found.added), "removed": len(found.removed),
        "changed": len(found.changed), "same": found.same, "repeated_keys": found.repeated if spec.key else 0,
    }  # fmt: skip
    report = DiffReport.model_validate(
        {
            "before": spec.before,
            "after": spec.after,
            "same": not any(schema.values()) and found.same == before.rows == after.rows,
            "schema": schema,
            "rows": counts,
            "changed": values,
            "compared": compared,
            "statistics": diffing.statistics(before.columns, after.columns)
            if before.chosen is after.chosen is None
            else [],
            "examples": {
                "added": _shown(after, found.added[: spec.examples]),
                "removed": _shown(before, found.removed[: spec.examples]),
                "changed": examples,
            },
            "notes": _notes(before, after, shared, len(found.changed), compared),
        }
    )
    stored = handle.blobs.write([report.model_dump_json(by_alias=True).encode()])
    handle.say(", ".join(f"{name}: {count:,}" for name, count in counts.items()))
    return {"report": stored.id, "rows": counts, "same": report.same}


def _alike(old: Column, new: Column) -> bool:
    """Whether values of two columns can be equal."""
    both = (old.type, new.type)
    if old.shape != new.shape:
        return False
    words = all(kind in _WORDS for kind in both) and "int64" not in (old.dtype, new.dtype)
    return (
        (both[0] == both[1] and (old.type is not FeatureType.CATEGORY or old.dtype == new.dtype))
        or words
        or all(kind in _NUMBERS for kind in both)
    )


def _changes(
    before: Version, after: Version, shared: Sequence[str], found: diffing.Found, spec: Diff
) -> tuple[dict[str, int], list[dict[str, Any]], int]:
    """Return how many values changed by column, and the first changed rows."""
    pairs = found.changed[:_COMPARED]
    if not len(pairs):
        return {}, [], 0
    old_rows, old_at = np.unique(pairs[:, 0], return_inverse=True)
    new_rows, new_at = np.unique(pairs[:, 1], return_inverse=True)
    old = diffing.comparable(diffing.fetched(before, old_rows, shared)).take(pa.array(old_at))
    new = diffing.comparable(diffing.fetched(after, new_rows, shared)).take(pa.array(new_at))
    which = {name: changed_values(old[name], new[name]) for name in shared}
    counts = {name: int(mask.sum()) for name, mask in which.items() if mask.any()}
    examples = [
        {
            "rows": [int(pairs[at, 0]) + 1, int(pairs[at, 1]) + 1],
            "key": {name: _plain(new[name][at]) for name in spec.key},
            "values": {
                name: [_plain(old[name][at]), _plain(new[name][at])] for name, mask in which.items() if mask[at]
            },
        }
        for at in range(min(spec.examples, len(pairs)))
    ]
    return counts, examples, len(pairs)


def _shown(version: Version, rows: np.ndarray) -> list[dict[str, Any]]:
    names = [c.name for c in version.columns if c.type not in (*BLOCKS, FeatureType.BOXES)]
    if not len(rows) or not names:
        return [{"row": int(row) + 1, "values": {}} for row in rows]
    found = diffing.fetched(version, rows, names)
    return [
        {"row": int(row) + 1, "values": {name: _plain(found[name][at]) for name in names}}
        for at, row in enumerate(rows)
    ]


def _plain(value: pa.Scalar) -> Any:
    found = value.as_py()
    if isinstance(found, bytes):
        return f"<{len(found):,} bytes>"
    if hasattr(found, "isoformat"):
        found = found.isoformat()
    if isinstance(found, float) and not math.isfinite(found):
        return None
    return found if not isinstance(found, str) or len(found) <= 200 else f"{found[:199]}…"


def _notes(before: Version, after: Version, shared: Sequence[str], changed: int, compared: int) -> list[str]:
    found = []
    hidden = sorted({*before.hidden, *after.hidden})
    if hidden:
        found.append(f"personal columns are not compared: {', '.join(hidden)}")
    left = [column.name for column in after.columns if column.name not in shared and column.name not in hidden]
    if left:
        found.append(
            f"rows are compared without {', '.join(left)}, which the other version has not, or with another type"
        )
    if compared < changed:
        found.append(f"changed values are counted in the first {compared:,} changed rows")
    return found
