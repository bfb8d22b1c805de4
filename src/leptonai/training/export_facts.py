"""What stands beside the weights of a model version: lineage, metrics, and the digest that sums it up."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from leptonai.core.nouns import Dataset, Run
from leptonai.core.signature import Signature
from leptonai.training.export_check import TOLERANCE
from leptonai.training.export_routes import Taken
from leptonai.training.spec import Export, Fitted

_BEHAVIOUR = ("model.onnx", "model.skops", "weights.safetensors", "code", "encoding.json", "signature.json")


def lineage(trained: Run, fitted: Fitted, dataset: Dataset, code: str, taken: Taken) -> dict[str, Any]:
    """Return where a version came from; no times, so that the same work gives the same lineage."""
    return {
        "dataset": {"reference": fitted.data, "id": fitted.dataset, "digest": dataset.digest},
        "run": trained.id,
        "spec": trained.spec,
        "code": {"sha256": code},
        "seed": fitted.seed,
        "framework": fitted.framework,
        "flavour": fitted.flavour,
        "versions": fitted.versions,
        "export": {
            "route": taken.route,
            "difference": taken.measured.difference if taken.measured else None,
            "rows": taken.measured.rows if taken.measured else None,
            "tolerance": TOLERANCE,
            "refused": [refused.model_dump() for refused in taken.refused],
        },
        **({"pretrained": fitted.pretrained} if fitted.pretrained else {}),
    }


def report(spec: Export, fitted: Fitted, evaluation: Run | None) -> dict[str, Any]:
    """Return the numbers of a version: those of an evaluation and those given, else those of the last epoch."""
    last = {name: values[-1] for name, values in fitted.history.items() if values}
    measured = dict((evaluation.result or {}).get("metrics", {})) if evaluation else {}
    metrics = measured | spec.metrics or last
    return {
        "metrics": _finite(metrics),
        "training": _finite(last),
        "epochs": fitted.epochs,
        "evaluation": evaluation
        and {"run": evaluation.id, "data": evaluation.spec.get("data"), "report": evaluation.result},
    }


def _finite(numbers: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in numbers.items() if value is not None and math.isfinite(value)}


def documents(
    fitted: Fitted, signature: Signature, lineage: Mapping[str, Any], report: Mapping[str, Any]
) -> dict[str, bytes]:
    """Return the JSON files of the bundle."""
    return {
        "encoding.json": fitted.encoding.model_dump_json().encode(),
        "signature.json": json.dumps(signature.to_dict(), separators=(",", ":"), ensure_ascii=False).encode(),
        "fitted.json": fitted.model_dump_json().encode(),
        "history.json": json.dumps(fitted.history).encode(),
        "metrics.json": json.dumps(report).encode(),
        "lineage.json": json.dumps(lineage).encode(),
    }


def digest(contents: Mapping[str, str], lineage: Mapping[str, Any]) -> str:
    """Return the digest of a version: of the SHA-256 of each file that decides what it answers, and of its lineage."""
    summed = hashlib.sha256()
    for name in sorted(set(contents) & set(_BEHAVIOUR)):
        summed.update(f"{name} {contents[name]}\n".encode())
    summed.update(json.dumps(lineage, sort_keys=True).encode())
    return summed.hexdigest()
