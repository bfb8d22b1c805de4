"""The end of a placed job where it works: a Ray actor that runs it as an agent there would, and lets one other process meet it.

The job is a process of a `LocalExecutor`, so that its limits, its libraries and its end are those of any job. It ends with this actor, and
this actor with the line to the one who asked for it, or with its node.
"""

import asyncio
import base64
import contextlib
import os
import shutil
import socket
import tempfile
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from leptonai.adapters.executors.local import LocalExecutor
from leptonai.adapters.executors.ray_tunnel import Identity, carry_here, hear, said
from leptonai.core import settings
from leptonai.core.errors import LeptonError
from leptonai.core.nouns import Limits
from leptonai.core.ports import Exit, Job

_LOOK_SECONDS = 0.05
_MIRROR_SECONDS = 0.2
_BEAT_SECONDS = 1.0  # in which something is said in any case: a machine that is gone says nothing
_ALONE_SECONDS = 60.0  # for who asked for the job to call
_REFUSED, _REFUSED_SECONDS = 20, 0.01  # tries: the name of a socket is there a moment before it listens
_ID = "placed"


class Host:
    """One job. `theirs`: the certificate of the one who asks for it."""

    def __init__(self, theirs: str):
        import ray

        own: Any = ray.util.get_node_ip_address
        self._mine = Identity()
        self._context = self._mine.context(theirs, listens=True)
        self._address: str = own()  # as the other nodes reach it
        self._port: Future[int] = Future()
        self._folder = Path()
        self._names: tuple[str, ...] = ()  # of the sockets by which the job is met
        threading.Thread(target=lambda: asyncio.run(self._serve()), name="host", daemon=True).start()

    def where(self) -> tuple[str, int, str]:
        """Return the address, the port and the certificate by which the job is given and met."""
        return self._address, self._port.result(30), self._mine.certificate

    async def _serve(self) -> None:
        begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            first = await hear(reader)
            if first is not None and "job" in first and not begun.done():
                begun.set_result(None)
                await self._carry_out(first["job"], reader, writer)
            elif first is not None and first.get("meet") in self._names:
                await self._meet(first["meet"], reader, writer)
            writer.close()

        try:
            server = await asyncio.start_server(take, self._address, 0, ssl=self._context)
        except OSError as error:
            self._port.set_exception(error)
            return
        async with server:
            self._port.set_result(server.sockets[0].getsockname()[1])
            await asyncio.wait([begun], timeout=_ALONE_SECONDS)
            if not begun.done():
                os._exit(1)
            await server.serve_forever()

    async def _meet(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one line to a socket of the job's."""
        loop = asyncio.get_running_loop()
        for _ in range(_REFUSED):
            local = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            local.setblocking(False)
            try:
                await loop.sock_connect(local, name)  # in the working folder, so that it fits an address
            except ConnectionRefusedError:
                local.close()
                await asyncio.sleep(_REFUSED_SECONDS)
            except OSError:
                local.close()
                return
            else:
                await carry_here(local, reader, writer)
                return

    async def _carry_out(
        self, asked: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Run the job to its end, say what is to be known of it meanwhile, and end this process."""
        above = settings.home() / "ray"
        above.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sweep(above)
        self._folder = Path(tempfile.mkdtemp(prefix=f"host-{os.getpid()}-", dir=above))
        os.chdir(self._folder)
        executor = LocalExecutor()
        try:
            self._names = tuple(asked["meets"])
            limits = Limits.model_validate(asked["limits"])
            entry, payload, flavour = asked["entry"], asked["payload"], asked["flavour"]
            executor.start(
                Job(_ID, entry, payload, self._folder, flavour, limits, asked["environment"], meets=self._names)
            )
            await self._watch(executor, asked["mirrors"], reader, writer)
        except LeptonError as error:
            writer.write(said({"exit": [1, error.message]}))
        finally:
            writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                await asyncio.wait_for(writer.wait_closed(), 2.0)
            executor.close(0.0)
            shutil.rmtree(self._folder, ignore_errors=True)
            os._exit(0)  # Ray's process is for this job alone

    async def _watch(
        self, executor: LocalExecutor, mirrors: list[str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        gone = asyncio.ensure_future(self._until_gone(executor, reader))
        sockets: list[str] = []
        mirrored = told = 0.0
        while True:
            end: Exit | None = executor.poll(_ID)
            news: dict[str, Any] = {}
            there = [name for name in self._names if Path(name).exists()]
            now = time.monotonic()
            if there != sockets or now - told > _BEAT_SECONDS:  # again and again: see `ray_place._Placed`
                told = now
                news["sockets"] = sockets = there
            if text := executor.logs(_ID):
                news["log"] = text
            if now - mirrored > _MIRROR_SECONDS:
                mirrored = now
                news |= self._mirror(mirrors)
            if end is not None:
                news["exit"] = [end.code, end.limit]
            if news:
                writer.write(said(news))
                await writer.drain()
            if end is not None or gone.done():
                gone.cancel()
                return
            await asyncio.wait([gone], timeout=_LOOK_SECONDS)

    def _mirror(self, names: list[str]) -> dict[str, Any]:
        found = {}
        for name in names:
            with contextlib.suppress(OSError):
                found[name] = base64.b64encode(Path(name).read_bytes()).decode("ascii")
        return {"files": found, "now": time.monotonic()} if found else {}

    async def _until_gone(self, executor: LocalExecutor, reader: asyncio.StreamReader) -> None:
        """Return when the one who asked for the job is there no more; have it end when he says so."""
        while (message := await hear(reader)) is not None:
            if "stop" in message:
                executor.stop(_ID, float(message["stop"]))


def _sweep(above: Path) -> None:
    """Remove what jobs left whose host was killed."""
    for path in above.glob("host-*-*"):
        pid = path.name.split("-")[1]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(path, ignore_errors=True)
