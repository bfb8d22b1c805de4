"""Keeps the serving plane told which keys may call it: the server says so, and again when a key is made or revoked.

While the server is away the last table holds; keys that end at a set time end all the same.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from leptonai.core.errors import LeptonError
from leptonai.sdk.http import Http

WAIT_SECONDS = 20.0

Table = list[list[Any]]  # as `serving.plane.keys.Keys.update` reads it

_log = logging.getLogger(__name__)


class KeyWatch:
    """Asks the server for the keys of a Site and hands each table to `tell`. `run` is the loop of one thread."""

    def __init__(self, site: str, http: Http, tell: Callable[[Table], None], stopping: threading.Event):
        self._path = f"/sites/{site}/keys"
        self._http = http
        self._tell = tell
        self._stopping = stopping

    def run(self) -> None:
        """Ask until the agent stops."""
        fingerprint, pause = "", 0.1
        while not self._stopping.is_set():
            asked = {"after": fingerprint or None, "wait": WAIT_SECONDS}
            try:
                answer = self._http.call("GET", self._path, params=asked, timeout=WAIT_SECONDS + 15)
            except LeptonError as error:
                _log.warning("keys: %s", error.message)
                self._stopping.wait(pause)
                pause = min(pause * 2, 2.0)
                continue
            pause = 0.1
            if answer["fingerprint"] != fingerprint:
                fingerprint = answer["fingerprint"]
                self._tell([line(key) for key in answer["keys"]])


def line(key: Mapping[str, Any]) -> list[Any]:
    """Return the line of a plane's table for a key as the server tells of it: end in seconds of the wall clock."""
    ends = key["expires"]
    return [
        key["check"],
        key["name"],
        key["services"],
        ends and datetime.fromisoformat(ends).timestamp(),
        key.get("metrics", False),
    ]
