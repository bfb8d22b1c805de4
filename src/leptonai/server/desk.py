"""What the server offers to a stage's verbs (`core.stages.Desk`)."""

import re
from collections.abc import Mapping
from datetime import UTC
from typing import Any, TypeVar

from leptonai.core.errors import NotFound
from leptonai.core.nouns import Alias, Dataset, Model, Record, Tag
from leptonai.core.refs import DatasetRef, ModelRef
from leptonai.server.auth import Caller
from leptonai.server.context import Context

R = TypeVar("R", bound=Record)
_ALL = 10_000  # more versions of one name than anybody has
_ID = re.compile(r"(ds|model)_[0-9a-z]{26}")


class ServerDesk:
    """Records and blobs, as one caller may see them."""

    def __init__(self, context: Context, by: str, caller: Caller | None = None):
        self._context = context
        self._caller = caller
        self.by = by
        self.here = caller is not None and caller.here

    def may(self, permission: str) -> bool:
        """Whether who asks has this permission."""
        return self._caller is not None and self._caller.may(permission)

    def find(self, kind: type[R], where: Mapping[str, Any] | None = None, *, limit: int = 100) -> list[R]:
        """See `Catalog.find`."""
        return self._context.catalog.find(kind, where, limit=limit)

    def get(self, kind: type[R], id: str) -> R:
        """See `Catalog.get`."""
        if not id.isprintable() or len(id) > 250:  # no id is, and not every database takes it
            raise NotFound(f"there is no {kind.kind} {id[:80]!r}")
        return self._context.catalog.get(kind, id)

    def dataset(self, ref: str) -> Dataset:
        """Return the version that a reference (or an id) names."""
        if _ID.fullmatch(ref):
            return self.get(Dataset, ref)
        wanted = DatasetRef.parse(ref)
        if wanted.tag is not None:
            try:
                return self.get(Dataset, self.get(Tag, f"{wanted.name}@{wanted.tag}").dataset)
            except NotFound:
                raise NotFound(
                    f"no version of dataset {wanted.name} has the tag {wanted.tag}: see  lepton dataset tags {wanted.name}"
                ) from None
        where: dict[str, Any] = {"name": wanted.name}
        if wanted.version is not None:
            where["version"] = wanted.version
        found = self.find(Dataset, where, limit=_ALL if wanted.on is not None else 100)
        if wanted.on is not None:
            found = [dataset for dataset in found if dataset.created.astimezone(UTC).date() <= wanted.on]
        if not found:
            at = f"@v{wanted.version}" if wanted.version else f" on {wanted.on} yet" if wanted.on is not None else ""
            raise NotFound(f"there is no dataset {wanted.name}{at}: see  lepton dataset list")
        return max(found, key=lambda dataset: dataset.version)

    def model(self, ref: str) -> Model:
        """Return the Model that a reference (or an id) names."""
        if _ID.fullmatch(ref):
            return self.get(Model, ref)
        wanted = ModelRef.parse(ref)
        if wanted.alias is not None:
            try:
                return self.get(Model, self.get(Alias, f"{wanted.name}@{wanted.alias}").model)
            except NotFound:
                raise NotFound(f"no version of model {wanted.name} has the alias {wanted.alias}") from None
        where: dict[str, Any] = {"name": wanted.name}
        if wanted.version is not None:
            where["version"] = wanted.version
        found = self.find(Model, where)
        if not found:
            raise NotFound(f"there is no model {str(wanted).removeprefix('models:/')}: see  lepton model list")
        return max(found, key=lambda model: model.version)

    def read(self, blob: str) -> bytes:
        """Return the plaintext of a sealed blob."""
        with self._context.sealed(self.by).open(blob) as file:
            return file.read()
