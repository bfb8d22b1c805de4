"""Make a model version of what a training Run learnt: one ONNX file if any route gives one, and the whole bundle.

Runs in a process of the model's own flavour, for it loads the user's code. The version is numbered, and its record
written, by `registry.verbs.settle_export`, in the transaction that ends the Run.
"""

import hashlib
from typing import Any

from leptonai.core import plugins
from leptonai.core.nouns import Run
from leptonai.core.refs import check_name
from leptonai.core.signature import Signature
from leptonai.core.stages import Handle
from leptonai.training import export_check, export_facts, export_routes, onnx_inputs, onnx_tail
from leptonai.training.export_card import card
from leptonai.training.predictor import based, loaded
from leptonai.training.several import how
from leptonai.training.spec import Export, Fitted
from leptonai.training.trainee import suited

_TASKS: dict[str, Any] = {"generation": "custom", "several": "custom"}
_NATIVE = {"sklearn": "model.skops"}


def export(spec: Export, handle: Handle) -> dict[str, Any]:
    """Return what `settle_export` needs: files, signature, metrics, lineage, digest, size and a note."""
    for alias in spec.aliases:
        check_name(alias, "alias")
    trained = handle.get(spec.run)
    fitted = Fitted.model_validate(trained.result)
    native = _NATIVE.get(fitted.framework, "weights.safetensors")
    code, weights = _read(handle, fitted.code), _read(handle, fitted.weights)
    size = len(weights)
    contents = {"code": _digest(code), native: _digest(weights)}
    framework = plugins.framework(fitted.framework)
    learner = suited(loaded(framework, code, weights, based(fitted, handle)), how(fitted.encoding))
    del code, weights
    reader = handle.data(fitted.data)
    sample = export_check.draw(reader, fitted.encoding, learner)
    taken = export_routes.take(framework, learner, fitted, sample, size, handle)
    signature = Signature(
        inputs=onnx_inputs.specs(fitted.encoding),
        outputs=onnx_tail.outputs(fitted.encoding, sample.shape),
        task=_TASKS.get(fitted.encoding.task, fitted.encoding.task),
        classes=fitted.encoding.classes,
    )
    lineage = export_facts.lineage(trained, fitted, reader.dataset, contents["code"], taken)
    report = export_facts.report(spec, fitted, _evaluation(spec, handle))
    new = {
        **export_facts.documents(fitted, signature, lineage, report),
        "card.md": card(spec.name, fitted, signature, reader.dataset, report, lineage).encode(),
    }
    if taken.graph is not None:
        new["model.onnx"] = taken.graph
    handle.progress(1, 2, "files")
    files = {native: fitted.weights, "code": fitted.code, **fitted.base} | (
        {"events": fitted.events} if fitted.events else {}
    )
    files |= {name: handle.blobs.write([data]).id for name, data in new.items()}
    contents |= {name: _digest(data) for name, data in new.items()}
    handle.progress(2, 2, "files")
    return {
        "name": spec.name,
        "aliases": list(spec.aliases),
        "digest": export_facts.digest(contents, lineage),
        "framework": fitted.framework,
        "files": files,
        "bytes": len(taken.graph) if taken.graph is not None else size,
        "signature": signature.to_dict(),
        "metrics": report["metrics"],
        "lineage": lineage,
        "note": export_routes.note(taken, fitted.framework),
    }


def _read(handle: Handle, blob: str) -> bytes:
    with handle.blobs.open(blob) as file:
        return file.read()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _evaluation(spec: Export, handle: Handle) -> Run | None:
    return handle.get(spec.evaluation) if spec.evaluation else None
