"""Who tries settings for a study: its own process, or several beside it that are warm and stay. Both are asked in one way.

A process that dies takes no trial with it: the trial begins again in another one; if that dies of it too, it has failed.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing import connection
from typing import Any, Protocol

from leptonai.core.errors import RunFailed, from_dict
from leptonai.core.stages import Handle
from leptonai.tuning.attempt import attempt
from leptonai.tuning.nursery import Hired, Nursery
from leptonai.tuning.saves import Saves
from leptonai.tuning.spec import Goal, Kept, Trial, Tune

DEATHS = 2  # of processes, by one trial, before it has failed

Ended = tuple[Trial, Kept | None]


class Judge(Protocol):
    """What a crew asks the study."""

    def report(self, number: int, epoch: int, value: float) -> bool:
        """Whether to give a trial up after an epoch."""

    def takes(self, trial: Trial) -> bool:
        """Whether the model of a trial is to be kept."""


class Crew(Protocol):
    """Does trials."""

    @property
    def free(self) -> int:
        """How many trials can begin now."""

    @property
    def busy(self) -> bool:
        """Whether a trial is at work."""

    def begin(self, number: int, params: Mapping[str, Any]) -> None:
        """Begin a trial; only where one is free."""

    def ended(self, judge: Judge) -> list[Ended]:
        """Wait until a trial has ended, and return those that have; none where another process can begin one now."""

    def give_up(self) -> list[Trial]:
        """End the trials that are at work, and return them."""

    def close(self) -> None:
        """End what was started."""


class Alone:
    """The study's own process: one trial after the other."""

    def __init__(self, bench: Any, goals: tuple[Goal, ...], handle: Handle, saves: Saves):
        self._bench, self._goals, self._handle, self._saves = bench, goals, handle, saves
        self._waiting: list[tuple[int, Mapping[str, Any]]] = []

    @property
    def free(self) -> int:
        """See `Crew`."""
        return 1 - len(self._waiting)

    @property
    def busy(self) -> bool:
        """See `Crew`."""
        return bool(self._waiting)

    def begin(self, number: int, params: Mapping[str, Any]) -> None:
        """See `Crew`."""
        self._waiting.append((number, params))

    def ended(self, judge: Judge) -> list[Ended]:
        """See `Crew`."""
        number, params = self._waiting.pop()
        tried = attempt(self._bench, self._goals, self._handle, _Own(judge, self._saves), number, params)
        self._saves.drop(number)
        return [(tried.trial, tried.keep() if tried.keep is not None and judge.takes(tried.trial) else None)]

    def give_up(self) -> list[Trial]:
        """See `Crew`: whatever ended, ended before the next began."""
        return []

    def close(self) -> None:
        """See `Crew`."""


@dataclass
class _Own:
    """A `watch.Line` within one process."""

    judge: Judge
    saves: Saves

    def report(self, number: int, epoch: int, value: float) -> bool:
        return self.judge.report(number, epoch, value)

    def save(self, number: int, files: Mapping[str, bytes]) -> None:
        self.saves.save(number, files)

    def saved(self, number: int) -> dict[str, bytes]:
        return self.saves.of(number)


@dataclass
class _Helper:
    """A process that tries settings, and the trial it has."""

    hired: Hired
    ready: bool = False
    number: int | None = None


