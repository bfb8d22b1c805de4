"""Many trainings of one model on the same rows, each with other settings: the trials of the stage that tunes.

Rows are read and encoded once for all trials that have them alike, so that a trial of milliseconds takes milliseconds.
"""

import json
import math
import random
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any, NamedTuple, cast

import numpy as np

from leptonai.core import plugins
from leptonai.core.errors import FieldError, Invalid, Unsupported
from leptonai.core.learning import ALL
from leptonai.core.ports import Framework, Learner, Recipe
from leptonai.core.stages import HOLD, UNPACK, Handle, load
from leptonai.training import checkpoint, trainee
from leptonai.training.checkpoint import Course
from leptonai.training.spec import Train
from leptonai.training.work import (
    Ready,
    Subject,
    encoding_of,
    fitted_of,
    given,
    labelled,
    learn,
    picked,
    rows_of,
)

# What is the same in all trials: it says what is learnt from, or how the model travels.
FIXED = frozenset(
    {"learning", "data", "validation", "target", "framework", "flavour", "code", "facts", "compiled", "checks"}
)
_CALLS = 15  # by which the time of an answer is measured


class Learnt(NamedTuple):
    """What came of a trial. `keep` writes the model down, and returns the train spec that makes it, and its result."""

    metrics: dict[str, float]  # of the weights that are kept
    history: dict[str, list[float]]
    epochs: int
    seconds: float
    keep: Callable[[], tuple[dict[str, Any], dict[str, Any]]]


class Trials:
    """The model of a study and its rows. Reading them, and the first look at the model, happens here: raises `Invalid`.

    `train`: a train spec, exact. With `built` its code is a function that makes a model of the settings.
    """

    def __init__(self, train: Mapping[str, Any], built: bool, handle: Handle):
        self._spec = spec = Train.model_validate(train)
        self._handle = handle
        if spec.checks:
            load(HOLD)(spec.checks, spec.data, handle)
        self._seed()
        self._built = _function(spec, handle) if built else None
        first = None if built else given(spec, handle)
        self._reader = labelled(spec, handle.data(spec.data), spec.data, handle)
        self._picked = None if built else first or picked(spec, self._reader, handle)
        self._recipe = None if self._picked is None else _recipe(self._picked, handle)
        self._ready: dict[str, Ready] = {}

    def _seed(self) -> None:
        random.seed(self._spec.seed)
        np.random.seed(self._spec.seed)

    def check(self, names: list[str]) -> None:
        """Raise `Invalid` for a setting that neither the model nor a training has."""
        if self._recipe is not None:
            self._recipe.check([name for name in names if self._is_models(name) or not _is_trainings(name)])

    def epochs(self, settings: Mapping[str, Any]) -> int:
        """Return how many epochs a trial with these settings has."""
        return int(settings.get("epochs", self._spec.epochs)) if _is_trainings("epochs") else 1

    def _is_models(self, name: str) -> bool:
        return self._recipe is not None and self._recipe.knows(name)

    def learn(self, settings: Mapping[str, Any], handle: Handle, goals: tuple[str, ...]) -> Learnt:
        """Train with these settings. `handle`: gets the metrics of each epoch, and checkpoints; `goals`: what is to be measured.

        A model of one fit is measured on the rows it learnt from only if that is a goal: it may take as long as the fit.
        """
        self._seed()
        of_model = {name: value for name, value in settings.items() if self._built or self._is_models(name)}
        of_training = {
            name: value
            for name, value in settings.items()
            if name in Train.model_fields and name not in FIXED and (self._built is not None or name not in of_model)
        }
        document = {**self._base().model_dump(exclude_unset=True), **of_training}
        how = {name: value for name, value in settings.items() if name in ALL and name not in of_model}
        document["learning"] = {**self._base().learning.model_dump(exclude_unset=True), **how}
        spec = Train.model_validate(document)
        subject, pack = self._subject(spec, of_model)
        ready = self._rows(subject)
        saved = checkpoint.last(handle)
        if hasattr(subject.learner, "measures_training") and all(goal.startswith("val_") for goal in goals):
            cast(Any, subject.learner).measures_training = False
        course = learn(subject, ready, saved, handle)
        metrics = _kept_metrics(spec, course) | _measured(subject.learner, ready, course, goals)

        def keep() -> tuple[dict[str, Any], dict[str, Any]]:
            named = {
                "code": self._handle.blobs.write([pack()]).id,
                "framework": subject.framework.name,
                "flavour": subject.flavour,
            }
            final = subject._replace(code=named["code"])
            fitted = fitted_of(final, ready, course, self._handle).model_dump(mode="json")
            return spec.model_copy(update=named).model_dump(mode="json"), fitted

        return Learnt(metrics, course.history, course.epoch, course.seconds, keep)

    def _base(self) -> Train:
        return self._spec if self._picked is None else self._picked.spec

    def _subject(self, spec: Train, settings: Mapping[str, Any]) -> tuple[Subject, Callable[[], bytes]]:
        if self._built is not None:
            return self._built(spec, settings)
        assert self._picked is not None and self._recipe is not None  # noqa: S101  one of the two there is
        recipe = self._recipe

        def fresh() -> Learner:
            return recipe.learner(settings)

        subject = self._picked._replace(learner=fresh(), spec=spec, fresh=fresh)
        return subject, lambda: recipe.pack(settings)

    def _rows(self, subject: Subject) -> Ready:
        """Return the rows as this model takes them; read and encoded anew only for the first that takes them so."""
        spec, traits = subject.spec, trainee.Traits.of(subject.learner)
        asked = spec.model_dump(include={"features", "category_encoding", "scale", "augment", "seed"})
        values = getattr(subject.learner, "regresses", None), str(spec.compiled.get("loss"))
        key = json.dumps([asked, vars(traits), values], default=str, sort_keys=True)
        if key not in self._ready:
            encoding = encoding_of(subject, self._reader, traits)
            self._ready = {key: rows_of(subject, encoding, self._reader, self._handle)}  # one at a time: rows are large
        return self._ready[key]


