"""The one HTTP client: what the SDK, the command line and the agent speak to a server, or to a serving plane, with.

A call is tried again where that cannot do a thing twice: when no connection was made, when the server says to come back
later, and when the connection broke under a call that may be repeated (POSTs carry an `Idempotency-Key` for that).
"""

import os
import random
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from leptonai.core.errors import Invalid, LeptonError, Unavailable
from leptonai.sdk import wire

if TYPE_CHECKING:
    import httpx

Content = bytes | Iterable[bytes]

_TRIES = 4
_PATIENCE = 10.0  # seconds: a server that asks for a longer pause gets its error passed on instead
_REPEATABLE = ("GET", "HEAD", "PUT")
_NOT_TWICE = ("/events", "/claim")  # POSTs that do a thing twice when they are sent twice, whatever key they carry
_SILENCE = 45.0  # seconds: an event stream says something more often than that


class Answer(NamedTuple):
    """What was answered, whatever it was. Header names in `headers` are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Http:
    """A connection to one server. Thread-safe; opened by the first call, and anew in a process that was forked.

    `revive` is asked when nobody answers at `base_url`: it starts the server again and returns its URL and key.
    """

    def __init__(
        self,
        base_url: str,
        key: str | None = None,
        timeout: float = 30.0,
        revive: Callable[[], tuple[str, str]] | None = None,
    ):
        self.base_url = base_url.rstrip("/")
        self._key = key
        self._timeout = timeout
        self._revive = revive
        self._lock = threading.Lock()
        self._client: httpx.Client | None = None
        self._pid = 0

    @property
    def key(self) -> str | None:
        """The key that it sends."""
        return self._key

    # ------------------------------------------------------------------------------------------------ calls

    def call(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        params: Mapping[str, Any] | None = None,
        content: Content | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Call the control API (`path` such as ``/runs`` lies under ``/api/v1``) and return its JSON; None for 204.

        Raises what the server says went wrong, as the error it is, and `Unavailable` when it does not answer.
        """
        more: dict[str, Any] = {
            "json": json,
            "params": params,
            "content": content,
            "headers": headers,
            "timeout": timeout,
        }
        answer = self.raw(method, wire.API + path, **more)
        if answer.status >= 400:
            raise self._error(answer)
        if answer.status >= 300:
            there = answer.headers.get("location")
            raise Unavailable(f"{self.base_url} sends elsewhere (to {there}): use that as the host")
        return None if answer.status == 204 else wire.decode(answer.body, self.base_url + wire.API + path)

    def raw(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        params: Mapping[str, Any] | None = None,
        content: Content | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        tries: int = _TRIES,
    ) -> Answer:
        """Call a path as it is, such as one of a serving plane, and return the answer whatever its status.

        Raises `Unavailable` when nobody answers, after as many `tries` as are safe.
        """
        body, more = content, dict(headers or {})
        if json is not None:
            body, more = wire.encode(json), {"content-type": "application/json", **more}
        if method == "POST":
            more.setdefault("idempotency-key", uuid.uuid4().hex)
        once = body is not None and not isinstance(body, bytes)  # an iterator cannot be sent again
        sent = {name: value for name, value in (params or {}).items() if value is not None}

        def send() -> "httpx.Response":
            return self._open().request(
                method, self.base_url + path, params=sent, content=body, headers=self._headers(more),
                timeout=self._limits(timeout),
            )  # fmt: skip

        repeatable = method in _REPEATABLE or (method == "POST" and not path.endswith(_NOT_TWICE))
        answer = self._tries(send, 1 if once else tries, repeatable)
        return Answer(answer.status_code, answer.headers, answer.content)

    def pages(self, path: str, params: Mapping[str, Any] | None = None, limit: int | None = None) -> Iterator[Any]:
        """Yield the items of a list, page after page; at most `limit`."""
        left, cursor = limit, None
        while left is None or left > 0:
            asked = {**(params or {}), "limit": min(left or 100, 100), "cursor": cursor}
            page = self.call("GET", path, params=asked)
            yield from page["items"]
            cursor = page.get("next")
            if left is not None:
                left -= len(page["items"])
            if cursor is None:
                return

    def upload(self, data: bytes) -> str:
        """Store bytes, sealed by the server, and return the id of the blob. What this key stored before is not sent again."""
        digest = wire.digest_header(data)
        plain = wire.digest_hex(data)
        known: dict[str, str] = self.call("POST", "/blobs/known", json={"digests": [plain]})["known"]
        if plain in known:
            return known[plain]
        headers = {"content-type": "application/octet-stream", **digest}
        stored = self.call("POST", "/blobs", content=data, headers=headers, timeout=max(self._timeout, 300.0))
        return str(stored["blob"])

    def download(self, blob: str) -> bytes:
        """Return the plaintext of a blob, given its id (or the path of anything else that answers with bytes)."""
        path = blob if blob.startswith("/") else f"/blobs/{blob}"
        answer = self.raw("GET", wire.API + path, timeout=max(self._timeout, 300.0))
        if answer.status >= 400:
            raise self._error(answer)
        return answer.body

    def events(self, path: str, params: Mapping[str, Any] | None = None) -> Iterator[tuple[str, Any]]:
        """Yield (event, data) of an event stream until it says ``end``, which is the last.

        Where the connection breaks it goes on after the last event. Raises `Unavailable` when that does not help.
        """
        after, failures = (params or {}).get("after"), 0
        while True:
            try:
                for id, event, data in self._stream(path, {**(params or {}), "after": after}):
                    failures = 0
                    after = id or after
                    yield event, wire.decode(data.encode(), self.base_url)
                    if event == "end":
                        return
                failures += 1  # cut without an end: the server stops, or a proxy lost patience
                reason = "the stream ended early"
            except Unavailable as error:
                failures, reason = failures + 1, error.message
            if failures >= _TRIES:
                raise Unavailable(f"the events of {self.base_url}{wire.API}{path} cannot be read: {reason}")
            time.sleep(_pause(failures))

    def pieces(self, path: str, json: object, timeout: float | None = None) -> Generator[tuple[str, Any], None, None]:
        """Post to a path of a serving plane and yield (event, data) of its answer as they come; a piece without a name is a "message".

        It is never sent twice. Raises what the plane refuses with, and `Unavailable` when the answer breaks off.
        """
        import httpx

        headers = self._headers({"accept": "text/event-stream", "content-type": "application/json"})
        body, limits = wire.encode(json), httpx.Timeout(timeout or _SILENCE, connect=10.0)
        try:
            with self._open().stream(
                "POST", self.base_url + path, content=body, headers=headers, timeout=limits
            ) as answer:
                if answer.status_code >= 400:
                    raise wire.error_of(answer.status_code, answer.headers, answer.read(), self.base_url + path)
                for _, event, data in wire.events(answer.iter_lines()):
                    yield event, wire.decode(data.encode(), self.base_url)
        except httpx.TimeoutException as error:
            raise Unavailable(f"{self.base_url}{path} sent nothing more for {timeout or _SILENCE:g} s") from error
        except httpx.HTTPError as error:
            raise self._away(error) from error

    def close(self) -> None:
        """Close the connections; a later call opens them again."""
        with self._lock:
            client, self._client = self._client, None
            mine = self._pid == os.getpid()
        if client is not None and mine:
            client.close()

    # --------------------------------------------------------------------------------------------- plumbing

    def _open(self) -> "httpx.Client":
        with self._lock:
            if self._client is None or self._pid != os.getpid():  # the parent's sockets are not ours to use
                self._client, self._pid = _client(self.base_url), os.getpid()
            return self._client

    def _headers(self, more: Mapping[str, str]) -> dict[str, str]:
        return {**more, **({"authorization": f"Bearer {self._key}"} if self._key else {})}

    def _limits(self, timeout: float | None) -> "httpx.Timeout":
        import httpx

        return httpx.Timeout(timeout or self._timeout, connect=10.0)

    def _error(self, answer: Answer) -> LeptonError:
        return wire.error_of(answer.status, answer.headers, answer.body, self.base_url)

    def _tries(self, send: "Callable[[], httpx.Response]", tries: int, repeatable: bool) -> "httpx.Response":
        """Send until there is an answer to give. What was sent already is sent again only if it is `repeatable`."""
        import httpx

        for attempt in range(1, tries + 1):
            last = attempt == tries
            try:
                answer = send()
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                if not self._revived() and last:
                    raise self._away(error) from error
            except httpx.TimeoutException as error:
                raise Unavailable(f"{self.base_url} did not answer in time: it has too much to do, or hangs") from error
            except (httpx.NetworkError, httpx.RemoteProtocolError) as error:
                if last or not repeatable:
                    raise self._away(error) from error
            except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError) as error:
                raise Invalid(f"{self.base_url!r} with this path is not a URL: {error}") from error
            except httpx.HTTPError as error:
                raise self._away(error) from error
            else:
                wait = _come_back(answer.status_code, answer.headers)
                if wait is None or wait > _PATIENCE or last:
                    return answer
                time.sleep(wait)
            time.sleep(_pause(attempt))
        raise Unavailable(f"{self.base_url} does not answer")  # not reached: the last try returns or raises

    def _stream(self, path: str, params: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
        import httpx

        sent = {name: value for name, value in params.items() if value is not None}
        headers = self._headers({"accept": "text/event-stream"})
        timeout = httpx.Timeout(_SILENCE, connect=10.0)
        url = self.base_url + wire.API + path
        try:
            with self._open().stream("GET", url, params=sent, headers=headers, timeout=timeout) as answer:
                if answer.status_code >= 400:
                    error = wire.error_of(answer.status_code, answer.headers, answer.read(), self.base_url)
                    raise (
                        error if _come_back(answer.status_code, answer.headers) is None else Unavailable(error.message)
                    )
                yield from wire.events(answer.iter_lines())
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            self._revived()
            raise self._away(error) from error
        except httpx.HTTPError as error:
            raise self._away(error) from error

    def _revived(self) -> bool:
        """Have the server started again, where somebody knows how."""
        if self._revive is None:
            return False
        url, key = self._revive()
        with self._lock:
            self.base_url, self._key = url.rstrip("/"), key
        return True

    def _away(self, error: Exception) -> LeptonError:
        reason = str(error).strip() or type(error).__name__
        return Unavailable(
            f"no server answers at {self.base_url} ({reason}): check the address (LEPTONAI_HOST), "
            "or start a server there with  lepton up"
        )


def load_ahead() -> None:
    """Load the library behind this file, for who has to wait for something else anyhow."""
    import httpx  # noqa: F401


def _client(base_url: str) -> "httpx.Client":
    import httpx

    parts = urlsplit(base_url)
    loopback = parts.hostname in ("localhost", "::1") or str(parts.hostname).startswith("127.")
    # Reading the machine's certificates takes tens of milliseconds; over plain HTTP nobody asks for them, so none is trusted.
    verify: bool | ssl.SSLContext = True if parts.scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return httpx.Client(verify=verify, trust_env=not loopback, headers={"accept": "application/json"})


def _come_back(status: int, headers: Mapping[str, str]) -> float | None:
    """Return how long to wait when the server did nothing yet and asks to be called again, else None."""
    if status not in (429, 503) or "retry-after" not in headers:
        return None
    try:
        return max(0.0, float(headers["retry-after"]))
    except ValueError:
        return None


def _pause(attempt: int) -> float:
    """Return seconds that grow with each attempt; by chance, so that callers who failed together do not return together."""
    return float(0.05 * 2**attempt * (0.5 + random.random()))  # noqa: S311  # not a secret
