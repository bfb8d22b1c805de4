"""The agent of Site home: started with the server, started again when it dies, gone when the server is gone."""

import subprocess
import sys
import threading
from pathlib import Path

from leptonai.core import settings
from leptonai.server.guard import log

_STOP_SECONDS = 4.0


class AgentProcess:
    """One agent process. Its standard input is a pipe that closes when this process ends, however it ends."""

    def __init__(self, home: Path, url: str, token: str):
        self._home = home
        self._environment = settings.environment(LEPTONAI_HOST=url, LEPTONAI_API_KEY=token, LEPTONAI_HOME=str(home))
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start it, and keep it."""
        self._launch()
        self._thread = threading.Thread(target=self._watch, name="agent-watch", daemon=True)
        self._thread.start()

    def _launch(self) -> None:
        with (self._home / "logs" / "agent.log").open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "leptonai.agent"],
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def _watch(self) -> None:
        while not self._stopping.is_set():
            process = self._process
            if process is not None:
                code = process.wait()
                if process.stdin is not None:
                    process.stdin.close()
                if self._stopping.is_set():
                    return
                log.warning("the agent ended with %s; it is started again", code)
            if self._stopping.wait(1.0):
                return
            self._launch()

    def stop(self) -> None:
        """Stop it: politely, then for good."""
        self._stopping.set()
        process = self._process
        if process is None:
            return
        if process.stdin is not None and not process.stdin.closed:
            process.stdin.close()
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._thread is not None:
            self._thread.join(_STOP_SECONDS)
