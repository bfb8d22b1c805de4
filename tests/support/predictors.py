"""Services that users could write, good and bad, and their workers beside a real plane."""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

from tests.support.bundles import Bundle, record
from tests.support.plane import Plane

from leptonai.adapters.executors.local import LocalExecutor
from leptonai.adapters.frameworks.packing import by_value
from leptonai.agent.native_process import NativeProcess
from leptonai.serving.predictor import FILES, WRITTEN, Predictor, signature_of, work_of
from leptonai.serving.workers import KEY


class Doubler(Predictor):
    """Doubles numbers; certain ones make it misbehave as users' code may."""

    inputs: ClassVar = {"x": float}
    outputs: ClassVar = {"y": float, "pid": int, "rows": int}
    seconds = 2.0

    def predict(self, batch: dict[str, Any]) -> Any:
        x = batch["x"]
        if (x == -1).any():
            raise ValueError("a secret in the words of the error")
        if (x == -2).any():
            os._exit(3)
        if (x == -3).any():
            while True:
                pass
        if (x == -4).any():
            held = []
            while True:
                held.append(b"x" * 20_000_000)
                time.sleep(0.01)  # the limit is watched, and what it is about is to be seen
        if (x == -5).any():
            os.abort()
        if (x == -6).any():
            return {"y": [1.0]}
        if (x == -7).any():
            os.ftruncate(os.open("pulse", os.O_RDWR), 0)
        if (x > 1000).any():
            time.sleep(float(x.max()) / 1e6)
        return {"y": x * 2, "pid": [os.getpid()] * len(x), "rows": [len(x)] * len(x)}


class Teller(Predictor):
    """Tells a story word by word, from a file that came with it."""

    inputs: ClassVar = {"text": str, "pause": float}

    def load(self, context: Any) -> None:
        self.prefix = context.path("words/prefix.txt").read_text()
        self.notes = Path(context.options["notes"])

    def stream(self, row: dict[str, Any]) -> Iterator[Any]:
        try:
            for number, word in enumerate(row["text"].split()):
                if word == "FAIL":
                    raise ValueError("a secret in the words of the error")
                if word == "DIE":
                    os._exit(1)
                yield {"word": self.prefix + word, "number": number}
                time.sleep(row["pause"])
        finally:
            with self.notes.open("a") as file:
                file.write("closed\n")


class Mute(Predictor):
    """Would tell a story too, and cannot."""

    inputs: ClassVar = {"text": str, "pause": float}

    def stream(self, row: dict[str, Any]) -> Iterator[Any]:
        if "late" in row["text"]:
            yield {"word": "mute"}
        raise ValueError("a secret in the words of the error")


def packed(made: object, name: str, files: dict[str, bytes] | None = None, **work: Any) -> Bundle:
    """Return a version of a class, as publishing makes it."""
    options = work.pop("options", {})
    about = {"python": list(sys.version_info[:2]), "requirements": [], "options": options}
    contents = {
        "code": by_value(made, "the class"),
        "predictor.json": json.dumps(about).encode(),
        **{FILES + name: data for name, data in (files or {}).items()},
    }
    lineage = {KEY: asdict(work_of(made, **work))}
    model = record(name, 1, signature_of(made), contents, **lineage)
    return model.model_copy(update={"framework": WRITTEN, "files": {name: name for name in contents}}), contents


class Pool:
    """The workers of a version, as an agent holds them."""

    def __init__(self, executor: LocalExecutor, folder: Path, bundle: Bundle):
        self.model, files = bundle
        parts = {name: files[name] for name in ("code", "predictor.json")}
        self.workers = NativeProcess(
            executor, self.model, parts, folder / self.model.name, lambda blob: BytesIO(files[blob]), folder / "logs"
        )

    def pids(self) -> list[int]:
        """Return the processes that work in the folders of the workers."""
        found = []
        for process in Path("/proc").iterdir():
            if process.name.isdigit():
                try:
                    where = (process / "cwd").readlink()
                except OSError:
                    continue
                if where.parent == self.workers.path and where.name.startswith("w"):
                    found.append(int(process.name))
        return sorted(found)


class Shop:
    """A real plane, and workers beside it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.plane = Plane(folder)
        self.executor = LocalExecutor()
        self.pools: list[Pool] = []

    def serve(self, bundle: Bundle) -> Pool:
        """Start the workers of a version, and have the plane serve it."""
        pool = Pool(self.executor, self.folder, bundle)
        self.pools.append(pool)
        pool.workers.start()
        self.plane.process.load(pool.model, {}, pool.workers.path)
        self.plane.table[pool.model.name] = pool.model.id
        self.plane.load()
        return pool

    def close(self) -> None:
        self.plane.close()
        for pool in self.pools:
            pool.workers.close()
        self.executor.close()


@contextmanager
def shop(folder: Path) -> Iterator[Shop]:
    made = Shop(folder)
    try:
        yield made
    finally:
        made.close()
