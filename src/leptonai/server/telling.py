"""What tells of the rows of a dataset beside its versions: reports, labels that models or people set, tags."""

from collections.abc import Iterator
from typing import Any

from leptonai.core.errors import LeptonError
from leptonai.core.nouns import LabelAnswers, LabelTask, Record, Run, Tag
from leptonai.core.ports import Catalog
from leptonai.core.refs import DatasetRef
from leptonai.server import holding

# Kinds of Runs whose reports hold values, row numbers or labels of what they read.
REPORTS = (
    "profile",
    "check",
    "diff",
    "find_pii",
    "clean",
    "relabel",
    "label_errors",
    "auto_label",
    "pick_rows",
    "evaluate",
    "cross_validate",
    "explain",
)


def runs(catalog: Catalog, name: str, ids: set[str]) -> list[Run]:
    """Return the Runs that are over and told of a dataset's rows, but for those that made a version, of this or another dataset."""
    return [
        run
        for run in holding.every(catalog, Run)
        if run.stage in REPORTS
        and run.state.ended
        and not (run.result or {}).get("manifest")
        and any(_names(word, name, ids) for word in _words(run.spec))
    ]


def labels(catalog: Catalog, name: str) -> list[Record]:
    """Return the label tasks of a dataset, and what people answered."""
    return [record for kind in (LabelTask, LabelAnswers) for record in _of(catalog, kind, name)]


def tags(catalog: Catalog, name: str) -> list[Record]:
    """Return the tags of a dataset."""
    return list(_of(catalog, Tag, name))


def _of(catalog: Catalog, kind: type[Record], name: str) -> Iterator[Record]:
    after = None
    while page := catalog.find(kind, {"name": name}, limit=500, after=after):
        yield from page
        after = page[-1].id


def _names(word: str, name: str, ids: set[str]) -> bool:
    """Whether a word of a spec is a reference to the dataset."""
    if word in ids:
        return True
    if not word.startswith("datasets:/"):
        return False
    try:
        return DatasetRef.parse(word).name == name
    except LeptonError:
        return False


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _words(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _words(one)
