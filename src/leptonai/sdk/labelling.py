"""What a dataset can be asked about its labels: which are wrong, which a model can set, which a person should set next."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from leptonai.core.errors import FieldError, Invalid
from leptonai.data.spec_relabel import Relabel
from leptonai.labels.spec import AutoLabel, AutoReport, ErrorReport, Judging, LabelError, LabelErrors, PickRows
from leptonai.sdk import runs, show
from leptonai.sdk.specs import check, sent

if TYPE_CHECKING:
    from rich.console import RenderableType

    from leptonai.core.nouns import Run as RunRecord
    from leptonai.sdk.client import Client
    from leptonai.sdk.datasets import Dataset
    from leptonai.sdk.label_tasks import LabelTask

_SHOWN = 20


class Labelling:
    """A dataset version, as far as its labels are looked at and set."""

    _client: Any

    @property
    def ref(self) -> str:
        """Its exact reference."""
        raise NotImplementedError

    def find_label_errors(
        self, *, target: str | None = None, run: object = None, folds: int = 5, train: Mapping[str, Any] | None = None
    ) -> "LabelErrorList":
        """Return the labels that are probably wrong, the worst first, by confident learning.

        Each fold of the rows is judged by a model that learnt from the others: the one of the training Run `run`, trained anew
        with its settings, or a sensible one for the columns. `train` holds fields of a train spec, such as `features`.
        """
        document = {"target": target, "run": _run_id(run), "folds": folds, "train": dict(train or {})}
        return label_errors(self._client, self.ref, document)

    def relabel(
        self, labels: "Mapping[int, Any] | LabelErrorList", *, target: str | None = None, note: str = ""
    ) -> "Dataset":
        """Return the next version, with labels of some rows set: a dict by row number (from 0), or errors with their suggestions.

        None takes a label away. Raises `Invalid` for a row that is not there, or a label that the column cannot hold.
        """
        if isinstance(labels, LabelErrorList):
            labels = {error.row: error.suggested for error in labels}
        document = {
            "target": target, "rows": tuple(labels), "labels": tuple(map(_plain, labels.values())), "note": note
        }  # fmt: skip
        return write(self._client, self.ref, document)

    def auto_label(
        self,
        *,
        precision: float = 0.95,
        target: str | None = None,
        run: object = None,
        folds: int = 5,
        train: Mapping[str, Any] | None = None,
    ) -> "AutoLabelled":
        """Set the labels that a model is sure of: ``.dataset`` is the next version, ``.report`` says how many are right.

        So many that, on held-out labels, the share `precision` of those set is right; the other rows stay without one. Where the
        model is sure of none there is no next version. See `find_label_errors` for `run`, `folds` and `train`.
        """
        document = {
            "precision": precision, "target": target, "run": _run_id(run), "folds": folds, "train": dict(train or {})
        }  # fmt: skip
        return auto_label(self._client, self.ref, document)

    def label_task(
        self,
        rows: Sequence[int],
        *,
        column: str | None = None,
        classes: Sequence[str | int] = (),
        labellers: int = 1,
        note: str = "",
    ) -> "LabelTask":
        """Ask people to label rows, `labellers` of them each row, and return the task.

        `column`: default the target; `classes`: default those that it has. Who labels needs a key with ``dataset:label``.
        Raises `Invalid` that names the field.
        """
        from leptonai.sdk.label_tasks import create_label_task

        return create_label_task(self.ref, rows, column=column, classes=classes, labellers=labellers, note=note)

    def pick_rows(
        self,
        count: int = 20,
        *,
        by: Literal["margin", "entropy"] = "margin",
        target: str | None = None,
        run: object = None,
        folds: int = 5,
        train: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """Return the numbers of the rows without a label that a person should label next, the most wanted first.

        Those a model doubts most, and among them such that are far from each other.
        """
        document = {
            "count": count, "by": by, "target": target, "run": _run_id(run), "folds": folds, "train": dict(train or {})
        }  # fmt: skip
        return pick_rows(self._client, self.ref, document)


def _run_id(run: object) -> str | None:
    found = getattr(run, "run", run)  # a History holds its Run
    if isinstance(found, runs.Run):
        return found.id
    if found is None or isinstance(found, str):
        return found
    raise Invalid(
        f"run must be a training Run, its id or what fit returned, not {type(run).__name__}",
        errors=[FieldError("run", "a train Run")],
    )


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _done(via: "Client", stage: str, kind: type[Judging] | type[Relabel], document: Mapping[str, Any]) -> "RunRecord":
    given = {name: value for name, value in document.items() if value is not None}
    spec = sent(check(kind, given, stage.replace("_", " ")))
    return runs.follow(via.http, runs.submit(via.http, stage, spec).id, title=stage.replace("_", " "))


def label_errors(via: "Client", ref: str, document: Mapping[str, Any]) -> "LabelErrorList":
    """Run the search for wrong labels and return what it found."""
    record = _done(via, "label_errors", LabelErrors, {"data": ref, **document})
    report = ErrorReport.model_validate_json(via.http.download((record.result or {})["report"]))
    return LabelErrorList(report, runs.Run(record, via))


def write(via: "Client", ref: str, document: Mapping[str, Any]) -> "Dataset":
    """Write labels into the next version and return it."""
    from leptonai.sdk.datasets import made_by

    return made_by(via, _done(via, "relabel", Relabel, {"data": ref, **document}))


def auto_label(via: "Client", ref: str, document: Mapping[str, Any]) -> "AutoLabelled":
    """Label by a model, and write what it is sure of into the next version."""
    record = _done(via, "auto_label", AutoLabel, {"data": ref, **document})
    result = {name: value for name, value in (record.result or {}).items() if name != "labels"}
    report = AutoReport.model_validate(result)
    target = {"target": report.target}
    made = write(via, ref, {"run": record.id, **target}) if report.set else None
    return AutoLabelled(report, made, runs.Run(record, via))


def pick_rows(via: "Client", ref: str, document: Mapping[str, Any]) -> list[int]:
    """Ask which rows to label next."""
    record = _done(via, "pick_rows", PickRows, {"data": ref, **document})
    return [int(row) for row in (record.result or {})["rows"]]


class LabelErrorList(list[LabelError]):
    """Labels that are probably wrong, the worst first; each has `row`, `given`, `suggested` and `score`."""

    def __init__(self, report: ErrorReport, run: "runs.Run"):
        super().__init__(report.errors)
        self.report = report
        self.run = run

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return self.report.model_dump(mode="json")

    def _cells(self) -> tuple[list[str], list[list[object]]]:
        return ["row", "given", "suggested", "score"], [
            [error.row, error.given, error.suggested, error.score] for error in self[:_SHOWN]
        ]

    def _title(self) -> str:
        return f"{len(self):,} of {self.report.rows:,} labels of {self.report.target} are probably wrong"

    def __rich__(self) -> "RenderableType":
        return show.titled(show.table(*self._cells()), self._title())

    def __repr__(self) -> str:
        return show.text(self.__rich__())

    def _repr_html_(self) -> str:
        return show.card(self._title(), {"run": self.run.id}, show.html_table(*self._cells()))


class AutoLabelled:
    """What came of labelling by a model. `dataset` is None where it was sure of none."""

    def __init__(self, report: AutoReport, dataset: "Dataset | None", run: "runs.Run"):
        self.report = report
        self.dataset = dataset
        self.run = run

    def facts(self) -> dict[str, object]:
        """Return what a table shows of it."""
        report = self.report
        made = None if self.dataset is None else f"{self.dataset.name}@v{self.dataset.version}"
        measured = None
        if report.precision is not None:
            measured = (
                f"{report.precision:.1%} of {report.held_out} held-out labels, at least {report.lower:.1%} with 95 %"
            )
        facts = {
            "labelled before": f"{report.labelled:,}",
            "labelled now": f"{report.set:,} of {report.rest:,} others ({report.coverage:.1%})",
            "precision asked for": f"{report.asked:.1%}",
            "precision measured": measured,
            "made": made or "nothing: the model was sure of no row",
        }
        return {name: value for name, value in facts.items() if value is not None}

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return self.report.model_dump(mode="json")

    def __rich__(self) -> "RenderableType":
        return show.facts_table(self.facts(), title=f"Labels of {self.report.target}")

    def __repr__(self) -> str:
        return show.text(self.__rich__())

    def _repr_html_(self) -> str:
        return show.card(f"Labels of {self.report.target}", self.facts())


__all__: Sequence[str] = ["AutoLabelled", "LabelErrorList", "Labelling"]
