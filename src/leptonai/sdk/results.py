"""What `fit` and `evaluate` answer: a History like Keras's, and a Report."""

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leptonai.evaluation.spec import Details
from leptonai.evaluation.spec import Report as ReportRecord
from leptonai.sdk import show

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

    from leptonai.sdk.runs import Run

_SHOWN = 12  # epochs, or classes, that a prompt shows


class History:
    """What a training Run measured, epoch by epoch; the fields are those of Keras's History.

    `history` maps each metric to its values, `epoch` lists the epochs from 0, `params` says how it was trained.
    """

    def __init__(self, run: "Run", history: Mapping[str, list[float]], params: Mapping[str, Any]):
        self.run = run
        self.history = {name: list(values) for name, values in history.items()}
        self.epoch = list(range(max((len(values) for values in self.history.values()), default=0)))
        self.params = dict(params)

    def __getitem__(self, metric: str) -> list[float]:
        return self.history[metric]

    def __len__(self) -> int:
        return len(self.epoch)

    def _rows(self) -> list[list[object]]:
        # A scikit-learn model, say, has one value of a metric however many epochs another one has.
        rows: list[list[object]] = [
            [epoch + 1, *(values[epoch] if epoch < len(values) else None for values in self.history.values())]
            for epoch in self.epoch
        ]
        return rows if len(rows) <= _SHOWN else [*rows[:3], ["…", *("" for _ in self.history)], *rows[3 - _SHOWN :]]

    def __rich__(self) -> "RenderableType":
        return show.titled(show.table(["epoch", *self.history], self._rows()), f"History of {self.run.id}")

    def __repr__(self) -> str:
        return show.text(self.__rich__())

    def _repr_html_(self) -> str:
        facts = {"run": self.run.id, **self.params}
        return show.card("History", facts, show.html_table(["epoch", *self.history], self._rows()))


