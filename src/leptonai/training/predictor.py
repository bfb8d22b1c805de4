"""A trained model, ready to predict from rows as people have them, computed by its own framework."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from leptonai.core import plugins
from leptonai.core.beginning import Beginning
from leptonai.core.errors import Invalid, Unsupported
from leptonai.core.learning import Adversarial
from leptonai.core.nouns import Run
from leptonai.core.ports import Framework, Learner
from leptonai.core.several import packed
from leptonai.core.stages import Handle, Predictor
from leptonai.training.encoder import encode
from leptonai.training.rows import check_range
from leptonai.training.several import how
from leptonai.training.spec import Fitted
from leptonai.training.trainee import Traits, suited

Array = NDArray[Any]


@dataclass
class Trained:
    """See `core.stages.Predictor`. Not thread-safe where its framework is not."""

    fitted: Fitted
    learner: Learner
    entries: int | None = None

    def raw(self, batch: Mapping[str, Any]) -> Array:
        """Return the model's raw outputs for one batch of columns."""
        x = encode(self.fitted.encoding, batch)
        check_range(x, self.fitted.encoding, self.entries)
        return np.asarray(self.learner.predict(x))

    def scores(self, batch: Mapping[str, Any]) -> Array:
        """Return probabilities (rows, classes), float32, of a classifier; values (rows, …) of a regressor, perplexities (rows,) of a language model.

        Of several targets: a structured array with a field for each.
        """
        raw = self.raw(batch)
        if self.fitted.encoding.goals:
            return several_scores(raw, self.fitted)
        if self.fitted.encoding.task != "classification":
            return raw
        return probabilities(raw, self.fitted.activation, len(self.fitted.encoding.classes))

    def attributed(self, batch: Mapping[str, Any], of: Sequence[int] | None) -> Any:
        """Return what each place of a picture, or each word of a text, adds to the output of a class (`of`; None: to the value).

        Maps (rows, height, width) by the method that made them, or for each text a list of (start, end, share). None where the
        framework tells no such thing. Raises `MissingExtra`.
        """
        tells = getattr(self.learner, "attribution", None)
        if tells is None or self.fitted.encoding.layout not in ("channels_first", "channels_last", "text"):
            return None
        return tells(encode(self.fitted.encoding, batch), of)

    def attacked(self, batch: Mapping[str, Any], truth: Array, rule: Adversarial) -> Array:
        """Return the scores of rows that were changed to where it errs most, within the rule's distance of what the model takes.

        `truth`: class numbers, or values. Raises `Unsupported` where there is no gradient to go along.
        """
        attack = getattr(self.learner, "under_attack", None)
        encoding = self.fitted.encoding
        if attack is None or encoding.layout == "text":
            why = "words cannot be changed by a little" if encoding.layout == "text" else "it has none here"
            raise Unsupported(f"they go along gradients, and {why} ({self.fitted.framework})")
        images = [feature.op == "image" for feature in encoding.features]
        bounds = (0.0, 1.0) if all(images) else None
        given = encode(encoding, batch)
        if given.dtype.names:
            raise Unsupported("they are for a model of one input, and this one takes several")
        x = attack(given, truth, rule, bounds, self.fitted.activation)
        raw = np.asarray(self.learner.predict(x))
        if encoding.task != "classification":
            return raw
        return probabilities(raw, self.fitted.activation, len(encoding.classes))


def several_scores(raw: Array, fitted: Fitted) -> Array:
    """Return what `Predictor.scores` gives for several targets, of raw outputs with a field for each."""
    found = {}
    for goal in fitted.encoding.goals:
        values = np.ascontiguousarray(raw[goal.column])
        if goal.task == "classification":
            values = probabilities(values, fitted.activations[goal.column], len(goal.classes))
        found[goal.column] = values.astype(np.float32)
    both: Array = packed(found)
    return both


def probabilities(raw: Array, activation: str, classes: int) -> Array:
    """Return (rows, classes), float32, of raw outputs; see `Fitted.activation`. One output speaks for the second of two."""
    scores: Array = raw.reshape(len(raw), -1).astype(np.float32)
    if activation == "softmax":
        with np.errstate(invalid="ignore"):  # an infinite one makes none, which whoever asked counts
            powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        scores = powers / powers.sum(axis=1, keepdims=True)
    elif activation == "sigmoid":
        with np.errstate(over="ignore"):  # exp(large) is infinite, and one over it 0, which is right
            scores = 1 / (1 + np.exp(-scores))
    if scores.shape[1] == 1 and classes == 2:
        scores = np.concatenate([1 - scores, scores], axis=1)
    if scores.shape[1] != classes:
        raise Invalid(f"the model gives {scores.shape[1]} scores a row for {classes} classes")
    return scores


def loaded(framework: Framework, code: bytes, weights: bytes, base: Sequence[bytes] = ()) -> Learner:
    """Make a Learner of what was learnt; `base`: the weights that it stands beside, where it was learnt by LoRA."""
    if not base:
        return framework.load(code, weights)
    learner: Any = framework.load(code)
    learner.stand_on(Beginning(tuple(base), "the base"))
    learner.load_weights(weights)
    return cast(Learner, learner)


def from_files(code: bytes, weights: bytes, fitted: Mapping[str, Any], base: Sequence[bytes] = ()) -> Predictor:
    """Make a Predictor of a bundle's files; `fitted` is the JSON of a `Fitted`. Loads the user's code: only in a process of its own."""
    about = Fitted.model_validate(fitted)
    learner = suited(loaded(plugins.framework(about.framework), code, weights, base), how(about.encoding))
    return Trained(about, learner, Traits.of(learner).entries)


def open_predictor(run: Run, handle: Handle) -> Predictor:
    """Open what a training Run learnt. Raises `Invalid` when it learnt nothing."""
    if run.stage != "train" or not run.result:
        raise Invalid(f"run {run.id} is of stage {run.stage} and {run.state}: name a train Run that succeeded")
    fitted = Fitted.model_validate(run.result)
    with handle.blobs.open(fitted.code) as code, handle.blobs.open(fitted.weights) as weights:
        return from_files(code.read(), weights.read(), run.result, based(fitted, handle))


def based(fitted: Fitted, handle: Handle) -> list[bytes]:
    """Read the weights that those learnt stand beside; none but with LoRA."""
    found = []
    for _, blob in sorted(fitted.base.items()):
        with handle.blobs.open(blob) as file:
            found.append(file.read())
    return found
