"""`leptonai.auto`: a model for a dataset without a line of code, found within a budget of time."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.nouns import Run as RunRecord
from leptonai.core.refs import check_name
from leptonai.sdk import client, runs, show
from leptonai.sdk.specs import check, sent
from leptonai.tuning import words
from leptonai.tuning.auto.spec import SMALLER, Auto, Candidate, Found

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Group
    from rich.table import Table

    from leptonai.sdk.client import Client
    from leptonai.sdk.datasets import Dataset
    from leptonai.sdk.models import Model
    from leptonai.sdk.registry import ModelVersion
    from leptonai.sdk.results import Report

_HEAD = ("place", "candidate", "state", "score", "plus or minus", "seconds", "what it is")


def seconds_of(budget: object) -> float:
    """Read a budget of time: seconds as a number, or words such as ``"5min"``. Raises `Invalid`."""
    if isinstance(budget, (int, float)) and not isinstance(budget, bool):
        return float(budget)
    found = words.budget(budget)
    if set(found) != {"seconds"}:
        right = 'a time such as "5min" or "30s"'
        raise Invalid(f"budget: {budget!r:.80} is none; give {right}", errors=[FieldError("budget", right)])
    return float(found["seconds"])


def auto(
    data: "Dataset | str",
    *,
    target: str | None = None,
    budget: float | str = "5min",
    test: "Dataset | str | None" = None,
    metric: str | None = None,
    features: Sequence[str] | None = None,
    kind: Literal["auto", "table", "text", "image", "ratings", "series"] = "auto",
    families: Sequence[str] = (),
    horizon: int | None = None,
    folds: int | None = None,
    by: Literal["auto", "rows", "class", "group", "time"] = "auto",
    column: str | None = None,
    candidates: int | None = None,
    seed: int = 0,
    publish: str | None = None,
    name: str | None = None,
    verbose: bool | Literal["auto", 0, 1, 2] = "auto",
) -> "AutoResult":
    """Find a model for a dataset within a budget of time: one Run that tries kinds of models, and keeps the best.

    What is tried follows from the columns; `kind` says it where they do not: ``"table"``, ``"text"``, ``"image"``, ``"ratings"`` of
    users and items, or ``"series"`` by time: `column` is the time, and `horizon` how many steps are told ahead. Each candidate is judged by cross-validation on rows it did not learn from; the best one is
    then fitted on all of them, and measured once on rows that no candidate has seen: `test`, or a fifth of the data. `budget`: seconds,
    or words such as ``"5min"``. `metric`: what is to be best, by default ``roc_auc`` of two classes, ``accuracy`` of more, ``rmse`` of
    values. `families`: try only these, such as ``("linear", "boosting")``. `folds`, `by`, `column`: as `Model.cross_validate` takes them;
    by group or time `test` is to be given. `publish`: make a version of this name of it. Ctrl-C cancels the Run. Raises `Invalid` for
    what does not fit.
    """
    from leptonai.sdk.models import reference

    if publish is not None:
        check_name(publish)
    document = {
        "data": reference(data, "data"),
        "test": None if test is None else reference(test, "test"),
        "target": target,
        "budget": seconds_of(budget),
        "metric": metric,
        "features": None if features is None else tuple(features),
        "kind": kind,
        "families": (families,) if isinstance(families, str) else tuple(families),
        "folds": folds,
        "by": by,
        "column": column,
        "horizon": horizon,
        "candidates": candidates,
        "seed": seed,
    }
    asked = sent(check(Auto, {name: value for name, value in document.items() if value is not None}, "auto"))
    via = client.current()
    record = runs.submit(via.http, "auto", asked, name=name)
    record = runs.follow(
        via.http, record.id, title="auto", show_progress=None if verbose == "auto" or verbose else False
    )
    found = made(record, via)
    if publish is not None:
        found.publish(publish)
    return found


class AutoResult:
    """What a search found. `model` is the best model, trained: to predict with, to be evaluated and published."""

    def __init__(self, record: Found, run: "runs.Run", via: "Client"):
        self.record = record
        self.run = run
        self._client = via

    @property
    def chosen(self) -> Candidate:
        """The candidate that was kept: the best, or the best of those that there was time to fit on all rows."""
        return next(line for line in self.record.leaderboard if line.number == self.record.chosen)

    @property
    def tested(self) -> dict[str, Any]:
        """What the chosen model came to on rows that no candidate has seen: ``rows``, ``metrics``, and their ``intervals``."""
        return dict(self.record.tested)

    @property
    def best_run(self) -> "runs.Run":
        """The train Run of the chosen model: what can be evaluated, exported and asked for again."""
        for item in self._client.http.pages("/runs", params={"parent": self.run.id, "stage": "train"}, limit=10):
            return runs.Run(RunRecord.model_validate(item), self._client)
        raise Invalid(f"the train Run of {self.run.id} is gone")

    @property
    def model(self) -> "Model":
        """The chosen model, trained."""
        from leptonai.sdk.models import Model

        return Model.trained_by(self.best_run)

    def predict(self, data: "Dataset | str") -> "np.ndarray":
        """Predict with the chosen model; see `Model.predict`."""
        found: np.ndarray = self.model.predict(data)
        return found

    def evaluate(self, data: "Dataset | str", **asked: Any) -> "Report":
        """Measure the chosen model; see `Model.evaluate`."""
        return self.model.evaluate(data, **asked)

    def publish(self, name: str, **more: Any) -> "ModelVersion":
        """Make a version of the chosen model, which keeps what the test said of it; see `Model.publish`."""
        return self.model.publish(name, **{"metrics": self.record.tested.get("metrics", {}), **more})

    def leaderboard(self) -> list[dict[str, Any]]:
        """Return the candidates as rows, the best first."""
        return rows_of(self.record.leaderboard)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return self.record.model_dump(mode="json", exclude={"kept"})

    def json(self, indent: int | None = 2) -> str:
        """Return it as JSON."""
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False)

    def _facts(self) -> dict[str, str]:
        found, chosen = self.record, self.chosen
        tested, (low, high) = (
            found.tested.get("metrics", {}),
            found.tested.get("intervals", {}).get(found.metric, (0, 0)),
        )
        facts = {
            "chosen": f"{chosen.name}, {chosen.words}",
            "cross-validated": f"{found.metric} {show.number(chosen.score)}, on {found.rows:,} rows that were learnt from, {found.folds} folds",
        }
        if found.metric in tested:
            facts["test"] = (
                f"{found.metric} {show.number(tested[found.metric])} ({show.number(low)} to {show.number(high)}), once, on "
                f"{found.tested['rows']:,} rows that no candidate has seen"
            )
        facts["time"] = f"{show.span(found.seconds)} of {show.span(found.budget)}"
        return facts | {f"note {place}": note for place, note in enumerate(found.notes, 1)}

    def _title(self) -> str:
        return f"A model for {self.record.target} of {self.record.data}: {len(self.record.leaderboard)} candidates"

    def __rich__(self) -> "Group":
        from rich.console import Group
        from rich.text import Text

        return Group(Text(self._title(), style="bold"), table(self.record.leaderboard), show.facts_table(self._facts()))

    def __repr__(self) -> str:
        return show.text(self.__rich__())

    def _repr_html_(self) -> str:
        return show.card(self._title(), self._facts(), show.html_table(_HEAD, _lines(self.record.leaderboard)))


def rows_of(leaderboard: Sequence[Candidate]) -> list[dict[str, Any]]:
    """Return candidates as rows: place, name, family, state, score, how far the folds differ, seconds, settings, and every metric."""
    return [
        {
            "place": place if line.score is not None else None,
            "candidate": line.name,
            "family": line.family,
            "state": line.state,
            "score": line.score,
            "spread": _spread(line),
            "seconds": line.seconds,
            "settings": dict(line.settings),
            "metrics": dict(line.metrics),
            "words": line.words,
            "error": line.error,
        }
        for place, line in enumerate(leaderboard, 1)
    ]


def _spread(line: Candidate) -> float | None:
    """Return the standard deviation of the folds' scores."""
    if line.score is None or len(line.scores) < 2:
        return None
    return float((sum((one - line.score) ** 2 for one in line.scores) / (len(line.scores) - 1)) ** 0.5)


