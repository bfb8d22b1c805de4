"""The `lepton` command as a process of its own, the way a shell starts it, and a server kept up by it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.site import until

from leptonai.core import settings


class Lepton:
    """The command in a folder of a user's: its home, its settings, and what it said last."""

    def __init__(self, folder: Path, **variables: str):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.home = folder / "home"
        given = {"HOME": str(folder), "LEPTONAI_HOME": str(self.home), "LEPTONAI_WARM": "none", "COLUMNS": "120"}
        self.environment = settings.environment(**{**given, **variables})
        for name in ("LEPTONAI_HOST", "LEPTONAI_API_KEY", "LEPTONAI_DATABASE_URL", "LEPTONAI_STORE_URL"):
            if name not in variables:
                self.environment.pop(name, None)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command and return its process."""
        return subprocess.Popen(
            [sys.executable, "-m", "leptonai.cli", *arguments],
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """Run a command to its end and return what it printed: stdout, or stderr where it was to fail."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=300)
        assert process.returncode == code, f"lepton {' '.join(arguments)} ended with {process.returncode}: {out}\n{err}"
        assert "Traceback" not in err, err
        return err if code else out

    def json(self, *arguments: str) -> Any:
        """Run a command and return what it printed as JSON."""
        return json.loads(self(*arguments, "-o", "json"))

    def stopped(self, *arguments: str, when: Callable[[int], object]) -> tuple[int, str]:
        """Start a command, press Ctrl-C once `when` (asked with its process id) says so; return exit code and words."""
        process = self.start(*arguments)
        try:
            end = time.monotonic() + 120
            while not when(process.pid):
                if process.poll() is not None or time.monotonic() > end:
                    break
                time.sleep(0.005)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()
        assert "Traceback" not in err, err
        return process.returncode, out + err

    @contextmanager
    def up(self, *arguments: str) -> Iterator["Up"]:
        """Keep a server up with `lepton up`, as long as the block runs."""
        server = Up(self, arguments)
        try:
            server.wait()
            yield server
        finally:
            server.down()


class Up:
    """A server that `lepton up` keeps: its URL, and the admin key that it showed at its first start."""

    def __init__(self, lepton: Lepton, arguments: tuple[str, ...]):
        self.lepton = lepton
        self.said = lepton.folder / f"up-{time.monotonic_ns()}.txt"
        with self.said.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "leptonai.cli", "up", "--port", "0", *arguments],
                env=lepton.environment,
                cwd=lepton.folder,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )

    def wait(self) -> None:
        """Return once it answers."""

        def look() -> re.Match[str] | None:
            words = self.said.read_text()
            assert self.process.poll() is None, words
            return re.search(r"Ctrl-C stops it", words) and re.search(r"^https?://\S+$", words, re.MULTILINE)

        self.url = until(look, 60).group()
        shown = re.search(r"^ +(lepton_\S+)$", self.said.read_text(), re.MULTILINE)
        self.key = shown.group(1) if shown else ""
        self.pid = int(json.loads((self.lepton.home / "server.json").read_text())["pid"])

    def kill(self) -> None:
        """Kill the server itself, as a power cut would; `lepton up` then ends too."""
        os.kill(self.pid, signal.SIGKILL)
        self.process.wait(30)

    def down(self) -> None:
        """Press Ctrl-C."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
