"""A Keras model that takes several inputs, or predicts several targets, and learns inside a Run."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from leptonai.adapters.frameworks.by_target import check_goal, for_each, told_apart
from leptonai.adapters.frameworks.keras_aim import Aim, name_of
from leptonai.adapters.frameworks.keras_fed import Fed, keys_of, outputs_of
from leptonai.adapters.frameworks.keras_fit import check_inputs, one_output
from leptonai.adapters.frameworks.keras_learner import KerasLearner
from leptonai.core.errors import FieldError, Invalid
from leptonai.core.several import Several, fields, packed

_LOSS = "loss_by_row"


class SeveralKerasLearner(KerasLearner):
    """See `KerasLearner`; of several inputs `x`, of several targets `y` and what is predicted have a field for each."""

    def __init__(self, parts: Mapping[str, Any], how: Several, of: KerasLearner):
        self._how, self._aims, self._keys = how, dict[str, Aim](), keys_of(how)
        super().__init__(parts)
        self.model, self._about = of.model, of._about  # with the weights that it may have taken
        self.net = self._dressed()

    @property
    def activations(self) -> dict[str, str]:
        """What turns the outputs into probabilities, by target."""
        return {name: aim.activation for name, aim in self._aims.items()}

    def _dressed(self) -> Any:
        return self._going_on(Fed(self.model, self._how))

    @property
    def _embedding(self) -> Any:
        return None if self._how.inputs else super()._embedding  # which of the inputs one takes is not known

    def _check_rows(self, x: Any) -> None:
        if self._how.inputs:
            check_inputs(self.model, {name: np.shape(x[name]) for name in self._how.inputs})
        else:
            super()._check_rows(x)

    def _about_of(self, x: Any) -> dict[str, Any]:
        if not self._how.inputs:
            return super()._about_of(x)
        shapes = {name: [list(map(int, x[name].shape[1:])), str(x[name].dtype)] for name in self._how.inputs}
        return {"inputs": shapes}

    def _given(self, x: Any) -> Any:
        if not self._how.inputs:
            return super()._given(x)
        return {name: keras.ops.convert_to_tensor(values) for name, values in fields(x).items()}

    def _wanted(self, y: Any) -> Any:
        if not self._how.goals:
            return super()._wanted(y)
        each = fields(y)
        wanted = {name: aim.target(each[name]) for name, aim in self._aims.items()}
        return {self._keys[name]: keras.ops.convert_to_tensor(values) for name, values in wanted.items()}

    def _call(self, x: Any) -> Any:
        self._mode(training=False)
        found = self.net.raw(self._given(x), training=False)
        names = outputs_of(self.model)
        return told_apart(found, self._how.goals, names) if self._how.goals else one_output(found, names)

    def _head_for(self, output: Any, y: Any, task: str, classes: int) -> int | None:
        return None if self._how.goals else super()._head_for(output, y, task, classes)

    def _take_aim(self, output: Any, target: tuple[int, ...], task: str, classes: int, loss: Any) -> None:
        if not self._how.goals:
            super()._take_aim(output, target, task, classes, loss)
            return
        self.activation = "value"
        losses = self._by_target(loss, "loss")
        for goal in self._how.goals:
            aim = self._aims[goal.name] = Aim.of(losses[goal.name], output[goal.name].shape, goal.task)
            check_goal(goal, aim.output, target, aim.kind)

    def _options(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return the same by target, as Keras takes it where outputs have names."""
        if not self._how.goals:
            return options
        found = {**options, "loss": self._by_target(options.get("loss"), "loss")}
        if lacking := [name for name, loss in found["loss"].items() if loss is None]:
            raise Invalid(
                f"loss: nothing is said of the target {lacking[0]!r}: give it a loss, such as {{{lacking[0]!r}: 'mse'}}",
                errors=[FieldError(f"loss.{lacking[0]}", "a loss")],
            )
        if options.get("weighted_metrics"):
            found["weighted_metrics"] = self._measured(options["weighted_metrics"], "weighted_metrics")
        each = self._measured(options["metrics"], "metrics") if options.get("metrics") else {}
        found["metrics"] = {name: [_by_row(loss), *_listed(each.get(name))] for name, loss in found["loss"].items()}
        asked = {goal.name: goal.weight for goal in self._how.goals}
        own = self._by_target(options.get("loss_weights"), "loss_weights")  # as Keras itself was told
        if all(weight == 1 for weight in asked.values()):
            asked = {name: 1.0 if weight is None else weight for name, weight in own.items()}
        found["loss_weights"] = asked
        by_target = ("loss", "loss_weights", "metrics", "weighted_metrics")
        return {
            name: {self._keys[goal]: each for goal, each in value.items()} if name in by_target and value else value
            for name, value in found.items()
        }

    def metrics(self) -> dict[str, float]:
        """See the port. Those of a target begin with its name."""
        if not self._how.goals:
            return super().metrics()
        names = {key: name for name, key in self._keys.items()}
        found = {}
        for metric, value in super().metrics().items():
            key, sign, rest = metric.partition("_")
            if not sign or key not in names:
                found[metric] = value
            elif rest != "loss":  # Keras's own is on TensorFlow a mean of batches, however many rows the last one has
                found[f"{names[key]}_{'loss' if rest == _LOSS else rest}"] = value
        return found

    def _measured(self, given: Any, field: str) -> dict[str, Any]:
        """Return the metrics by target. Raises `Invalid` for a list that is not one for each of them: Keras takes no other."""
        if not isinstance(given, Mapping) and len(given) != len(self._how.goals):
            names = [goal.name for goal in self._how.goals]
            raise Invalid(
                f"{field}: {len(given)} are given for {len(names)} targets: give a dict by target, such as "
                f"{{{names[0]!r}: […]}}, or a list with one entry for each",
                errors=[FieldError(field, "by target")],
            )
        return {name: metrics for name, metrics in self._by_target(given, field).items() if metrics is not None}

    def _by_target(self, given: Any, field: str) -> dict[str, Any]:
        """Return what was given for each target; by the name of the target, or of the output that is in its place."""
        names, goals = outputs_of(self.model), self._how.goals
        targets = [goal.name for goal in goals]
        if isinstance(given, Mapping) and len(names) == len(goals) and not set(names) & set(targets):
            places = dict(zip(names, targets, strict=True))
            given = {places.get(name, name): value for name, value in given.items()}
        elif isinstance(given, (list, tuple)):
            given = list(given)
            if len(given) == len(names) == len(goals) and set(names) == set(targets):  # in the order of the outputs
                given = dict(zip(names, given, strict=True))
        return for_each(given, goals, field)

    def predict(self, x: Any) -> Any:
        """See the port. Of several targets: an array with a field for each."""
        self._look()
        found = self.net.predict_on_batch(fields(x) if self._how.inputs else x)
        if not self._how.goals:
            return np.asarray(found, dtype=np.float32)
        return packed({name: np.asarray(found[key], dtype=np.float32) for name, key in self._keys.items()})


def _by_row(loss: Any) -> Any:
    """Return a metric: the mean of a loss over the rows."""
    given = _cross_entropy if name_of(loss) in ("crossentropy", "ce") else keras.losses.get(loss)
    return keras.metrics.MeanMetricWrapper(given.call if isinstance(given, keras.losses.Loss) else given, name=_LOSS)


def _cross_entropy(y: Any, output: Any) -> Any:
    """Return what Keras means by the loss "crossentropy"."""
    found = keras.losses.binary_crossentropy if output.shape[-1] == 1 else keras.losses.sparse_categorical_crossentropy
    return found(y, output)


def _listed(metrics: Any) -> list[Any]:
    return list(metrics) if isinstance(metrics, (list, tuple)) else [] if metrics is None else [metrics]
