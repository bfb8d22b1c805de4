"""Runs on a Ray cluster: a job of several processes is carried out by Ray Train, one that others meet only by its sockets is placed on
any node, and any other one is a process of this machine.

``ray:auto`` is the cluster that this machine is a node of, ``ray:HOST:PORT`` the one with this head, ``ray:local`` one that each job
starts for itself on this machine. The job's process here, the driver, asks Ray for the workers and ends with them; when it is
stopped or killed, Ray ends what it started.
"""

import json
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

from leptonai.adapters.executors.local import LocalExecutor
from leptonai.core.errors import FieldError, Invalid
from leptonai.core.nouns import Limits
from leptonai.core.ports import Exit, Job

WHY = "why.txt"  # in the job's folder: a sentence of the driver's that ends the Run, where trying again is of no use
ENDED = "ended.json"  # in the folder of a placed job: how it ended
_DRIVER = "leptonai.adapters.executors.ray_driver:main"
_STAND_IN = "leptonai.adapters.executors.ray_place:stand_in"
_HAND_OVER = "leptonai.adapters.executors.ray_place:hand_over"
_PATIENCE_SECONDS = 20.0  # for a node to have a processor free, while others can do what is to be done


def address_of(url: str) -> str:
    """Return what Ray calls the cluster: "auto", "local", or HOST:PORT. Raises `Invalid`."""
    found = url.removeprefix("ray:")
    host, colon, port = found.rpartition(":")
    if found in ("auto", "local") or (colon and host and port.isdigit() and "/" not in host):
        return found
    right = "ray:auto, ray:local or ray:HOST:PORT, with the port of the head's GCS, such as ray:10.0.0.5:6379"
    raise Invalid(f"setting executor is {url!r}: use {right}", errors=[FieldError("executor", right)])


class RayExecutor:
    """An `Executor` that takes jobs of several processes, and those that can be anywhere, to a Ray cluster. Thread-safe."""

    def __init__(self, url: str = "ray:auto") -> None:
        self._address = address_of(url)
        # Ray reads this when it is imported. Of a cluster that a job has for itself, nobody else knows the token.
        own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self._local = LocalExecutor(own if self._address == "local" else {})
        self._folders: dict[str, Path] = {}

    @property
    def elsewhere(self) -> bool:
        """Whether a job may be on another machine: then this one's processors and memory are not what bounds such jobs."""
        return self._address != "local"

    def warm(self, flavour: str) -> None:
        """Load the libraries of a flavour ahead, in the background. Raises `Unavailable`."""
        self._local.warm(flavour)

    def start(self, job: Job) -> None:
        """Start a job. Raises `Unavailable` when that cannot be done, `Conflict` while one with this id runs."""
        if job.meets and self.elsewhere:
            (job.folder / ENDED).unlink(missing_ok=True)
            payload = self._facts(job)
            self._local.start(replace(job, entry=_STAND_IN, payload=payload, flavour="ray", limits=Limits()))
            self._folders[job.id] = job.folder
            return
        if job.workers == 1:
            place = {"place": self._placing()} if self.elsewhere else {}
            self._local.start(replace(job, payload={**job.payload, **place}))
            return
        payload = {"entry": job.entry, "payload": job.payload, "workers": job.workers, "address": self._address}
        self._local.start(replace(job, entry=_DRIVER, payload=payload, flavour="ray"))
        self._folders[job.id] = job.folder

    def poll(self, id: str) -> Exit | None:
        """Say how a job ended, or None while it runs. Raises `NotFound` on one that was never started."""
        found = self._local.poll(id)
        if found is None or id not in self._folders:
            return found
        folder = self._folders.pop(id)
        if (ended := folder / ENDED).exists():
            return Exit(*json.loads(ended.read_text("utf-8")))
        why = folder / WHY
        return Exit(found.code, why.read_text("utf-8")) if found.code and why.exists() else found

    def _placing(self) -> dict[str, Any]:
        """Return what a job is given to place others: a function's name, a library to load ahead, and a fact for it beside those of
        the job to be placed.
        """
        return {"by": _HAND_OVER, "ahead": "ray", "address": self._address}

    def _facts(self, job: Job) -> dict[str, Any]:
        return {
            "address": self._address,
            "patience_seconds": _PATIENCE_SECONDS,
            "stops": True,
            "processors": int(job.environment.get("OMP_NUM_THREADS", 1)),
            "entry": job.entry,
            "payload": job.payload,
            "flavour": job.flavour,
            "limits": job.limits.model_dump(),
            "environment": dict(job.environment),
            "meets": list(job.meets),
            "mirrors": dict(job.mirrors),
        }

    def stop(self, id: str, grace_seconds: float = 5.0) -> None:
        """Ask the job to end (SIGTERM), and have it killed with all of its children after the grace. Returns at once."""
        self._local.stop(id, grace_seconds)

    def logs(self, id: str) -> str:
        """Return what the job printed since the last call, at most 1 MiB; ask again for more."""
        return self._local.logs(id)

    def close(self) -> None:
        """Stop all jobs and the processes kept warm for them."""
        self._local.close()
