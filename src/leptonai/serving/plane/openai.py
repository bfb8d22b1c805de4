"""OpenAI's paths: chats and completions, whole or as a stream of events, and embeddings.

What was sent is checked here, the text is made elsewhere (`serving.plane.text`); a piece of an answer is put into OpenAI's words
and sent as it comes.
"""

import base64
import itertools
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import orjson

from leptonai.core.errors import FieldError, Invalid, TooLarge
from leptonai.serving.plane.call import Answer, Call
from leptonai.serving.plane.problems import Refused, failed
from leptonai.serving.plane.router import Route
from leptonai.serving.plane.stream import Stream
from leptonai.serving.plane.text import Asking, TextReplica

BODY_LIMIT = 4 * 2**20
SECONDS = 300.0  # that a request has, when it does not say

_JSON = b"content-type: application/json\r\n"
_EVENTS = b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-store\r\nx-accel-buffering: no\r\n"
_TASKS = {"chat/completions": "chat", "completions": "chat", "embeddings": "embedding"}
_PATHS = {"chat": "/v1/chat/completions", "embedding": "/v1/embeddings"}
_prefix = secrets.token_hex(6)
_count = itertools.count(1)

Find = Callable[[Call, str], Route]
Send = Callable[[Call, Route | None, Answer], None]


def take(call: Call, path: str, find: Find, send: Send) -> None:
    """Begin to answer a request at one of the paths. `find`: gives a service's route to who may call it."""
    if call.method != b"POST":
        raise Refused(405, "use POST here", b"allow: POST\r\n")
    task = _TASKS[path]
    document = _document(call.body)
    name = document.get("model")
    if not isinstance(name, str):
        raise Invalid(
            "model must name a service: see /v1/models", errors=[FieldError("model", "the name of a service")]
        )
    route = find(call, name)
    replica = route.replica
    if not isinstance(replica, TextReplica) or replica.model.signature.task != task:
        what = replica.model.signature.task
        there = f"it answers at {_PATHS[what]}" if what in _PATHS else f"call it at /services/{route.service}/predict"
        raise Invalid(f"service {route.service} is a model for {what}: {there}", errors=[FieldError("model", there)])
    from leptonai.serving.text import spec  # with pydantic, which a plane without such models does not need

    asked = spec.read(path, document)
    sink: Embedding | Whole | Streamed
    if task == "embedding":
        sink = Embedding(call, route, send, asked)
    else:
        sink = (Streamed if asked.stream else Whole)(call, route, send, asked)
    replica.hold()
    call.gone = sink.cancel
    try:
        sink.asking = replica.text.ask(asked.options(), sink, _seconds(call))
    except BaseException:
        replica.release()
        raise


class Answering:
    """One request that is being answered."""

    def __init__(self, call: Call, route: Route, send: Send, asked: Any):
        self.call = call
        self.route = route
        self.asked = asked
        self.asking: Asking | None = None
        self._send = send
        self._held = True

    def failed(self, error: Exception) -> None:
        """Say what went wrong."""
        self.release()
        self._send(self.call, self.route, failed(self.call, error, self.route.head))

    def answer(self, said: Mapping[str, Any]) -> None:
        """Send the whole answer."""
        self.release()
        self._send(self.call, self.route, Answer(200, orjson.dumps(said), _JSON + self.route.head))

    def release(self) -> None:
        """Let go of the model."""
        if self._held:
            self._held = False
            self.route.replica.release()

    def cancel(self) -> None:
        """Have nothing more computed: the client is gone."""
        replica = self.route.replica
        if self.asking is not None and isinstance(replica, TextReplica):
            replica.text.cancel(self.asking)
        self.release()


class Embedding(Answering):
    """The vectors of some texts."""

    _said: Mapping[str, Any]
    _data: bytes

    def piece(self, said: Mapping[str, Any], data: bytes) -> None:
        """Take the vectors, which come at once."""
        self._said, self._data = said, data

    def done(self) -> None:
        """Answer."""
        width = self._said["width"]
        vectors = np.frombuffer(self._data, np.float32).reshape(-1, width)
        wanted = self.asked.dimensions
        if wanted is not None and wanted != width:
            right = f"this model's vectors have {width} dimensions, and no fewer can be given"
            self.failed(Invalid(f"dimensions: {right}", errors=[FieldError("dimensions", right)]))
            return
        encode: Callable[[np.ndarray], Any] = _base64 if self.asked.encoding_format == "base64" else _numbers
        data = [{"object": "embedding", "index": n, "embedding": encode(vector)} for n, vector in enumerate(vectors)]
        tokens = self._said["usage"]["prompt"]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        self.answer({"object": "list", "data": data, "model": self.route.service, "usage": usage})


