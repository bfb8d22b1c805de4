"""`Model.tune`: a study is asked for, followed with a live table, and held with its trials and its best."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leptonai.core import plugins
from leptonai.core.errors import FieldError, Invalid
from leptonai.core.nouns import Run as RunRecord
from leptonai.core.stages import PACK, load
from leptonai.sdk import runs, show
from leptonai.sdk.specs import check, sent
from leptonai.sdk.tuning_live import LiveTable
from leptonai.tuning import space as spaces
from leptonai.tuning import words
from leptonai.tuning.spec import Trial, Tune, Tuned

if TYPE_CHECKING:
    from rich.console import Group

    from leptonai.sdk.client import Client
    from leptonai.sdk.http import Http

_SHOWN = 12  # trials that a prompt shows


def read_space(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a space as the spec has it; each value in few words, see `tuning.words.dimension`. Raises `Invalid`."""
    return {str(name): words.dimension(str(name), one) for name, one in dict(given).items()}


def document(
    space: Mapping[str, Any],
    data: str,
    validation: str | None,
    goal: object,
    budget: object,
    train: Mapping[str, Any],
    **more: Any,
) -> dict[str, Any]:
    """Return what is asked of the stage, checked but for the model. Raises `Invalid`."""
    found = {
        "data": data,
        "validation": validation,
        "space": read_space(space),
        "goals": words.goals(goal),
        **({} if budget is None else words.budget(budget)),
        "train": {name: value for name, value in train.items() if value is not None},
        **more,
    }
    found = {name: value for name, value in found.items() if value is not None}
    spaces.check(check(Tune, found, "tune").space)
    return found


def packed(
    build: Callable[[dict[str, Any]], Any], compiled: Mapping[str, Any], space: Mapping[str, Any]
) -> tuple[bytes, dict[str, str]]:
    """Try a function that builds models with settings from the middle of the space, and pack it.

    Returns its code, and which framework it builds for. Raises `Invalid` where it raises, or makes no model.
    """
    checked = check(Tune, {"data": "d", "space": read_space(space)}, "tune").space
    settings = words.example(checked, spaces.check(checked), spaces.is_active)
    try:
        made = build(dict(settings))
    except Exception as error:
        short = " ".join(str(error).split())[:300]
        raise Invalid(
            f"build: it raised {type(error).__name__} for {settings}: {short}", errors=[FieldError("build", short)]
        ) from error
    model, own = made if isinstance(made, tuple) else (made, {})
    framework = plugins.framework_of(model)
    flavour = framework.pack(model, {**compiled, **own}).flavour
    return load(PACK)((build, dict(compiled)), "build"), {"framework": framework.name, "flavour": flavour}


def follow(http: "Http", record: RunRecord, *, show_progress: bool | None = None) -> RunRecord:
    """Follow a study to its end, with a table of its best trials where somebody watches. As `runs.follow`."""
    spec = Tune.model_validate(record.spec)
    table = LiveTable("tune", spec.goals, list(spec.space), show=show_progress)
    return runs.follow(http, record.id, shown=table)


