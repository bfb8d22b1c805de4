"""What a tuning Run does: asks for a trial, has it learn, writes down how it ended, and keeps the best."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.nouns import Run
from leptonai.core.stages import TRIALS, Handle, load
from leptonai.tuning import journal, space
from leptonai.tuning.away import help_there
from leptonai.tuning.crew import Alone, Crew, Helpers
from leptonai.tuning.front import Front
from leptonai.tuning.helper import help_with
from leptonai.tuning.journal import Course
from leptonai.tuning.nursery import Nursery
from leptonai.tuning.saves import Saves
from leptonai.tuning.spec import Kept, Trial, Tune, Tuned
from leptonai.tuning.study import Study, load_engine, usable

FAILURES = 5  # trials that may fail before one is done
_MOST = 16  # processes, where nobody said how many
_SPARE = 2  # how much of what the first process holds another one may come to hold


def tune(spec: Tune, handle: Handle) -> dict[str, Any]:
    """Run the study to the end of its budget, and return a `Tuned`. Goes on from the journal of an earlier attempt."""
    order = space.check(spec.space)
    cores = len(os.sched_getaffinity(0)) if handle.place is None else _MOST
    most = min(spec.parallel or min(cores, _MOST), spec.trials or _MOST)
    saves = Saves(handle)
    if most == 1:
        bench = load(TRIALS)(spec.train, spec.built, handle)
        bench.check(order)
        epochs = max(int(bench.epochs(one)) for one in _epochs(spec))
        return _run(spec, handle, order, epochs, Alone(bench, spec.goals, handle, saves), _course(handle))
    # First of all: what is forked from a process that has computed hangs.
    if handle.place is None:
        nursery = Nursery(lambda line: help_with(spec, order, _epochs(spec), handle, line))
    else:
        cores = 1  # of each: a cluster gives a process one
        nursery = Nursery(help_there(spec, order, _epochs(spec), handle), handle.place["ahead"])
    crew = Helpers(nursery, spec, saves, most, cores, lambda held: _room(held, handle), handle.say)
    try:
        crew.start()
        load_engine()
        course = _course(handle)  # while the first of them opens the rows
        crew.ready()
        return _run(spec, handle, order, crew.facts["epochs"], crew, course)
    finally:
        crew.close()


def _course(handle: Handle) -> Course:
    return journal.read(handle.noted())


def _run(spec: Tune, handle: Handle, order: list[str], epochs: int, crew: Crew, course: Course) -> dict[str, Any]:
    spec, earlier = _warm(spec, handle)
    study = Study(spec, order, epochs, earlier)
    study.replay(course)
    if course.asked:
        handle.say(f"goes on with the study: {len(course.told)} trials are known, {len(course.open)} begin again")
    return Tuning(spec, handle, crew, study, course, earlier).run()


def _epochs(spec: Tune) -> list[dict[str, Any]]:
    """Return settings among which are those with the most epochs."""
    dimension = spec.space.get("epochs")
    if dimension is None:
        return [{}]
    return [{"epochs": v} for v in (*dimension.choices, dimension.high) if v is not None]


def _room(held: int, handle: Handle) -> int:
    """Return how many processes there is memory for, where the first holds so many bytes."""
    facts = dict(line.split(":") for line in Path("/proc/meminfo").read_text("ascii").splitlines())
    free = int(facts["MemAvailable"].split()[0]) << 10
    if (limit := handle.run.limits.memory_mb) is not None:
        free = min(free, (limit << 20) - _SPARE * held)
    return 1 + max(0, free // (_SPARE * held))


def _warm(spec: Tune, handle: Handle) -> tuple[Tune, list[Trial]]:
    """Return the trials of earlier studies: as history where their figures compare, else their best settings are tried first."""
    known: list[Trial] = []
    first: list[dict[str, Any]] = []
    for id in spec.start:
        run: Run = handle.get(id)
        tuned = Tuned.model_validate(run.result)
        if (tuned.data, tuned.validation, tuned.goals) == (spec.data, spec.validation, spec.goals):
            known += usable(tuned.trials, spec)
            handle.say(f"begins with what {id} found: {len(known)} trials")
            continue
        best = [trial for trial in tuned.trials if trial.number in tuned.front]
        first += [trial.params for trial in usable(best, spec)]
        handle.say(
            f"{id} was on other data, or had other goals: its figures do not compare, and its best settings are tried first"
        )
    more = [params for params in first if params not in spec.first]
    return spec.model_copy(update={"first": (*spec.first, *more)}), known


@dataclass
class Tuning:
    """One attempt at a study."""

    spec: Tune
    handle: Handle
    crew: Crew
    study: Study
    course: Course
    earlier: list[Trial]
    _began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        # In the order in which they ended: of two that are equal, the model of the first was kept.
        self.front = Front(self.spec.goals, self.course.told.values())

    def run(self) -> dict[str, Any]:
        """Do trial after trial. What some came to is written down in the one write that begins the next."""
        waiting = self.course.open
        entries: list[dict[str, Any]] = []
        self._progress()
        while True:
            while len(waiting) < self.crew.free and self._goes_on():
                entry = self.study.ask()
                self.course.asked[entry["number"]] = entry
                entries.append(entry)
                waiting.append(entry["number"])
            if self._met():  # nobody waits for those that are at work; what they would have told is of no use
                waiting, unbegun = [], [Trial(number=n, state="pruned", params=self._params(n)) for n in waiting]
                entries += [self._told(trial, None) for trial in (*self.crew.give_up(), *unbegun)]
            if entries:
                self.handle.note(*entries)
                self._forget_lesser()
            begun, waiting = waiting[: self.crew.free], waiting[self.crew.free :]
            for number in begun:
                self.crew.begin(number, self._params(number))
            if not self.crew.busy:
                break
            entries = [self._told(*one) for one in self.crew.ended(self)]
        return self._result().model_dump(mode="json")

    def report(self, number: int, epoch: int, value: float) -> bool:
        """See `crew.Judge`."""
        return self.study.report(number, epoch, value)

    def takes(self, trial: Trial) -> bool:
        """See `crew.Judge`."""
        return self.front.takes(trial)

    def _params(self, number: int) -> dict[str, Any]:
        return dict(self.course.asked[number]["params"])

    def _told(self, trial: Trial, kept: Kept | None) -> dict[str, Any]:
        """Take how a trial ended, and return the journal's entry."""
        attrs = self.study.tell(trial)
        self.course.told[trial.number] = trial
        self.front.add(trial)
        if kept is not None:
            self.course.kept[trial.number] = kept
        self._say(trial)
        self._progress()
        return journal.told(trial, attrs, kept, self._seconds())

    # ------------------------------------------------------------------------------------------------ the study

    def _seconds(self) -> float:
        return self.course.seconds + time.monotonic() - self._began

    def _goes_on(self) -> bool:
        """Whether there is another trial. Raises `Invalid` where trials only fail."""
        told = self.course.told
        if len(told) >= FAILURES and all(trial.state == "failed" for trial in told.values()):
            raise self._all_failed()
        if self._met():
            return False
        most = [count for count in (self.spec.trials, self.study.points) if count is not None]
        if most and self.study.count >= min(most):
            return False
        return self.spec.seconds is None or self._seconds() < self.spec.seconds

    def _met(self) -> bool:
        best, enough = self.front.best, self.spec.stop_at
        if best is None or enough is None:
            return False
        return best.values[0] >= enough if self.spec.goals[0].larger else best.values[0] <= enough

    def _all_failed(self) -> Invalid:
        trial = list(self.course.told.values())[-1]
        return Invalid(
            f"all {len(self.course.told)} trials failed; the last, with {_shown(trial.params)}: {trial.error}",
            errors=[FieldError("space", trial.error or "")],
        )

    def _forget_lesser(self) -> None:
        """Forget the models of trials that are not among the best any more; it is safe by now which are."""
        for number in [number for number in self.course.kept if number not in self.front.numbers]:
            fitted = self.course.kept.pop(number).fitted
            for blob in (fitted["code"], fitted["weights"], fitted.get("events")):
                if blob:
                    self.handle.raw.delete(blob)

    def _progress(self) -> None:
        if self.spec.trials or self.study.points:
            most = min(count for count in (self.spec.trials, self.study.points) if count is not None)
            self.handle.progress(len(self.course.told), most, "trials")
        else:
            self.handle.progress(round(self._seconds()), round(self.spec.seconds or 0), "seconds")

    def _say(self, trial: Trial) -> None:
        goals = self.spec.goals
        named = {goal.metric: value for goal, value in zip(goals, trial.values, strict=False)}
        if trial.state == "failed":
            self.handle.say(f"trial {trial.number} failed, with {_shown(trial.params)}: {trial.error}")
            return
        if not trial.values:
            self.handle.say(f"trial {trial.number} was given up: the goal is met")
            return
        self.handle.say(f"trial {trial.number} {trial.state}: {_shown(named)}, with {_shown(trial.params)}")
        if trial.state == "done":
            value = self.front.best.values[0] if self.front.best else named[goals[0].metric]
            self.handle.log(trial.number + 1, **named, **{f"best_{goals[0].metric}": value})

    def _result(self) -> Tuned:
        trials = tuple(self.course.told[number] for number in sorted(self.course.told))
        best = self.front.numbers
        if not best:
            raise self._all_failed() if trials else Invalid("the budget is too small: no trial was done")
        return Tuned(
            data=self.spec.data,
            validation=self.spec.validation,
            goals=self.spec.goals,
            space=self.spec.space,
            best=best[0],
            front=best,
            trials=trials,
            importance=self.study.importance(),
            kept={str(number): self.course.kept[number] for number in best},
            seconds=self._seconds(),
            notes=tuple(self._notes(trials)),
        )

    def _notes(self, trials: tuple[Trial, ...]) -> list[str]:
        notes = []
        failed = [trial for trial in trials if trial.state == "failed"]
        if failed:
            notes.append(f"{len(failed)} of {len(trials)} trials failed; the last: {failed[-1].error}")
        best = self.front.best
        if best is not None and any(
            Front(self.spec.goals, [best, trial]).numbers[0] != best.number for trial in self._foreign()
        ):
            notes.append("an earlier study, which this one began with, found a better one")
        return notes

    def _foreign(self) -> list[Trial]:
        return [trial.model_copy(update={"number": -1 - at}) for at, trial in enumerate(self.earlier)]


def _shown(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
    )
