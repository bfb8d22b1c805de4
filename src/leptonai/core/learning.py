"""How a model learns, beside its optimiser and its loss: one frozen value, asked of any framework by the same words.

`Learning` is what is asked. `Way` is what a Learner is told: the same, with what the data adds to it. Who carries what out:
the training stage the schedule, balanced sampling and the numbers behind class weights; the framework's Learner the rest.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from leptonai.core.errors import FieldError, Unsupported
from leptonai.core.nouns import Frozen


def _in_words(field: str) -> BeforeValidator:
    """Read ``cosine:warmup=2`` as ``{field: "cosine", "warmup": "2"}``; leave what is no text as it is."""

    def read(given: Any) -> Any:
        if not isinstance(given, str):
            return given
        word, _, options = given.partition(":")
        found: dict[str, Any] = {field: word}
        for option in filter(None, options.split(",")):
            name, equals, value = option.partition("=")
            if not equals:
                raise ValueError(f"write it as {word}:NAME=VALUE,…, not {given!r}")
            found[name.strip()] = value.strip()
        return found

    return BeforeValidator(read)


class Schedule(Frozen):
    """How the learning rate goes, as a share of the rate that the optimiser was given; each batch has its own.

    cosine: down along half a wave to `floor` · onecycle: up from 1/25 within 0.3 of the training, then down along a wave to
    `floor` (Smith and Topin 2018, arXiv:1708.07120) · linear: down a line to `floor` · step: times `factor` each `every` epochs ·
    plateau: times `factor` when `monitor` has not got better for `patience` epochs · constant: as it is. `warmup`: epochs, or a
    part of one, in which the rate first rises from nothing.
    """

    kind: Literal["constant", "cosine", "linear", "onecycle", "plateau", "step"]
    warmup: float = Field(default=0.0, ge=0, le=1_000)
    floor: float = Field(default=0.0, ge=0, le=1)
    factor: float = Field(default=0.5, gt=0, lt=1)
    every: int = Field(default=10, ge=1)
    patience: int = Field(default=3, ge=1)
    monitor: str | None = None  # None: val_loss, or loss where there is no validation data

    @model_validator(mode="after")
    def _only_its_own(self) -> "Schedule":
        if self.kind == "onecycle" and self.warmup:
            raise ValueError("onecycle rises by itself: leave warmup out")
        return self


class Adversarial(Frozen):
    """Learn from inputs that are changed, within `epsilon`, to where the model errs most.

    fgsm: one step along the sign of the gradient (Goodfellow et al. 2014, arXiv:1412.6572) · pgd: `steps` small ones from a
    random start (Madry et al. 2017, arXiv:1706.06083). `epsilon` is in units of what the model takes: of images 1 is from
    black to white, of scaled numbers one deviation. `share` of each batch is changed.
    """

    method: Literal["fgsm", "pgd"]
    epsilon: float = Field(default=0.03, gt=0)
    steps: int = Field(default=5, ge=1, le=100)  # of pgd
    step_size: float | None = Field(default=None, gt=0)  # of pgd; None: 2.5 epsilon / steps
    share: float = Field(default=0.5, gt=0, le=1)


class Lora(Frozen):
    """Learn small matrices beside the large ones, which stay as they are (Hu et al. 2021, arXiv:2106.09685).

    Beside a matrix W stands ``alpha / rank`` times B A, with `rank` rows in A: about a hundredth of the numbers. `targets` are
    patterns of layers' names; none: the matrices of attention. The head learns too, where there is one.
    """

    rank: int = Field(default=8, ge=1, le=1024)
    alpha: float | None = Field(default=None, gt=0)  # None: twice the rank
    targets: Annotated[tuple[str, ...], BeforeValidator(lambda given: _listed(given, "+"))] = ()


class Mitigate(Frozen):
    """Treat the groups of a column alike: the difference between them is at most `within`, of the rows it learns from.

    demographic_parity: of the share that is said to be the second class · equalized_odds: of the true and of the false positive rate
    (Agarwal et al. 2018, arXiv:1803.02453). The column is needed while it learns, and never afterwards.
    """

    column: str = Field(min_length=1)
    constraint: Literal["demographic_parity", "equalized_odds"] = "demographic_parity"
    within: float = Field(default=0.02, gt=0, lt=1)


def _listed(given: Any, sign: str = ",") -> Any:
    return tuple(filter(None, map(str.strip, given.split(sign)))) if isinstance(given, str) else given


ALL_BUT_HEAD = "all but head"
Layers = Annotated[tuple[str, ...], BeforeValidator(_listed), Field(max_length=1000)]
AnyLora = Annotated[
    Lora, _in_words("rank"), BeforeValidator(lambda given: {"rank": given} if isinstance(given, int) else given)
]

FIND = "find"  # a learning rate that is to be found


def _rate(given: Any) -> float | str | None:
    """Read a learning rate. One validator for all it can be, so that what is wrong is said once."""
    if given is None or given in ("find", "auto"):
        return given and "find"
    try:
        found = float(given) if not isinstance(given, bool) else 0.0
    except (TypeError, ValueError):
        found = 0.0
    if not 0 < found < math.inf:
        raise ValueError(f"{given!r} is neither a number above 0 nor 'find'")
    return found


Rate = Annotated[float | Literal["find"] | None, BeforeValidator(_rate)]
AnySchedule = Annotated[Schedule, _in_words("kind")]
AnyAdversarial = Annotated[Adversarial, _in_words("method")]
AnyMitigate = Annotated[Mitigate, _in_words("column")]
Weight = Annotated[float, Field(ge=0, le=1e6)]


class Learning(Frozen):
    """Everything that can be said of how a model learns. What is not said stays as the framework has it."""

    # In place of the optimiser's; "find": found by a short test of many before the training begins.
    learning_rate: Rate = None
    schedule: AnySchedule | None = None
    clip_norm: float | None = Field(default=None, gt=0)  # of the whole gradient
    clip_value: float | None = Field(default=None, gt=0)  # of each of its numbers
    accumulate: int = Field(default=1, ge=1, le=10_000)  # batches whose gradients make one step
    weight_decay: float | None = Field(default=None, ge=0)  # decoupled; of matrices, not of biases and scales
    dropout: float | None = Field(default=None, ge=0, lt=1)  # the share of the model's dropout layers
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    ema: float | None = Field(default=None, gt=0, lt=1)  # the share of itself that the average of the weights keeps
    class_weights: Literal["balanced"] | dict[str, Weight] | None = None  # by class; a class without one has 1
    balanced_sampling: bool = False  # each class equally often in an epoch
    adversarial: AnyAdversarial | None = None
    mitigate: AnyMitigate | None = None  # groups of a column are treated alike
    freeze: Layers = ()  # layers that do not learn: "all but head", or names such as "features.0, encoder.*"
    unfreeze_after: int | None = Field(default=None, ge=1)  # epochs, after which what is frozen learns too
    unfreeze_layers: int | None = Field(default=None, ge=1)  # so many each epoch, the last first; None: all at once
    layer_decay: float | None = Field(default=None, gt=0, le=1)  # the rate of a layer, as a share of the next one's
    lora: AnyLora | None = None
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"  # auto: a GPU where there is one
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"  # of sums while it learns; weights stay fp32

    @model_validator(mode="after")
    def _clipped_once(self) -> "Learning":
        if self.clip_norm is not None and self.clip_value is not None:
            raise ValueError("give clip_norm or clip_value, not both")
        return self

    @model_validator(mode="after")
    def _thaws_what_is_frozen(self) -> "Learning":
        if self.unfreeze_after is not None and not self.freeze:
            raise ValueError("unfreeze_after is for what freeze has frozen: give freeze, such as freeze='all but head'")
        if self.unfreeze_layers is not None and self.unfreeze_after is None:
            raise ValueError("unfreeze_layers is for what is unfrozen: give unfreeze_after, in epochs")
        if self.lora is not None and self.freeze:
            raise ValueError("lora freezes everything beside its own matrices and the head: leave freeze out")
        return self

    @property
    def rate(self) -> float | None:
        """The learning rate, where one was given."""
        return self.learning_rate if isinstance(self.learning_rate, float) else None

    @property
    def asked(self) -> tuple[str, ...]:
        """The fields that say something other than nothing."""
        plain = type(self)()
        return tuple(name for name in type(self).model_fields if getattr(self, name) != getattr(plain, name))


ALL = frozenset(Learning.model_fields)


@dataclass(frozen=True)
class Way:
    """How a Learner is to learn: told once, before it begins."""

    learning: Learning = Learning()
    class_weights: tuple[float, ...] | None = None  # by class number
    groups: Any = None  # int64 (rows,): of all rows, where groups are to be treated alike
    bounds: tuple[float, float] | None = None  # what an input can be, such as 0 to 1 of images; None: any number


def no_dropout(layer: str) -> Unsupported:
    """Return the error of a model that has no dropout layer; `layer`: what one is called there."""
    return Unsupported(
        f"dropout: the model has no layer of dropout to give it to: add one, such as {layer}",
        errors=[FieldError("learning.dropout", "a model with dropout layers")],
    )
