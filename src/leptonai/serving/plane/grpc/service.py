"""What the calls are about: ``inference.GRPCInferenceService`` and gRPC's own health service, answered by the router."""

from collections.abc import Callable, Sequence
from typing import Any

from leptonai import __version__
from leptonai.core.errors import Denied
from leptonai.core.nouns import TensorSpec
from leptonai.serving.plane import v2
from leptonai.serving.plane.grpc.call import REFUSED, Talk, Unary
from leptonai.serving.plane.grpc.health import Health
from leptonai.serving.plane.grpc.infer import Inference
from leptonai.serving.plane.grpc.limits import Limits
from leptonai.serving.plane.grpc.messages import decoded, message
from leptonai.serving.plane.grpc.status import Failed, Status
from leptonai.serving.plane.grpc.streams import Stream, Taker
from leptonai.serving.plane.router import Route, Router

BATCH_ROWS = 256  # what a model's batches are said to hold at most; a request may have more
_INFERENCE = "/inference.GRPCInferenceService/"
_HEALTH = b"/grpc.health.v1.Health/"
_TYPES = {"BOOL": 1, "UINT8": 2, "INT64": 9, "FP32": 11, "FP64": 12, "BYTES": 13}
_EXTENSIONS = ("model_configuration", "model_repository")


class Service:
    """Makes the calls that streams carry. Used on the event loop only."""

    def __init__(self, router: Router, limits: Limits | None = None):
        self._router = router
        self._inference = Inference(router, limits)
        health = Health(router, self._inference)
        told: dict[str, Callable[[Stream, Any], dict[str, Any]]] = {
            "ServerLive": lambda _stream, _given: {"live": True},
            "ServerReady": lambda _stream, _given: {"ready": router.ready},
            "ServerMetadata": _server,
            "ModelReady": self._model_ready,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "RepositoryIndex": self._index,
            "RepositoryModelLoad": _not_here,
            "RepositoryModelUnload": _not_here,
        }
        self._calls = {(_INFERENCE + name).encode(): self._method(f"inference.{name}", do) for name, do in told.items()}
        self._calls[(_INFERENCE + "ModelInfer").encode()] = self._inference.one
        self._calls[_HEALTH + b"Check"] = health.check
        self._talks = {
            (_INFERENCE + "ModelStreamInfer").encode(): self._inference.several,
            _HEALTH + b"Watch": health.watch,
        }

    def open(self, stream: Stream) -> Taker:
        """Return the call of a new stream."""
        head = stream.head
        if head.http != 200:
            stream.refuse(head.http, "this port answers gRPC: POST with the content-type application/grpc")
            return REFUSED
        do = self._calls.get(head.path)
        if do is not None:
            call: Unary | Talk = Unary(stream, do)
        elif (talk := self._talks.get(head.path)) is not None:
            call = Talk(stream, talk)
        else:
            path = head.path[:120].decode("latin-1")
            call = Unary(stream, _ignore)
            self._inference.fail(call, Failed(Status.UNIMPLEMENTED, f"there is no method {path!r} here"))
        if head.repeated is not None:
            name = head.repeated.decode("latin-1")
            call.fail(Failed(Status.INVALID_ARGUMENT, f"the header {name} is given twice"))
        elif not head.well_timed:
            call.fail(
                Failed(Status.INVALID_ARGUMENT, "grpc-timeout must be up to 8 digits and one of H, M, S, m, u, n")
            )
        return call

    def _method(self, name: str, do: Callable[[Stream, Any], dict[str, Any]]) -> Callable[[Unary, bytes], None]:
        """Return a method that answers a message with another one at once."""
        asked, answer = message(name + "Request"), message(name + "Response")

        def method(call: Unary, data: bytes) -> None:
            try:
                call.reply(answer(**do(call.stream, decoded(asked, data))).SerializeToString())
            except Exception as error:  # noqa: BLE001 - whatever it is, the call is answered
                self._inference.fail(call, error)

        return method

    def _model_ready(self, stream: Stream, given: Any) -> dict[str, Any]:
        return {"ready": self._inference.find(stream.head.fields, given.name, given.version).replica.ready}

    def _model_metadata(self, stream: Stream, given: Any) -> dict[str, Any]:
        route = self._inference.find(stream.head.fields, given.name, given.version)
        return described(route)

    def _model_config(self, stream: Stream, given: Any) -> dict[str, Any]:
        route = self._inference.find(stream.head.fields, given.name, given.version)
        return {"config": configuration(route)}

    def _index(self, stream: Stream, given: Any) -> dict[str, Any]:
        found = []
        for route in self._router.routes:
            try:
                self._router.admit(stream.head.fields.get(b"authorization"), route.service)
            except Denied:
                continue
            if route.replica.ready or not given.ready:
                found.append(indexed(route))
        return {"models": found}


def described(route: Route) -> dict[str, Any]:
    """Return what a model takes and gives, as a ``ModelMetadataResponse``."""
    model = route.replica.model
    platform = "onnx_onnxv1" if "model.onnx" in model.files else model.framework
    return v2.metadata(route.service, [route.version], platform, model.signature)


def configuration(route: Route) -> dict[str, Any]:
    """Return the same as Triton's ``ModelConfig``, in which the batch is no dimension where every tensor has others."""
    model = route.replica.model
    onnx = "model.onnx" in model.files
    batched = int(all(len(spec.shape) > 1 for spec in (*model.signature.inputs, *model.signature.outputs)))

    def tensors_of(specs: Sequence[TensorSpec]) -> list[dict[str, Any]]:
        return [
            {"name": spec.name, "data_type": _TYPES[spec.datatype], "dims": list(spec.shape[batched:])}
            for spec in specs
        ]

    return {
        "name": route.service,
        "platform": "onnxruntime_onnx" if onnx else "",
        "backend": "onnxruntime" if onnx else "python",
        "max_batch_size": BATCH_ROWS if batched else 0,
        "input": tensors_of(model.signature.inputs),
        "output": tensors_of(model.signature.outputs),
        **({"dynamic_batching": {}} if batched else {}),
    }


def indexed(route: Route) -> dict[str, Any]:
    """Return the line of a service in the index of the repository."""
    state = "READY" if route.replica.ready else "UNAVAILABLE"
    return {"name": route.service, "version": route.version, "state": state, "reason": ""}


def _server(_stream: Stream, _given: Any) -> dict[str, Any]:
    return {"name": "leptonai", "version": __version__, "extensions": _EXTENSIONS}


def _not_here(_stream: Stream, _given: Any) -> dict[str, Any]:
    raise Failed(
        Status.UNIMPLEMENTED, "a model is loaded here by deploying it: lepton service create NAME --model MODEL"
    )


def _ignore(_call: Unary, _data: bytes) -> None:
    """Do nothing: the call is answered already."""
