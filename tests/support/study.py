"""A study in a process of its own, as a Run has it: ``python -m tests.support.study FOLDER '{"trials": 8, …}'`` prints its result.

The models are decision trees; one whose max_depth is in DEADLY kills the process that tries it, and one in SLOW takes its time.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.tree import DecisionTreeClassifier
from tests.support.handle import FileHandle, reader_of

from leptonai.core import plugins
from leptonai.tuning.spec import Tune
from leptonai.tuning.work import tune

DEADLY, SLOW = (3,), (9,)


class Tree(DecisionTreeClassifier):
    """One that says which process fits it."""

    def fit(self, x: Any, y: Any) -> "Tree":  # type: ignore[override]
        with Path(os.environ["STUDY_SAID"]).open("a") as file:
            file.write(f"{os.getpid()} {self.max_depth}\n")
        if self.max_depth in DEADLY:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.max_depth in SLOW:
            time.sleep(600)
        time.sleep(0.05)
        return super().fit(x, y)  # type: ignore[no-any-return]


def main(folder: Path, asked: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 4))
    labels = np.where(x[:, 0] * x[:, 1] > 0, "yes", "no").astype(object)
    parts = {"train": slice(0, 200), "test": slice(200, 300)}
    readers = {
        name: reader_of({**{f"c{i}": x[rows, i] for i in range(4)}, "label": labels[rows]}, "label")
        for name, rows in parts.items()
    }
    handle = FileHandle(folder, "tune", readers)
    framework = plugins.framework("sklearn")
    packed = framework.pack(Tree(random_state=0), {})
    train = {"framework": "sklearn", "flavour": packed.flavour, "code": handle.write(packed.code)}
    spec = Tune.model_validate(
        {
            "data": "train", "validation": "test", "goals": [{"metric": "val_accuracy"}], **asked,
            "train": {"data": "train", "validation": "test", **train},
        }
    )  # fmt: skip
    print(json.dumps({"result": tune(spec, handle), "lines": handle.lines}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
