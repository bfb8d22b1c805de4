"""A Desk for the tests of verbs: the real catalog, in a file."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from leptonai.adapters.catalog.sql import SqlCatalog
from leptonai.core.errors import NotFound
from leptonai.core.nouns import Blob, Dataset, Model, Record, Run
from leptonai.core.refs import DatasetRef, ModelRef


class CatalogDesk:
    def __init__(self, catalog: SqlCatalog, by: str = "me"):
        self.catalog, self.by, self.here = catalog, by, False

    def may(self, permission: str) -> bool:
        return False

    def find(self, kind: Any, where: Mapping[str, Any] | None = None, *, limit: int = 100) -> list[Any]:
        return self.catalog.find(kind, where, limit=limit)

    def get(self, kind: Any, id: str) -> Any:
        return self.catalog.get(kind, id)

    def dataset(self, ref: str) -> Dataset:
        wanted = DatasetRef.parse(ref)
        return self._newest(Dataset, wanted.name, wanted.version)

    def model(self, ref: str) -> Model:
        wanted = ModelRef.parse(ref)
        return self._newest(Model, wanted.name, wanted.version)

    def _newest(self, kind: Any, name: str, version: int | None) -> Any:
        found = self.find(kind, {"name": name} | ({"version": version} if version else {}))
        if not found:
            raise NotFound(f"there is no {kind.kind} {name}")
        return max(found, key=lambda record: record.version)

    def read(self, blob: str) -> bytes:
        raise NotFound(blob)

    def keep(self, record: Record) -> Any:
        """Add a record as it is."""
        self.catalog.add(record)
        return record

    def blob(self, id: str, owner: str = "me") -> str:
        """Add the record of a blob."""
        self.keep(Blob(id=id, uid="u", wrapped="", size=1, owner=owner))
        return id

    def ended(self, stage: str, result: dict[str, Any] | None, state: str = "succeeded", **fields: Any) -> Run:
        """Add a Run that has ended."""
        return self.keep(Run.new(stage=stage, spec=fields.pop("spec", {}), state=state, result=result, **fields))


@contextmanager
def desk(folder: Path) -> Iterator[CatalogDesk]:
    catalog = SqlCatalog(f"sqlite:///{folder}/catalog.sqlite")
    try:
        yield CatalogDesk(catalog)
    finally:
        catalog.close()
