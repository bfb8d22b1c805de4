"""The lines to the agent: it sends models, the table of routes and that of keys, and is told how that went.

There are two, alike: each carries out one message after the other, so what comes over the second does not wait until a version
is loaded that came over the first.

::

    agent -> plane   {"op": "load", "model": Served, "native": path | null, "workers": [number] | null, "way": Variant | null}  + the files of the bundle, as "files" names them
                     {"op": "route", "table": [{"service", "variants": [{"variant", "model", "percent"}], …}]}     see `serving.table`
                     {"op": "change", "lines": […], "models": [Served], "drop": [service], "free": [model]}    of the table, what is another now
                     {"op": "refuse", "service", "message"}                      its model cannot be loaded: whoever waits is told
                     {"op": "crew", "model": id, "workers": [number], "wanted"}   which workers compute it, and how many are to
                     {"op": "keys", "table": […]}                                              as `serving.plane.keys` reads it
                     {"op": "watch", "shares": {service: share}}           which share of its requests the prediction log wants
                     {"op": "recent", "service", "limit"}   {"op": "logged"}                   as `serving.seen` packs them
    plane -> agent   {"op": "loaded", "model": id, "bytes"}   {"op": "failed", "model": id, "message"}
                     {"op": "routed"}   {"op": "kept"}   {"op": "watched"}   {"op": "failed", "message"}
                     {"op": "recent" | "logged", "entries": […], "dropped"}  + the arrays

Over a third line the plane asks, and waits for no answer::

    plane -> agent   {"op": "want" | "load" | "unload", "service", "used": [model]}   {"op": "used", "used": [model]}

What was used tells the agent which model was used least recently. The files come decrypted over a socket pair that no other process has, and stay in memory: the plane holds no key of the
store and writes nothing.
"""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from leptonai.core import plugins
from leptonai.core.errors import LeptonError, Unavailable
from leptonai.core.runtimes import LoadedModel, Variant
from leptonai.serving import frames, seen
from leptonai.serving.plane import router
from leptonai.serving.plane.facts import resident
from leptonai.serving.plane.native import NativeModel
from leptonai.serving.served import Served
from leptonai.serving.table import Line
from leptonai.serving.text.kinds import RUNTIMES


class Control:
    """Carries out what the agent says over one line, one message after the other, until the line ends."""

    def __init__(self, to: router.Router, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self._router = to
        self._reader = reader
        self._writer = writer

    async def run(self) -> None:
        """Return when the agent is gone."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while (frame := await frames.receive_async(self._reader)) is not None:
                answer = await self._do(frame)
                parts = answer.pop("parts", [])
                self._writer.write(frames.pack(answer, parts))
                self._writer.writelines(parts)
                del frame  # the files of a model that is loaded are not needed any more
                await self._writer.drain()

    async def _do(self, frame: frames.Frame) -> dict[str, Any]:
        header = frame.header
        about = {"model": header["model"]["id"]} if header["op"] == "load" else {}
        try:
            if header["op"] == "load":
                model = Served.of(header["model"])
                if model.signature.task in RUNTIMES:
                    return await self._reach(model, header["native"])
                before = resident()
                await self._router.load(model, _loader(model, header, frame.parts), _way(header).name)
                return {"op": "loaded", "bytes": max(0, resident() - before), **about}
            if header["op"] == "keys":
                self._router.allow(header["table"])
                return {"op": "kept"}
            if header["op"] == "crew":
                self._router.crew(header["model"], header["workers"], header["wanted"])
                return {"op": "kept"}
            if header["op"] in ("watch", "recent", "logged"):
                return self._watched(header)
            if header["op"] == "refuse":
                self._router.waiting.refuse(header["service"], Unavailable(header["message"], retry_after=5.0))
                return {"op": "refused"}
            models = [Served.of(model) for model in header.get("models", ())]
            if header["op"] == "change":
                lines = [Line.of(line) for line in header["lines"]]
                self._router.change(lines, models, header["drop"], header["free"])
                return {"op": "routed"}
            self._router.route([Line.of(line) for line in header["table"]], models)
            return {"op": "routed"}
        except LeptonError as error:
            return {"op": "failed", "message": error.message, **about}
        except Exception as error:  # noqa: BLE001 - whatever a model does while it loads, the plane goes on
            return {"op": "failed", "message": f"it cannot be loaded: {type(error).__name__}: {error}"[:500], **about}

    async def _reach(self, model: Served, path: str) -> dict[str, Any]:
        """Connect to the process of a model of text."""
        from leptonai.serving.plane.text import TextReplica  # a plane without such models does not need it

        if not self._router.has(model.id):
            self._router.add(await TextReplica.reach(model, Path(path)))
        return {"op": "loaded", "bytes": 0, "model": model.id}

    def _watched(self, header: dict[str, Any]) -> dict[str, Any]:
        """Answer what is asked of the requests that were looked at, see `serving.plane.recent`."""
        watch = self._router.watch
        if header["op"] == "watch":
            watch.tell(header["shares"])
            return {"op": "watched"}
        found = watch.drain() if header["op"] == "logged" else watch.recent(header["service"], header["limit"])
        entries, parts = seen.pack(found)
        return {"op": header["op"], "entries": entries, "dropped": watch.dropped, "parts": parts}


def _loader(model: Served, header: dict[str, Any], parts: list[bytes]) -> Callable[[], LoadedModel]:
    if header["native"] is not None:
        return lambda: NativeModel(header["native"], model, header["workers"])
    files, way = dict(zip(header["files"], parts, strict=True)), _way(header)
    return lambda: plugins.runtime(way.runtime).load(files, way.threads, precision=way.precision, device=way.device)


def _way(header: dict[str, Any]) -> Variant:
    """Return how the agent wants a model computed: by the plain runtime, or by what won a race."""
    return Variant(**header["way"]) if header.get("way") else Variant("onnx", device="")
