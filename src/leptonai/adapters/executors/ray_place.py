"""The end of a placed job where others meet it: asks Ray for a place on some node, and stands in for the job on this machine.

`stand_in` is a process in the job's folder that listens where the job would, and ends as the job ends; whoever calls it, polls it or reads
what it prints sees the job itself. `hand_over` gives a job that is met by one socket to the one who holds the other end of a line.
"""

import asyncio
import base64
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from leptonai.adapters.executors.ray import ENDED
from leptonai.adapters.executors.ray_driver import connect
from leptonai.adapters.executors.ray_host import Host
from leptonai.adapters.executors.ray_tunnel import Identity, carry_there, hear, said
from leptonai.core.errors import Busy, LeptonError, Unavailable
from leptonai.core.ranks import LOST
from leptonai.core.stages import load

_STOP_SECONDS = 5.0
_SILENT_SECONDS = 20.0  # after which the machine of a job is lost, which speaks every second
_LAST_SECONDS = 1.0  # for what the job said before it ended
_LOST_WORDS = "its node of the Ray cluster was lost"


def stand_in(payload: dict[str, Any]) -> None:
    """Be a job that works elsewhere. `payload`: its facts as `ray.RayExecutor.start` wrote them down."""
    try:
        code, limit = asyncio.run(_Placed(payload).stand_in())
    except LeptonError as error:
        code, limit = 1, error.message
    Path(ENDED).write_text(json.dumps([code, limit]), "utf-8")
    sys.stdout.flush()
    os._exit(code if 0 <= code < 256 else 1)


def hand_over(job: dict[str, Any], line: int) -> int:
    """Carry all that is said on a socket, by its descriptor, to the one by which a job on another node is met, and back, until the
    job ends; return its exit code, or `LOST`. Raises `Unavailable`, and `Busy` where no node has a place for it.
    """
    code, limit = asyncio.run(_Placed(job).hand_over(socket.socket(fileno=os.dup(line))))
    return LOST if limit == _LOST_WORDS else code


