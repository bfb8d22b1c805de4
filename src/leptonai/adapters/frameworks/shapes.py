"""Whether the shape of a model's outputs suits its target, said in words."""

from collections.abc import Sequence

from leptonai.core.errors import Invalid


def a_row(shape: Sequence[int]) -> str:
    """Return the shape of one row of a batch, as people write it."""
    return f"({', '.join(map(str, shape[1:]))})" if len(shape) != 2 else f"({shape[1]},)"


def outputs(output: Sequence[int]) -> int:
    """Return how many values a classifier gives a row."""
    return output[-1] if len(output) > 1 else 1


def check_outputs(output: tuple[int, ...], target: tuple[int, ...], task: str, classes: int, kind: str) -> None:
    """Raise `Invalid` when outputs of this shape cannot be scores of so many classes, or values for such targets."""
    one = output[1:]
    if not output or output[0] != target[0]:
        raise Invalid(
            f"the model gives an output of shape {output} for {target[0]} rows: the first axis must be the rows"
        )
    if task == "classification":
        if kind == "index" and one != (classes,):
            more = " (for one output of two classes use loss 'bce_with_logits')" if one in ((), (1,)) else ""
            raise Invalid(
                f"the target has {classes} classes, and the model gives outputs of shape {a_row(output)} a row: "
                f"it must give {classes} values{more}"
            )
        if one not in ((), (1,), (classes,)) or (one in ((), (1,)) and classes != 2):
            raise Invalid(
                f"the target has {classes} classes, and the model gives outputs of shape {a_row(output)} a row"
            )
    elif len(target) > 1 and target[1:] != one:
        raise Invalid(f"the target has shape {a_row(target)} a row, and the model gives {a_row(output)}")
