"""Which way a metric gets better."""

_MORE_IS_BETTER = ("acc", "accuracy", "auc", "precision", "recall", "f1", "r2", "score")


def is_more_better(monitor: str, mode: str = "auto") -> bool:
    """Whether a larger value of what is watched is the better one; `mode`: auto, min or max."""
    return mode == "max" or (mode == "auto" and monitor.endswith(_MORE_IS_BETTER))