class Tuning:
    """What a study found. `best` is the best trial, `best_params` its settings, `best_run` the train Run of its model."""

    def __init__(self, record: Tuned, run: "runs.Run", via: "Client"):
        self.record = record
        self.run = run
        self._client = via

    @property
    def goals(self) -> tuple[str, ...]:
        """What was to be as good as can be."""
        return tuple(goal.metric for goal in self.record.goals)

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All trials, in the order in which they began."""
        return self.record.trials

    @property
    def best(self) -> Trial:
        """The best trial; with several goals, the best in the first of those that none beats."""
        return self.record.trials[self.record.best]

    @property
    def best_params(self) -> dict[str, Any]:
        """Its settings."""
        return dict(self.best.params)

    @property
    def best_value(self) -> float:
        """Its first goal."""
        return self.best.values[0]

    @property
    def front(self) -> tuple[Trial, ...]:
        """The trials that no other is better than in all goals; one, where there is one goal."""
        return tuple(self.record.trials[number] for number in self.record.front)

    @property
    def best_run(self) -> "runs.Run":
        """The train Run of the best model: what can be evaluated, exported and asked for again."""
        return self.run_of(self.record.best)

    def run_of(self, trial: int) -> "runs.Run":
        """Return the train Run of a trial that is on the `front`. Raises `Invalid` for any other: only the best are kept."""
        if trial not in self.record.front:
            numbers = ", ".join(map(str, self.record.front))
            raise Invalid(f"the model of trial {trial} was not kept: kept are the best, {numbers}")
        for item in self._client.http.pages("/runs", params={"parent": self.run.id, "stage": "train"}, limit=1000):
            if item["name"].endswith(f"-trial-{trial}"):
                return runs.Run(RunRecord.model_validate(item), self._client)
        raise Invalid(f"the train Run of trial {trial} is gone")

    @property
    def importance(self) -> dict[str, float]:
        """How much of the goal's spread each setting explains; empty where too few trials tell."""
        return dict(self.record.importance)

    def table(self) -> list[dict[str, Any]]:
        """Return the trials as rows: number, state, goals, settings, epochs, seconds."""
        return [dict(zip(self._head(), row, strict=True)) for row in self._rows(self.trials)]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return self.record.model_dump(mode="json", exclude={"kept"})

    def json(self, indent: int | None = 2) -> str:
        """Return it as JSON."""
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False)

    def html(self, path: str | Path | None = None) -> str:
        """Return it as one HTML page with plots, that needs no network and runs no script; and write it, where a path is given."""
        from leptonai.sdk.tuning_page import page

        text = page(self.record, self.run.id)
        if path is not None:
            Path(path).write_text(text, "utf-8")
        return text

    def _head(self) -> list[str]:
        return ["trial", "state", *self.goals, *self.record.space, "epochs", "seconds"]

    def _rows(self, trials: Sequence[Trial]) -> list[list[object]]:
        none = [None] * len(self.goals)
        return [
            [
                trial.number,
                trial.state,
                *(trial.values or none),
                *(trial.params.get(name) for name in self.record.space),
                trial.epochs,
                round(trial.seconds, 4),
            ]
            for trial in trials
        ]

    def _ranked(self) -> list[Trial]:
        """The best first: those of the front, then by the first goal."""
        sign = -1 if self.record.goals[0].larger else 1
        on = set(self.record.front)
        done = [trial for trial in self.trials if trial.values]
        return sorted(done, key=lambda t: (t.number not in on, t.state != "done", sign * t.values[0], t.number))

    def _title(self) -> str:
        states = [trial.state for trial in self.trials]
        counts = ", ".join(f"{states.count(word)} {word}" for word in ("done", "pruned", "failed") if word in states)
        return f"Tuning of {', '.join(self.goals)} on {self.record.data}: {len(states)} trials ({counts}) in {show.span(self.record.seconds)}"

    def _lines(self) -> Iterator[str]:
        yield f"best: trial {self.best.number}, " + ", ".join(
            f"{goal} {show.number(value)}" for goal, value in zip(self.goals, self.best.values, strict=True)
        )
        yield from (f"note: {note}" for note in self.record.notes)

    def __rich__(self) -> "Group":
        from rich.console import Group
        from rich.text import Text

        best = self._ranked()[:_SHOWN]
        shown = show.fitting(self._head(), self._rows(best), 110)
        return Group(Text(self._title(), style="bold"), *shown, *map(Text, self._lines()))

    def __repr__(self) -> str:
        return show.text(self.__rich__())

    def _repr_html_(self) -> str:
        facts = {word: text for word, _, text in (line.partition(": ") for line in self._lines())}
        return show.card(self._title(), facts, show.html_table(self._head(), self._rows(self._ranked()[:_SHOWN])))


def ids(start: Any) -> list[str]:
    """Return the ids of earlier studies, given as ids, Runs or what `tune` returned."""
    several = list(start) if isinstance(start, (list, tuple)) else [start]
    return [one if isinstance(one, str) else str(getattr(one, "run", one).id) for one in several]


def submit(via: "Client", asked: Mapping[str, Any], name: str | None) -> RunRecord:
    """Ask for a study."""
    return runs.submit(via.http, "tune", sent(check(Tune, asked, "tune")), name=name)


def made(record: RunRecord, via: "Client") -> Tuning:
    """Return what a tune Run that succeeded found."""
    return Tuning(Tuned.model_validate(record.result), runs.Run(record, via), via)


def get_tuning(run: str) -> Tuning:
    """Return what a tune Run found. Raises `NotFound`, or `Invalid` where it is none, or has not succeeded."""
    found = runs.get_run(run)
    if found.stage != "tune" or found.record.result is None:
        raise Invalid(f"{run} is of stage {found.stage} and {found.record.state}; name a tune Run that succeeded")
    return made(found.record, found._client)
