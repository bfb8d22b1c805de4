"""What goes wrong inside a training, in words that say where it was and what to do."""

import re
import traceback
from collections.abc import Callable

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.learning import Learning
from leptonai.training.checkpoint import Course
from leptonai.training.spec import Train


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


_NO_MEMORY = re.compile(
    r"not enough memory|can't allocate memory|unable to allocate|out of memory|RESOURCE_EXHAUSTED|OOM when allocating",
    re.IGNORECASE,
)
_AMOUNT = re.compile(r"allocate ([\d.]+) ?(bytes|[KMGT]i?B)", re.IGNORECASE)


def is_memory(error: BaseException) -> bool:
    """Whether an error of a framework says that memory ran out; most do not raise `MemoryError`."""
    return isinstance(error, MemoryError) or bool(_NO_MEMORY.search(str(error)))


class NoMemory(Invalid):
    """Memory is too small for a batch; `fits` rows are not too many, 0: one is."""

    def __init__(self, message: str, fits: int = 0, right: str = "a smaller one"):
        super().__init__(message, errors=[FieldError("batch_size", right)])
        self.fits = fits


def no_memory(error: BaseException, rows: int, attempt: Callable[[int], object]) -> NoMemory:
    """Return the error for a batch that memory is too small for; `attempt` works on so many of its rows, to find what fits."""
    for part in (error, error.__context__):
        if part is not None:
            traceback.clear_frames(part.__traceback__)  # they hold the arrays of the batch that failed
    found = _AMOUNT.search(str(error))
    needed = f" (it asked for {_amount(found[1], found[2])} more)" if found else ""
    fits = rows // 2
    while fits and not _goes(attempt, fits):
        fits //= 2
    if not fits:
        return NoMemory(
            f"memory is too small for a batch of {rows} rows{needed}, and for one row: use a smaller model, or a machine with more memory",
            0,
            "a smaller model",
        )
    steps = -(-rows // fits)
    return NoMemory(
        f"memory is too small for a batch of {rows} rows{needed}: batch_size={fits} fits, with accumulate={steps} for steps as large; "
        "smaller_batches=true takes them by itself",
        fits,
        f"at most {fits}",
    )


def smaller(spec: Train, rows: int) -> Train:
    """Return the spec with batches of so many rows, as many of them to a step as make one of before."""
    learning = spec.learning.model_copy(update={"accumulate": spec.learning.accumulate * -(-spec.batch_size // rows)})
    return spec.model_copy(update={"batch_size": rows, "learning": learning})


def _goes(attempt: Callable[[int], object], rows: int) -> bool:
    try:
        attempt(rows)
    except Exception as error:  # of user code and its framework
        if is_memory(error) or is_memory(error.__cause__ or error):
            return False
        raise
    return True


def _amount(number: str, unit: str) -> str:
    if unit.lower() != "bytes":
        return f"{number} {unit}"
    size = float(number)
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
