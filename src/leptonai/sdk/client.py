"""Which server this process talks to: the one you name, else the one of this machine.

Nothing is opened before the first call. A Client may be used by threads; after a fork the child opens connections of its
own. What is open is closed when the program ends.
"""

import atexit
import os
import threading
import weakref
from importlib import metadata
from ipaddress import ip_address
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from leptonai.core import settings
from leptonai.core.errors import FieldError, Invalid
from leptonai.sdk import show

if TYPE_CHECKING:
    from leptonai.sdk.embedded import Embedded
    from leptonai.sdk.http import Http


class Client:
    """A server to work with: the one at `host`, else the one of the home folder `home`, started when it does not run.

    Argument comes before environment, environment before files (see `leptonai.core.settings`); a `home` that is given
    means the server on this machine, whatever host is set.
    """

    def __init__(self, host: str | None = None, api_key: str | None = None, home: str | os.PathLike[str] | None = None):
        self.host = host if host is not None or home is not None else settings.get("host")
        self.api_key = settings.get("api_key", api_key)
        self.home = settings.home(home)
        if self.host is not None:
            self.host = _checked(self.host)
        self._lock = threading.Lock()
        self._http: Http | None = None
        self._embedded: Embedded | None = None
        self._planes: dict[tuple[str, str | None], Http] = {}  # by address and key
        self._pid = os.getpid()
        _open.add(self)

    @property
    def http(self) -> "Http":
        """The connection; the first use opens it, and starts the server of this machine where one is needed."""
        self._after_fork()
        with self._lock:
            if self._http is None:
                self._http = self._connect()
            return self._http

    def plane(self, base_url: str) -> "Http":
        """The connection to a serving plane; predictions do not pass through the server, and carry the same key.

        The token of this machine's server never leaves this machine.
        """
        from leptonai.sdk.http import Http

        key = self.api_key
        if self.host is None:
            _ = self.http  # which knows the token, and starts the server where one is needed
            key = self._embedded.token if self._embedded is not None and is_loopback(base_url) else None
        self._after_fork()
        with self._lock:
            return self._planes.setdefault((base_url, key), Http(base_url, key))

    def _after_fork(self) -> None:
        if self._pid != os.getpid():  # the parent's sockets are not ours to use, nor its server ours to stop
            self._lock, self._http, self._embedded = threading.Lock(), None, None
            self._planes, self._pid = {}, os.getpid()

    def _connect(self) -> "Http":
        _look_around()
        if self.host is not None:
            from leptonai.sdk.http import Http

            return Http(self.host, self.api_key)
        _note_key(self.api_key)
        from leptonai.sdk import embedded
        from leptonai.sdk.http import Http

        self._embedded = embedded.ensure(self.home)
        return Http(self._embedded.url, self._embedded.token, revive=self._revive)

    def _revive(self) -> tuple[str, str]:
        """Start the server of this machine again, which was killed: what was under way there goes on."""
        from leptonai.sdk import embedded

        started = embedded.ensure(self.home)
        with self._lock:
            before, self._embedded = self._embedded, started
        if before is not None:
            before.close()
        return started.url, started.token

    @property
    def url(self) -> str:
        """Where the server answers."""
        return self.http.base_url

    @property
    def here(self) -> bool:
        """Whether the server is that of this machine's user, and can read his files where they lie."""
        return self.host is None

    @property
    def private(self) -> bool:
        """Whether the server was started for programs like this one, and ends with the last of them."""
        return self.host is None and self.http is not None and self._embedded is not None and self._embedded.private

    def close(self) -> None:
        """Close the connection; a server on this machine that was started for it ends when nobody else uses it."""
        self._after_fork()
        with self._lock:
            connections = [*self._planes.values(), *([self._http] if self._http is not None else [])]
            embedded, self._http, self._embedded, self._planes = self._embedded, None, None, {}
        for connection in connections:
            connection.close()
        if embedded is not None:
            embedded.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        where = self.host or f"the server of {self.home}"
        return f"Client({where}, {'open' if self._http is not None else 'not opened yet'})"


_open: "weakref.WeakSet[Client]" = weakref.WeakSet()
_lock = threading.RLock()
_current: Client | None = None
_made_for: tuple[Any, Any] = (None, None)
_said: set[str] = set()


def current() -> Client:
    """Return the Client of this process, made of ``leptonai.host``, ``leptonai.api_key`` and the settings.

    When ``leptonai.host`` or ``leptonai.api_key`` changed since, a new one is made.
    """
    import leptonai

    global _current, _made_for
    with _lock:
        wanted = (leptonai.host, leptonai.api_key)
        if _current is not None and _current.host is None and leptonai.host is None:
            _note_key(leptonai.api_key)  # it makes no difference there
        elif _current is None or wanted != _made_for:
            _current = Client(host=leptonai.host, api_key=leptonai.api_key)
        _made_for = wanted
        return _current


def connect(host: str | None = None, api_key: str | None = None, home: str | os.PathLike[str] | None = None) -> Client:
    """Choose the server for this process: `host` with its `api_key`, or the one of the home folder `home`.

    What is not given comes from ``leptonai.host``, ``leptonai.api_key`` and the settings. Nothing is opened yet.
    """
    import leptonai

    global _current, _made_for
    with _lock:
        if _current is not None:
            _current.close()
        asked = host if host is not None or home is not None else leptonai.host
        _current = Client(asked, api_key if api_key is not None else leptonai.api_key, home)
        _made_for = (leptonai.host, leptonai.api_key)
        return _current


def disconnect() -> None:
    """Close the Client of this process; the next call opens another one."""
    global _current
    with _lock:
        if _current is not None:
            _current.close()
        _current = None


def _checked(host: str) -> str:
    if not host.startswith(("http://", "https://")) or len(host) < len("http://x"):
        right = "a URL such as https://server.example:8443"
        raise Invalid(f"host {host!r} is not {right}", errors=[FieldError("host", right)])
    return host.rstrip("/")


def clash() -> str | None:
    """Say so when another project's distribution, which has our import name, is installed beside ours."""
    try:
        other = metadata.version("leptonai")
        metadata.version("lepton-ai-sdk")
    except metadata.PackageNotFoundError:
        return None
    return (
        f"another project's distribution 'leptonai' {other} is installed beside 'lepton-ai-sdk', under the same import "
        "name; remove it:  pip uninstall leptonai && pip install --force-reinstall --no-deps lepton-ai-sdk"
    )


def is_loopback(url: str) -> bool:
    """Whether a URL is that of this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:  # another name, such as 127.example
        return False


def _note_key(key: str | None) -> None:
    if key:
        _say_once("no host is set, so the key is not used")


def _look_around() -> None:
    if (found := clash()) is not None:
        _say_once(found)


def _say_once(line: str) -> None:
    if line not in _said:
        _said.add(line)
        show.note(line)


def _close_all() -> None:
    for client in tuple(_open):
        client.close()


def _forget_locks() -> None:
    # A lock that another thread held at the moment of the fork would stay held in the child for ever.
    global _lock
    _lock = threading.RLock()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_forget_locks)
