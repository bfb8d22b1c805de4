"""What goes wrong inside a training, in words that say where it was and what to do."""

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.learning import Learning
from leptonai.training.checkpoint import Course


def not_a_number(course: Course, safe: tuple[int, int], learning: Learning) -> Invalid:
    """Return the error for a loss that is infinite or no number; `safe`: epoch and batch of the last checkpoint, (0, 0) for none."""
    ways = "try a smaller learning rate"
    if learning.clip_norm is None and learning.clip_value is None:
        ways += ", or clip the gradient with clip_norm=1.0"
    kept = (
        f"its last checkpoint is that of epoch {safe[0] + 1}, batch {safe[1]}"
        if any(safe)
        else "no checkpoint was due yet"
    )
    return Invalid(
        f"the loss is not a number any more (epoch {course.epoch + 1}, batch {course.batch}): {ways}; {kept}",
        errors=[FieldError("learning_rate", "smaller")],
    )
