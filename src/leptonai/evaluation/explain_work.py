"""What an explanation Run does: makes inputs of the rows, as a service does, and asks the version what each part of them adds."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.signature import FeatureType, Signature
from leptonai.core.stages import COLUMNS, Handle, Shuffle, load
from leptonai.evaluation import explaining, shapley
from leptonai.evaluation.published import Published, feed
from leptonai.evaluation.spec import Explain

MOST = 100  # rows of one request


def explain(spec: Explain, handle: Handle) -> dict[str, Any]:
    """Explain what a published version says of rows. What is found lies sealed, because it holds values of the rows."""
    result = handle.get(spec.run or "").result or {}  # of the export Run that made it
    signature = Signature.of(result["signature"])
    with handle.blobs.open(spec.rows) as file:
        asked = _rows(file.read())
    inputs = load(COLUMNS)(signature).inputs(asked)
    began = time.perf_counter()
    with _subject(spec, result, signature, handle) as subject:
        background = _background(spec, signature, subject, handle)
        found = explaining.rows(subject, inputs, background, spec.seed)
    for one, row in zip(found, asked, strict=True):
        for share in one.get("shares", ()):
            share["value"] = row[share["column"]]
    details = handle.blobs.write([json.dumps({"rows": found}).encode()]).id
    method = found[0]["method"]
    return {"task": signature.task, "rows": len(found), "method": method, "seconds": time.perf_counter() - began, "details": details}  # fmt: skip


def _rows(data: bytes) -> list[dict[str, Any]]:
    try:
        found = json.loads(data)
    except ValueError as error:
        raise Invalid(f"rows: the blob is not JSON: {error}", errors=[FieldError("rows", "a JSON list")]) from error
    if not isinstance(found, list) or not 0 < len(found) <= MOST:
        right = f"a JSON list of 1 to {MOST} objects, each with a value for every column"
        raise Invalid(f"rows: the blob must hold {right}", errors=[FieldError("rows", right)])
    return found


@contextmanager
def _subject(
    spec: Explain, result: Mapping[str, Any], signature: Signature, handle: Handle
) -> Iterator[explaining.Subject]:
    types = {tensor.name: tensor.type for tensor in signature.inputs}
    classes = signature.classes
    if not spec.gradients and "model.onnx" in result["files"]:
        with handle.blobs.open(result["files"]["model.onnx"]) as file:
            model = Published(file.read(), signature)
        try:
            yield explaining.Subject(model.answers, classes, types)
        finally:
            model.close()
        return
    predictor = handle.model(result["lineage"]["run"])
    yield explaining.Subject(predictor.scores, classes, types, predictor.attributed if spec.gradients else None)


def _background(spec: Explain, signature: Signature, subject: explaining.Subject, handle: Handle) -> dict[str, Any]:
    """Return rows that stand for what is not known, drawn from the dataset, as the inputs of the version."""
    if subject.kind != "table":
        return {}
    reader = handle.data(spec.data or "")
    names = tuple(tensor.name for tensor in signature.inputs)
    shuffle = Shuffle(spec.seed, reader.window(names))
    batch = next(iter(reader.batches(shapley.BACKGROUND, columns=names, shuffle=shuffle)), None)
    if batch is None:
        raise Invalid(f"{spec.data} has no rows: name a dataset that has", errors=[FieldError("data", "some rows")])
    return {tensor.name: _fed(tensor, batch[tensor.name]) for tensor in signature.inputs}


def _fed(tensor: Any, values: Any) -> Any:
    return np.asarray(values) if tensor.type == FeatureType.IMAGE else feed(tensor, values)
