"""What a Run does that writes labels: rows of one version pass by, some of their labels are set, and become the next version."""

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.refs import DatasetRef
from leptonai.core.signature import FeatureType
from leptonai.core.stages import Handle
from leptonai.data.personal import redacted
from leptonai.data.pieces import Version
from leptonai.data.spec_relabel import Relabel
from leptonai.data.version import VersionWriter


def relabel(spec: Relabel, handle: Handle) -> dict[str, Any]:
    """Write the next version; return what `data.verbs.settle_import` needs. Raises `Invalid` for a label that cannot be one."""
    version = Version(spec.data, handle, personal=True)  # all of it is written again, personal columns too
    try:
        return _written(spec, version, handle)
    except Invalid as error:
        raise redacted(error, [column.name for column in version.columns if column.pii]) from None


def _written(spec: Relabel, version: Version, handle: Handle) -> dict[str, Any]:
    labels = _labels(spec, handle)
    target = spec.target or version.record.target or ""
    name = DatasetRef.parse(spec.data).name
    pii = [column.name for column in version.columns if column.pii]
    writer = VersionWriter(
        handle, target=version.record.target or "", types={column.name: column.type for column in version.columns},
        shard_rows=version.shard_rows, pii=pii, name=name, unlabelled=True,
    )  # fmt: skip
    kind = next(column.type for column in version.columns if column.name == target)
    try:
        for table, numbers in version.pieces():
            set_here = [(at, labels[row]) for at, row in enumerate(numbers.tolist()) if row in labels]
            if set_here:
                at = table.schema.get_field_index(target)
                column = _with(table.column(at), set_here, kind, target)
                table = table.set_column(at, pa.field(target, column.type), column)
            writer.add(table, spec.data, writer.rows)
            handle.progress(writer.rows, version.rows, "rows")
        about: dict[str, Any] = {"target": target, "labels": len(labels)}
        about |= {word: value for word, value in (("run", spec.run), ("note", spec.note)) if value}
        lineage = {"dataset": spec.data, "digest": version.record.digest, "relabel": about}
        return {**writer.finish(lineage), "name": name}
    finally:
        writer.close()


def _labels(spec: Relabel, handle: Handle) -> dict[int, Any]:
    """Return the labels to set by row."""
    if spec.run is None:
        return dict(zip(spec.rows, spec.labels, strict=True))
    run = handle.get(spec.run)
    result: Mapping[str, Any] = run.result or {}
    with handle.blobs.open(result["labels" if run.stage == "auto_label" else "report"]) as file:
        found = json.loads(file.read())
    if run.stage == "auto_label":
        return dict(zip(found["rows"], found["labels"], strict=True))
    return {error["row"]: error["suggested"] for error in found["errors"]}


def _with(column: pa.ChunkedArray, labels: list[tuple[int, Any]], kind: FeatureType, target: str) -> pa.ChunkedArray:
    values = column.to_pylist()
    for at, label in labels:
        if kind is FeatureType.BOOLEAN and label in (0, 1):
            label = bool(label)
        values[at] = str(label) if label is not None and pa.types.is_large_string(column.type) else label
    try:
        return pa.chunked_array([pa.array(values, column.type)])
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        wrong = next(label for _, label in labels if not _fits(label, column.type))
        raise Invalid(
            f"the label {wrong!r} cannot be one of column {target!r}, which holds {kind} values",
            errors=[FieldError("labels", f"{kind} values")],
        ) from error


def _fits(label: Any, kind: pa.DataType) -> bool:
    try:
        pa.array([label], kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return False
    return True
