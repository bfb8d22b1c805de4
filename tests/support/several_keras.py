"""Keras models of several inputs and targets. Run as a process of its own, for Keras reads its back end once; prints JSON.

``python -m tests.support.several_keras FOLDER`` with KERAS_BACKEND set: train, die and go on, export.
"""

import json
import os
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tests.support.handle import reader_of
from tests.training.test_several import INPUTS, digits, graph_of
from tests.training.test_work import Dies, asked, handle_for, part

from leptonai.training.spec import Fitted
from leptonai.training.work import train


def sees_and_reads() -> Any:
    """Return a functional model of a picture, a category and a table, that says which digit it is and how much ink it took."""
    import keras
    from keras import layers

    random.seed(0)  # from which Keras draws the seeds of its initialisers
    image, side, table = (
        keras.Input((8, 8, 1), name="image"),
        keras.Input((1,), name="side"),
        keras.Input((2,), name="table"),
    )
    seen = layers.Flatten()(layers.MaxPooling2D()(layers.Conv2D(8, 3, activation="relu")(image)))
    read = layers.Flatten()(layers.Embedding(3, 4)(side))
    found = layers.Dropout(0.1)(layers.Concatenate()([seen, read, table]))
    digit, ink = layers.Dense(10, "softmax", name="digit")(found), layers.Dense(1, name="ink")(found)
    model = keras.Model([image, side, table], [digit, ink])
    model.compile(
        optimizer=keras.optimizers.Adam(0.01),
        loss={"digit": "sparse_categorical_crossentropy", "ink": "mse"},
        metrics={"digit": ["accuracy"], "ink": ["mae"]},
    )
    return model


def given(handle: Any, model: Any = None, **more: Any) -> Any:
    """Return what is asked of the model."""
    options = {"validation": "test", "epochs": 3, "batch_size": 125, **more}
    return asked(handle, model or sees_and_reads(), {}, target=("digit", "ink"), inputs=INPUTS, **options)


def data() -> dict[str, Any]:
    """Return real digits, to learn from and to be measured on."""
    table = digits()
    parts = {"train": part(table, slice(0, 500)), "test": part(table, slice(500, 600))}
    return {name: reader_of(rows, "digit", digit="category") for name, rows in parts.items()}


def handle_in(folder: Path) -> Any:
    """Return a Handle with them."""
    handle = handle_for(folder, digits(), "digit", 500)
    handle.datasets = data()
    return handle


WAY = {"schedule": "cosine:warmup=1", "clip_norm": 1.0, "accumulate": 2, "ema": 0.9, "weight_decay": 0.01}


def goes_on_alike(folder: Path, after: int) -> bool:
    """Whether a training that dies after so many batches, and goes on, ends with the bits of one that does not."""
    model = sees_and_reads()  # one, for Keras counts the names of layers on
    whole = handle_in(folder / "whole")
    options = {"learning": WAY, "checkpoint_seconds": 1e-9}
    wanted = Fitted.model_validate(train(given(whole, model, **options), whole))
    dies = Dies(folder / "job", datasets=data(), after=after)
    try:
        train(given(dies, model, **options), dies)
    except ConnectionAbortedError:
        pass
    else:
        raise AssertionError("it did not die")
    later = handle_in(folder)
    found = Fitted.model_validate(train(given(later, model, **options), later))
    assert any("goes on from epoch" in line for line in later.lines)
    return later.read(found.weights) == whole.read(wanted.weights) and found.history == wanted.history


def main(folder: Path) -> dict[str, Any]:
    """Train, export, die and go on."""
    os.chdir(folder)
    handle = handle_in(folder)
    result = train(given(handle, epochs=12, batch_size=32), handle)
    fitted = Fitted.model_validate(result)
    _, _, taken = graph_of(handle, result)
    last = {name: values[-1] for name, values in fitted.history.items()}
    assert np.isclose(last["loss"], last["digit_loss"] + last["ink_loss"], rtol=1e-3), last
    return {
        "accuracy": last["val_digit_accuracy"], "mae": last["val_ink_mae"], "route": taken.route,
        "difference": taken.measured.difference, "alike": goes_on_alike(folder / "killed", 5),
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
