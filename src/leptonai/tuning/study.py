"""What is tried next, and what is given up: Optuna behind an ask and a tell whose answers follow from history and seed alone.

Each question is answered by a sampler that was made for it, seeded by the study's seed and the number of the trial. So a study
that is read back from its journal asks for the same trials as one that was never interrupted.
"""

import logging
import random
import statistics
import threading
import warnings
import zlib
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from leptonai.core.errors import MissingExtra
from leptonai.tuning import journal
from leptonai.tuning.journal import Course
from leptonai.tuning.opening import opening
from leptonai.tuning.space import fit, grid, is_active, placed
from leptonai.tuning.spec import Dimension, Trial, Tune

_REDUCTION = 3  # of ASHA and Hyperband: one in three goes on
_STARTUP = 5  # trials that the median is not asked about
# Trials that take so long, seconds in the median, are chosen by a Gaussian process: it needs about half as many as TPE, and some
# hundredths of a second for each, more with each trial and each setting, so it has a most of both.
DEAR = 0.2
_LOOKED_AT = 5  # trials of the opening, after which that is decided
_DEAR_TRIALS, _DEAR_SETTINGS = 100, 10
_IS_DEAR = "leptonai:dear"  # stands in the journal: an attempt that goes on decides nothing anew


class Study:
    """The trials of a study, known to the engine. `epochs`: the most that a trial has; `earlier`: trials of other studies."""

    def __init__(self, spec: Tune, order: Sequence[str], epochs: int, earlier: Sequence[Trial] = ()):
        self._spec, self._order = spec, list(order)
        self._optuna = load_engine()
        self._storage = self._optuna.storages.InMemoryStorage()
        self._study = self._optuna.create_study(
            storage=self._storage,
            sampler=self._optuna.samplers.RandomSampler(seed=0),
            pruner=self._optuna.pruners.NopPruner(),
            study_name=f"seed {spec.seed}",
            directions=["maximize" if goal.larger else "minimize" for goal in spec.goals],
        )
        self._pruner = _pruner(self._optuna, spec.pruner, epochs)
        self._spaces = {name: self._distribution(spec.space[name]) for name in order}
        self._queue = self._planned(earlier)
        self._took: list[float] = []  # by trials that were done, seconds
        self._may_be_dear = (
            spec.sampler == "auto"
            and len(spec.goals) == 1
            and (spec.pruner == "none" or epochs <= 1)  # it learns nothing of those that were given up
            and len(order) <= _DEAR_SETTINGS
            and not any(dimension.when for dimension in spec.space.values())
            and find_spec("torch") is not None
        )
        self._loading: threading.Thread | None = None
        self._known: dict[str, Any] = {}  # what the engine noted of the whole study
        self._noted: dict[int, frozenset[str]] = {}  # and of a trial, when it began: names
        for trial in earlier:
            self._add(trial, {})
        self._offset = len(self._study.get_trials(deepcopy=False))
        self.count = 0  # trials that were asked for

    @property
    def points(self) -> int | None:
        """How many trials there are at most; None: any number."""
        return len(self._queue) if self._spec.sampler == "grid" else None

    def replay(self, course: Course) -> None:
        """Take the trials of a journal, as they stood."""
        for number, entry in course.asked.items():
            attrs = {**entry["attrs"], **course.attrs.get(number, {})}
            self._add(course.told.get(number, entry["params"]), attrs)
            self._noted[number] = frozenset(entry["attrs"])
            for name, value in entry["study"].items():
                self._known[name] = value
                self._storage.set_study_system_attr(self._study._study_id, name, value)
        self.count = len(course.asked)
        for trial in course.told.values():
            self._learn_of(trial)

    def ask(self) -> dict[str, Any]:
        """Return the journal's entry of the next trial. Call it only while `points` are left."""
        number = self.count
        dear = self._dear()
        if number < len(self._queue) and not dear:
            self._study.enqueue_trial(self._inside(self._queue[number]))
        with _quiet():
            self._study.sampler = self._sampler(zlib.crc32(f"{self._spec.seed}/{number}".encode()), dear=dear)
            trial = self._study.ask()
            params: dict[str, Any] = {}
            for name in self._order:
                if is_active(self._spec.space[name], params):
                    params[name] = self._outside(name, trial._suggest(name, self._spaces[name]))
        self.count += 1
        attrs = dict(self._storage.get_trial(trial._trial_id).system_attrs)
        self._noted[number] = frozenset(attrs)
        noted = dict(self._storage.get_study_system_attrs(self._study._study_id))
        fresh = {name: value for name, value in noted.items() if self._known.get(name) != value}
        self._known |= fresh
        return journal.asked(number, params, attrs, fresh)

    def report(self, number: int, epoch: int, value: float) -> bool:
        """Take the goal after an epoch, counted from 1, and return whether to give the trial up."""
        if self._pruner is None:
            return False
        id = self._id(number)
        self._storage.set_trial_intermediate_value(id, epoch, value)
        return bool(self._pruner.prune(self._study, self._storage.get_trial(id)))

    def tell(self, trial: Trial) -> dict[str, Any]:
        """Take how a trial ended, and return what the engine noted of it since it began."""
        states = self._optuna.trial.TrialState
        id = self._id(trial.number)
        self._learn_of(trial)
        state = {"done": states.COMPLETE, "pruned": states.PRUNED, "failed": states.FAIL}[trial.state]
        values = list(trial.values) or None
        with _quiet():
            self._study.sampler.after_trial(self._study, self._storage.get_trial(id), state, values)
        self._storage.set_trial_state_values(id, state, values)
        after = self._storage.get_trial(id).system_attrs
        return {name: value for name, value in after.items() if name not in self._noted.get(trial.number, ())}

    def importance(self) -> dict[str, float]:
        """Return how much of the first goal's spread each setting explains, in sum 1; empty where too few trials tell."""
        try:
            with _quiet():
                target = None if len(self._spec.goals) == 1 else (lambda trial: trial.values[0])
                found = self._optuna.importance.get_param_importances(self._study, target=target)
        except (ValueError, RuntimeError, ZeroDivisionError):
            return {}
        return {name: round(float(value), 6) for name, value in found.items()}

    # ------------------------------------------------------------------------------------------------ inside

    def _id(self, number: int) -> int:
        return int(self._storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number + self._offset))

    def _learn_of(self, trial: Trial) -> None:
        if trial.state != "done":
            return
        self._took.append(trial.seconds)
        if trial.seconds >= DEAR and self._may_be_dear and self._known.get(_IS_DEAR, True) and self._loading is None:
            # What a Gaussian process needs takes a second to load, during which other trials compute.
            self._loading = threading.Thread(target=import_module, args=("torch",), name="loading")
            self._loading.start()

    def _dear(self) -> bool:
        """Whether a Gaussian process says what is tried next. That is decided once, by what the first trials took."""
        if not self._may_be_dear or self.count + self._offset >= _DEAR_TRIALS:
            return False
        if self.count == len(self._spec.first) + _LOOKED_AT and _IS_DEAR not in self._known:
            found = len(self._took) >= 2 and statistics.median(self._took) >= DEAR
            self._storage.set_study_system_attr(self._study._study_id, _IS_DEAR, found)
            return found
        return bool(self._known.get(_IS_DEAR))

    def _planned(self, earlier: Sequence[Trial]) -> list[dict[str, Any]]:
        """Return the settings that are tried first, or all where it is a grid, in an order that follows from the seed."""
        first = [dict(one) for one in self._spec.first]
        if self._spec.sampler == "auto" and not earlier:
            return first + [
                point for point in opening(self._spec.space, self._order, self._spec.seed) if point not in first
            ]
        if self._spec.sampler != "grid":
            return first
        points = grid(self._spec.space)
        random.Random(self._spec.seed).shuffle(points)  # noqa: S311  no secret
        return first + [point for point in points if point not in first]

    def _add(self, given: Trial | Mapping[str, Any], attrs: Mapping[str, Any]) -> None:
        """Add a trial that ended, or one of these settings that runs."""
        states = self._optuna.trial.TrialState
        params = given.params if isinstance(given, Trial) else given
        state, values, curve = states.RUNNING, None, {}
        if isinstance(given, Trial):
            state = {"done": states.COMPLETE, "pruned": states.PRUNED, "failed": states.FAIL}[given.state]
            values = list(given.values) or None
            curve = dict(enumerate(given.curve, 1))
        self._study.add_trial(
            self._optuna.trial.create_trial(
                state=state,
                values=values,
                params=self._inside(params),
                distributions={name: self._spaces[name] for name in params},
                system_attrs=dict(attrs),
                intermediate_values=curve,
            )
        )

    def _inside(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {name: fit(self._spec.space[name], value) for name, value in params.items()}

    def _outside(self, name: str, value: Any) -> Any:
        dimension = self._spec.space[name]
        if dimension.kind != "choice":
            return value
        found = dimension.choices[int(value)]
        return list(found) if isinstance(found, tuple) else found

    def _distribution(self, dimension: Dimension) -> Any:
        kinds = self._optuna.distributions
        if dimension.kind == "choice":  # by their places: what is chosen from may be a list
            return kinds.CategoricalDistribution(tuple(range(len(dimension.choices))))
        low, high = dimension.low or 0, dimension.high or 0
        if dimension.kind == "int":
            return kinds.IntDistribution(int(low), int(high), log=dimension.log, step=int(dimension.step or 1))
        return kinds.FloatDistribution(low, high, log=dimension.log, step=dimension.step)

    def _sampler(self, seed: int, *, dear: bool) -> Any:
        samplers = self._optuna.samplers
        if dear:
            return samplers.GPSampler(seed=seed, n_startup_trials=2)
        match self._spec.sampler:
            case "random" | "grid":
                return samplers.RandomSampler(seed=seed)
            case "cmaes":
                return samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
            case "nsga2":
                return samplers.NSGAIISampler(seed=seed)
            case "gp":
                return samplers.GPSampler(seed=seed)
        return samplers.TPESampler(seed=seed)


def _pruner(optuna: Any, name: str, epochs: int) -> Any:
    pruners = optuna.pruners
    if name == "asha":
        return pruners.SuccessiveHalvingPruner(min_resource=max(1, epochs // 27), reduction_factor=_REDUCTION)
    if name == "hyperband":
        return pruners.HyperbandPruner(
            min_resource=max(1, epochs // 27), max_resource=max(epochs, 1), reduction_factor=_REDUCTION
        )
    return pruners.MedianPruner(n_startup_trials=_STARTUP, n_warmup_steps=1) if name == "median" else None


def usable(earlier: Iterable[Trial], spec: Tune) -> list[Trial]:
    """Return the trials of an earlier study that are trials of this space, too."""
    found = []
    for trial in earlier:
        try:
            placed(spec.space, trial.params)
        except ValueError:
            continue
        if trial.state != "failed":
            found.append(trial)
    return found


class _quiet(warnings.catch_warnings):  # noqa: N801  reads as a word in `with`
    """What Optuna warns of is for who calls it directly: features it calls experimental, sampling one by one."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore")


def load_engine() -> Any:
    """Import Optuna, and have it say no more than it must. Raises `MissingExtra`."""
    try:
        import optuna
    except ImportError as error:
        raise MissingExtra("tuning needs Optuna:  pip install 'lepton-ai-sdk[tuning]'") from error
    optuna.logging.set_verbosity(logging.WARNING)
    return optuna