class Report:
    """How good a model is. Each metric is an attribute too: ``report.accuracy`` is ``report.metrics["accuracy"]``."""

    def __init__(self, record: ReportRecord, run: "Run"):
        self.record = record
        self.run = run

    @property
    def task(self) -> str:
        """``classification``, ``regression`` or ``several``."""
        return self.record.task

    @property
    def rows(self) -> int:
        """How many rows were measured."""
        return self.record.rows

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics by name, as scikit-learn defines them; averages over classes are macro averages."""
        return dict(self.record.metrics)

    @property
    def classes(self) -> tuple[str | int, ...]:
        """The classes, in the order of `confusion`."""
        return self.record.classes

    @property
    def confusion(self) -> tuple[tuple[int, ...], ...]:
        """The confusion matrix: a row for each true class, a column for each predicted one."""
        return self.record.confusion

    @property
    def per_class(self) -> dict[str, dict[str, float]]:
        """Precision, recall and F1 of each class."""
        return dict(self.record.per_class)

    @property
    def notes(self) -> tuple[str, ...]:
        """What there is to say, such as why a metric is not given."""
        return self.record.notes

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """The interval of each metric, by bootstrap: 95 % unless another confidence was asked for."""
        return dict(self.record.intervals)

    @property
    def threshold(self) -> dict[str, Any]:
        """The threshold that costs least, with what it comes to; empty where no costs were given."""
        return dict(self.record.threshold)

    @property
    def curves(self) -> dict[str, Any]:
        """Points of ``roc``, ``precision_recall``, ``calibration``, ``thresholds``; ``residuals`` of a regression."""
        return self._details.curves

    @property
    def slices(self) -> list[dict[str, Any]]:
        """The subgroups of rows where it is worse than elsewhere, the worst first: where, rows, value, rest, p, q."""
        return [dict(one) for one in self._details.slices]

    @property
    def fairness(self) -> dict[str, dict[str, float]]:
        """The largest differences between groups of each sensitive column: ``parity_difference``, ``odds_difference``, ``accuracy_difference``."""
        return dict(self.record.fairness)

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The figures of each group of the sensitive columns: column, group, rows, accuracy, rates."""
        return [dict(one) for one in self._details.groups]

    @property
    def importance(self) -> list[dict[str, Any]]:
        """By how much it errs more when a column is shuffled among the rows: column, importance, spread; the most important first."""
        return [dict(one) for one in self.record.importance]

    @property
    def explanation(self) -> dict[str, Any]:
        """What its answers come from: method, rows, and of each column the mean size of its share (``columns``)."""
        return dict(self.record.explanation)

    @property
    def examples(self) -> list[dict[str, Any]]:
        """Of pictures and texts, a few rows with where it looks: truth, of, score, maps or words."""
        return [dict(one) for one in self._details.examples]

    @property
    def outliers(self) -> dict[str, Any]:
        """How many rows are far from what it learnt from, and how good it is by distance: beyond, share, expected, p, fifths."""
        return dict(self.record.outliers)

    @property
    def farthest(self) -> list[dict[str, Any]]:
        """The rows farthest from what it learnt from: row (from 0, as they are read), distance, and what is unusual in it."""
        return [dict(one) for one in self._details.farthest]

    @property
    def robustness(self) -> dict[str, Any]:
        """What spoilt rows cost it: metric, clean, worst, and of each way and severity its value (``told``)."""
        return dict(self.record.robustness)

    @property
    def folds(self) -> list[dict[str, Any]]:
        """Of a cross-validation, each fold: rows, learnt_from, seconds, metrics, notes."""
        return [dict(one) for one in self.record.folds]

    @property
    def targets(self) -> dict[str, "Report"]:
        """Of a model that predicts several targets, the report of each; its `metrics` are theirs, as TARGET_METRIC."""
        return {name: Report(one, self.run) for name, one in self.record.targets.items()}

    @property
    def learning_curve(self) -> list[dict[str, Any]]:
        """Of a cross-validation with ``curve=True``: share, rows, metrics (means over folds), low and high of the first metric."""
        return [dict(one) for one in self.record.curve]

    @property
    def label_noise(self) -> list[dict[str, Any]]:
        """Of a cross-validation with ``noise=True``: the same, by the share of the labels learnt from that were made wrong."""
        return [dict(one) for one in self.record.noise]

    @property
    def latency(self) -> dict[str, float]:
        """How long one row takes, in milliseconds: ``p50`` and ``p99``, without a network."""
        return dict(self.record.latency)

    @property
    def compared(self) -> dict[str, Any]:
        """The paired test against another version, where one was named: own, other, p of being worse."""
        return dict(self.record.compared)

    @cached_property
    def _details(self) -> Details:
        blob = self.record.details
        return Details() if blob is None else Details.model_validate_json(self.run._client.http.download(blob))

    def __getattr__(self, name: str) -> float:
        record = self.__dict__.get("record")
        if record is not None and name in record.metrics:
            return float(record.metrics[name])
        known = f"; measured are: {', '.join(record.metrics)}" if record is not None else ""
        raise AttributeError(f"the report has no {name!r}{known}")

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON data, with what is kept beside the metrics."""
        return self.record.model_dump(mode="json", exclude={"details", "slices"}) | {
            **self._details.model_dump(mode="json"),
            "searched": self.record.slices,
            "targets": {name: one.to_dict() for name, one in self.targets.items()},
        }

    def json(self, indent: int | None = 2) -> str:
        """Return it as JSON."""
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False)

    def html(self, path: str | Path | None = None) -> str:
        """Return it as one HTML page with plots, that needs no network; and write it, where a path is given."""
        from leptonai.sdk.report_page import page

        subject = str(self.run.record.spec.get("model") or "")
        each = {name: one._details for name, one in self.targets.items()}
        text = page(self.record, self._details, subject, each)
        if path is not None:
            Path(path).write_text(text, "utf-8")
        return text

    def card(self, path: str | Path | None = None) -> str:
        """Return it as a model card, Markdown in the form of Hugging Face's; and write it, where a path is given."""
        from leptonai.sdk.report_card import card

        spec = self.run.record.spec
        model = str(spec.get("model") or "").removeprefix("models:/").partition("/")[0]
        about = {"name": model, "run": spec.get("run"), "framework": self.run.record.flavour}
        text = card(self.record, self._details, about)
        if path is not None:
            Path(path).write_text(text, "utf-8")
        return text

    def _lines(self) -> list[list[object]]:
        return [[name, value, *(self.intervals.get(name) or (None, None))] for name, value in self.metrics.items()]

    def __rich__(self) -> "Group":
        from rich.console import Group
        from rich.text import Text

        if self.record.targets:
            return Group(
                *(part for name, one in self.targets.items() for part in (Text(f"target {name}"), one.__rich__()))
            )
        title = f"{self.task.capitalize()} on {self.rows:,} rows"
        parts: list[Any] = [show.facts_table(self.metrics, title=title)]
        if self.intervals:
            parts = [show.titled(show.table(["metric", "value", "from", "to"], self._lines()), title)]
        if self.folds:
            names = list(self.metrics)
            each = [[one["fold"], one["rows"], *(one["metrics"].get(name) for name in names)] for one in self.folds]
            parts.append(show.titled(show.table(["fold", "rows", *names], each), "Each fold"))
        if self.record.per_class and len(self.record.per_class) <= _SHOWN:
            columns = list(next(iter(self.record.per_class.values())))
            lines = [[name, *(_cell(c, values.get(c)) for c in columns)] for name, values in self.per_class.items()]
            parts.append(show.table(["class", *columns], lines))
        if self.confusion and len(self.classes) <= _SHOWN:
            parts.append(show.table(["true \\ predicted", *map(str, self.classes)], self._confusion_rows()))
        parts += [Text(f"note: {note}") for note in self.notes]
        return Group(*parts)

    def _confusion_rows(self) -> list[list[object]]:
        return [[str(name), *counts] for name, counts in zip(self.classes, self.confusion, strict=True)]

    def __repr__(self) -> str:
        return show.text(self.__rich__())

    def _repr_html_(self) -> str:
        more = ""
        if self.confusion and len(self.classes) <= _SHOWN:
            more = show.html_table(["true \\ predicted", *map(str, self.classes)], self._confusion_rows())
        notes = {f"note {number}": text for number, text in enumerate(self.notes, 1)}
        return show.card(f"{self.task.capitalize()} on {self.rows:,} rows", {**self.metrics, **notes}, more)


def _cell(column: str, value: float | None) -> object:
    return int(value) if column == "rows" and value is not None else value
