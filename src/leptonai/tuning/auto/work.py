"""What an auto Run does: tries one candidate after the other within its budget, and keeps the best."""

import os
import signal
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from leptonai.core.errors import Invalid, RunFailed, from_dict
from leptonai.core.stages import Handle
from leptonai.tuning.auto import journal
from leptonai.tuning.auto.journal import Course
from leptonai.tuning.auto.spec import SMALLER, Auto, Candidate, Found
from leptonai.tuning.auto.worker import work_with
from leptonai.tuning.nursery import Hired, Nursery
from leptonai.tuning.spec import Kept

_SHARE = 3  # a candidate may take this part of what is left
_FIRST = 2.7  # while none beside the baseline is judged, this one: time for a fold, and then to fit it on all rows
_SLOWER = 1.3  # how much longer than it did the last fit may take
_SURE = 0.7  # of its share, so much is planned with
_BLENDED = 5  # of the best, at most so many are weighed together
_RESERVE = 0.25  # of the budget: so much is kept for fitting them once more, at most
_GRACE = 5.0  # seconds that the last fit may take beyond the budget, where it is slower than it was
_TEST = 60.0  # seconds more until it is given up: it is written down and measured, too, and the next one would take as long again
_BASELINE = "baseline"


class Cut(Exception):
    """What was asked took longer than it may."""


class Failed(Exception):
    """What was asked could not be done; says why."""


def auto(spec: Auto, handle: Handle) -> dict[str, Any]:
    """Find a model, and return a `Found`. Goes on from the journal of an earlier attempt."""
    # First of all: what is forked from a process that has computed hangs.
    nursery = Nursery(lambda line: work_with(spec, handle, line))
    worker = Worker(nursery)
    try:
        return Search(spec, handle, worker, journal.read(handle.noted())).run().model_dump(mode="json")
    finally:
        worker.end()
        nursery.close()


@dataclass
class Worker:
    """The process that tries candidates; a new one, where the last was ended or died."""

    nursery: Nursery
    facts: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0  # that it took to read the rows
    _hired: Hired | None = None

    def start(self) -> None:
        """Start it, and wait until it has read the rows. Raises what it could not do."""
        if self._hired is None:
            self._hired, began = self.nursery.hire(), time.monotonic()
            try:
                self.facts = self._answer(None)
                self.seconds = time.monotonic() - began
            except Failed as error:
                raise RunFailed(f"the process that was to try models died while it read the rows: {error}") from None

    def ask(self, word: str, *about: Any, until: float | None = None) -> Any:
        """Have something done. Raises `Cut` where it is not done by `until` (monotonic), `Failed` where it cannot be."""
        self.start()
        hired = self._hired
        assert hired is not None  # noqa: S101  started
        try:
            hired.line.send((word, about))
        except BrokenPipeError:
            raise Failed(self._how()) from None
        return self._answer(until)

    def end(self) -> None:
        """End it, whatever it does."""
        if self._hired is not None:
            signal.pidfd_send_signal(self._hired.end, signal.SIGKILL)
            self._how()

    def _answer(self, until: float | None) -> Any:
        hired = self._hired
        assert hired is not None  # noqa: S101  started
        try:
            if not hired.line.poll(None if until is None else max(0.0, until - time.monotonic())):
                self.end()
                raise Cut
            word, about = hired.line.recv()
        except (EOFError, ConnectionError):
            raise Failed(self._how()) from None
        if word == "broke":
            raise from_dict(about)
        if word == "failed":
            raise Failed(about)
        return about

    def _how(self) -> str:
        hired, self._hired = self._hired, None
        if hired is None:
            return "it is gone"
        hired.line.close()
        os.close(hired.end)
        return f"its process died: {self.nursery.how(hired.pid)}"


