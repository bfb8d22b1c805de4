"""Which targets are learnt as amounts: whole numbers that could be names of classes are none where the loss is one for values."""

from collections.abc import Sequence

from leptonai.core.ports import Learner
from leptonai.training.spec import Train

# By their names in Keras and PyTorch, without case, signs and the word "loss".
_LOSSES = frozenset(
    {
        "mse", "meansquarederror", "mae", "meanabsoluteerror", "l1", "smoothl1", "huber", "logcosh", "mape",
        "meanabsolutepercentageerror", "msle", "meansquaredlogarithmicerror",
    }
)  # fmt: skip


def learnt(spec: Train, targets: Sequence[str], learner: Learner) -> frozenset[str]:
    """Return the targets for which the loss, or the estimator, is one for values and not for classes."""
    if getattr(learner, "regresses", False):
        return frozenset(targets)
    given = spec.compiled.get("loss", "")
    each = given if isinstance(given, dict) else dict.fromkeys(targets, given)
    if isinstance(given, (list, tuple)):
        each = dict(zip(targets, given, strict=False))
    return frozenset(name for name in targets if _of_values(each.get(name, "")))


def _of_values(loss: object) -> bool:
    return "".join(filter(str.isalnum, str(loss).lower())).removesuffix("loss") in _LOSSES
