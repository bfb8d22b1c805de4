"""What the server answers at once about data. Light: nothing here reads rows."""

from collections.abc import Mapping
from typing import Any

from leptonai.core.nouns import Column, Dataset, Run
from leptonai.core.stages import Changes, Desk, Plan
from leptonai.data.spec import Import


def prepare_import(spec: Import, desk: Desk) -> Plan:
    """Plan an import: its process may open the uploaded parts, and nothing else."""
    del desk
    opens = tuple(dict.fromkeys(part for file in spec.files for part in file.parts))
    return Plan(spec.model_dump(mode="json"), opens, "data", spec.name)


def settle_import(run: Run, result: Mapping[str, Any], desk: Desk) -> Changes:
    """Add the version that an import made; the same content again is the version that is there already."""
    versions: list[Dataset] = desk.find(Dataset, {"name": result["name"]}, limit=1)
    same = desk.find(Dataset, {"name": result["name"], "digest": result["digest"]}, limit=1)
    if same:
        return Changes()
    dataset = Dataset.new(
        name=result["name"],
        version=versions[0].version + 1 if versions else 1,
        digest=result["digest"],
        rows=result["rows"],
        bytes=result["bytes"],
        columns=tuple(Column.model_validate(column) for column in result["columns"]),
        target=result["target"],
        manifest=result["manifest"],
        shards=tuple(result["shards"]),
        run=run.id,
        source=dict(result["source"]),
        by=run.by,
    )
    return Changes(add=(dataset,))


def preview(dataset: Dataset, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the first rows, as the import kept them."""
    return {"name": dataset.name, "version": dataset.version, "rows": manifest["preview"]}
