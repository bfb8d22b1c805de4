"""What you ask of the training stage, and what it answers."""

import math
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer

from leptonai.core.learning import Learning
from leptonai.core.nouns import Frozen, Name
from leptonai.core.ranks import MOST
from leptonai.training.augment.spec import AnyStep
from leptonai.training.spec_pretrained import AnyPretrained

# JSON has no word for "not a number": a loss that is none travels as null, and is NaN again at the other end.
Measured = Annotated[
    float,
    BeforeValidator(lambda value: math.nan if value is None else value),
    PlainSerializer(lambda value: value if math.isfinite(value) else None, when_used="json"),
]


def _columns(given: Any) -> Any:
    """Read a target: one column, or several. One validator for all it can be, so that what is wrong is said once."""
    if given is None or isinstance(given, str):
        return given
    named = list(given) if isinstance(given, (list, tuple)) else [given]
    if not named or not all(isinstance(name, str) and name for name in named):
        raise ValueError("name a column, or a list of several")
    if twice := [name for number, name in enumerate(named) if name in named[:number]]:
        raise ValueError(f"{twice[0]!r} is named twice")
    return named[0] if len(named) == 1 else tuple(named)


Target = Annotated[str | tuple[str, ...] | None, BeforeValidator(_columns)]


class EarlyStopping(Frozen):
    """Stop when `monitor` has not got better by `min_delta` for `patience` epochs; go back to the best weights."""

    monitor: str = "val_loss"
    patience: int = Field(default=3, ge=0)
    min_delta: float = Field(default=0.0, ge=0)
    mode: Literal["auto", "min", "max"] = "auto"
    restore_best: bool = True


class Train(Frozen):
    """Train a model on a dataset version, or on a part of one."""

    data: str  # a dataset reference
    validation: str | None = None
    target: Target = None  # overrides the dataset's; several: the model has an output for each
    loss_weights: dict[str, Annotated[float, Field(gt=0, le=1e6)]] = Field(
        default_factory=dict
    )  # of several targets; 1 where it is not said
    inputs: dict[str, tuple[str, ...]] = Field(
        default_factory=dict
    )  # of a model that takes several: input -> the columns in it
    features: tuple[str, ...] | None = None  # default: all columns but the target
    framework: str | None = None  # with `code`; None: a sensible model is picked from the schema
    flavour: str | None = None
    code: str | None = None  # blob of `Framework.pack`
    facts: dict[str, Any] = Field(default_factory=dict)  # Packed.facts
    compiled: dict[str, Any] = Field(
        default_factory=dict
    )  # optimizer, loss, metrics by name (objects travel in `code`)
    epochs: int = Field(default=1, ge=1, le=1_000_000)
    batch_size: int = Field(default=32, ge=1)
    smaller_batches: bool = (
        False  # where memory is too small for a batch: take smaller ones, and more of them to a step
    )
    shuffle: bool = True
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    early_stopping: EarlyStopping | None = None
    checkpoint_seconds: float = Field(default=30.0, ge=0)  # 0: after each epoch only
    category_encoding: Literal["index", "onehot"] = "index"
    scale: bool = True  # numbers to mean 0 and deviation 1
    checks: Annotated[
        tuple[dict[str, Any], ...], Field(max_length=200)
    ] = ()  # rules of the data stage that its rows must keep
    # How training rows are changed, in this order; None: as the dataset declares. The server fills it in.
    augment: Annotated[tuple[AnyStep, ...], Field(max_length=32)] | None = None
    callbacks: str | None = None  # blob: what is called while it learns, packed as code
    pretrained: AnyPretrained | None = None  # the weights to begin with: a version such as models:/flowers/3, or files
    learning: Learning = Learning()  # schedule, clipping, averages, weights of classes …
    workers: int = Field(default=1, ge=1, le=MOST)  # processes that learn together, each from its share of every batch


class Predict(Frozen):
    """Predict with what a training Run learnt; the result names a blob that holds an .npy array."""

    run: str  # a train Run
    data: str
    batch_size: int = Field(default=1024, ge=1)


