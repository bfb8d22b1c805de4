"""Imports, and appends, that die at the n-th call to the operating system, each followed by a second attempt.

    python -m tests.support.import_crasher FOLDER STEP

For n = 1, 1 + STEP, … a forked child imports a table and appends rows to it, and is killed (SIGKILL) just before its n-th call;
another child does the same again in the same folder, as the next attempt of a Run does. It ends with the first n that no child
reaches, and prints what each second attempt made: a line of JSON with the digests, and whether all rows are right.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from tests.support.crasher import count
from tests.support.imports import Importer

from leptonai.core.nouns import Dataset
from leptonai.data import version
from leptonai.data.spec import Import
from leptonai.data.work import import_files

ROWS = 500
FIRST = "n,word,y\n" + "".join(f"{i},w{i % 7},{i % 2}\n" for i in range(ROWS))
MORE = "n,word,y\n" + "".join(f"{i},v{i % 3},{i % 2}\n" for i in range(ROWS, ROWS + 150))


class _Base:
    """What a Run's handle gives for the version that rows are appended to."""

    def __init__(self, dataset: Dataset):
        self.dataset = dataset


def work(folder: Path) -> dict[str, Any]:
    """Import and append; return the digests and whether the rows are those of the files."""
    version._SAVED_EVERY = 1  # a checkpoint after each shard
    first = Importer(folder / "first")
    made = first.made([first.source("a.csv", FIRST.encode())], shard_rows=60)
    second = Importer(folder / "first")
    second.handle.folder = folder / "second"  # another Run: its checkpoints are its own
    second.handle.folder.mkdir(exist_ok=True)
    second.handle.data = lambda ref, **_: _Base(made)  # type: ignore[method-assign, assignment, return-value]
    spec = Import(name="made", files=(second.source("b.csv", MORE.encode()),), base="datasets:/made@v1", shard_rows=60)
    grown = made.model_copy(update={**import_files(spec, second.handle), "version": 2})
    fields = {name: getattr(grown, name) for name in ("digest", "rows", "columns", "manifest", "shards")}
    whole = Dataset.new(name="made", version=2, bytes=0, target="y", **fields)
    rows = second.open(whole).read()
    right = rows["n"].tolist() == list(range(ROWS + 150)) and second.open(made).read()["n"].tolist() == list(
        range(ROWS)
    )
    return {"first": made.digest, "second": whole.digest, "right": right, "shared": whole.shards[:9] == made.shards}


def child(folder: Path, at: int | None) -> None:
    if at is not None:
        count(at, lambda _: os.kill(os.getpid(), signal.SIGKILL))
    found = work(folder)
    if at is None:
        print(json.dumps(found), flush=True)


def main(folder: Path, step: int) -> None:
    at = 1
    while True:
        for kill in (at, None):
            pid = os.fork()
            if pid == 0:
                child(folder / str(at), kill)
                os._exit(0)
            _, status = os.waitpid(pid, 0)
            if kill is not None and os.WIFEXITED(status):
                print(json.dumps({"calls": at}), flush=True)
                return
        at += step


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
