"""A training by rounds: a model that boosts learns from all rows in each of them, and is measured after each.

To the loop a round is an epoch of one batch, so rounds have metrics, early stopping and checkpoints as epochs have.
"""

import copy

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.stages import Handle
from leptonai.training.rows import MEMORY, Rows
from leptonai.training.spec import Train


def as_epochs(spec: Train, rows: Rows, rounds: int, handle: Handle) -> Train:
    """Return the spec whose epochs are rounds, with all rows in each batch. Raises `Invalid` for more rows than may be held."""
    if not rows.held:
        raise Invalid(
            f"a model that boosts needs all rows in memory, and these take more than {MEMORY >> 30} GiB: train it on a part of them, "
            "or take fewer columns with features=[…]",
            errors=[FieldError("data", f"at most {MEMORY >> 30} GiB of rows")],
        )
    if spec.epochs > 1:
        handle.say(f"epochs is not used: the model learns in {rounds} rounds, as its n_estimators says")
    return spec.model_copy(update={"epochs": rounds, "batch_size": max(rows.count, 1), "shuffle": False})


def one_set(rows: Rows, x: object, y: object) -> Rows:
    """Return rows that are these in each round, whatever the others were drawn or changed by."""
    found = copy.copy(rows)
    found.even(None)
    found.put(x, y)  # type: ignore[arg-type]
    return found