class Export(Frozen):
    """Make a model version of what a training Run learnt."""

    run: str  # a train Run
    name: Name
    aliases: tuple[str, ...] = ()
    metrics: dict[str, float] = Field(default_factory=dict)  # from an evaluation, to be kept with the version
    evaluation: str | None = None  # an evaluate Run whose metrics are kept with the version


class FeatureCode(Frozen):
    """How one column becomes numbers. The same rules run in training (NumPy) and inside the published ONNX graph.

    scale: (x - mean) / std in float64, then float32; a missing value becomes 0. time: the same, on microseconds since
    1970. moment: the days since 1970 and the seconds of the day. raw: as it is. text: as it is; the model has a tokeniser. index: position in `categories` from 1, 0 for a value not seen or missing. onehot: one column for
    each category, all 0 for a value not seen. flag: 0 or 1. image: uint8 to [0, 1]. tensor: float32 as it is.
    """

    column: str
    op: Literal["scale", "time", "moment", "raw", "index", "onehot", "flag", "image", "tensor", "text"]
    type: str  # the column's FeatureType
    dtype: str
    shape: tuple[int, ...] = ()
    mean: float = 0.0
    std: float = 1.0
    categories: tuple[str | int, ...] = ()
    rate: int | None = None  # of sound: samples a second


class GoalCode(Frozen):
    """One of several targets, and what it weighs in the loss."""

    column: str
    task: Literal["classification", "regression"]
    classes: tuple[str | int, ...] = ()
    weight: float = 1.0


class InputCode(Frozen):
    """One of several inputs of a model: which of the features are in it, and how they lie; see `Encoding.layout`."""

    name: str
    columns: tuple[str, ...]
    layout: Literal["table", "channels_last", "channels_first"]


class Encoding(Frozen):
    """How rows become the array that the model takes; fitted on the training part only.

    Where the model has several inputs or targets, `inputs` and `goals` say which: batches are arrays as of `core.several.packed`.

    layout: "table": scalars side by side, (batch, width) · "channels_last": one image or tensor column as it is ·
    "channels_first": an image turned to (batch, channels, height, width) · "flat": (batch, everything) · "text": one str a row, the texts of several columns line by line.
    """

    features: tuple[FeatureCode, ...]
    layout: Literal["table", "channels_last", "channels_first", "flat", "text"] = "table"
    dtype: Literal["float32", "int64"] = "float32"  # int64 where the model begins with an embedding
    target: str  # of several the first
    task: Literal["classification", "regression", "generation", "several"]
    classes: tuple[str | int, ...] = ()  # position = class index
    goals: tuple[GoalCode, ...] = ()  # where there are several targets
    inputs: tuple[InputCode, ...] = ()  # where there are several inputs

    @property
    def targets(self) -> tuple[str, ...]:
        """The columns that are predicted."""
        return tuple(goal.column for goal in self.goals) or (self.target,)


Activation = Literal["softmax", "sigmoid", "none", "value"]


class Fitted(Frozen):
    """The result of a training Run."""

    framework: str
    flavour: str
    code: str  # blob: the model's architecture and code, opaque
    weights: str  # blob: safetensors, .skops …; no code in it
    encoding: Encoding
    activation: Activation  # see Learner.activation; of several targets "value", and theirs are in `activations`
    activations: dict[str, Activation] = Field(default_factory=dict)
    history: dict[str, list[Measured]]
    epochs: int
    data: str  # exact reference
    dataset: str  # id
    parameters: int
    seed: int
    versions: dict[str, str]  # of python and the libraries
    facts: dict[str, Any] = Field(default_factory=dict)
    events: str | None = None  # blob: TensorBoard event file
    seconds: float = 0.0  # spent in the epochs
    base: dict[str, str] = Field(default_factory=dict)  # blobs of the weights that `weights` stand beside, with LoRA
    pretrained: dict[str, Any] | None = None  # where the weights came from that it began with
