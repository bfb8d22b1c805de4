"""Files become a dataset version and are read again: the whole data stage on real stores, without a server."""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tests.support.handle import FileHandle

from leptonai.core.nouns import Dataset
from leptonai.core.refs import Split
from leptonai.data.personal import PersonalReader
from leptonai.data.reader import DatasetReader, open_dataset
from leptonai.data.spec import Import, SourceFile
from leptonai.data.verbs import settle_import
from leptonai.data.work import import_files


class Catalogue:
    """The versions so far, as a Desk shows them to `settle_import`."""

    by = "ann"
    here = True

    def __init__(self) -> None:
        self.datasets: list[Dataset] = []

    def find(self, kind: Any, where: Mapping[str, Any] | None = None, *, limit: int = 100) -> list[Any]:
        wanted = dict(where or {})
        found = [d for d in self.datasets if all(getattr(d, field) == value for field, value in wanted.items())]
        return found[::-1][:limit]


class Importer:
    """Imports files into one folder."""

    def __init__(self, folder: Path):
        self.handle = FileHandle(folder, stage="import")
        self.desk = Catalogue()

    def source(self, name: str, data: bytes, label: str | None = None, part: int = 1 << 20) -> SourceFile:
        """Upload a file in parts."""
        parts = tuple(self.handle.write(data[at : at + part]) for at in range(0, len(data), part))
        return SourceFile(name=name, size=len(data), parts=parts, label=label)

    def result(self, files: Sequence[SourceFile] | Mapping[str, bytes | str], **options: Any) -> dict[str, Any]:
        """Import files (or bytes by name) and return the result of the Run."""
        if isinstance(files, Mapping):
            files = [
                self.source(name, data.encode() if isinstance(data, str) else data) for name, data in files.items()
            ]
        return import_files(Import(name=options.pop("name", "made"), files=tuple(files), **options), self.handle)

    def settle(self, result: dict[str, Any]) -> Dataset | None:
        """Give the result to the server's verb; the new version, or None when the content is there already."""
        added = settle_import(self.handle.run, result, self.desk).add
        self.desk.datasets += added
        return added[0] if added else None

    def made(self, files: Sequence[SourceFile] | Mapping[str, bytes | str], **options: Any) -> Dataset:
        """Import files; return the new version."""
        found = self.settle(self.result(files, **options))
        assert found is not None
        return found

    def open(self, dataset: Dataset, *splits: Split, memory: int = 1 << 30) -> DatasetReader:
        """Open a version, or a part of it, with so much memory."""
        return DatasetReader(
            dataset, splits, self.shards(dataset), self.handle.raw, memory, PersonalReader(dataset, self.handle.blobs)
        )

    def shards(self, dataset: Dataset) -> list[dict[str, Any]]:
        """Return what the manifest of a version says of its shards."""
        found: list[dict[str, Any]] = json.loads(self.handle.read(dataset.manifest))["shards"]
        return found

    def folder_of(self, blob: str) -> Iterator[Path]:
        """Yield the files that hold a blob."""
        return self.handle.folder.rglob(f"*{blob[4:]}")

    def read(self, files: Sequence[SourceFile] | Mapping[str, bytes | str], **options: Any) -> dict[str, Any]:
        """Import files and return all rows."""
        return open_dataset(self.made(files, **options), (), self.handle).read()


def picture(pixels: Any, kind: str = "PNG", mode: str | None = None) -> bytes:
    """Return an image file."""
    out = io.BytesIO()
    image = Image.fromarray(np.asarray(pixels, np.uint8))
    (image.convert(mode) if mode else image).save(out, kind)
    return out.getvalue()


def npz(**arrays: Any) -> bytes:
    """Return an NPZ file."""
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()
