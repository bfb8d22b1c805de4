"""The agent: the process at a Site that asks the server for work. It only ever calls out, so it works behind a firewall.

Threads: one for each slot (claims a Run and watches it to its end), one for the heartbeat, three for the Services, one that
has libraries loaded ahead. The agent ends with the process that started it.
"""

import argparse
import contextlib
import ctypes
import importlib.util
import logging
import os
import secrets
import shutil
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from leptonai.agent import keyring
from leptonai.agent.keys import line
from leptonai.agent.plane import Services
from leptonai.agent.predictions import PredictionLogs
from leptonai.agent.resident_file import room
from leptonai.agent.watch import Watch
from leptonai.agent.worker import Holdings, Worker, give_back
from leptonai.core import plugins, settings
from leptonai.core.errors import FieldError, Invalid, LeptonError
from leptonai.core.ports import Executor, Job, Store
from leptonai.core.refs import check_name
from leptonai.core.stages import FLAVOURS
from leptonai.sdk.http import Http

BEAT_SECONDS = 1.0  # while Runs are held, so that a cancelled one stops soon
STOP_SECONDS = 2.5
WARM_AFTER_SECONDS = 1.0

_PR_SET_PDEATHSIG = 1
_FRAMEWORKS = ("torch", "tensorflow", "jax", "keras", "sklearn", "onnxruntime")
_PACKAGES = {"sklearn": "scikit-learn", "tensorflow": "tensorflow-cpu"}

_log = logging.getLogger(__name__)


class Agent:
    """One agent of one Site."""

    def __init__(
        self,
        http: Http,
        home: Path,
        *,
        site: str = "home",
        workers: int = 2,
        lease_seconds: float = 30.0,
        warm: str = "auto",
        executor: str = "local",
    ):
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._http = http
        self._home = home
        self._site = site
        self._lease = lease_seconds
        self._warm = warm
        self._stopping = threading.Event()
        self._asked: SimpleQueue[None] = SimpleQueue()  # to stop
        self._holdings = Holdings()
        self._executor: Executor = plugins.executor(executor)
        self._store_url = settings.get("store_url")
        self._sealed: Store | None = None
        self._services = Services(site, http, self._blobs, self._executor, home, self._stopping)
        self._logs = PredictionLogs(site, http, self._blobs, lambda: self._services.alive, self._stopping)
        self._watches = (
            Watch(site, "services", http, self._services.hear, self._stopping),
            Watch(site, "keys", http, lambda found: self._services.admit([*map(line, found["keys"])]), self._stopping),
        )
        self._workers = [
            Worker(site, self.name, http, self._executor, home / "jobs", self._holdings, self._stopping, self._reached)
            for _ in range(workers)
        ]
        self._services_thread = threading.Thread(target=self._services.run, name="services", daemon=True)
        self._logs_thread = threading.Thread(target=self._logs.run, name="prediction logs", daemon=True)

    def start(self) -> None:
        """Start all threads and return."""
        shutil.rmtree(
            self._home / "jobs", ignore_errors=True
        )  # what an agent before this one left; its processes are dead
        (self._home / "jobs").mkdir(parents=True, mode=0o700, exist_ok=True)
        loops = [worker.run for worker in self._workers]
        for loop in (*loops, self._beat, *(watch.run for watch in self._watches), self._logs.watch, self._load_ahead):
            threading.Thread(target=loop, name=loop.__qualname__, daemon=True).start()
        self._services_thread.start()
        self._logs_thread.start()

    def wait(self) -> None:
        """Return when somebody asked the agent to stop."""
        self._asked.get()
        self._stopping.set()

    def stop(self) -> None:
        """Ask the agent to stop; from any thread, or a signal handler."""
        # Not by the event itself: a handler that comes while the main thread holds its lock would wait for ever.
        self._asked.put(None)

    def close(self) -> None:
        """Give the Runs back to the server, so that they are taken up again, and end what was started; within seconds."""
        self._stopping.set()
        self._services.wake()
        hang_up()
        given = [
            threading.Thread(target=give_back, args=(self._http, held), daemon=True) for held in self._holdings.all()
        ]
        for thread in given:
            thread.start()
        until = time.monotonic() + STOP_SECONDS
        for thread in given:
            thread.join(1.2)
        self._logs_thread.join(max(0.1, until - time.monotonic()))
        self._executor.close()
        self._services_thread.join(max(0.1, until - time.monotonic()))

    # ------------------------------------------------------------------------------------------- the threads

    def _beat(self) -> None:
        facts: dict[str, Any] | None = facts_of_this_machine()
        grpc: str | None = None
        told = -1  # what the server heard last of models that are not in memory
        scaled = 0  # and of how many workers there are
        while not self._stopping.is_set():
            held = self._holdings.all()
            if self._services.grpc != grpc:
                grpc = self._services.grpc
                facts = facts_of_this_machine()
            absent = self._services.absent
            news, counts, changes = self._services.scaler.said
            runs = [{"id": one.run.id, "epoch": one.run.epoch} for one in held]
            body = {
                "agent": self.name,
                "runs": runs,
                "plane": self._services.url,
                **({} if absent is None or absent[0] == told else {"absent": absent[1]}),
                **({} if news == scaled else {"scaled": {name: one.model_dump() for name, one in counts.items()}}),
                **({"changes": [change._asdict() for change in changes]} if changes else {}),
                **({"facts": facts | ({"grpc": grpc} if grpc else {})} if facts else {}),
            }
            try:
                answer = self._http.call("POST", f"/sites/{self._site}/heartbeat", json=body, timeout=10.0)
                facts, told, scaled = None, told if absent is None else absent[0], news
                self._services.scaler.heard(news)
                for one in held:
                    said = answer["runs"].get(one.run.id)
                    if said == "stop":
                        one.stop.set()
                    elif said == "lost":
                        one.lost.set()
            except LeptonError as error:
                _log.warning("heartbeat: %s", error.message)
                facts = facts or facts_of_this_machine()  # a new server may answer next
            self._stopping.wait(min(self._lease / 3, BEAT_SECONDS))

    def _load_ahead(self) -> None:
        flavours = flavours_to_warm(self._warm)
        for number, flavour in enumerate(flavours):
            if number and self._stopping.wait(WARM_AFTER_SECONDS):
                return
            try:
                load_ahead(self._executor, flavour, self._home / "jobs" / f"warm-{flavour}")
            except (LeptonError, OSError) as error:
                _log.warning("flavour %s cannot be loaded ahead: %s", flavour, error)

    def _reached(self, store_url: str | None) -> None:
        if store_url != self._store_url:
            self._store_url, self._sealed = store_url, None

    def _blobs(self) -> Store:
        if self._sealed is None:
            self._sealed = keyring.stores(self._http, self._store_url, remember=True).sealed
        return self._sealed


