"""Since when requests are computed and nothing came of any of them: written down where the agent reads it (`serving.pulse`).

A token of any chat, or the end of any request, is a sign of life of all of them: they are computed in one batch.
"""

import threading
import time

from leptonai.serving.pulse import Pulse


class Beat:
    """The worker's end. Used by the threads of all slots."""

    def __init__(self, pulse: Pulse):
        self._pulse = pulse
        self._lock = threading.Lock()
        self._running = 0
        self._since = 0.0

    def begins(self) -> None:
        """Say that a request is computed from now on."""
        self._change(1)

    def came(self) -> None:
        """Say that a piece of an answer came."""
        self._change(0)

    def ends(self) -> None:
        """Say that a request is computed no more."""
        self._change(-1)

    def _change(self, by: int) -> None:
        with self._lock:
            if by <= 0 or self._running == 0:  # a request that joins others is no sign that they go on
                self._since = time.monotonic()
            self._running += by
            if by <= 0:
                self._pulse.did()
            self._pulse.pieces(self._since if self._running else None, self._running)