def _lines(leaderboard: Sequence[Candidate]) -> list[list[object]]:
    return [
        [row["place"], row["candidate"], row["state"], row["score"], row["spread"], round(row["seconds"], 2), row["error"] or row["words"]]
        for row in rows_of(leaderboard)
    ]  # fmt: skip


def table(leaderboard: Sequence[Candidate]) -> "Table":
    """Return candidates as a table."""
    return show.table(_HEAD, _lines(leaderboard))


def so_far(run: "runs.Run") -> list[Candidate]:
    """Return the leaderboard of an auto Run as it stands, whether it has ended or not. Raises `Invalid` for a Run of another stage."""
    if run.stage != "auto":
        raise Invalid(f"run {run.id} is of stage {run.stage}: an auto Run has a leaderboard")
    record = run.refresh().record
    if record.result is not None:
        return list(Found.model_validate(record.result).leaderboard)
    told: dict[int, Candidate] = {}
    for event in run.events("trial"):
        body: Mapping[str, Any] = event.body
        if body.get("kind") == "told":
            line = Candidate.model_validate(body["candidate"])
            told.setdefault(line.number, line)
    metric = run.record.spec.get("metric")
    values = metric is None and any("rmse" in line.metrics for line in told.values())
    sign = 1 if values or metric in SMALLER else -1
    return sorted(told.values(), key=lambda line: (line.score is None, sign * (line.score or 0.0), line.number))


def made(record: RunRecord, via: "Client") -> AutoResult:
    """Return what an auto Run that succeeded found."""
    return AutoResult(Found.model_validate(record.result), runs.Run(record, via), via)


def get_auto(run: str) -> AutoResult:
    """Return what an auto Run found. Raises `NotFound`, or `Invalid` where it is none, or has not succeeded."""
    found = runs.get_run(run)
    if found.stage != "auto" or found.record.result is None:
        raise Invalid(f"{run} is of stage {found.stage} and {found.record.state}; name an auto Run that succeeded")
    return made(found.record, found._client)
