"""Trials that take a while and leave a line in a file, and a table for them."""

from collections.abc import Callable
from pathlib import Path


def build_with(pids: str) -> Callable[[dict], object]:
    """Return a function that builds models, and says which process builds them, and with what."""

    def build(params: dict) -> object:
        import os
        import time
        from pathlib import Path

        from sklearn.tree import DecisionTreeClassifier

        with Path(pids).open("a") as file:
            file.write(f"{os.getpid()} {os.getppid()} {params['max_depth']} {params['min_samples_leaf']}\n")
        time.sleep(0.15)
        return DecisionTreeClassifier(**params, random_state=0)

    return build


def table(folder: Path) -> Path:
    rows = [f"{a},{b},{'yes' if (a * b) % 7 > 3 else 'no'}" for a in range(20) for b in range(20)]
    (folder / "t.csv").write_text("a,b,label\n" + "\n".join(rows) + "\n")
    return folder / "t.csv"