@dataclass
class Helpers:
    """Several processes. `most`: how many; `fits`: (bytes of the first one) -> how many there is memory for.

    Those on other machines (`away`) are told nothing before they are ready: until one has a processor free, none may be.
    """

    nursery: Nursery
    spec: Tune
    saves: Saves
    most: int
    cores: int
    fits: Callable[[int], int]
    say: Callable[[str], None]
    facts: dict[str, Any] = field(default_factory=dict)  # what the first one told when it was ready
    away: bool = False
    _all: list[_Helper] = field(default_factory=list)
    _params: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    _deaths: dict[int, int] = field(default_factory=dict)
    _again: list[int] = field(default_factory=list)  # trials whose process died

    def start(self) -> None:
        """Start the first, which begins to read the rows."""
        self._hire()

    def ready(self) -> None:
        """Wait until the first has read the rows, and start the others. Raises what it could not do."""
        while not self._all[0].ready:
            self._hear_all(None)
        if self.facts["gpu"] and self.spec.parallel is None:
            self.most = 1
        elif "processors" in self.facts:
            self.away = True
            self.most = self.most if self.spec.parallel else min(self.most, self.facts["processors"])
        elif self.spec.parallel is None and (room := self.fits(self.facts["held"])) < self.most:
            self.say(f"{room} of {self.most} trials run beside each other: for more there is too little memory")
            self.most = room
        while len(self._all) < self.most:
            self._hire()

    @property
    def free(self) -> int:
        """See `Crew`. One that still reads the rows is free, too: what it is told waits for it."""
        return len(self._idle) - len(self._again)

    @property
    def _idle(self) -> list[_Helper]:
        return [one for one in self._all if one.number is None and (one.ready or not self.away)]

    @property
    def busy(self) -> bool:
        """See `Crew`."""
        return (
            bool(self._again)
            or any(one.number is not None for one in self._all)
            or (bool(self._all) and not self._idle)
        )

    def begin(self, number: int, params: Mapping[str, Any]) -> None:
        """See `Crew`."""
        idle = self._idle
        helper = next((one for one in idle if one.ready), idle[0])
        helper.number = number
        self._params[number] = params
        threads = max(1, self.cores // len(self._all))
        with contextlib.suppress(BrokenPipeError):  # it died: that is heard next
            helper.hired.line.send((number, dict(params), self.saves.of(number), threads))

    def ended(self, judge: Judge) -> list[Ended]:
        """See `Crew`."""
        found = self._hear_all(judge)
        while self._again and self._idle:
            number = self._again.pop(0)
            self.begin(number, self._params[number])
        return found

    def give_up(self) -> list[Trial]:
        """See `Crew`."""
        found = [one for one in self._all if one.number is not None]
        for one in list(self._all):  # also who waits for a place
            self._dismiss(one)
        numbers = [one.number for one in found if one.number is not None] + self._again
        self._again.clear()
        return [Trial(number=n, state="pruned", params=dict(self._params[n])) for n in sorted(numbers)]

    def close(self) -> None:
        """See `Crew`."""
        for one in list(self._all):
            self._dismiss(one)
        self.nursery.close()

    # ------------------------------------------------------------------------------------------------ the processes

    def _hire(self) -> None:
        self._all.append(_Helper(self.nursery.hire()))

    def _dismiss(self, helper: _Helper) -> None:
        self._all.remove(helper)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(helper.hired.end, signal.SIGKILL)
        helper.hired.line.close()
        os.close(helper.hired.end)

    def _hear_all(self, judge: Judge | None) -> list[Ended]:
        """Wait until one says something, or ends; answer what can be answered, and return the trials that ended."""
        waited: dict[Any, _Helper] = {}
        for one in self._all:
            waited |= {one.hired.line: one, one.hired.end: one}
        found: list[Ended] = []
        for helper in dict.fromkeys(id(waited[said]) for said in connection.wait(list(waited))):
            one = next(other for other in self._all if id(other) == helper)
            found += self._hear(one, judge)
        return found

    def _hear(self, helper: _Helper, judge: Judge | None) -> list[Ended]:
        try:
            if not helper.hired.line.poll():  # it has ended, and what it said was heard
                raise EOFError
            word, about = helper.hired.line.recv()
            return self._answer(helper, judge, word, about)
        except (EOFError, ConnectionError):
            return self._died(helper)

    def _answer(self, helper: _Helper, judge: Judge | None, word: str, about: Any) -> list[Ended]:
        line = helper.hired.line
        match word:
            case "ready":
                helper.ready = True
                self.facts = self.facts or about
            case "broke":
                raise from_dict(about)
            case "save":
                self.saves.save(*about)
                line.send(None)
            case "report":
                line.send(judge is not None and judge.report(*about))
            case "learnt":
                line.send(judge is not None and judge.takes(about))
            case "ended":
                helper.number = None
                self.saves.drop(about[0].number)
                return [about]
        return []

    def _died(self, helper: _Helper) -> list[Ended]:
        number = helper.number
        self._dismiss(helper)
        how, blamed = self.nursery.how(helper.hired.pid)
        if not helper.ready:  # the rows are too much for it, or for all of them
            if not self._all:
                raise RunFailed(f"the process that was to try settings died before it had read the rows: {how}")
            self.say(
                f"one of the processes that try settings died before it had read the rows, and is done without: {how}"
            )
            self._again += [] if number is None else [number]
            return []
        self._hire()
        if number is None:
            return []
        self._deaths[number] = self._deaths.get(number, 0) + blamed
        if self._deaths[number] < DEATHS:
            self.say(f"the process of trial {number} died ({how}); the trial begins again in another one")
            self._again.append(number)
            return []
        self.saves.drop(number)
        error = f"its process died, and so did the one in which it began again: {how}"
        return [(Trial(number=number, state="failed", params=dict(self._params[number]), error=error), None)]