@dataclass
class Search:
    """One attempt at a search."""

    spec: Auto
    handle: Handle
    worker: Worker
    course: Course
    _began: float = field(default_factory=time.monotonic)
    _notes: list[str] = field(default_factory=list)

    def run(self) -> Found:
        """Try candidates while there is time, then keep the best."""
        self.worker.start()
        facts = self.worker.facts
        self._notes += facts["notes"]
        if self.course.told:
            self.handle.say(f"goes on with the search: {len(self.course.told)} candidates are known")
        if facts["judged"] < facts["folds"]:
            self._notes.append(
                f"{facts['rows']:,} rows are many: {facts['judged']} of {facts['folds']} folds are judged by each candidate"
            )
        planned = facts["planned"]
        if self.course.kept is None:
            for number, candidate in enumerate(planned):
                if number not in self.course.told:
                    if number > 1 and not self._room():
                        break
                    if fitting := self._fitting(candidate):
                        self._try(number, fitting)
            self._blend(len(planned))
            self._keep()
        return self._result()

    # ------------------------------------------------------------------------------------------------ the time

    def _seconds(self) -> float:
        return self.course.seconds + time.monotonic() - self._began

    def _left(self) -> float:
        """Return the seconds that are left for trying: without the last fit, of the best together, and reading again."""
        best = [self._refit(line) for line in self._ranked()[: _BLENDED if self.worker.facts["blends"] else 1]]
        together = min(sum(best), max([self.spec.budget * _RESERVE, *best[:1]]))
        return self.spec.budget - self._seconds() - self.worker.seconds - together

    def _room(self) -> bool:
        """Whether another candidate is tried: not in less time than the quickest took for a fold, for to cut one off costs some, too."""
        fits = [line.fit_seconds for line in self._ranked() if line.family != _BASELINE]
        return self._left() > max(1.0, self.spec.budget / 30, _SHARE * min(fits, default=0.0))

    def _share(self) -> float:
        """Return the seconds that a candidate may take: more while there is no model, for any is better than the baseline."""
        if any(line.score is not None and line.family != _BASELINE for line in self.course.told.values()):
            return self._left() / _SHARE
        return max(self._left() / _FIRST, _GRACE)

    def _fitting(self, candidate: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return a candidate with as many epochs as its share of the time allows, by what one took the last of its family.

        None where that are no more than the shortest of them had, or not half of those of the best.
        """
        asked = candidate["settings"].get("epochs")
        known = [
            (line.settings["epochs"], line.fit_seconds or line.seconds)  # one that was cut off takes at least as long
            for line in self.course.told.values()
            if asked and line.family == candidate["family"] and line.state != "failed"
        ]
        if not known:
            return candidate
        epochs, seconds = known[-1]  # the last tells best how quick the machine is now
        fitting = asked if seconds == 0 else int(self._share() * _SURE * epochs / seconds)
        if fitting >= asked:
            return candidate
        best = next((line for line in self._ranked() if line.family == candidate["family"]), None)
        if fitting <= min(known)[0] or (best is not None and fitting < best.settings["epochs"] / 2):
            return None
        self.handle.say(f"{candidate['name']} learns for {fitting} epochs: there is no time for {asked}")
        return {**candidate, "settings": {**candidate["settings"], "epochs": fitting}}

    def _refit(self, line: Candidate) -> float:
        """Return about how long it takes to learn from all rows; once more, where the test is the last of them."""
        folds, times = self.worker.facts["folds"], 1 if self.spec.test else 2
        return float(line.fit_seconds * folds / (folds - 1) * _SLOWER * times)

    # ------------------------------------------------------------------------------------------- one candidate

    def _try(self, number: int, candidate: Mapping[str, Any]) -> None:
        self.handle.note(journal.asked(number, candidate))
        facts, began = self.worker.facts, time.monotonic()
        share = None if candidate["family"] == _BASELINE else self._share()
        until = None if share is None else began + share
        scores: list[dict[str, float]] = []
        fits: list[float] = []
        state, error, said = "done", None, None
        try:
            for fold in range(facts["judged"]):
                metrics, seconds = self.worker.ask("fold", candidate, fold, until=until)
                self._known(metrics)
                scores.append(metrics)
                fits.append(seconds)
                self._progress()
                expected = (time.monotonic() - began) / (fold + 1) * facts["judged"]
                if share is not None and expected > share and fold + 1 < facts["judged"]:
                    raise Cut
            said = self.worker.ask("said", until=None)
        except Cut:
            state = "part" if scores else "cut"
            error = f"{len(scores)} of {facts['judged']} folds: all would take more than its share of the time, {share:.3g} s"
        except Failed as why:
            state, error, scores = "failed", str(why), []
        self._told(number, candidate, state, scores, fits, error, said, time.monotonic() - began)

    def _known(self, metrics: Mapping[str, float]) -> None:
        metric = self.worker.facts["metric"]
        if metric not in metrics:
            known = ", ".join(sorted(metrics))
            raise Invalid(f"metric: there is no {metric!r} here: use one of {known}")

    def _told(
        self, number: int, candidate: Mapping[str, Any], state: Any, scores: list[dict[str, float]], fits: list[float],
        error: str | None, said: str | None, seconds: float,
    ) -> None:  # fmt: skip
        metric = self.worker.facts["metric"]
        each = tuple(float(one[metric]) for one in scores)
        names = set.intersection(*map(set, scores)) if scores else set()
        line = Candidate(
            number=number,
            name=candidate["name"],
            family=candidate["family"],
            words=candidate["words"],
            settings={name: value for name, value in candidate["settings"].items() if name != "members"},
            state=state,
            score=sum(each) / len(each) if each else None,
            scores=each,
            metrics={name: sum(one[name] for one in scores) / len(scores) for name in sorted(names)},
            seconds=seconds,
            fit_seconds=sum(fits) / len(fits) if fits else 0.0,
            error=error,
        )
        self.course.told[number] = line
        self.course.made[number] = dict(candidate)
        if said is not None:
            self.course.said[number] = said
        self.handle.note(journal.told(line, candidate, said, self._seconds()))
        self._say(line)
        self._progress()

    def _say(self, line: Candidate) -> None:
        metric = self.worker.facts["metric"]
        if line.score is None:
            self.handle.say(f"{line.name} {'was cut off' if line.state == 'cut' else 'failed'}: {line.error}")
            return
        if line.state == "part":
            self.handle.say(f"{line.name} was judged on {line.error}")
        self.handle.say(f"{line.name}: {metric} {line.score:.4g} in {line.seconds:.2f} s ({line.words})")
        best = self._ranked()[0].score or 0.0
        self.handle.log(len(self.course.told), **{metric: line.score, f"best_{metric}": best})

    def _progress(self) -> None:
        self.handle.progress(min(round(self._seconds(), 1), self.spec.budget), self.spec.budget, "seconds")

    # ------------------------------------------------------------------------------------------------- the best

    @property
    def _larger(self) -> bool:
        return self.worker.facts["metric"] not in SMALLER

    def _ranked(self) -> list[Candidate]:
        """Return the candidates that were judged, the best first; of equal ones the cheaper."""
        done = [line for line in self.course.told.values() if line.score is not None]
        sign = -1 if self._larger else 1
        return sorted(done, key=lambda line: (sign * self._fair(line), line.fit_seconds, line.number))

    def _fair(self, line: Candidate) -> float:
        """Return the score as it would be on all folds: of one that saw some, without what these were easier for the others."""
        some = len(line.scores)
        told = [one for one in self.course.told.values() if one.state == "done" and one.family != _BASELINE]
        easier = [sum(one.scores[:some]) / some - one.score for one in told if one.score is not None]
        return (line.score or 0.0) - (statistics.median(easier) if line.state == "part" and easier else 0.0)

    def _blend(self, number: int) -> None:
        """Weigh the best together, where they can be and there is time to fit them all once more."""
        if number in self.course.told or (self.spec.families and "blend" not in self.spec.families):
            return
        together: list[Candidate] = []
        room = self.spec.budget - self._seconds()
        for line in self._ranked():
            fits = self.worker.facts["blends"]
            if (
                line.number in self.course.said
                and line.family in fits
                and self._refit(line) < room / 2
                and len(together) < _BLENDED
            ):
                together.append(line)
                room -= self._refit(line)
        if len(together) < 2:
            return
        members = [self.course.made[line.number] for line in together]
        blobs = [self.course.said[line.number] for line in together]
        began = time.monotonic()
        try:
            found = self.worker.ask("blend", members, blobs, until=began + max(1.0, room / 2))
        except (Cut, Failed) as why:
            self.handle.say(f"the best are not weighed together: {str(why) or 'there is no time for it'}")
            return
        if found is not None:
            used = found["candidate"]["settings"]["weights"]
            fits = sum(line.fit_seconds for line in together if line.name in used)
            self._told(
                number, found["candidate"], "done", found["scores"], [fits], None, None, time.monotonic() - began
            )

    def _keep(self) -> None:
        """Fit the best on all rows; where that takes far longer than it did, or fails, the next one."""
        ranked = self._ranked()
        if not ranked:
            first = next(iter(self.course.told.values()), None)
            raise Invalid(
                f"no model could learn from {self.spec.data}: {first.error if first else 'there was no time'}"
            )
        models = [line for line in ranked if line.family != _BASELINE] or ranked
        # A model that is late is better than the baseline.
        surest = (min(models, key=lambda line: line.fit_seconds), ranked[-1])
        for line in ranked:
            self.worker.start()  # where one was cut off: the time to read the rows again is not the fit's
            left = self.spec.budget - self._seconds()
            if self._refit(line) > left + _GRACE and line not in surest:
                self._notes.append(f"{line.name} is not kept: there was no time left to fit it on all rows")
                continue
            until = None if line in surest else time.monotonic() + max(left, self._refit(line)) + _GRACE + _TEST
            self.handle.say(f"{line.name} is fitted on all rows but those of the test")
            try:
                spec, fitted, tested = self.worker.ask("keep", self.course.made[line.number], until=until)
            except (Cut, Failed) as why:
                self._notes.append(f"{line.name} is not kept: {str(why) or 'to fit it on all rows took too long'}")
                continue
            entry = journal.kept(line.number, Kept(spec=spec, fitted=fitted), tested, self._seconds())
            self.handle.note(entry)
            self.course.kept = entry
            return
        raise Invalid(f"no model could learn from all rows of {self.spec.data}: {self._notes[-1]}")

    def _result(self) -> Found:
        facts, kept = self.worker.facts, self.course.kept or {}
        for blob in self.course.said.values():
            self.handle.raw.delete(blob)
        ranked = self._ranked()
        rest = [line for line in self.course.told.values() if line.score is None]
        target = str(self.spec.target)
        return Found(
            data=self.spec.data,
            test=self.spec.test,
            target=target,
            kind=self.spec.kind,
            task=facts["task"],
            metric=facts["metric"],
            larger=self._larger,
            folds=facts["judged"],
            by=self.spec.by,
            rows=facts["rows"],
            leaderboard=(*ranked, *sorted(rest, key=lambda line: line.number)),
            chosen=int(kept["number"]),
            tested=dict(kept["tested"]),
            kept=Kept.model_validate(kept["kept"]),
            seconds=self._seconds(),
            budget=self.spec.budget,
            notes=tuple(self._notes),
        )
