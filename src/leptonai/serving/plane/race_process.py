"""``python -m leptonai.serving.plane.race_process``: one race in a process of its own, which ends with it.

A race loads every library there is and computes for a second; in a plane that would hold up callers, and the memory of the
libraries that lost would stay. The agent sends the model over a socket pair and is told what won, and what each reached::

    agent -> race   {"signature": Signature, "files": [names], "cores", "processes", "precision", "seconds"}  + the files
    race -> agent   {"op": "raced", "chosen": {"runtime", "threads", "precision", "device"}, "table": [...]}
                    {"op": "failed", "message"}
"""

import os
import socket
import sys
from dataclasses import asdict
from typing import Any

from leptonai.core.errors import LeptonError
from leptonai.core.signature import Signature
from leptonai.serving import frames
from leptonai.serving.plane.race import pick

NICE = 10  # so that it takes from callers only what they leave


def main() -> None:
    """Run the one race that is asked for over the file descriptor of the only argument."""
    os.nice(NICE)
    with socket.socket(fileno=int(sys.argv[1])) as line:
        asked = frames.receive(line)
        if asked is not None:
            frames.send(line, answer(asked))
    sys.stdout.flush()
    os._exit(0)  # libraries may hold threads that never end


def answer(asked: frames.Frame) -> dict[str, Any]:
    """Hold the race of a message and return the answer to it."""
    header = asked.header
    try:
        outcome = pick(
            dict(zip(header["files"], asked.parts, strict=True)),
            Signature.of(header["signature"]),
            cores=header["cores"],
            processes=header["processes"],
            precision=header["precision"],
            seconds=header["seconds"],
        )
    except LeptonError as error:
        return {"op": "failed", "message": error.message}
    outcome.model.close()
    table = [entrant.to_dict() for entrant in outcome.table]
    return {"op": "raced", "chosen": asdict(outcome.chosen), "table": table}


if __name__ == "__main__":
    main()
