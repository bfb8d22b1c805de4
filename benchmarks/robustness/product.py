"""A product that is attacked: started, asked, looked at, started again. Peers are processes of their own environments."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from serving.peers_list import Peer, Variant

from serving import load, process

Request = load.Request
UPDATE_SECONDS = 300.0


class Product:
    """One product in one configuration. `base` and `good`: where it answers, and a request that it should answer."""

    name: str
    title: str
    configuration = "default"
    base: str
    good: Request
    binary: Request | None = None

    def start(self) -> float:
        """Start it; return the seconds until the first right answer."""
        raise NotImplementedError

    def stop(self) -> None:
        """End it and all that came from it."""
        raise NotImplementedError

    def tree(self) -> list[int]:
        """Return its processes."""
        raise NotImplementedError

    @property
    def main(self) -> int:
        """Its first process, which the others depend on."""
        raise NotImplementedError

    def workers(self) -> list[int]:
        """Return the processes that compute: found by who was busy, except the first process."""
        before = {pid: _cpu(pid) for pid in self.tree()}
        with Stream(self, 4):
            time.sleep(1.5)
        spent = {pid: _cpu(pid) - before.get(pid, 0.0) for pid in self.tree() if pid != self.main}
        most = max(spent.values(), default=0.0)
        return sorted((pid for pid, cpu in spent.items() if cpu > max(0.05, 0.3 * most)), key=lambda pid: -spent[pid])

    def update(self, number: int) -> None:
        """Move to another version, by the product's own way; returns when it answers with it."""
        raise NotImplementedError

    # ------------------------------------------------------------------------------------------ the same for all

    def works(self, seconds: float = 5.0) -> float | None:
        """Return how long a good request takes; None when it is not answered rightly."""
        start = time.perf_counter()
        try:
            status, _, _ = load.post(self.base, self.good, timeout=seconds)
        except OSError:
            return None
        return time.perf_counter() - start if status == 200 else None

    def revive(self) -> bool:
        """Start it again when it does not answer; say whether that was needed."""
        if self.works() is not None or self.works() is not None:
            return False
        self.stop()
        self.start()
        return True

    def watched(self) -> list[int]:
        """Return the processes whose memory is looked at."""
        return self.tree()


class Theirs(Product):
    """Another product."""

    def __init__(self, peer: Peer, variant: Variant, images: np.ndarray, model: Path, folder: Path, log: Path):
        self.peer, self.variant, self.model, self.folder, self.log = peer, variant, model, folder, log
        self.name, self.title, self.configuration = peer.name, peer.title, variant.name
        self.good = peer.json(images)
        self.binary = peer.binary(images) if peer.binary else None
        self._server: process.Server | None = None

    def start(self) -> float:
        if self.peer.python is None:
            raise process.NotStarted("it is not installed, see scripts/bench")
        port = process.free_port()
        self.base = f"http://127.0.0.1:{port}"
        environment = self.peer.environment(self.variant, self.model, port, self.folder)
        self.peer.prepare(self.peer.python, self.model, self.folder)
        self._server = process.Server(
            self.peer.command(self.peer.python, port, environment), self.log, environment, self.folder
        )
        try:
            return self._server.first_answer(self.base, self.good)[0]
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def tree(self) -> list[int]:
        return [] if self._server is None else self._server.tree()

    @property
    def main(self) -> int:
        assert self._server is not None
        return min(self._server.tree(), key=lambda pid: psutil.Process(pid).create_time())

    def workers(self) -> list[int]:
        if self.name == "ray":  # its proxies are busy too
            return [pid for pid in self.tree() if "ServeReplica" in _command(pid)]
        return super().workers()

    def update(self, number: int) -> None:
        if self.name != "ray":  # there is one model: a restart is how a server takes another
            self.stop()
            self.start()
            return
        done = self.folder / "updated"
        os.kill(self.main, signal.SIGHUP)
        until = time.perf_counter() + UPDATE_SECONDS
        while not done.exists() or done.read_text() != str(number + 1):
            if time.perf_counter() > until:
                raise process.NotStarted(f"the update did not end within {UPDATE_SECONDS:g} s")
            time.sleep(0.05)


class Stream:
    """Good requests by so many threads, one after another each, until its end. Counts what came of them."""

    def __init__(self, product: Product, threads: int, pause: float = 0.0, timeout: float = 10.0):
        self._product, self._pause, self._timeout = product, pause, timeout
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        self._lock = threading.Lock()
        self.total = self.failed = self.hung = 0
        self.kinds: dict[str, int] = {}
        self.seconds: list[float] = []
        self.bad: list[float] = []  # when
        self.versions: dict[str, int] = {}

    def __enter__(self) -> "Stream":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(self._timeout + 5)

    def _run(self) -> None:
        import http.client
        from urllib.parse import urlsplit

        line: http.client.HTTPConnection | None = None
        request = self._product.good
        index = 0
        while not self._stop.is_set():
            start = time.perf_counter()
            kind, version = "", ""
            try:
                if line is None:
                    where = urlsplit(self._product.base)
                    line = http.client.HTTPConnection(where.hostname or "", where.port, timeout=self._timeout)
                line.request("POST", request.path, request.bodies[index % len(request.bodies)], dict(request.headers))
                answer = line.getresponse()
                answer.read()
                version = answer.getheader("x-leptonai-version") or ""
                if answer.status != 200:
                    kind = str(answer.status)
                if answer.will_close:
                    line.close()
                    line = None
            except TimeoutError:
                kind = "hung"
            except ConnectionRefusedError:
                kind = "refused"
            except (OSError, http.client.HTTPException) as error:
                kind = type(error).__name__
            took = time.perf_counter() - start
            with self._lock:
                self.total += 1
                self.seconds.append(took)
                if version:
                    self.versions[version] = self.versions.get(version, 0) + 1
                if kind:
                    self.failed += 1
                    self.hung += kind == "hung"
                    self.kinds[kind] = self.kinds.get(kind, 0) + 1
                    self.bad.append(time.perf_counter())
            if kind:
                if line is not None:
                    line.close()
                line = None
                time.sleep(0.02)
            if self._pause:
                time.sleep(max(0.0, self._pause - took))
            index += 1
        if line is not None:
            line.close()

    def figures(self) -> dict[str, Any]:
        """Return what it counted."""
        found = {"requests": self.total, "failed": self.failed, "hung": self.hung, "kinds": self.kinds}
        if self.seconds:
            found["p99_ms"] = round(float(np.percentile(self.seconds, 99)) * 1000, 1)
        return found


@dataclass
class Watch:
    """The memory of a product while something is done to it, in MB above what it was."""

    product: Product
    before: float = 0.0
    most: float = 0.0
    _pids: list[int] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Watch":
        self._pids = self.product.watched()
        self.before = self.most = process.memory(self._pids)[1]
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.1):
            self.most = max(self.most, process.memory(self._pids)[1])

    @property
    def grew(self) -> float:
        """How much more it was at most."""
        return round(self.most - self.before, 1)


@contextlib.contextmanager
def running(product: Product) -> Iterator[Product]:
    """Start a product, and end it whatever happens."""
    product.start()
    try:
        yield product
    finally:
        product.stop()


def kill(pids: Sequence[int]) -> None:
    """SIGKILL."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _cpu(pid: int) -> float:
    with contextlib.suppress(psutil.Error):
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system)
    return 0.0


def _command(pid: int) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(psutil.Process(pid).cmdline())
    return ""
