"""The keywords of `Model.fit` that say how a model learns."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from leptonai.core.learning import Adversarial, Learning, Lora, Mitigate, Schedule
from leptonai.sdk.specs import check

__all__ = ["Adversarial", "HowItLearns", "Learning", "Lora", "Mitigate", "Schedule"]


class HowItLearns(TypedDict, total=False):
    """What `fit` takes beside data and epochs; see `leptonai.core.learning.Learning` for what each does."""

    learning_rate: float | Literal["find", "auto"] | None
    schedule: Schedule | str | Mapping[str, Any] | None
    clip_norm: float | None
    clip_value: float | None
    accumulate: int
    weight_decay: float | None
    dropout: float | None
    label_smoothing: float
    ema: float | None
    class_weights: Literal["balanced"] | Mapping[Any, float] | None
    balanced_sampling: bool
    adversarial: Adversarial | str | Mapping[str, Any] | None
    mitigate: Mitigate | str | Mapping[str, Any] | None
    freeze: str | Sequence[str]
    unfreeze_after: int | None
    unfreeze_layers: int | None
    layer_decay: float | None
    lora: Lora | int | str | Mapping[str, Any] | None
    device: Literal["auto", "cpu", "cuda", "mps"]
    precision: Literal["auto", "fp32", "bf16", "fp16"]


def to_send(given: HowItLearns) -> dict[str, Any] | None:
    """Return what was said, as JSON data; None where nothing was. Raises `Invalid` that names the keyword, `TypeError` for a strange one."""
    if strange := [name for name in given if name not in Learning.model_fields]:
        raise TypeError(f"Model.fit() got an unexpected keyword argument {strange[0]!r}")
    said: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    weights = said.get("class_weights")
    if isinstance(weights, Mapping):
        said["class_weights"] = {str(name): weight for name, weight in weights.items()}
    return check(Learning, said, "fit").model_dump(mode="json", exclude_unset=True) if said else None
