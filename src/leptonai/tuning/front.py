"""Which trials are the best: by one goal, or by several, where those stay that no other is better than in all."""

from collections.abc import Iterable, Sequence

from leptonai.tuning.spec import Goal, Trial


class Front:
    """The best trials so far: none of them is beaten, the best in the first goal stands first."""

    def __init__(self, goals: Sequence[Goal], trials: Iterable[Trial] = ()):
        self._goals = tuple(goals)
        self._signs = [1 if goal.larger else -1 for goal in goals]
        self._best: list[Trial] = []
        for trial in trials:
            self.add(trial)

    @property
    def numbers(self) -> tuple[int, ...]:
        """Their numbers."""
        return tuple(trial.number for trial in self._best)

    @property
    def best(self) -> Trial | None:
        """The best in the first goal."""
        return self._best[0] if self._best else None

    def takes(self, trial: Trial) -> bool:
        """Whether the trial would be among the best; of those that are equal in all goals, the first stays."""
        return trial.state == "done" and not any(
            one.values == trial.values or self._beats(one.values, trial.values) for one in self._best
        )

    def add(self, trial: Trial) -> bool:
        """Take a trial that ended, and return whether it is among the best now."""
        if not self.takes(trial):
            return False
        stay = [one for one in self._best if not self._beats(trial.values, one.values)]
        self._best = sorted([*stay, trial], key=lambda one: (-self._signs[0] * one.values[0], one.number))
        return True

    def _beats(self, one: Sequence[float], other: Sequence[float]) -> bool:
        """Whether `one` is at least as good in all goals, and better in one."""
        gains = [sign * (a - b) for sign, a, b in zip(self._signs, one, other, strict=True)]
        return min(gains) >= 0 and max(gains) > 0
