"""Which way of computing the same model is the quicker one here: raced at the start of a long training, and remembered.

Ways differ in the last bits, so the one that was taken is part of each checkpoint: what goes on, goes on with it.
"""

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from leptonai.core.ports import Learner
from leptonai.core.stages import Handle
from leptonai.training import trainee

_LONG = 900  # batches: a race costs about eighteen, so at most a fiftieth of the training
_CLEAR = 1.05  # a way that is not quicker by this is not worth another one's bits
_REMEMBERED = 1000
_FILE = "paths.json"


def choose(learner: Learner, x: Any, y: Any, batches: int, handle: Handle) -> str:
    """Return the way that a training of so many batches like this one takes."""
    ways = trainee.paths(learner)
    key = hashlib.sha256(f"{trainee.path_key(learner)} {x.shape} {x.dtype}".encode()).hexdigest()
    file = None if handle.cache is None else handle.cache / _FILE
    known = _read(file)
    if known.get(key) in ways:
        handle.say(f"computes {known[key]}, which was the quicker way for this model on this machine")
        return str(known[key])
    if batches < _LONG:
        return ways[0]
    seconds = trainee.time_paths(learner, x, y)
    best = min(seconds, key=lambda way: seconds[way])
    if seconds[ways[0]] / seconds[best] < _CLEAR:
        best = ways[0]
    found = ", ".join(f"{way} {seconds[ways[0]] / seconds[way]:.2f}x" for way in ways[1:])
    handle.say(f"computes {best}: against {ways[0]} a batch is {found} as quick")
    _write(file, {**known, key: best})
    return best


def _read(file: Path | None) -> dict[str, str]:
    if file is None:
        return {}
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(file.read_text("utf-8"))
        return {str(key): str(way) for key, way in found.items()} if isinstance(found, dict) else {}
    return {}


def _write(file: Path | None, known: Mapping[str, str]) -> None:
    """Keep what was found, the newest; whoever writes at the same time may win, which costs a race."""
    if file is None:
        return
    fresh = file.with_name(f"{file.name}.{hashlib.sha256(repr(known).encode()).hexdigest()[:8]}")
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(json.dumps(dict(list(known.items())[-_REMEMBERED:])), "utf-8")
        fresh.rename(file)
