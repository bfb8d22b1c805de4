"""The agent of Site home: started with the server, started again when it dies, gone when the server is gone."""

import contextlib
import subprocess
import sys
import threading
import time
from pathlib import Path

from leptonai.core import settings
from leptonai.server.guard import log

_STOP_SECONDS = 2.8
_PAUSE_SECONDS = 1.0


class AgentProcess:
    """One agent process. Its standard input is a pipe that closes when this process ends, however it ends.

    It is started by threads that live as long as this process: the kernel takes the end of the thread that started a child
    for the end of its parent (PR_SET_PDEATHSIG).
    """

    def __init__(self, home: Path, url: str, token: str):
        self._home = home
        self._environment = settings.environment(LEPTONAI_HOST=url, LEPTONAI_API_KEY=token, LEPTONAI_HOME=str(home))
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start it, and keep it."""
        self._thread = threading.Thread(target=self._keep, name="agent-watch", daemon=True)
        self._thread.start()

    def _keep(self) -> None:
        while True:
            with self._lock:
                if self._stopping.is_set():
                    return
                process = self._process = self._launch()
            start = time.monotonic()
            code = process.wait()
            self._close(process)
            if self._stopping.is_set():
                return
            log.warning(
                "the agent ended with %s; it is started again (see %s)", code, self._home / "logs" / "agent.log"
            )
            if self._stopping.wait(_PAUSE_SECONDS if time.monotonic() - start > 10 else 2 * _PAUSE_SECONDS):
                return

    def _launch(self) -> "subprocess.Popen[bytes]":
        with (self._home / "logs" / "agent.log").open("ab") as out:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "leptonai.agent"],
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def _close(self, process: "subprocess.Popen[bytes]") -> None:
        with contextlib.suppress(OSError):
            if process.stdin is not None:
                process.stdin.close()

    def stop(self) -> None:
        """Stop it: politely, then for good. Returns when it is gone."""
        self._stopping.set()
        with self._lock:
            process = self._process
        if process is not None:
            self._close(process)
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                log.warning("the agent did not stop within %g s; it is killed", _STOP_SECONDS)
                process.kill()
                process.wait()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_STOP_SECONDS)
