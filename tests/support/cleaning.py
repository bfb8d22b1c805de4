"""A dataset version is cleaned, without a server: the stage's verbs and work on real stores."""

import json
from typing import Any

from tests.support.imports import Importer

from leptonai.core.nouns import Dataset
from leptonai.core.refs import DatasetRef
from leptonai.data.clean_verbs import prepare_clean, settle_clean
from leptonai.data.clean_words import step
from leptonai.data.clean_work import clean
from leptonai.data.spec_clean import Clean, CleanReport


class Desk:
    """The versions of an Importer, by reference."""

    by = "ann"
    here = True

    def __init__(self, files: Importer):
        self._files = files
        self.lacks: set[str] = set()

    def may(self, permission: str) -> bool:
        return permission not in self.lacks

    def dataset(self, ref: str) -> Dataset:
        wanted = DatasetRef.parse(ref)
        found = [d for d in self._files.desk.datasets if d.name == wanted.name and wanted.version in (None, d.version)]
        return max(found, key=lambda d: d.version)

    def find(self, *args: Any, **more: Any) -> list[Any]:
        return self._files.desk.find(*args, **more)


def cleaned(files: Importer, dataset: Dataset, *steps: Any, **options: Any) -> tuple[Dataset | None, CleanReport]:
    """Clean a version; return the new one (None: none was made) and the report."""
    given = [step(one) if isinstance(one, str) else one for one in steps]
    desk: Any = Desk(files)
    for known in files.desk.datasets:
        files.handle.datasets[f"datasets:/{known.name}@v{known.version}"] = files.open(known)  # type: ignore[assignment]
    spec = Clean.model_validate({"data": f"{dataset.name}@v{dataset.version}", "steps": given, **options})
    planned = prepare_clean(spec, desk)
    (files.handle.folder / "checkpoint").unlink(missing_ok=True)
    result = clean(Clean.model_validate(planned.spec), files.handle)
    report = CleanReport.model_validate_json(files.handle.read(result["report"]))
    json.dumps(result, allow_nan=False)
    added = settle_clean(files.handle.run, result, desk).add
    files.desk.datasets += added
    return (added[0] if added else None), report
