"""Kills processes that write to a SQLite catalog; run as a process of its own, which loads everything once and then forks.

    python -m tests.adapters.catalog.crasher write FOLDER KILLS     writers on one catalog, one after the other
    python -m tests.adapters.catalog.crasher open FOLDER KILLS      each opens a catalog that is not there yet

Each writer notes in FOLDER/acked what it was told is kept. Prints how many were killed at work.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import alembic.command  # noqa: F401  loaded before the first fork

from leptonai.adapters.catalog.sql import SqlCatalog
from leptonai.core.nouns import Audit, Event, utcnow
from leptonai.core.states import RunState
from leptonai.testing.catalog import run


def write(url: str, folder: Path) -> None:
    """Write for ever: each transaction holds two things that belong together."""
    catalog, acked = SqlCatalog(url), os.open(folder / "acked", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    while True:
        record = run(spec={"x": "y" * random.choice((10, 9000))})
        catalog.add(record, Audit.new(subject=record.id))
        os.write(acked, f"{record.id} 1\n".encode())
        catalog.change(record, add=(Audit.new(subject=record.id),))
        os.write(acked, f"{record.id} 2\n".encode())
        claimed = catalog.claim("home", "a", 1e6, utcnow(), "t")  # no lease runs out here
        if claimed is not None:
            catalog.append(claimed.id, claimed.epoch, [Event(stream="log", body={"line": str(i)}) for i in range(5)])
            ended = claimed.model_copy(update={"state": RunState.SUCCEEDED})
            catalog.change(
                ended, add=[Audit.new(subject=claimed.id) for _ in range(2)]
            )  # also for the claim's revision


def kill_one(do: str, folder: Path, number: int, longest: float) -> bool:
    """Fork one, kill it after a while; say whether it was still at work."""
    url = f"sqlite:///{folder / ('catalog.sqlite' if do == 'write' else f'{number}.sqlite')}"
    pid = os.fork()
    if pid == 0:
        try:
            if do == "write":
                write(url, folder)
            SqlCatalog(url).close()
        finally:
            os._exit(0)
    time.sleep(random.uniform(0, longest))
    os.kill(pid, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


def main(do: str, folder: Path, kills: int) -> None:
    url = f"sqlite:///{folder / ('catalog.sqlite' if do == 'write' else 'measure.sqlite')}"
    if do == "write":  # the tables are there: a busy machine does not make them before it kills
        SqlCatalog(url).close()
    start = time.monotonic()
    SqlCatalog(url).close()  # how long opening takes here and now
    took = time.monotonic() - start
    longest = 1.2 * took if do == "open" else min(1.5, max(0.15, 40 * took))
    print(sum(kill_one(do, folder, number, longest) for number in range(kills)))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
