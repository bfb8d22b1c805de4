"""Train in a process of its own, which a test kills: ``python -m tests.support.train_child FOLDER KIND``.

Says "saved" each time a checkpoint is safe, and "done" at the end. All that lasts is in FOLDER; the model is made once.

``python -m tests.support.train_child`` alone loads the libraries once and forks such a process for each line "FOLDER KIND" that it
reads: it says the process id, and how the process ended; what the process says it writes to the pipe FOLDER/said.
"""

import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tests.support.handle import ArrayReader, FileHandle, reader_of

from leptonai.core import plugins
from leptonai.core.learning import Learning
from leptonai.training.spec import EarlyStopping, Train
from leptonai.training.work import train

EPOCHS = 6
EVERYTHING = Learning.model_validate(
    {
        "schedule": "plateau:warmup=0.5,patience=1,factor=0.7", "clip_norm": 1.0, "accumulate": 3, "weight_decay": 0.01,
        "label_smoothing": 0.1, "ema": 0.95, "class_weights": "balanced", "balanced_sampling": True, "learning_rate": 0.003,
    }
)  # fmt: skip


class Speaking(FileHandle):
    def save(self, state: Mapping[str, bytes]) -> None:
        super().save(state)
        print("saved", flush=True)

    def say(self, line: str) -> None:
        with (self.folder / "log").open("a") as file:
            file.write(line + "\n")


def digits() -> tuple[ArrayReader, ArrayReader]:
    from sklearn.datasets import load_digits

    found = load_digits()
    images, labels = (found.images * 15.9).astype("uint8")[..., None], found.target.astype("int64")
    parts = [{"image": images[a:b], "label": labels[a:b]} for a, b in ((0, 900), (900, 1300))]
    train_part, test_part = (reader_of(part, "label", label="category") for part in parts)
    return train_part, test_part


def model(kind: str) -> tuple[Any, dict[str, Any]]:
    if kind in ("torch", "augmented", "everything"):
        import torch
        from torch import nn

        torch.manual_seed(1)
        net = nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(288, 10)
        )
        return net, {"optimizer": "adam", "loss": "cross_entropy", "metrics": ["accuracy", "f1"]}
    import keras
    from keras import layers

    net = keras.Sequential(
        [
            layers.Conv2D(8, 3), layers.BatchNormalization(), layers.ReLU(), layers.Flatten(), layers.Dropout(0.3),
            layers.Dense(10, activation="softmax"),
        ]
    )  # fmt: skip
    return net, {"optimizer": "adam", "loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]}


def main(folder: Path, kind: str) -> None:
    parts = digits()
    handle = Speaking(folder, datasets=dict(zip(("train", "test"), parts, strict=True)))
    os.chdir(folder)
    code = folder / "code"
    if not code.exists():
        net, compiled = model(kind)
        packed = plugins.framework_of(net).pack(net, compiled)
        blob = handle.write(packed.code)
        code.write_text(f"{plugins.framework_of(net).name} {packed.flavour} {blob}")
    framework, flavour, blob = code.read_text().split()
    spec = Train(
        data="train", validation="test", framework=framework, flavour=flavour, code=blob, epochs=EPOCHS, seed=4,
        checkpoint_seconds=0.02, early_stopping=EarlyStopping(monitor="val_accuracy", patience=3),
        learning=EVERYTHING if kind == "everything" else Learning(),
        augment=("shift", "rotate", "noise", "mixup", "cutmix") if kind == "augmented" else (),
    )  # fmt: skip
    result = train(spec, handle)
    weights = handle.read(result["weights"])
    (folder / "weights").write_bytes(weights)
    np.save(folder / "history.npy", np.array([result["history"][name] for name in sorted(result["history"])]))
    print("done", flush=True)


def nursery() -> None:
    """Fork, one after the other. Nothing is computed here, only imported: so does the fork server of an agent."""
    import keras  # noqa: F401
    import sklearn.datasets  # noqa: F401
    import torch  # noqa: F401

    for name in ("torch", "keras"):
        plugins.framework(name)
    for line in sys.stdin:
        folder, kind = line.split()
        pid = os.fork()
        if pid == 0:
            with Path(folder, "said").open("w") as said, Path(folder, "errors").open("a") as errors:
                os.dup2(said.fileno(), 1)
                os.dup2(errors.fileno(), 2)
            try:
                main(Path(folder).absolute(), kind)
                sys.stdout.flush()
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(1)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        nursery()
    else:
        main(Path(sys.argv[1]).absolute(), sys.argv[2])
