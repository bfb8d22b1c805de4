"""Which runtime computes each model best on this machine: raced once, in the background, and remembered.

A version answers as soon as the plain runtime has it; the race goes on beside that, in a process of low priority
(`serving.plane.race_process`). Only where something is clearly quicker the planes change over, which loses no request. What was
found is kept in the home folder by model, setting, libraries and processor, so that a restart loads the winner at once.
"""

import json
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

from leptonai.core import settings
from leptonai.core.errors import LeptonError
from leptonai.core.nouns import Model
from leptonai.core.runtimes import Variant
from leptonai.serving import frames

LARGEST = 512 * 2**20  # bytes of a model; a race holds it several times in memory, so a larger one stays where it is
REMEMBERED = 1000  # models
PATIENCE = 60.0  # seconds for a race, beside what it may take by itself
_ONNX = "model.onnx"
_LIBRARIES = ("onnxruntime", "openvino")

_log = logging.getLogger(__name__)


class Winner(NamedTuple):
    """What a race found."""

    model: str  # its id
    variant: Variant


class Races:
    """The races of one Site, one at a time. Made and used by one thread; another one fills `found` with what won, where that
    is not what the planes took by themselves.
    """

    def __init__(self, home: Path, processes: int):
        self.found: SimpleQueue[Winner] = SimpleQueue()
        self._file = home / "races.json"
        self._log_file = home / "logs" / "races.log"
        self._processes = processes
        self._seconds = settings.number("race_seconds")
        self._precision = settings.get("precision") or "fp32"
        self._kept = _read(self._file)
        self._asked: set[str] = set()
        self._queue: SimpleQueue[tuple[Model, Callable[[], bytes]] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False

    def known(self, model: Model) -> Variant | None:
        """Return what won before, or None: the model was not raced yet, or the plain runtime won."""
        kept = self._kept.get(self._key(model))
        return None if kept is None else _unless_plain(Variant(**kept["chosen"]))

    def enter(self, model: Model, read: Callable[[], bytes]) -> None:
        """Have a model raced, unless that was done or is not worth it. Returns at once, and costs little when called again.

        `read` gives its ONNX file when its turn comes; what it raises leaves the model with the plain runtime.
        """
        if self._seconds <= 0 or model.id in self._asked or _ONNX not in model.files or self._closed:
            return
        self._asked.add(model.id)
        if self._key(model) in self._kept:
            return
        self._queue.put((model, read))
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="races", daemon=True)
            self._thread.start()

    def drain(self) -> list[Winner]:
        """Return what won since the last call."""
        won = []
        while not self.found.empty():
            won.append(self.found.get())
        return won

    def close(self) -> None:
        """End the race that runs, and begin no other."""
        self._closed = True
        self._queue.put(None)
        if self._process is not None:
            self._process.kill()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while (asked := self._queue.get()) is not None and not self._closed:
            model, read = asked
            try:
                data = read()
                if len(data) > LARGEST:
                    continue
                answer = self._race(model, {_ONNX: data})
                del data
            except (OSError, LeptonError) as error:
                answer = {"op": "failed", "message": f"the race ended early: {error}"}
            if self._closed:
                return
            if answer["op"] == "failed":
                _log.warning(
                    "model %s/%s stays with the plain runtime: %s", model.name, model.version, answer["message"]
                )
                continue
            self._kept[self._key(model)] = {"chosen": answer["chosen"], "table": answer["table"]}
            self._keep()
            chosen = Variant(**answer["chosen"])
            _log.info("model %s/%s is computed by %s", model.name, model.version, chosen.name)
            if _unless_plain(chosen) is not None:
                self.found.put(Winner(model.id, chosen))

    def _race(self, model: Model, files: Mapping[str, bytes]) -> dict[str, Any]:
        ours, theirs = socket.socketpair()
        with ours, theirs, self._log_file.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "leptonai.serving.plane.race_process", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                env=settings.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
            theirs.close()
            if self._closed:  # while it was being started
                self._process.kill()
            try:
                ours.settimeout(PATIENCE + 8 * self._seconds)
                header = {
                    "signature": model.signature.to_dict(),
                    "files": list(files),
                    "cores": len(os.sched_getaffinity(0)),
                    "processes": self._processes,
                    "precision": self._precision,
                    "seconds": self._seconds,
                }
                frames.send(ours, header, list(files.values()))
                answer = frames.receive(ours)
            finally:
                self._process.kill()
                self._process.wait()
                self._process = None
        return {"op": "failed", "message": "the race died"} if answer is None else answer.header

    def _keep(self) -> None:
        self._kept = dict(list(self._kept.items())[-REMEMBERED:])
        new = self._file.with_suffix(".new")
        try:
            new.write_text(json.dumps(self._kept), "utf-8")
            new.replace(self._file)
        except OSError as error:  # it is raced again after a restart
            _log.warning("what a race found could not be kept: %s", error)

    def _key(self, model: Model) -> str:
        machine = {"processes": self._processes, "cores": len(os.sched_getaffinity(0)), **_libraries()}
        return json.dumps([model.files.get(_ONNX, model.id), self._precision, machine], sort_keys=True)


def _unless_plain(variant: Variant) -> Variant | None:
    """Return a variant that is not what a plane takes by itself."""
    first = (settings.get("providers") or "CPU").strip()
    plain = variant == Variant("onnx") and first.startswith("CPU")
    return None if plain else variant


@cache
def _libraries() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found


def _read(file: Path) -> dict[str, Any]:
    try:
        kept = json.loads(file.read_text("utf-8"))
        return {key: value for key, value in kept.items() if Variant(**value["chosen"])}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}
