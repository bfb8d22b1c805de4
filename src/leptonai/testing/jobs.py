"""What the contract tests of `Executor` have a job do. They need nothing but leptonai itself."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from leptonai.core import settings


def note(payload: dict[str, Any]) -> None:
    """Write what the process is to a file, for the test to read."""
    facts = {
        "pid": os.getpid(),
        "session": os.getsid(0),
        "folder": str(Path.cwd()),
        "payload": payload,
        "environment": {name: settings.variable(name) for name in payload.get("ask", ())},
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "random": random.random(),  # noqa: S311  # to be compared, not to be secret
        "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
        "term": signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
        "blocked": len(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "modules": sorted(sys.modules),
        "time": time.time(),
    }
    if "numpy" in sys.modules:
        facts["numpy"] = sys.modules["numpy"].random.random()
    Path("note.tmp").write_text(json.dumps(facts))
    Path("note.tmp").rename("note.json")


def say(payload: dict[str, Any]) -> None:
    for line in payload["lines"]:
        print(line)
    print("to stderr", file=sys.stderr)
    subprocess.run(["echo", "from a child"], check=True)


def sleep(payload: dict[str, Any]) -> None:
    Path("begun").touch()
    time.sleep(payload.get("seconds", 60))


def fail(_: dict[str, Any]) -> None:
    raise RuntimeError("on purpose")


def leave(payload: dict[str, Any]) -> None:
    raise SystemExit(payload["code"])


def crash(_: dict[str, Any]) -> None:
    os.abort()


def stubborn(_: dict[str, Any]) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path("begun").touch()
    time.sleep(60)


def polite(_: dict[str, Any]) -> None:
    def end(*__: object) -> None:
        print("goodbye")
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, end)
    Path("begun").touch()
    time.sleep(60)


def family(payload: dict[str, Any]) -> None:
    """Have a child, a grandchild, and one that has gone into a session of its own, all deaf to SIGTERM; write their pids."""
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(120)"
    middle = (
        "import subprocess, sys, time\n"
        f"a = subprocess.Popen([sys.executable, '-c', {code!r}])\n"
        f"b = subprocess.Popen([sys.executable, '-c', {code!r}], start_new_session=True)\n"
        "print(a.pid, b.pid, flush=True)\n"
        "time.sleep(120)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", middle], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pids = [os.getpid(), process.pid, *map(int, process.stdout.readline().split())]
    Path("pids.tmp").write_text(" ".join(map(str, pids)))
    Path("pids.tmp").rename("pids")
    if payload.get("end"):
        time.sleep(payload["end"])
        return
    time.sleep(120)


def eat(payload: dict[str, Any]) -> None:
    """Use more and more memory, itself or in a child."""
    if payload.get("in_child"):
        subprocess.run([sys.executable, "-c", "from leptonai.testing.jobs import eat; eat({})"], check=True)
        return
    kept = []
    while True:
        kept.append(bytearray(os.urandom(1 << 20)) * 16)
        time.sleep(0.01)


def gulp(payload: dict[str, Any]) -> None:
    """Ask for a lot of memory at once."""
    print(len(bytearray(payload["bytes"])))


def spin(payload: dict[str, Any]) -> None:
    """Use processor time, itself or in two children."""
    if payload.get("in_child"):
        code = "from leptonai.testing.jobs import spin; spin({})"
        for process in [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]:
            process.wait()
        return
    if payload.get("deaf"):
        signal.signal(signal.SIGXCPU, signal.SIG_IGN)
    while True:
        pass


def letters(_: dict[str, Any]) -> None:
    """Print text of two-byte letters, cut in the middle of one."""
    data = ("é" * 1000 + "\n").encode()
    os.write(1, data[:999])
    Path("begun").touch()
    while not Path("go").exists():
        time.sleep(0.005)
    os.write(1, data[999:])
