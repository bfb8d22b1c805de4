"""The one HTTP client: JSON in and out, our errors at both ends, retries only where they are safe."""

import base64
import hashlib
import json as jsonlib
import random
import ssl
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import httpx

from leptonai.core.errors import Busy, Invalid, LeptonError, NotFound, Unavailable, from_dict
from leptonai.core.ids import new_id

API = "/api/v1"
_TRIES = 4
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class Answer(NamedTuple):
    """An answer as it came."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Http:
    """A connection to a server, or to a serving plane. Thread-safe. `base_url` is ``http://host:port``, without a path."""

    def __init__(self, base_url: str, key: str | None = None, timeout: float = 30.0):
        self.base_url = base_url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._timeout = timeout
        self._client: httpx.Client | None = None
        self._lock = threading.Lock()

    def _open(self) -> httpx.Client:
        with self._lock:
            if self._client is None:
                local = (urlsplit(self.base_url).hostname or "") in _LOOPBACK
                # A proxy of the environment is for the world outside, never for this machine.
                verify: ssl.SSLContext | bool = not self.base_url.startswith("http://")
                self._client = httpx.Client(
                    base_url=self.base_url,
                    headers=self._headers,
                    timeout=httpx.Timeout(self._timeout, connect=10.0),
                    limits=httpx.Limits(max_connections=64, max_keepalive_connections=16),
                    trust_env=not local,
                    verify=verify,
                )
            return self._client

    def close(self) -> None:
        """Close all connections; a later call opens new ones."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def raw(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
        content: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Answer:
        """Send one request to a full path and return the answer, whatever its status. Raises `Unavailable`."""
        given = {name: value for name, value in (params or {}).items() if value is not None}
        try:
            answer = self._open().request(
                method,
                path,
                json=json,
                params=given,
                content=content,
                headers=dict(headers or {}),
                timeout=httpx.USE_CLIENT_DEFAULT if timeout is None else timeout,
            )
        except httpx.TimeoutException as error:
            raise Unavailable(f"{self.base_url} did not answer in time: is the machine overloaded?") from error
        except httpx.TransportError as error:
            raise Unavailable(f"{self.base_url} cannot be reached ({error}): is the server running there?") from error
        except httpx.InvalidURL as error:
            raise Unavailable(f"{self.base_url} is not a URL that can be called: {error}") from error
        return Answer(answer.status_code, answer.headers, answer.content)

    def _answer(
        self, method: str, path: str, *, retry: bool, headers: Mapping[str, str] | None = None, **more: Any
    ) -> Answer:
        sent = dict(headers or {})
        if method == "POST" and retry:
            sent.setdefault("Idempotency-Key", new_id("idem"))  # so that a repeated POST has one effect
        for turn in range(_TRIES):
            last = not retry or turn == _TRIES - 1
            pause = random.uniform(0.05, 0.15) * 3**turn  # noqa: S311  no secret: it spreads callers out
            try:
                answer = self.raw(method, API + path, headers=sent, **more)
            except Unavailable:
                if last:
                    raise
                time.sleep(pause)
                continue
            if answer.status < 400:
                return answer
            error = _error(answer)
            if last or not isinstance(error, Busy):
                raise error
            time.sleep(min(error.retry_after or pause, 5.0))
        raise AssertionError("unreachable")

    def call(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        retry: bool = True,
    ) -> Any:
        """Call the control API (`path` such as ``/runs``) and return decoded JSON, None for no content.

        What could not be delivered, or met a busy server, is tried again a few times, safely: a POST carries an
        Idempotency-Key. Raises the error the server answered with, or `Unavailable`.
        """
        answer = self._answer(
            method, path, json=json, params=params, content=content, headers=headers, timeout=timeout, retry=retry
        )
        return jsonlib.loads(answer.body) if answer.body else None

    def pages(self, path: str, params: Mapping[str, Any] | None = None, limit: int | None = None) -> Iterator[Any]:
        """Yield the items of a list, page after page, at most `limit`."""
        cursor, left = None, limit
        while left is None or left > 0:
            size = 100 if left is None else min(left, 100)
            page = self.call("GET", path, params={**(params or {}), "limit": size, "cursor": cursor})
            yield from page["items"]
            left = None if left is None else left - len(page["items"])
            cursor = page["next"]
            if not cursor:
                return

    def upload(self, data: bytes) -> str:
        """Store bytes as a sealed blob and return its id. At most 64 MiB."""
        digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
        headers = {"Content-Digest": f"sha-256=:{digest}:", "Content-Type": "application/octet-stream"}
        answer = self.call("POST", "/blobs", content=data, headers=headers, timeout=120)
        return str(answer["blob"])

    def download(self, blob: str) -> bytes:
        """Return the plaintext of a sealed blob."""
        return self._answer("GET", f"/blobs/{quote(blob, safe='')}", retry=True, timeout=120).body

    def post_json(self, path: str, data: Any) -> Any:
        """Send JSON to a full path of a serving plane and return its decoded answer. Raises the error it answered with."""
        return _decoded(self.raw("POST", path, json=data, timeout=120))

    def post_bytes(self, path: str, data: bytes, kind: str) -> Any:
        """Send a file of this content type to a full path of a serving plane and return its decoded answer."""
        return _decoded(self.raw("POST", path, content=data, headers={"Content-Type": kind}, timeout=120))

    def events(self, path: str, params: Mapping[str, Any] | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (event, data) of a server-sent event stream until it ends. Raises `Unavailable` when it breaks."""
        given = {name: value for name, value in (params or {}).items() if value is not None}
        try:
            with self._open().stream(
                "GET", API + path, params=given, headers={"Accept": "text/event-stream"}, timeout=30
            ) as answer:
                if answer.status_code >= 400:
                    raise _error(Answer(answer.status_code, answer.headers, answer.read()))
                yield from _parse(answer.iter_lines())
        except (httpx.TransportError, httpx.StreamError) as error:
            raise Unavailable(f"the connection to {self.base_url} broke: {error}") from error


def _parse(lines: Iterator[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    # https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
    kind, data = "message", list[str]()
    for line in lines:
        if not line:
            if data:
                yield kind, jsonlib.loads("\n".join(data))
            kind, data = "message", []
        elif line.startswith("event:"):
            kind = line[6:].strip()
        elif line.startswith("data:"):
            data.append(line[5:].lstrip(" "))


def _decoded(answer: Answer) -> Any:
    if answer.status >= 400:
        raise _error(answer)
    return jsonlib.loads(answer.body)


def _error(answer: Answer) -> LeptonError:
    try:
        problem = jsonlib.loads(answer.body)
    except ValueError:
        problem = None
    if not isinstance(problem, dict) or "code" not in problem:
        words = problem.get("error") if isinstance(problem, dict) else None
        kind = {404: NotFound, 429: Busy, 503: Busy}.get(answer.status, Invalid if answer.status < 500 else Unavailable)
        return kind(str(words or f"the server answered {answer.status}, and not as leptonai does"))
    return from_dict({**problem, "message": problem.get("detail") or problem.get("title")})
