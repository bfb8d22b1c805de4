"""Whether a published graph gives what the framework gives: measured on real rows, before it is taken."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from leptonai.core import plugins
from leptonai.core.errors import Invalid
from leptonai.core.ports import Learner
from leptonai.core.runtimes import LoadedModel
from leptonai.core.stages import Reader
from leptonai.training import onnx_inputs, onnx_tail
from leptonai.training.encoder import encode
from leptonai.training.onnx_tail import Activations, Shape
from leptonai.training.predictor import probabilities
from leptonai.training.spec import Encoding

TOLERANCE = 1e-4  # of an output's largest magnitude, and never of less than 1: float32 keeps 7 digits
BATCHES = (1, 3, 8)
_ROWS = 256
_BYTES = 2**26

Array = NDArray[Any]


class Sample(NamedTuple):
    """Real rows, with what the framework makes of them. The first `BATCHES` rows are tried batch by batch."""

    rows: Mapping[str, Array]
    x: Array  # encoded
    shape: Shape

    def part(self, start: int, stop: int) -> "Sample":
        """Return some of the rows."""
        return Sample({name: values[start:stop] for name, values in self.rows.items()}, self.x[start:stop], self.shape)


class Measured(NamedTuple):
    """How far a graph is from the framework."""

    difference: float  # the largest, absolute
    rows: int


def draw(reader: Reader, encoding: Encoding, learner: Learner) -> Sample:
    """Take rows to compare on, repeating them where the dataset is very small. Raises `Invalid` when it is empty."""
    if not reader.rows:
        raise Invalid("the dataset has no rows, so an exported model cannot be compared with its framework")
    columns = tuple(feature.column for feature in encoding.features)
    size = max(1, sum(_bytes(feature.shape) for feature in encoding.features))
    wanted = max(sum(BATCHES), min(_ROWS, _BYTES // size))
    batch = next(iter(reader.batches(wanted, columns=columns)))
    have = len(batch[columns[0]])
    again = np.arange(max(have, sum(BATCHES))) % have
    rows = {name: batch[name][again] for name in columns}
    x = encode(encoding, rows)
    raw = np.asarray(learner.predict(x[:3]))
    shapes = {goal.column: raw[goal.column].shape[1:] for goal in encoding.goals}
    return Sample(rows, x, shapes or raw.shape[1:])


def _bytes(shape: tuple[int, ...]) -> int:
    return 8 * int(np.prod(shape, dtype=np.int64))


def measure(graph: bytes, sample: Sample, encoding: Encoding, activation: Activations, learner: Learner) -> Measured:
    """Compare a published graph with the framework. Raises `Invalid` that says where they differ."""
    model = plugins.runtime("onnx").load({"model.onnx": graph})
    try:
        worst, start = 0.0, 0
        for size in BATCHES:
            part = sample.part(start, start + size)
            worst, start = max(worst, _compare(model, part, encoding, activation, learner)), start + size
        return Measured(max(worst, _compare(model, sample, encoding, activation, learner)), len(sample.x))
    finally:
        model.close()


def _compare(
    model: LoadedModel, sample: Sample, encoding: Encoding, activation: Activations, learner: Learner
) -> float:
    given = model.predict(onnx_inputs.feed(encoding, sample.rows))
    wanted = np.asarray(learner.predict(sample.x))
    if not encoding.goals:
        names = [spec.name for spec in onnx_tail.outputs(encoding, sample.shape)]
        scores = _scores(wanted, str(activation), encoding.task, encoding.classes)
        return _one([given[name] for name in names], scores, encoding.classes)
    assert isinstance(activation, Mapping)  # noqa: S101  (of several targets)
    found = []
    for goal in encoding.goals:
        names = [spec.name for spec in onnx_tail.of_goal(encoding, goal)]
        raw = wanted[goal.column] if goal.task == "classification" else wanted[goal.column].reshape(-1)
        scores = _scores(raw, activation[goal.column], goal.task, goal.classes)
        found.append(_one([given[name] for name in names], scores, goal.classes))
    return max(found)


def _scores(raw: Array, activation: str, task: str, classes: Sequence[str | int]) -> Array:
    values = np.asarray(raw, dtype=np.float32)
    return probabilities(values, activation, len(classes)) if task == "classification" else values


def _one(given: Sequence[Array], wanted: Array, classes: Sequence[str | int]) -> float:
    """Return the largest difference of one target. `given`: what the graph gives, labels before scores."""
    count, found = len(wanted), given[-1]
    if found.shape != wanted.shape:
        raise Invalid(f"at batch {count} it gives the shape {found.shape}, the framework {wanted.shape}")
    difference = _difference(found, wanted)
    allowed = TOLERANCE * max(1.0, float(np.nanmax(np.abs(wanted), initial=0.0)))
    if not difference <= allowed:
        raise Invalid(
            f"at batch {count} it differs from the framework by {difference:.2g}, and {allowed:.2g} is allowed"
        )
    if classes:
        _same_labels(given[0], wanted, classes, allowed)
    return difference


def _difference(found: Array, wanted: Array) -> float:
    if not np.array_equal(np.isnan(found), np.isnan(wanted)):
        return float("inf")
    same = (found == wanted) | np.isnan(found)  # infinities too
    return float(np.max(np.abs(np.where(same, 0, found.astype(np.float64) - wanted)), initial=0.0))


def _same_labels(labels: Array, wanted: Array, known: Sequence[str | int], allowed: float) -> None:
    """Check the words, but for rows where two classes are as good as equal."""
    ordered = np.sort(wanted, axis=1)
    clear = ordered[:, -1] - ordered[:, -2] > 2 * allowed if wanted.shape[1] > 1 else np.ones(len(wanted), dtype=bool)
    classes = np.array(known, dtype=object)[np.argmax(wanted, axis=1)]
    if not np.array_equal(np.asarray(labels, dtype=object)[clear], classes[clear]):
        raise Invalid("it names other classes than the framework")
