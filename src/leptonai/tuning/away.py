"""Trials on the machines of a cluster: a process of the nursery stands in for each that tries settings, and carries what is said.

For the study nothing differs: a line and an id, and a process that dies as the one on the other machine does. One whose machine was
lost is told apart by its exit code, since no trial is to blame for that.
"""

import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

from leptonai.core.errors import Busy, LeptonError
from leptonai.core.nouns import Limits
from leptonai.core.ranks import AWAY
from leptonai.core.stages import Handle, load
from leptonai.tuning.helper import help_with
from leptonai.tuning.nursery import NO_ROOM
from leptonai.tuning.spec import Tune

_MEET = "line.sock"
_WORK = "leptonai.tuning.away:help_here"
_PATIENCE_SECONDS = 600.0  # for a machine to have a processor free, while others go on with the study


def help_there(
    spec: Tune, order: list[str], epochs: Sequence[Mapping[str, Any]], handle: Handle
) -> Callable[[Connection], None]:
    """Return what a process of the nursery does: have another one help on whatever machine has a processor free."""
    asked = {"spec": spec.model_dump(mode="json"), "order": order, "epochs": [dict(one) for one in epochs]}
    place = dict(handle.place or {})
    by, helper = place.pop("by"), place.pop("helper")
    job = place | {
        "entry": AWAY, "payload": {**helper, "work": _WORK, "asked": asked}, "flavour": handle.run.flavour,
        "limits": Limits().model_dump(), "environment": {}, "processors": 1, "meets": [_MEET], "mirrors": {}, "stops": False,
        "patience_seconds": _PATIENCE_SECONDS,
    }  # fmt: skip

    def stand_in(line: Connection) -> None:
        try:
            code = load(by)(job, line.fileno())
        except Busy:
            code = NO_ROOM
        except LeptonError as error:
            line.send(("broke", error.to_dict()))
            code = 1
        sys.exit(code if 0 <= code < 256 else 1)

    return stand_in


def help_here(payload: Mapping[str, Any], handle: Handle) -> None:
    """Be the process on the other machine: take the one line, and do what comes over it."""
    asked = payload["asked"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:  # in a folder that only this user can enter
        made.bind(_MEET)
        made.listen(1)
        line = Connection(made.accept()[0].detach())
    more = {"processors": int(payload["cluster_processors"])}
    help_with(Tune.model_validate(asked["spec"]), asked["order"], asked["epochs"], handle, line, more)