def _is_trainings(name: str) -> bool:
    return (name in Train.model_fields and name not in FIXED) or name in ALL


def _function(spec: Train, handle: Handle) -> Callable[[Train, Mapping[str, Any]], tuple[Subject, Callable[[], bytes]]]:
    with handle.blobs.open(spec.code or "") as file:
        build, compiled = load(UNPACK)(file.read())

    def subject(spec: Train, settings: Mapping[str, Any]) -> tuple[Subject, Callable[[], bytes]]:
        made = build(dict(settings))
        model, own = made if isinstance(made, tuple) else (made, {})
        framework: Framework = plugins.framework_of(model)
        packed = framework.pack(model, {**compiled, **own})
        if packed.flavour != spec.flavour:
            raise Invalid(
                f"build: it made a model for {packed.flavour}, and the Run was begun for {spec.flavour}: build models of one "
                "framework in one study",
                errors=[FieldError("build", f"models for {spec.flavour}")],
            )

        def fresh() -> Learner:
            return framework.load(packed.code)

        return Subject(framework, "", packed.flavour, fresh(), spec, fresh), lambda: packed.code

    return subject


def _recipe(subject: Subject, handle: Handle) -> Recipe:
    make: Callable[[bytes], Recipe] | None = getattr(subject.framework, "recipe", None)
    if make is None:
        raise Unsupported(f"models of {subject.framework.name} are tuned by a function that builds them: give build=…")
    with handle.blobs.open(subject.code) as file:
        return make(file.read())


def _kept_metrics(spec: Train, course: Course) -> dict[str, float]:
    """Return the metrics of the weights that the training ended with: the last, or those it went back to."""
    rule = spec.early_stopping
    went_back = rule is not None and rule.restore_best and course.best_kept is not None
    place = course.best_epoch - 1 if went_back else -1
    return {name: float(values[place]) for name, values in course.history.items() if values}


def _measured(learner: Learner, ready: Ready, course: Course, wanted: tuple[str, ...]) -> dict[str, float]:
    found: dict[str, float] = {}
    if "seconds" in wanted:
        found["seconds"] = course.seconds
    if "parameters" in wanted:
        found["parameters"] = float(trainee.parameters(learner))
    if "latency_ms" in wanted:
        with closing(ready.rows.batches(1)) as batches:
            x = next(batches)[0]
        learner.predict(x)
        times = []
        for _ in range(_CALLS):
            began = time.perf_counter()
            learner.predict(x)
            times.append(time.perf_counter() - began)
        found["latency_ms"] = sorted(times)[_CALLS // 2] * 1000
    return {name: value for name, value in found.items() if math.isfinite(value)}