class Written(Answering):
    """A text that a model goes on with."""

    def __init__(self, call: Call, route: Route, send: Send, asked: Any):
        super().__init__(call, route, send, asked)
        self._chat = asked.chat
        self._about = {
            "id": f"{'chatcmpl' if self._chat else 'cmpl'}-{_prefix}{next(_count):x}",
            "created": int(time.time()),
            "model": route.service,
            "system_fingerprint": f"fp_{route.replica.model.digest[:10]}",
        }


class Whole(Written):
    """A text that is sent when it is complete."""

    def __init__(self, call: Call, route: Route, send: Send, asked: Any):
        super().__init__(call, route, send, asked)
        self._texts: list[str] = []
        self._last: Mapping[str, Any] = {}

    def piece(self, said: Mapping[str, Any], data: bytes) -> None:  # noqa: ARG002
        """Keep a piece."""
        self._texts.append(said["text"])
        if "finish" in said:
            self._last = said

    def done(self) -> None:
        """Answer."""
        text = "".join(self._texts)
        choice: dict[str, Any] = {"index": 0, "finish_reason": self._last["finish"], "logprobs": None}
        if self._chat:
            choice["message"] = {"role": "assistant", "content": text, "refusal": None}
        else:
            choice["text"] = text
        kind = "chat.completion" if self._chat else "text_completion"
        usage = _usage(self._last["usage"])
        self.answer({**self._about, "object": kind, "choices": [choice], "usage": usage})


class Streamed(Written):
    """A text that is sent as it is made. Until there is a first piece an error has a status of its own."""

    def __init__(self, call: Call, route: Route, send: Send, asked: Any):
        super().__init__(call, route, send, asked)
        self._stream: Stream | None = None
        self._counted = asked.stream_options is not None and asked.stream_options.include_usage
        self._kind = "chat.completion.chunk" if self._chat else "text_completion"

    def piece(self, said: Mapping[str, Any], data: bytes) -> None:  # noqa: ARG002
        """Send a piece."""
        if self._stream is None:
            self._stream = self.call.begin(200, _EVENTS + self.route.head)
            if self._chat:
                self._event([self._choice({"role": "assistant", "content": ""}, None)])
        if said["text"]:
            self._event([self._choice({"content": said["text"]}, None)])
        if "finish" in said:
            self._event([self._choice({}, said["finish"])])
            if self._counted:
                self._event([], _usage(said["usage"]))

    def done(self) -> None:
        """Say that this was all."""
        self.release()
        if self._stream is not None:
            self._stream.write(b"data: [DONE]\n\n")
            self._stream.end()
            self._count(200)

    def failed(self, error: Exception) -> None:
        """Say what went wrong: in an event, once there were others."""
        if self._stream is None:
            super().failed(error)
            return
        self.release()
        answer = failed(self.call, error)
        self._stream.write(b"data: " + answer.body + b"\n\n")
        self._stream.end()
        self._count(answer.status)

    def _choice(self, delta: Mapping[str, Any], finish: str | None) -> dict[str, Any]:
        said: dict[str, Any] = {"index": 0, "finish_reason": finish, "logprobs": None}
        return {**said, "delta": delta} if self._chat else {**said, "text": delta.get("content", "")}

    def _event(self, choices: list[Any], usage: Mapping[str, int] | None = None) -> None:
        said: dict[str, Any] = {**self._about, "object": self._kind, "choices": choices}
        if self._counted:
            said["usage"] = usage
        if self._stream is not None:
            self._stream.write(b"data: " + orjson.dumps(said) + b"\n\n")

    def _count(self, status: int) -> None:
        self.route.series.refused(status, time.perf_counter() - self.call.start)
        if self.route.split is not None:
            self.route.split.ended(self.call, self.route, status)


def _document(body: bytes) -> dict[str, Any]:
    if len(body) > BODY_LIMIT:
        raise TooLarge(f"the body is larger than {BODY_LIMIT} bytes, which is the limit for text")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(400, f"the body is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise Refused(400, "the body must be a JSON object")
    return document


def _seconds(call: Call) -> float:
    given = call.headers.get(b"x-request-timeout-ms")
    if given is None:
        return SECONDS
    if not given.isdigit() or not 1 <= int(given) <= 86_400_000:
        raise Refused(400, "X-Request-Timeout-Ms must be a whole number of milliseconds")
    return int(given) / 1000


def _usage(said: Mapping[str, int]) -> dict[str, Any]:
    prompt, completion = said["prompt"], said["completion"]
    counts: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    return {**counts, "prompt_tokens_details": {"cached_tokens": said["cached"]}}


def _numbers(vector: np.ndarray) -> list[float]:
    return [float(number) for number in vector]


def _base64(vector: np.ndarray) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
