"""A stage whose Runs do what a test asks of them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from leptonai.core.errors import Corrupt, Invalid
from leptonai.core.nouns import Frozen
from leptonai.core.stages import Desk, Handle, Plan


class Probe(Frozen):
    do: str
    path: str = ""
    seconds: float = 60.0


def prepare(spec: Probe, desk: Desk) -> Plan:
    return Plan(spec.model_dump(), (), name=spec.do)


def work(spec: Probe, handle: Handle) -> dict[str, Any]:
    return globals()[f"do_{spec.do}"](spec, handle) or {"done": spec.do}


def do_nothing(spec: Probe, handle: Handle) -> None:
    pass


def do_talk(spec: Probe, handle: Handle) -> None:
    for step in range(5):
        handle.log(step, loss=1.0 / (step + 1), odd=float("nan"))
        handle.progress(step + 1, 5, "steps")
        print(f"printed {step}")
    handle.say("said")
    os.write(2, b"no newline at the end \xff")


def do_flood(spec: Probe, handle: Handle) -> None:
    for i in range(20_000):
        print(f"line {i}")
    print("x" * 100_000)


def do_invalid(spec: Probe, handle: Handle) -> None:
    raise Invalid("column 'a' does not fit")


def do_corrupt(spec: Probe, handle: Handle) -> None:
    with Path(spec.path).open("a") as file:
        file.write("x")
    raise Corrupt("blob 1 is damaged")


def do_bug(spec: Probe, handle: Handle) -> None:
    {}["nothing"]


def do_exit(spec: Probe, handle: Handle) -> None:
    print("last words")
    sys.exit(3)


def do_hard_exit(spec: Probe, handle: Handle) -> None:
    print("hard words")
    os._exit(3)


def do_not_json(spec: Probe, handle: Handle) -> dict[str, Any]:
    return {"a": float("inf")}


def do_crash_once(spec: Probe, handle: Handle) -> dict[str, Any]:
    """Save, then die by SIGKILL on the first attempt; go on from what was saved on the second."""
    saved = handle.restore()
    if saved is None:
        for state in (b"first", b"second", b"third"):
            handle.save({"state": state, "more": bytes(300_000)})
        print("about to die")
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"state": saved["state"].decode(), "more": len(saved["more"])}


def do_damaged_once(spec: Probe, handle: Handle) -> dict[str, Any]:
    """Save twice, lose the last, die; go on from the one before."""
    saved = handle.restore()
    if saved is None:
        before: set[str] = set()
        for state in (b"first", b"second"):
            before = {blob.id for blob in handle.raw.list()}
            handle.save({"state": state})
        for blob in {blob.id for blob in handle.raw.list()} - before:
            handle.raw.delete(blob)
        os.kill(os.getpid(), signal.SIGKILL)
    return {"state": saved["state"].decode()}


def do_segfault(spec: Probe, handle: Handle) -> None:
    import ctypes

    ctypes.string_at(0)


def do_sleep(spec: Probe, handle: Handle) -> None:
    Path(spec.path).write_text(str(os.getpid()))
    until = time.monotonic() + spec.seconds
    while time.monotonic() < until:
        time.sleep(0.05)


def do_stubborn(spec: Probe, handle: Handle) -> None:
    """Swallow what asks it to stop, and have a child."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    do_sleep(spec, handle)


def do_swallow(spec: Probe, handle: Handle) -> None:
    Path(spec.path).write_text(str(os.getpid()))
    for _ in range(1200):
        try:
            time.sleep(0.05)
        except Exception as error:  # user code is like that
            print(error)


def do_secrets(spec: Probe, handle: Handle) -> dict[str, Any]:
    return {
        "environment": sorted(os.environ),
        "key": [v for v in os.environ.values() if v.startswith(("lat_", "lepton_"))],
    }
