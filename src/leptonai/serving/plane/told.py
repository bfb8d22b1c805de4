"""What is said of services, alike over HTTP and gRPC: by the Open Inference Protocol, Triton's extensions of it, and OpenAI's list."""

from collections.abc import Sequence
from typing import Any

from leptonai.core.signature import TensorSpec
from leptonai.serving.plane import v2
from leptonai.serving.plane.metrics import Labels, Series
from leptonai.serving.plane.router import Route, Router
from leptonai.serving.plane.waiting import Absent

BATCH_ROWS = 256  # what batches are said to hold at most; a request may have more
EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository", "statistics")

_TYPES = {"BYTES": "TYPE_STRING"}


def described(route: Route) -> dict[str, Any]:
    """Return what a model takes and gives."""
    model = route.replica.model
    platform = "onnx_onnxv1" if "model.onnx" in model.files else model.framework
    return v2.metadata(route.service, [route.version], platform, model.signature)


def indexed(route: Route) -> dict[str, Any]:
    """Return the line of a service in the index of the repository."""
    replica = route.replica
    reason = replica.reason if isinstance(replica, Absent) else ""
    state = "READY" if replica.ready and not reason else "UNAVAILABLE"
    return {"name": route.service, "version": route.version, "state": state, "reason": reason}


def named(route: Route) -> dict[str, Any]:
    """Return what KServe's V1, and OpenAI's list of models, say of a service."""
    created = int(route.replica.model.created.timestamp())
    said = {"id": route.service, "object": "model", "created": created, "owned_by": "leptonai"}
    return {**said, "name": route.service, "ready": route.replica.ready}


def configuration(route: Route) -> dict[str, Any]:
    """Return the same as Triton's ``ModelConfig``, in which the batch is no dimension where every tensor has others."""
    model = route.replica.model
    onnx = "model.onnx" in model.files
    batched = int(all(len(spec.shape) > 1 for spec in (*model.signature.inputs, *model.signature.outputs)))

    def tensors(specs: Sequence[TensorSpec]) -> list[dict[str, Any]]:
        return [
            {
                "name": spec.name,
                "data_type": _TYPES.get(spec.datatype, f"TYPE_{spec.datatype}"),
                "dims": list(spec.shape[batched:]),
            }
            for spec in specs
        ]

    return {
        "name": route.service,
        "platform": "onnxruntime_onnx" if onnx else "",
        "backend": "onnxruntime" if onnx else "python",
        "max_batch_size": BATCH_ROWS if batched else 0,
        "input": tensors(model.signature.inputs),
        "output": tensors(model.signature.outputs),
        **({"dynamic_batching": {}} if batched else {}),
    }


def statistics(router: Router, routes: Sequence[Route]) -> dict[str, Any]:
    """Return Triton's statistics of services: counts, and nanoseconds, of all processes together."""
    every = router.metrics.every()
    found = []
    for route in routes:
        model = route.replica.model
        series = every.get(Labels(model.name, str(model.version), route.variant, route.service), Series())
        found.append({"name": route.service, "version": route.version, **_counts(series)})
    return {"model_stats": found}


def _counts(series: Series) -> dict[str, Any]:
    answered = series.codes.get(200, 0)
    failed = sum(series.codes.values()) - answered

    def time(stage: str) -> dict[str, int]:
        return {"count": answered, "ns": round(series.stages[stage].sum * 1e9)}

    return {
        "last_inference": 0,  # nobody writes it down
        "inference_count": round(series.batch.sum),
        "execution_count": sum(series.batch.counts),
        "inference_stats": {
            "success": time("total"),
            "fail": {"count": failed, "ns": 0},
            "queue": time("queue"),
            "compute_input": time("parse"),
            "compute_infer": time("model"),
            "compute_output": time("encode"),
        },
    }
