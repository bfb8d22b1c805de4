"""Which way of computing the same model is the quickest here: raced at the start of a long training, and remembered.

Ways differ in the last bits, so the one that was taken is part of each checkpoint: what goes on, goes on with it.
"""

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from leptonai.core.ports import Learner
from leptonai.core.stages import Handle
from leptonai.training import trainee

_LONG = 900  # batches: a race costs about eighteen of them for two ways, so at most a fiftieth of the training
_CLEAR = 1.02  # less than this is chance, and not worth another one's bits
_COMPILED_SECONDS = 900.0  # a training that takes longer than this tries what is compiled, which takes ten to thirty
_REMEMBERED = 1000
_FILE = "paths.json"


class Found(NamedTuple):
    """What a race found: the quickest way, how many times as quick as the plainest, and the seconds of a batch by it."""

    path: str
    gain: float
    seconds: float


def choose(learner: Learner, x: Any, y: Any, batches: int, handle: Handle) -> str:
    """Return the way that a training of so many batches like this one takes."""
    ways = trainee.paths(learner)
    key = hashlib.sha256(f"{trainee.path_key(learner)} {x.shape} {x.dtype}".encode()).hexdigest()
    file = None if handle.cache is None else handle.cache / _FILE
    known = _read(file)
    if key in known and known[key].path in ways:
        found = known[key]
        if len(ways) > 1:
            handle.say(
                f"computes {found.path}, which was the quickest way for this model on this machine{_gain(found)}"
            )
    elif batches < _LONG:
        return trainee.usual_path(learner)
    else:
        found = _raced(learner, x, y, ways, handle)
        known[key] = found
        _write(file, known)
    if batches * found.seconds >= _COMPILED_SECONDS:
        name = f"{key} compiled"
        if name not in known:
            known[name] = _compiled(learner, x, y, found, handle)
            _write(file, known)
        found = known[name]
    if found.path != ways[0]:
        handle.log(0, path_gain=round(found.gain, 3))
    return found.path


def _raced(learner: Learner, x: Any, y: Any, ways: tuple[str, ...], handle: Handle) -> Found:
    seconds = trainee.time_paths(learner, x, y, ways)
    if len(ways) < 2:
        return Found(ways[0], 1.0, seconds[ways[0]])
    best = min(seconds, key=lambda way: seconds[way])
    if seconds[ways[0]] / seconds[best] < _CLEAR:
        best = ways[0]
    told = ", ".join(
        f"{way} {seconds[ways[0]] / seconds[way]:.2f}x" if way in seconds else f"{way} not half" for way in ways[1:]
    )
    handle.say(f"computes {best}: against {ways[0]} a batch is {told} as quick")
    return Found(best, seconds[ways[0]] / seconds[best], seconds[best])


def _compiled(learner: Learner, x: Any, y: Any, found: Found, handle: Handle) -> Found:
    """Race the way that was found against itself, compiled: the training is so long that this costs little."""
    path = trainee.compiled_path(learner, found.path)
    if path is None:
        return found
    seconds = trainee.time_paths(learner, x, y, (found.path, path))
    if path not in seconds:
        handle.say(f"computes {found.path}: compiled it does not work here, or takes twice as long")
        return found
    gain = seconds[found.path] / seconds[path]
    better = gain >= _CLEAR
    handle.say(f"computes {path if better else found.path}: compiled a batch is {gain:.2f}x as quick")
    return Found(path, found.gain * gain, seconds[path]) if better else found


def _gain(found: Found) -> str:
    return f": {found.gain:.2f}x as quick as the plain one" if found.gain > 1 else ""


def _read(file: Path | None) -> dict[str, Found]:
    if file is None:
        return {}
    with contextlib.suppress(OSError, ValueError, TypeError):
        found = json.loads(file.read_text("utf-8"))
        if isinstance(found, dict):
            return {
                str(k): Found(str(one[0]), float(one[1]), float(one[2])) for k, one in found.items() if len(one) == 3
            }
    return {}


def _write(file: Path | None, known: Mapping[str, Found]) -> None:
    """Keep what was found, the newest; whoever writes at the same time may win, which costs a race."""
    if file is None:
        return
    fresh = file.with_name(f"{file.name}.{hashlib.sha256(repr(known).encode()).hexdigest()[:8]}")
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(json.dumps(dict(list(known.items())[-_REMEMBERED:])), "utf-8")
        fresh.rename(file)
