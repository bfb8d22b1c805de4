"""One product in one round: its start, its memory at rest, and what it answers under load."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _host import calm

from serving import bodies, load, process
from serving.peers_list import Peer, Variant

CONNECTIONS = (1, 16, 64)


@dataclass(frozen=True)
class Seen:
    """What one round saw of a product. `loads`: by what was sent, such as "json_c64"."""

    start_s: float
    rss_mb: float
    pss_mb: float
    loads: Mapping[str, load.Load]


@dataclass(frozen=True)
class Plan:
    """How long each load lasts, in seconds, and which there are."""

    seconds: float
    warm_up: float
    connections: Sequence[int] = CONNECTIONS
    binary: bool = True


def check(request: load.Request, base: str, expected: np.ndarray) -> None:
    """Ask for each image once and compare the answers. Raises `process.NotStarted` with what is wrong."""
    for index, scores in enumerate(expected):
        status, headers, body = load.post(base, request, index)
        if status != 200:
            raise process.NotStarted(f"{request.path} answers {status}: {body[:200].decode(errors='replace')}")
        if not bodies.same(bodies.scores_of(body, headers), scores.tolist()):
            raise process.NotStarted(f"{request.path} answers something else for image {index}: {body[:200]!r}")


def loads(base: str, json: load.Request, binary: load.Request | None, plan: Plan) -> dict[str, load.Load]:
    """Load a server that runs, once at each number of connections."""
    load.run(base, json, 16, plan.warm_up)
    found = {f"json_c{c}": load.run(base, json, c, plan.seconds) for c in plan.connections}
    if binary is not None and plan.binary:
        found["binary_c64"] = load.run(base, binary, 64, plan.seconds)
    return found


def peer(
    it: Peer, variant: Variant, plan: Plan, model: Path, images: np.ndarray, expected: np.ndarray, folder: Path,
    say: Callable[[str], None],
) -> Seen:  # fmt: skip
    """Start a peer, measure it, end it. Raises `process.NotStarted` where it does not answer rightly."""
    if it.python is None:
        raise process.NotStarted("it is not installed, see scripts/bench")
    port = process.free_port()
    base = f"http://127.0.0.1:{port}"
    environment = it.environment(variant, model, port, folder)
    json, binary = it.json(images), it.binary(images) if it.binary else None
    it.prepare(it.python, model, folder)
    command = it.command(it.python, port, environment)
    calm()
    with process.running(command, folder / f"{it.name}.log", environment, folder) as server:
        start = server.first_answer(base, json)[0]
        check(json, base, expected)
        if binary is not None:
            try:
                check(binary, base, expected)
            except (process.NotStarted, OSError, ValueError) as error:
                say(f"{it.title}: no binary bodies: {error}")
                binary = None
        rss, pss = server.memory()
        return Seen(start, rss, pss, loads(base, json, binary, plan))
