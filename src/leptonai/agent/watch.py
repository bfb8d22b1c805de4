"""Hears what the server wants of a Site: it is asked again and again, and each time answers when something changed.

While the server is away what was heard last holds.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from leptonai.core.errors import LeptonError
from leptonai.sdk.http import Http

WAIT_SECONDS = 20.0
LONGEST_PAUSE = 2.0  # seconds between two tries while the server is away

_log = logging.getLogger(__name__)


class Watch:
    """Asks for one thing of a Site (``services``, ``keys``) and hands each new answer to `tell`. `run` is a thread's loop."""

    def __init__(
        self, site: str, what: str, http: Http, tell: Callable[[Mapping[str, Any]], None], stopping: threading.Event
    ):
        self._what = what
        self._path = f"/sites/{site}/{what}"
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
                _log.warning("%s: %s", self._what, error.message)
                self._stopping.wait(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            pause = 0.1
            if answer["fingerprint"] != fingerprint:
                fingerprint = answer["fingerprint"]
                self._tell(answer)
