"""The access log: one JSON line for each request that is logged, written by a thread, in files that stay small.

What a request costs here is a tuple in a queue. The queue is bounded: when the disk is slower than the callers, lines are dropped
and counted, and nothing waits. Lines hold no data of a request, and the name of a key, never the key.
"""

import contextlib
import logging
import os
import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from leptonai.core import settings
from leptonai.core.errors import FieldError, Invalid
from leptonai.serving.plane.call import Answer, Call

if TYPE_CHECKING:
    from leptonai.serving.plane.keys import Keys
    from leptonai.serving.plane.recent import Sight

QUEUE = 65536  # lines
FILE_BYTES = 16 * 2**20
FILES = 4  # of each process, the one that is written included
PAUSE_SECONDS = 0.2
REMEMBERED = 4096  # paths, and who called what, that lines have in common
AT_ONCE = 128  # lines that are made while the interpreter does nothing else

_ABOUT = ("service", "model", "version", "variant", "key")
_PROBES = (b"/v2/health", b"/ping", b"/metrics")

_log = logging.getLogger(__name__)


class Kept(NamedTuple):
    """What the setting ``access_log`` asks for: a share of all requests, and whether those that fail are always logged."""

    share: float
    failed: bool


def kept(text: str) -> Kept:
    """Read the setting: ``off``, ``errors``, ``on``, or a share such as 0.01, to which errors are added. Raises `Invalid`."""
    word = text.strip().lower()
    known = {"off": Kept(0.0, False), "errors": Kept(0.0, True), "on": Kept(1.0, True)}
    if word in known:
        return known[word]
    try:
        share = float(word)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        right = "off, errors, on, or a share such as 0.01"
        raise Invalid(f"setting access_log is {text!r}: use {right}", errors=[FieldError("access_log", right)])
    return Kept(share, True)


def setting() -> Kept:
    """Return what the setting asks for."""
    return kept(settings.get("access_log") or "errors")


class AccessLog:
    """The access log of one process. Lines are added on the event loop; the thread begins with the first one."""

    def __init__(self, path: Path, keys: "Keys", wanted: Kept):
        """`path`: of the file that is written; older ones are beside it, with .1, .2 … at the end."""
        self.dropped = 0
        self._wanted = wanted
        self._keys = keys
        self._file = Rotating(path)
        self._lines = Lines()
        self._queue: deque[tuple[Any, ...]] = deque()
        self._writer: threading.Thread | None = None
        self._stopping = threading.Event()

    @property
    def share(self) -> float:
        """Which share of the requests is logged."""
        return self._wanted.share

    def look(self, sight: "Sight", reached: bool) -> None:
        """Log a request that a model answered: when its turn came, or when it failed."""
        if reached or (self._wanted.failed and sight.status >= 400):
            route, item = sight.route, sight.item
            about = (route.service, route.replica.model.name, route.version, route.variant)
            self._put(sight[:7], about, sight.encoded - sight.start, item.rows, item.batch)

    def refused(self, call: Call, service: str | None, answer: Answer) -> None:
        """Log a request that no model was asked for, unless it is a probe."""
        size, sent = len(call.body), len(answer.body)
        asked = (call.id, call.method, call.url, call.headers, size, sent, answer.status)
        self.turned_away(asked, service, call.start)

    def turned_away(self, asked: tuple[Any, ...], service: str | None, start: float) -> None:
        """Do the same for a request of any protocol: its id, method, path, headers, bytes, those of the answer, and status."""
        failed = asked[6] >= 400
        if (self._wanted.failed if failed else self._wanted.share == 1.0) and not (
            asked[2].startswith(_PROBES) and not failed
        ):
            self._put(asked, (service, None, None, None), time.perf_counter() - start, None, None)

    def _put(
        self, asked: tuple[Any, ...], about: tuple[Any, ...], seconds: float, rows: int | None, batch: int | None
    ) -> None:
        if len(self._queue) >= QUEUE:
            self.dropped += 1
            return
        id, method, path, headers, size, sent, status = asked
        key = self._keys.who(headers.get(b"authorization"))
        self._queue.append((time.time(), id, method, path, *about, key, status, seconds * 1e3, size, sent, rows, batch))
        if self._writer is None:
            self._writer = threading.Thread(target=self._run, name="access log", daemon=True)
            self._writer.start()

    def close(self) -> None:
        """Write what there is, as far as a second allows."""
        self._stopping.set()
        if self._writer is not None:
            self._writer.join(1.0)

    def _run(self) -> None:
        while not self._stopping.wait(PAUSE_SECONDS):
            self._write()
        self._write()

    def _write(self) -> None:
        while self._queue:
            lines = [self._queue.popleft() for _ in range(min(AT_ONCE, len(self._queue)))]
            try:
                self._file.write(b"".join(map(self._lines.make, lines)))
            except OSError as error:  # such as a full disk
                self.dropped += len(lines)
                _log.warning("the access log cannot be written: %s", error.strerror)
            time.sleep(0)  # the event loop comes first


class Lines:
    """Makes lines of what was queued; what many of them have in common is made once."""

    def __init__(self) -> None:
        self._second = 0
        self._time = b""
        self._about: dict[tuple[Any, ...], bytes] = {}
        self._paths: dict[bytes, bytes] = {}

    def make(self, values: tuple[Any, ...]) -> bytes:
        """Return a line. `values`: as `AccessLog` queues them."""
        moment, id, method, path, service, model, version, variant, key, status, ms, size, sent, rows, batch = values
        second = int(moment)
        if second != self._second:
            self._second = second
            self._time = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        said = (service, model, version, variant, key)
        about = self._about.get(said)
        if about is None:
            about = orjson.dumps(dict(zip(_ABOUT, said, strict=True)))[1:-1]
            _remember(self._about, said, about)
        known = self._paths.get(path)
        if known is None:
            known = orjson.dumps(path.partition(b"?")[0][:500].decode("latin-1"))
            _remember(self._paths, path, known)
        # An id and a method hold nothing that JSON would escape.
        head = b'{"time":"%s.%03dZ","id":"%s","method":"%s","path":%s,%s,"status":%d,"ms":%.3f' % (
            self._time, (moment - second) * 1000, id, method, known, about, status, ms,
        )  # fmt: skip
        if rows is None:
            return b'%s,"bytes_in":%d,"bytes_out":%d,"rows":null,"batch":null}\n' % (head, size, sent)
        return b'%s,"bytes_in":%d,"bytes_out":%d,"rows":%d,"batch":%d}\n' % (head, size, sent, rows, batch)


def _remember(known: dict[Any, bytes], key: Any, value: bytes) -> None:
    if len(known) >= REMEMBERED:
        known.clear()
    known[key] = value


class Rotating:
    """A file that is moved aside when it is large; of those that were, the oldest go."""

    def __init__(self, path: Path, size: int = FILE_BYTES, files: int = FILES):
        self._path = path
        self._size = size
        self._files = files

    def write(self, data: bytes) -> None:
        """Append whole lines. Raises `OSError`."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_size + len(data) > self._size:
                self._rotate()
        number = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            before = os.fstat(number).st_size
            done = os.write(number, data)
            if done < len(data):
                os.ftruncate(number, before)  # no half lines
                raise OSError(28, "no space left")
        finally:
            os.close(number)

    def _rotate(self) -> None:
        for age in range(self._files - 1, 0, -1):
            newer = self._path if age == 1 else self._aged(age - 1)
            with contextlib.suppress(FileNotFoundError):
                newer.replace(self._aged(age))

    def _aged(self, age: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{age}")