class _Placed:
    """A job on another node, and the lines to it.

    Where a line breaks at the other end, nobody is let in here until the host says again that the job listens: whoever connected to
    one that is gone would take it for there, and what he says would be lost once more.
    """

    def __init__(self, job: dict[str, Any]):
        self._job = job
        self._end: tuple[int, str | None] = (-signal.SIGKILL, _LOST_WORDS)
        self._listening: dict[str, tuple[socket.socket, asyncio.Task[None]]] = {}
        self._carried: set[asyncio.Task[None]] = set()
        self._ready = asyncio.Event()
        self._open: Callable[[], Any] = lambda: None

    async def stand_in(self) -> tuple[int, str | None]:
        """Listen where the job listens, for as long as it runs."""
        await self._run(self._listen)
        return self._end

    async def hand_over(self, line: socket.socket) -> tuple[int, str | None]:
        """Carry one line, as soon as the job listens."""
        line.setblocking(False)
        held = [line]

        def give(names: list[str]) -> None:
            if names and held:
                self._carry(held.pop(), names[0])

        await self._run(give)
        return self._end

    async def _run(self, listens: Callable[[list[str]], None]) -> None:
        reader, writer = await self._begin()
        if self._job["stops"]:
            stop = said({"stop": _STOP_SECONDS})
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, writer.write, stop)
        while (news := await _in_time(hear(reader))) is not None:
            sys.stdout.write(news.get("log", ""))
            if "sockets" in news:
                listens(news["sockets"])
            for name, data in news.get("files", {}).items():
                self._mirror(name, base64.b64decode(data), time.monotonic() - news["now"])
            if "exit" in news:
                code, limit = news["exit"]
                self._end = int(code), limit
                break
        self._listen([])
        if self._carried:
            await asyncio.wait(self._carried, timeout=_LAST_SECONDS)

    async def _begin(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Ask for a place, and send the job there."""
        mine = Identity()
        address, port, theirs, processors = _place(self._job, mine.certificate)
        context = mine.context(theirs, listens=False)
        self._open = lambda: asyncio.open_connection(address, port, ssl=context)
        try:
            reader, writer = await self._open()
        except OSError as error:
            raise Unavailable(f"a node of the Ray cluster, {address}, cannot be reached from here: {error}") from error
        sent = ("entry", "flavour", "limits", "environment", "meets")
        job = {name: self._job[name] for name in sent} | {"mirrors": list(self._job["mirrors"])}
        more = {} if self._job["stops"] else {"cluster_processors": processors}
        writer.write(said({"job": job | {"payload": {**self._job["payload"], **more}}}))
        return reader, writer

    def _listen(self, names: list[str]) -> None:
        """Listen where the job does, and nowhere else."""
        for name in self._listening.keys() - set(names):
            self._listen_no_more(name)
        for name in [name for name in names if name not in self._listening]:
            Path(name).unlink(missing_ok=True)
            made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            made.setblocking(False)
            mask = os.umask(0o177)
            try:
                made.bind(name)
            finally:
                os.umask(mask)
            made.listen(64)
            self._listening[name] = made, asyncio.ensure_future(self._accept(made, name))

    def _listen_no_more(self, name: str) -> None:
        if name in self._listening:
            made, task = self._listening.pop(name)
            task.cancel()
            made.close()
            Path(name).unlink(missing_ok=True)

    async def _accept(self, listener: socket.socket, name: str) -> None:
        loop = asyncio.get_running_loop()
        while True:
            local, _ = await loop.sock_accept(listener)
            self._carry(local, name)

    def _carry(self, local: socket.socket, name: str) -> None:
        task = asyncio.ensure_future(self._carried_to(local, name))
        self._carried.add(task)
        task.add_done_callback(self._carried.discard)

    async def _carried_to(self, local: socket.socket, name: str) -> None:
        gone = True
        try:
            reader, writer = await self._open()
            writer.write(said({"meet": name}))
            gone = await carry_there(local, reader, writer)
        except OSError:
            local.close()  # as when the job itself hangs up
        if gone:
            self._listen_no_more(name)

    def _mirror(self, name: str, data: bytes, seconds: float) -> None:
        """Lay a file of the job's here, with its times moved to this machine's clock."""
        fresh = Path(f"{name}.new")
        fresh.write_bytes(load(self._job["mirrors"][name])(data, seconds))
        fresh.rename(name)


async def _in_time(hearing: Coroutine[Any, Any, dict[str, Any] | None]) -> dict[str, Any] | None:
    try:
        return await asyncio.wait_for(hearing, _SILENT_SECONDS)
    except TimeoutError:
        return None


def _place(job: Mapping[str, Any], certificate: str) -> tuple[str, int, str, int]:
    """Have Ray start a process for a job; return where it is, its certificate, and how many processors the cluster has."""
    import ray

    connect(job["address"], 1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL if job["stops"] else signal.SIG_IGN)  # which Ray took
    processors = int(job["processors"])
    actor = ray.remote(Host).options(num_cpus=processors, max_restarts=0, scheduling_strategy="SPREAD")
    made: Any = actor.remote(certificate)
    try:
        address, port, theirs = ray.get(made.where.remote(), timeout=job["patience_seconds"])
    except ray.exceptions.GetTimeoutError:
        raise Busy(
            f"no node of the Ray cluster {job['address']} has {_free(processors)}: add nodes, or wait until a Run ends"
        ) from None
    except ray.exceptions.RayError as error:
        raise Unavailable(f"{_LOST_WORDS} while it began: {' '.join(str(error).split())[:300]}") from None
    have: Any = ray.cluster_resources
    _hold.append(made)  # Ray ends an actor whose last name is gone
    return address, port, theirs, int(have().get("CPU", 1))


def _free(processors: int) -> str:
    return "a free processor" if processors == 1 else f"{processors} free processors"


_hold: list[Any] = []
