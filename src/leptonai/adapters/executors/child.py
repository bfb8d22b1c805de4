"""What a forked process does to become a job: leave its parent's world behind, then call the job's entry."""

import atexit
import contextlib
import ctypes
import faulthandler
import gc
import logging
import math
import os
import resource
import signal
import sys
import threading
import traceback
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from leptonai.core.nouns import Limits
from leptonai.core.stages import load

OUT_OF_MEMORY = 251  # the exit code by which a job tells its parent that it ran into the limit on memory
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_GIB = 1 << 30
_libc = ctypes.CDLL(None, use_errno=True)  # found before the fork: it costs a millisecond


def adopt_orphans() -> None:
    """Make this process the parent of every descendant whose own parent ends, so that none gets out of sight."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def leave(parent: int) -> None:
    """Start a session of one's own, and die when the parent dies, however it dies."""
    os.setsid()
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)
    with contextlib.suppress(OSError):  # when the machine's memory runs out, a job goes first, not who looks after it
        Path("/proc/self/oom_score_adj").write_text("500")


def reset_signals() -> None:
    """Handle every signal as a fresh Python does."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ}:
        with contextlib.suppress(OSError):  # the C library keeps two for itself
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def redirect(log: Path) -> None:
    """Read from nowhere; print to `log`, line by line."""
    null = os.open(os.devnull, os.O_RDONLY)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for source, target in ((null, 0), (out, 1), (out, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(out)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)  # type: ignore[union-attr]
    faulthandler.enable()  # a crash in native code says in the log where Python was


def limit(limits: Limits) -> None:
    """Set the limits that the kernel can hold; the fork server watches the whole family for the same limits.

    Memory: a guard against one huge allocation, which raises `MemoryError`. It counts address space that can be written,
    and libraries reserve more of that than they use, so it has slack; what is really used is watched from outside.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if limits.cpu_seconds is not None:
        seconds = math.ceil(limits.cpu_seconds) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 2))
    if limits.memory_mb is not None:
        wanted = limits.memory_mb << 20
        most = _data_size() + wanted + max(wanted, _GIB)
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _data_size() -> int:
    for line in Path("/proc/self/status").read_text("ascii", "replace").splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) << 10
    return 0


def reseed() -> None:
    """Give libraries that were loaded before the fork a seed of this process's own. Python's `random` does so itself."""
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()
    if torch := sys.modules.get("torch"):
        torch.default_generator.seed()  # not torch.seed(): that loads what GPUs need, for 3 ms


def call(entry: str, payload: Mapping[str, Any], limits: Limits) -> int:
    """Call the entry and return the exit code: 0, or 1 when it raised; the traceback goes to the log."""
    try:
        load(entry)(payload)
        return 0
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except MemoryError:
        traceback.print_exc()
        return 1 if limits.memory_mb is None else OUT_OF_MEMORY
    except BaseException:  # noqa: BLE001  # this is the outermost frame of a process
        traceback.print_exc()
        return 1


def finish() -> None:
    """Do what Python does at its end, but for taking modules down, which takes long and can crash."""
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads that are not daemons, as Python does
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


def forget() -> None:
    """Drop what the parent had registered for its own end, such as removing its temporary folders; collect garbage again.

    What the parent froze of its objects stays out of the collector's sight, and so stays shared.
    """
    atexit._clear()
    weakref.finalize._registry.clear()  # type: ignore[attr-defined]
    weakref.finalize._registered_with_atexit = False  # type: ignore[attr-defined]
    atexit.register(logging.shutdown)
    if multiprocessing := sys.modules.get("multiprocessing.util"):  # as its own children do
        multiprocessing._finalizer_registry.clear()
        atexit.register(multiprocessing._exit_function)
    gc.enable()
