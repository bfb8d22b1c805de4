"""What the server answers at once about data. Light: nothing here reads rows."""

from collections.abc import Mapping
from typing import Any

from leptonai.core.errors import Denied, FieldError, Invalid
from leptonai.core.nouns import Blob, Column, Dataset, Run
from leptonai.core.stages import STEPS, Changes, Desk, Plan, load
from leptonai.data.check_verbs import resolved
from leptonai.data.declared import DECLARED, again, carried, declared
from leptonai.data.spec import Import

_ALL = 10_000  # more versions of one name than anybody has
_PAGE = 500


def prepare_import(spec: Import, desk: Desk) -> Plan:
    """Plan an import: its process may open the uploaded parts, and nothing else. Raises `Invalid` for a part that is not there."""
    if spec.local and not desk.here:
        raise Denied(
            f"{desk.by} is on another machine, whose files cannot be read from here: upload them", permission="local"
        )
    listed = ((spec.index,) if spec.index is not None else ()) + spec.parts
    opens = tuple(dict.fromkeys([*listed, *(part for file in spec.files for part in file.parts)]))
    for start in range(0, len(opens), _PAGE):
        page = opens[start : start + _PAGE]
        known = {blob.id for blob in desk.find(Blob, {"id": page}, limit=_PAGE)}
        if gone := next((part for part in page if part not in known), None):
            file = next((file.name for file in spec.files if gone in file.parts), "the files")
            raise Invalid(
                f"{file}: part {gone[:16]} is not on the server: upload it again",
                errors=[FieldError("files", "parts that were uploaded")],
            )
    rules, more = resolved(declared("checks", spec.name, desk) if spec.checks is None else spec.checks, desk, None)
    steps = tuple(load(STEPS)(declared("augment", spec.name, desk) if spec.augment is None else spec.augment))
    asked = tuple(word for word in DECLARED if getattr(spec, word) is not None)
    opens, spec = (*opens, *more), spec.model_copy(update={"checks": rules, "augment": steps, "declares": asked})
    if spec.base is None:
        return Plan(spec.model_dump(mode="json"), opens, "data", spec.name)
    base = desk.dataset(spec.base)
    if spec.types or spec.pii or spec.target is not None:
        raise Invalid(
            "rows that are appended have the types, the target and the personal columns of the version before: leave them out",
            errors=[FieldError("types" if spec.types else "pii" if spec.pii else "target", "left out")],
        )
    spec = spec.model_copy(update={"base": f"datasets:/{base.name}@v{base.version}"})
    return Plan(spec.model_dump(mode="json"), (*opens, base.manifest, *base.shards), "data", spec.name)


def settle_import(run: Run, result: Mapping[str, Any], desk: Desk) -> Changes:
    """Add the version that an import made; the same content again is the version that is there already, with what it declares now.

    Who asked finds it by name and digest, which the result of the Run holds. Two imports that end at once take the same
    number: the database lets one of them through, and the other asks again.
    """
    versions: list[Dataset] = desk.find(Dataset, {"name": result["name"]}, limit=_ALL)
    source = dict(result["source"])
    if there := next((version for version in versions if version.digest == result["digest"]), None):
        told = again(there, source, run.spec.get("declares", ()))
        return Changes(change=() if told is None else (told,))
    if base := next((version for version in versions if version.digest == source.get("digest")), None):  # it was mended
        source = {**carried(base.source, [column["name"] for column in result["columns"]]), **source}
    dataset = Dataset.new(
        name=result["name"],
        version=max((version.version for version in versions), default=0) + 1,
        digest=result["digest"],
        rows=result["rows"],
        bytes=result["bytes"],
        columns=tuple(Column.model_validate(column) for column in result["columns"]),
        target=result["target"],
        manifest=result["manifest"],
        shards=tuple(result["shards"]),
        pii=tuple(result.get("pii", ())),
        run=run.id,
        source=source,
        by=run.by,
    )
    return Changes(add=(dataset,))


def preview(dataset: Dataset, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the first rows, as the import kept them."""
    return {"name": dataset.name, "version": dataset.version, "rows": manifest["preview"]}
