"""Whether what was asked of the way to learn can be done with this model and this target, told before a Run begins."""

from leptonai.core import plugins
from leptonai.core.errors import FieldError, Invalid, Unsupported
from leptonai.core.learning import FIND
from leptonai.training.spec import Train

_BY_BATCHES = ("torch", "keras")
_ALWAYS = frozenset({"balanced_sampling"})  # needs nothing of the framework


def check_learning(spec: Train, framework: str, task: str) -> None:
    """Raise `Unsupported` that names the keyword and who can, or `Invalid` for what contradicts the rest of the spec."""
    for name in spec.learning.asked:
        can = [other for other in plugins.names("frameworks") if name in _learns(other)]
        if framework not in can:
            raise Unsupported(
                f"{name}: a model of {framework} cannot do it; models of {' and '.join(can)} can",
                errors=[FieldError(f"learning.{name}", f"for {', '.join(can)}")],
            )
    if spec.learning.learning_rate == FIND and framework not in _BY_BATCHES:
        raise Unsupported(
            f"learning_rate: a model of {framework} does not learn batch by batch, so none can be found: give a number, or tune it",
            errors=[FieldError("learning.learning_rate", "a number")],
        )
    for name in ("class_weights", "balanced_sampling", "label_smoothing", "mitigate"):
        if name in spec.learning.asked and task not in ("classification", "several"):
            raise Invalid(
                f"{name} is for classes, and the target is a number",
                errors=[FieldError(f"learning.{name}", "a target of classes")],
            )
    if spec.learning.balanced_sampling and not spec.shuffle:
        raise Invalid(
            "balanced_sampling draws rows by chance: leave shuffle on",
            errors=[FieldError("learning.balanced_sampling", "with shuffle")],
        )
    for pair in getattr(plugins.framework(framework), "apart", ()):
        if set(pair) <= set(spec.learning.asked):
            raise Unsupported(
                f"{pair[1]}: a model of {framework} cannot do it together with {pair[0]}: leave one out",
                errors=[FieldError(f"learning.{pair[1]}", f"without {pair[0]}")],
            )
    _check_plateau(spec)


def check_workers(spec: Train, framework: str) -> None:
    """Raise `Unsupported` where the framework cannot learn in several processes, `Invalid` where a batch has too few rows."""
    if spec.workers == 1:
        return
    can = [name for name in plugins.names("frameworks") if hasattr(plugins.framework(name), "join")]
    if framework not in can:
        raise Unsupported(
            f"workers: a model of {framework} learns in one process; models of {' and '.join(can)} can learn in several",
            errors=[FieldError("workers", f"for {', '.join(can)}")],
        )
    if spec.batch_size < 2 * spec.workers:
        right = f"batch_size is parted among the workers: use at least {2 * spec.workers}, or fewer workers"
        raise Invalid(f"workers: {right}", errors=[FieldError("batch_size", f"at least {2 * spec.workers}")])


def _check_plateau(spec: Train) -> None:
    rule = spec.learning.schedule
    if rule is not None and (rule.monitor or "").startswith("val_") and spec.validation is None:
        raise Invalid(
            f"schedule watches {rule.monitor!r}, and there is no validation data: give validation_data=…, or watch "
            f"{(rule.monitor or '').removeprefix('val_')!r}",
            errors=[FieldError("learning.schedule.monitor", "needs validation data")],
        )


def _learns(framework: str) -> frozenset[str]:
    return _ALWAYS | getattr(plugins.framework(framework), "learns", frozenset())