def hang_up() -> None:
    """Cut every connection to the server: a long poll that still hangs there would be given what is given back. Those that
    came in, to the serving planes, stay.
    """
    listening = {
        found.getsockname()[1] for found in _streams() if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    }
    for found in _streams():
        with contextlib.suppress(OSError):
            if found.getsockname()[1] not in listening:
                found.shutdown(socket.SHUT_RDWR)


def _streams() -> Iterator[socket.socket]:
    """Yield each TCP socket of this process, one after the other."""
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if str(path.readlink()).startswith("socket:"):
                with socket.socket(fileno=os.dup(int(path.name))) as found:
                    if found.family in (socket.AF_INET, socket.AF_INET6) and found.type == socket.SOCK_STREAM:
                        yield found


def load_ahead(executor: Executor, flavour: str, folder: Path) -> None:
    """Have the libraries of a flavour loaded before a Run needs them: where the executor has no word for it, by an empty job."""
    warm = getattr(executor, "warm", None)
    if warm is not None:
        warm(flavour)
        return
    folder.mkdir(parents=True, mode=0o700, exist_ok=True)
    executor.start(Job(f"warm-{flavour}", "leptonai.agent.once:nothing", {}, folder, flavour))


def flavours_to_warm(setting: str) -> list[str]:
    """Return the flavours that the setting `warm` names. Raises `Invalid`."""
    if setting == "none":
        return []
    if setting == "auto":
        heavy = next((name for name in ("torch", "tensorflow", "sklearn") if importlib.util.find_spec(name)), None)
        return ["data", *([heavy] if heavy else [])]
    names = [name.strip() for name in setting.split(",") if name.strip()]
    for name in names:
        if name not in FLAVOURS:
            right = f"'auto', 'none', or some of {', '.join(FLAVOURS)}"
            raise Invalid(f"setting warm names {name!r}: use {right}", errors=[FieldError("warm", right)])
    return names


def facts_of_this_machine() -> dict[str, Any]:
    """Return cores, memory (MiB), Python, and which libraries are installed."""
    found = {}
    for name in _FRAMEWORKS:
        if importlib.util.find_spec(name) is None:
            continue
        try:
            found[name] = version(_PACKAGES.get(name, name))
        except PackageNotFoundError:
            found[name] = "installed"
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "python": sys.version.partition(" ")[0],
        "libraries": found,
        **room().facts(),
    }


def main(arguments: list[str] | None = None) -> None:
    """Be the agent of a Site until asked to stop, or until the process that started it is gone."""
    parser = argparse.ArgumentParser(prog="python -m leptonai.agent", description=__doc__)
    parser.add_argument("--site", default="home", help="the Site it works at")
    parser.add_argument("--host", help="URL of the server (LEPTONAI_HOST)")
    parser.add_argument("--home", help="folder for what its processes need while they run (LEPTONAI_HOME)")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    settings.silence_libraries()
    try:
        agent = _made(given)
    except LeptonError as error:
        print(error.message, file=sys.stderr)
        sys.exit(2)
    signal.signal(signal.SIGTERM, lambda *_: agent.stop())
    if stat.S_ISFIFO(os.fstat(0).st_mode) or stat.S_ISSOCK(os.fstat(0).st_mode):
        # Started by a server: end with it, and leave Ctrl-C to it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        threading.Thread(target=_until_stdin_ends, args=(agent,), name="parent", daemon=True).start()
    else:
        signal.signal(signal.SIGINT, lambda *_: agent.stop())
    agent.start()
    agent.wait()
    agent.close()
    sys.stderr.flush()
    os._exit(0)  # long polls still hang in their threads


def _made(given: argparse.Namespace) -> Agent:
    host = settings.get("host", given.host)
    if host is None:
        right = "give --host or LEPTONAI_HOST"
        raise Invalid(f"the agent does not know its server: {right}", errors=[FieldError("host", right)])
    return Agent(
        Http(host, settings.get("api_key")),
        settings.home(given.home),
        site=check_name(given.site, "site"),
        workers=max(1, int(settings.number("workers"))),
        lease_seconds=settings.number("lease_seconds"),
        warm=settings.get("warm") or "auto",
        executor=settings.get("executor") or "local",
    )


def _until_stdin_ends(agent: Agent) -> None:
    while os.read(0, 4096):
        pass
    agent.stop()
