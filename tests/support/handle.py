"""A Handle for tests: real stores in a folder, real sealing; only the server is not there.

What a Run leaves (checkpoint, events, keys) lies in files, so that a process that was killed can be followed by another.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from leptonai.adapters.stores.local import LocalStore
from leptonai.adapters.stores.sealed import SealedStore
from leptonai.core.errors import NotFound
from leptonai.core.nouns import Column, Dataset, Run
from leptonai.core.ports import DataKey
from leptonai.core.signature import FeatureType
from leptonai.core.stages import PREDICTOR, Shuffle, load
from leptonai.core.states import RunState


class FileKeyring:
    """Data keys in a file, one a line. Only for tests: they lie there in the clear."""

    def __init__(self, path: Path):
        self.path = path

    def bind(self, blob: str, key: DataKey, size: int, plain: str) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps([blob, key.uid, key.secret.hex()]) + "\n")

    def find(self, blob: str) -> DataKey:
        for line in self.path.read_text().splitlines() if self.path.exists() else ():
            found, uid, secret = json.loads(line)
            if found == blob:
                return DataKey(uid, bytes.fromhex(secret))
        raise NotFound(f"no key for blob {blob}")


class ArrayReader:
    """A `core.stages.Reader` over NumPy arrays."""

    def __init__(self, columns: Sequence[Column], data: Mapping[str, Any], target: str | None, name: str = "made"):
        self.columns = tuple(columns)
        self.target = target
        self._data = dict(data)
        self.rows = len(next(iter(data.values())))
        self.dataset = Dataset.new(
            name=name,
            version=1,
            digest="0" * 64,
            rows=self.rows,
            bytes=0,
            columns=self.columns,
            target=target,
            manifest="m",
        )

    def read(self, columns: tuple[str, ...] | None = None) -> dict[str, Any]:
        return {name: self._data[name] for name in columns or self._data}

    def batches(
        self,
        size: int,
        *,
        columns: tuple[str, ...] | None = None,
        shuffle: Shuffle | None = None,
        epoch: int = 0,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> Iterator[dict[str, Any]]:
        order = np.arange(self.rows) if shuffle is None else self.order(shuffle, epoch)
        order = order[rank * (self.rows // world) :][: self.rows // world]
        for at in range(start, len(order), size):
            yield {name: self._data[name][order[at : at + size]] for name in columns or self._data}

    def window(self, columns: tuple[str, ...] | None = None) -> int:
        return 0

    def order(self, shuffle: Shuffle, epoch: int) -> Any:
        return np.random.default_rng([shuffle.seed, epoch]).permutation(self.rows)


def reader_of(data: Mapping[str, Any], target: str | None, **types: str) -> ArrayReader:
    """Make a reader; types are told from the arrays unless given."""
    return ArrayReader([column_of(name, values, types.get(name)) for name, values in data.items()], data, target)


def column_of(name: str, values: Any, kind: str | None = None) -> Column:
    values = np.asarray(values)
    if kind is None:
        kind = {"f": "number", "i": "integer", "u": "image", "b": "boolean", "O": "category", "M": "datetime"}[
            values.dtype.kind
        ]
        if values.ndim > 1 and kind != "image":
            kind = "tensor"
    known: tuple[str | int, ...] = ()
    if kind == "category":
        known = tuple(sorted({v for v in values.tolist() if v is not None and v == v}))
    dtype = "str" if values.dtype.kind == "O" else str(values.dtype)
    return Column(name=name, type=FeatureType(kind), shape=values.shape[1:], dtype=dtype, categories=known)


class FileHandle:
    """A `core.stages.Handle` whose Run lives in a folder."""

    def __init__(
        self,
        folder: Path,
        stage: str = "train",
        datasets: Mapping[str, ArrayReader] | None = None,
        runs: Sequence[Run] = (),
    ):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.run = Run.new(name="test", stage=stage, spec={}, state=RunState.RUNNING)
        self.raw = LocalStore(folder / "blobs")
        self.cache = folder / "cache"
        self.place: Mapping[str, Any] | None = None
        self.blobs = self.pii = SealedStore(self.raw, FileKeyring(folder / "keys"))
        self.datasets = dict(datasets or {})
        self.runs = {run.id: run for run in runs}
        self.lines: list[str] = []
        self.metrics: list[tuple[int, dict[str, float]]] = []
        self.shown: list[tuple[float, float, str]] = []
        self.saves = 0

    def twin(self) -> "FileHandle":
        return self

    def data(self, ref: str, *, mask: bool = False) -> ArrayReader:
        return self.datasets[ref]

    def pepper(self, dataset: str) -> bytes:
        return dataset.encode().ljust(32)

    def get(self, run: str) -> Run:
        return self.runs[run]

    def model(self, run: str) -> Any:
        return load(PREDICTOR)(self.get(run), self)

    def log(self, step: int, **metrics: float) -> None:
        self.metrics.append((step, metrics))

    def say(self, line: str) -> None:
        self.lines.append(line)

    def progress(self, done: float, total: float, unit: str) -> None:
        self.shown.append((done, total, unit))

    def note(self, *entries: Mapping[str, Any]) -> None:
        with (self.folder / "journal").open("a") as file:
            file.write("".join(json.dumps(entry, allow_nan=False) + "\n" for entry in entries))

    def noted(self) -> list[dict[str, Any]]:
        path = self.folder / "journal"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def save(self, state: Mapping[str, bytes]) -> None:
        self.saves += 1
        files = {name: self.blobs.write([data]).id for name, data in state.items()}
        fresh = self.folder / "checkpoint.new"
        fresh.write_text(json.dumps(files))
        fresh.rename(self.folder / "checkpoint")

    def restore(self) -> dict[str, bytes] | None:
        path = self.folder / "checkpoint"
        if not path.exists():
            return None
        return {name: self.read(blob) for name, blob in json.loads(path.read_text()).items()}

    def read(self, blob: str) -> bytes:
        with self.blobs.open(blob) as file:
            return file.read()

    def write(self, data: bytes) -> str:
        return self.blobs.write([data]).id

    def ended(self, result: dict[str, Any]) -> Run:
        """Return this Run as the catalog would have it after its end, and know it from now on."""
        done = self.run.model_copy(update={"state": RunState.SUCCEEDED, "result": result})
        self.runs[done.id] = done
        return done
