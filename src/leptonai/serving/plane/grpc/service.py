"""What the calls are about: ``inference.GRPCInferenceService`` and gRPC's own health service, answered by the router."""

import contextlib
from collections.abc import Callable
from typing import Any

from leptonai import __version__
from leptonai.core.errors import Denied
from leptonai.serving.plane import told
from leptonai.serving.plane.grpc.call import REFUSED, Talk, Unary
from leptonai.serving.plane.grpc.health import Health
from leptonai.serving.plane.grpc.infer import Inference
from leptonai.serving.plane.grpc.limits import Limits
from leptonai.serving.plane.grpc.messages import decoded, message
from leptonai.serving.plane.grpc.status import Failed, Status
from leptonai.serving.plane.grpc.streams import Stream, Taker
from leptonai.serving.plane.router import Route, Router
from leptonai.serving.plane.waiting import Away

_INFERENCE = "/inference.GRPCInferenceService/"
_HEALTH = b"/grpc.health.v1.Health/"


class Service:
    """Makes the calls that streams carry. Used on the event loop only."""

    def __init__(self, router: Router, limits: Limits | None = None):
        self._router = router
        self._inference = Inference(router, limits)
        health = Health(router, self._inference)
        answers: dict[str, Callable[[Stream, Any], dict[str, Any]]] = {
            "ServerLive": lambda _stream, _given: {"live": True},
            "ServerReady": lambda _stream, _given: {"ready": router.ready},
            "ServerMetadata": _server,
            "ModelReady": self._model_ready,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._statistics,
            "RepositoryIndex": self._index,
        }
        self._calls = {
            (_INFERENCE + name).encode(): self._method(f"inference.{name}", do) for name, do in answers.items()
        }
        self._calls[(_INFERENCE + "RepositoryModelLoad").encode()] = self._manager("load")
        self._calls[(_INFERENCE + "RepositoryModelUnload").encode()] = self._manager("unload")
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

    def _manager(self, op: str) -> Callable[[Unary, bytes], None]:
        """Return the method that loads the model of a service, or unloads it; the answer is due when that is done."""
        name = f"inference.RepositoryModel{op.capitalize()}"
        asked, answer = message(name + "Request"), message(name + "Response")

        def method(call: Unary, data: bytes) -> None:
            try:
                service = decoded(asked, data).model_name
                self._router.keys.manage(call.stream.head.fields.get(b"authorization"), service)
                if self._router.manage(service, op):
                    call.reply(answer().SerializeToString())
                    return
                again, fail = (lambda: method(call, data)), (lambda error: self._inference.fail(call, error))
                self._router.waiting.hold(Away(service, op), call.start, len(data), again, fail)
            except Exception as error:  # noqa: BLE001 - as in `_method`
                self._inference.fail(call, error)

        return method

    def _model_ready(self, stream: Stream, given: Any) -> dict[str, Any]:
        return {"ready": self._inference.find(stream.head.fields, given.name, given.version).replica.ready}

    def _model_metadata(self, stream: Stream, given: Any) -> dict[str, Any]:
        route = self._inference.find(stream.head.fields, given.name, given.version)
        return told.described(route)

    def _model_config(self, stream: Stream, given: Any) -> dict[str, Any]:
        route = self._inference.find(stream.head.fields, given.name, given.version)
        return {"config": told.configuration(route)}

    def _statistics(self, stream: Stream, given: Any) -> dict[str, Any]:
        if given.name:
            routes = [self._inference.find(stream.head.fields, given.name, given.version)]
        else:
            routes = self._allowed(stream)
        return told.statistics(self._router, routes)

    def _index(self, stream: Stream, given: Any) -> dict[str, Any]:
        routes = [route for route in self._allowed(stream) if route.replica.ready or not given.ready]
        return {"models": [told.indexed(route) for route in routes]}

    def _allowed(self, stream: Stream) -> list[Route]:
        """Return the routes that the caller's key may call."""
        found = []
        for route in self._router.routes:
            with contextlib.suppress(Denied):
                self._router.admit(stream.head.fields.get(b"authorization"), route.service)
                found.append(route)
        return found


def _server(_stream: Stream, _given: Any) -> dict[str, Any]:
    return {"name": "leptonai", "version": __version__, "extensions": told.EXTENSIONS[1:]}


def _ignore(_call: Unary, _data: bytes) -> None:
    """Do nothing: the call is answered already."""
