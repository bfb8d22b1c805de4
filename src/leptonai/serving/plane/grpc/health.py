"""``grpc.health.v1.Health``: whether the plane, or one of its services, is well."""

import asyncio

from leptonai.core.errors import LeptonError, NotFound
from leptonai.serving.plane.grpc.call import Talk, Turn, Unary
from leptonai.serving.plane.grpc.infer import Inference
from leptonai.serving.plane.grpc.messages import decoded, message
from leptonai.serving.plane.grpc.streams import Stream
from leptonai.serving.plane.router import Router

WATCH_SECONDS = 0.5
SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3  # HealthCheckResponse.ServingStatus

_Asked = message("grpc.health.v1.HealthCheckRequest")
_Answer = message("grpc.health.v1.HealthCheckResponse")


class Health:
    """Answers who asks, and tells who watches. With an empty name the plane is meant, which anybody may ask about."""

    def __init__(self, router: Router, inference: Inference):
        self._router = router
        self._inference = inference
        self._loop = asyncio.get_running_loop()
        self._watchers: dict[Talk, tuple[str, int]] = {}

    def check(self, call: Unary, data: bytes) -> None:
        """Say whether a service, or with an empty name the plane, is well."""
        try:
            found = self._wellness(call.stream, decoded(_Asked, data).service)
            call.reply(_Answer(status=found).SerializeToString())
        except Exception as error:  # noqa: BLE001 - whatever it is, the call is answered
            self._inference.fail(call, error)

    def watch(self, talk: Talk, _turn: Turn, data: bytes) -> None:
        """Say that, and again whenever it changes."""
        if not self._watchers:
            self._loop.call_later(WATCH_SECONDS, self._look)
        talk.endless = True
        self._watchers[talk] = (decoded(_Asked, data).service, -1)
        self._tell(talk)

    def _look(self) -> None:
        for talk in list(self._watchers):
            self._tell(talk)
        if self._watchers:
            self._loop.call_later(WATCH_SECONDS, self._look)

    def _tell(self, talk: Talk) -> None:
        name, before = self._watchers[talk]
        try:
            now = self._wellness(talk.stream, name)
        except NotFound:
            now = SERVICE_UNKNOWN
        except LeptonError as error:  # such as a key that was revoked
            talk.fail(error)
        if talk.ended:
            del self._watchers[talk]
        elif now != before:
            self._watchers[talk] = (name, now)
            talk.say(_Answer(status=now).SerializeToString())

    def _wellness(self, stream: Stream, name: str) -> int:
        if name in ("", "inference.GRPCInferenceService"):
            return SERVING if self._router.ready else NOT_SERVING
        return SERVING if self._inference.find(stream.head.fields, name, "").replica.ready else NOT_SERVING
