"""Label tasks as user code holds them: rows that people label, how far they agree, and the labels that come of it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.nouns import LabelTask as TaskRecord
from leptonai.sdk import client

if TYPE_CHECKING:
    from leptonai.sdk.client import Client
    from leptonai.sdk.datasets import Dataset

Label = str | int | None


class LabelTask:
    """Rows of a dataset version that people are to label."""

    def __init__(self, record: TaskRecord, via: "Client"):
        self.record = record
        self._client = via

    @property
    def id(self) -> str:
        """Its id, which labellers are told."""
        return self.record.id

    @property
    def progress(self) -> dict[str, int]:
        """How many rows there are, have an answer, and have enough of them; and how many people answered."""
        return dict(self._client.http.call("GET", f"/label-tasks/{self.id}")["progress"])

    def next(self, count: int = 20) -> list[dict[str, Any]]:
        """Return the next rows for whoever asks: dicts by column, and the number of the row under ``row``."""
        numbers = self._client.http.call("GET", f"/label-tasks/{self.id}/rows", params={"count": count})["rows"]
        return self._rows([int(number) for number in numbers])

    def _rows(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        import numpy as np

        from leptonai.sdk import reading

        if not numbers:
            return []
        found = reading.reader(self._dataset(), mask=True).part().gather(np.array(numbers, np.int64))
        return [{"row": number, **{name: found[name][at] for name in found}} for at, number in enumerate(numbers)]

    def answer(self, labels: Mapping[int, Label]) -> None:
        """Say what the labels of rows are; None for one that you cannot tell. A later answer stands in place of an earlier one.

        Raises `Invalid` for a row that is not in the task, or a label that is none of its classes.
        """
        answers = {str(row): label for row, label in labels.items()}
        self._client.http.call("POST", f"/label-tasks/{self.id}/answers", json={"answers": answers})

    def answers(self) -> dict[str, dict[int, Label]]:
        """Return all answers, by who gave them and row."""
        found = self._client.http.call("GET", f"/label-tasks/{self.id}/answers")["answers"]
        return {by: {int(row): label for row, label in labels.items()} for by, labels in found.items()}

    def agreement(self) -> dict[str, Any]:
        """Return how far people agree: Cohen's kappa of each two on the rows that both labelled, and their mean, by rows.

        1: always; 0: as often as by chance. ``share`` is that of the pairs of answers that are the same. None where no two
        people labelled the same row.
        """
        pairs: list[dict[str, Any]] = []
        same = common = 0
        given = {by: {row: v for row, v in labels.items() if v is not None} for by, labels in self.answers().items()}
        for one, other in combinations(sorted(given), 2):
            rows = sorted(given[one].keys() & given[other].keys())
            if not rows:
                continue
            first, second = [str(given[one][row]) for row in rows], [str(given[other][row]) for row in rows]
            equal = sum(a == b for a, b in zip(first, second, strict=True))
            pairs.append({"between": (one, other), "rows": len(rows), "kappa": kappa(first, second)})
            same, common = same + equal, common + len(rows)
        mean = sum(pair["kappa"] * pair["rows"] for pair in pairs) / common if common else None
        return {"kappa": mean, "share": same / common if common else None, "pairs": pairs}

    def conflicts(self) -> dict[int, dict[str, Label]]:
        """Return the rows that people label differently, with who says what."""
        found: dict[int, dict[str, Label]] = {}
        for by, labels in self.answers().items():
            for row, label in labels.items():
                if label is not None:
                    found.setdefault(row, {})[by] = label
        return {row: says for row, says in sorted(found.items()) if len(set(says.values())) > 1}

    def labels(self, *, least: int = 1) -> dict[int, str | int]:
        """Return the label of each row that most of its labellers gave, `least` of them at the least; none where two tie."""
        if least < 1:
            raise Invalid(f"least must be 1 or more, not {least}", errors=[FieldError("least", "1 or more")])
        votes: dict[int, Counter[str | int]] = {}
        for labels in self.answers().values():
            for row, label in labels.items():
                if label is not None:
                    votes.setdefault(row, Counter())[label] += 1
        found = {}
        for row, counts in sorted(votes.items()):
            (label, most), *others = counts.most_common(2)
            if most >= least and not (others and others[0][1] == most):
                found[row] = label
        return found

    def apply(self, *, least: int = 1, note: str = "") -> "Dataset":
        """Write the labels into the next version of the dataset, and return it; see `labels`. Raises `Invalid` without any."""
        found = self.labels(least=least)
        if not found:
            raise Invalid(f"label task {self.id} has no label yet that {least} people agree on")
        about = note or f"label task {self.id}"
        return self._dataset().relabel(found, target=self.record.column, note=about)

    def _dataset(self) -> "Dataset":
        """Return the version that is labelled, through the connection of the task."""
        from leptonai.core.nouns import Dataset as DatasetRecord
        from leptonai.sdk.datasets import Dataset

        found = self._client.http.call("GET", f"/datasets/{self.record.data.removeprefix('datasets:/')}")
        return Dataset(DatasetRecord.model_validate(found), self._client)

    def delete(self) -> None:
        """Delete the task and its answers; versions that were made of it stay."""
        self._client.http.call("DELETE", f"/label-tasks/{self.id}")

    def __repr__(self) -> str:
        record = self.record
        return (
            f"LabelTask {record.id}: {len(record.rows)} rows of {record.data}, {record.column} as one of "
            f"{len(record.classes)} classes, {record.labellers} people each"
        )


def kappa(first: Sequence[str], second: Sequence[str]) -> float:
    """Return how far the labels of two people for the same rows agree beyond chance (Cohen 1960).

    Two people who gave one label to all rows agree, though it is not defined there.
    """
    count = len(first)
    same = sum(one == other for one, other in zip(first, second, strict=True)) / count
    if same == 1:
        return 1.0
    theirs = Counter(second)
    chance = sum(number * theirs[label] for label, number in Counter(first).items()) / count**2
    return (same - chance) / (1 - chance)


def create_label_task(
    dataset: "Dataset | str",
    rows: Sequence[int],
    *,
    column: str | None = None,
    classes: Sequence[str | int] = (),
    labellers: int = 1,
    note: str = "",
) -> LabelTask:
    """Ask people to label rows of a dataset version, `labellers` of them each row.

    `column`: default the target; `classes`: default those that it has. Who labels needs a key with ``dataset:label``. Raises
    `Invalid` that names the field.
    """
    via = client.current()
    ref = dataset if isinstance(dataset, str) else dataset.ref
    body = {
        "data": ref, "rows": [int(row) for row in rows], "column": column, "classes": list(classes), "labellers": labellers,
        "note": note,
    }  # fmt: skip
    return LabelTask(TaskRecord.model_validate(via.http.call("POST", "/label-tasks", json=body)), via)


def get_label_task(id: str) -> LabelTask:
    """Return a label task by its id. Raises `NotFound`."""
    via = client.current()
    found = via.http.call("GET", f"/label-tasks/{id}")
    return LabelTask(TaskRecord.model_validate({k: v for k, v in found.items() if k != "progress"}), via)


def list_label_tasks(name: str | None = None, *, limit: int = 50) -> list[LabelTask]:
    """Return label tasks, of a dataset or of all, newest first."""
    via = client.current()
    items = via.http.pages("/label-tasks", params={"name": name}, limit=limit)
    return [LabelTask(TaskRecord.model_validate(item), via) for item in items]
