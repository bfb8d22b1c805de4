"""An agent as the engine sees one: claims, works, reports, ends; by whichever server answers. Standard library only.

    python -m tests.runs.engine_agent NAME SOCKET SOCKET …

One unit of work is one line of the Run's series. A request whose answer was lost is sent again only where that is safe: the
end of an attempt is; a line is not (it would be there twice), so the attempt is given up and the Run goes back to the queue.
"""

import json
import random
import socket
import sys
import time
from typing import Any

STEPS = 3
rng = random.Random()


class Lost(Exception):
    """Nobody answered: whether it was done is not known."""


class Refused(Exception):
    """The engine said no."""


def ask(path: str, **request: Any) -> Any:
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(20)
        try:
            line.connect(path)
            line.sendall(json.dumps(request).encode() + b"\n")
            said = line.makefile("rb").readline()
        except OSError as error:
            raise Lost from error
    if not said:
        raise Lost
    found = json.loads(said)
    if "error" in found:
        raise Refused(found["error"])
    return found["ok"]


def until_answered(paths: list[str], **request: Any) -> Any:
    while True:
        try:
            return ask(rng.choice(paths), **request)
        except Lost:
            time.sleep(0.05)


def work(name: str, paths: list[str], held: dict[str, Any]) -> None:
    me = {"agent": name, **held}
    try:
        for step in range(STEPS):
            body = {"epoch": held["epoch"], "step": step}
            ask(rng.choice(paths), do="append", body=body, **me)
            time.sleep(rng.uniform(0, 0.05))
        until_answered(paths, do="heartbeat", **me)
        result = {"epoch": held["epoch"], "agent": name}
        for _ in range(rng.choice((1, 1, 1, 2))):  # now and then said twice, as after an answer that was lost
            until_answered(paths, do="finish", state="succeeded", result=result, **me)
    except Lost:
        until_answered(paths, do="finish", state="failed", retry=True, **me)


def main(name: str, paths: list[str]) -> None:
    while True:
        try:
            held = ask(rng.choice(paths), do="claim", agent=name)
            if held is None:
                time.sleep(0.05)
            else:
                work(name, paths, held)
        except Lost:
            time.sleep(0.05)
        except Refused:
            continue  # somebody else has the Run now


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
