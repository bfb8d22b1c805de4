"""Run as a process of its own, for Keras reads its back end once: export models, print what came of each as JSON.

``python -m tests.support.export_keras FOLDER NAME…`` with KERAS_BACKEND set.
"""

import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers
from tests.support.export import learn, mixed, pictures, publish, series, tokens


@keras.saving.register_keras_serializable()
class Doubles(layers.Layer):
    """A layer of the user's own, which another process cannot make again; it chooses by values."""

    def call(self, x: Any) -> Any:
        return keras.ops.cond(keras.ops.mean(x) > 100.0, lambda: x * 2.0, lambda: x * 1.0)


def _dense(outputs: int, last: str | None = None) -> keras.Model:
    return keras.Sequential(
        [
            layers.Dense(16, activation="gelu"),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.Dense(outputs, last),
        ]
    )


def _normalised() -> keras.Model:
    layer = layers.Normalization()
    layer.adapt(np.random.default_rng(0).normal(3, 2, (50, 7)).astype(np.float32))
    return keras.Sequential([keras.Input((7,)), layer, layers.Dense(3)])


def _functional(layer: Any) -> keras.Model:
    given = keras.Input((7, 4))
    x = layers.Dense(16)(given)
    x = layers.LayerNormalization()(x + layer(x))
    return keras.Model(given, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))


def _sequence(*given: Any, outputs: int = 3) -> keras.Model:
    return keras.Sequential([keras.Input((7, 4)), *given, layers.Dense(outputs)])


MODELS: dict[str, Any] = {
    "dense": lambda: (_dense(3), mixed("three classes"), "logits"),
    "dense softmax": lambda: (_dense(3, "softmax"), mixed("three classes"), "probabilities"),
    "dense sigmoid": lambda: (_dense(1, "sigmoid"), mixed("binary"), "binary_crossentropy"),
    "dense regression": lambda: (_dense(1), mixed("regression"), "mse"),
    "normalization": lambda: (_normalised(), mixed("three classes"), "logits"),
    "cnn": lambda: (
        keras.Sequential(
            [
                layers.Conv2D(4, 3, padding="same", activation="relu"), layers.MaxPooling2D(), layers.Flatten(),
                layers.Dense(3, "softmax"),
            ]
        ),
        pictures(), "probabilities",
    ),
    "lstm": lambda: (_sequence(layers.LSTM(8)), series(), "logits"),
    "gru": lambda: (_sequence(layers.Bidirectional(layers.GRU(8))), series(), "logits"),
    "embedding": lambda: (keras.Sequential([layers.Embedding(50, 8), layers.Flatten(), layers.Dense(3)]), tokens(), "logits"),
    "masked": lambda: (
        keras.Sequential([layers.Embedding(50, 8, mask_zero=True), layers.LSTM(8), layers.Dense(3)]), tokens(), "logits",
    ),
    "the snippet": lambda: (
        keras.Sequential([layers.Embedding(10000, 64), layers.Flatten(), layers.Dense(64), layers.Dense(1)]),
        tokens("regression"), "mse",
    ),
    "functional": lambda: (_functional(layers.Dense(16, activation="relu")), series(), "logits"),
    "attention": lambda: (_functional(lambda x: layers.Attention()([x, x])), series(), "logits"),
    "multi-head attention": lambda: (_functional(lambda x: layers.MultiHeadAttention(2, 8)(x, x)), series(), "logits"),
    "own layer": lambda: (_sequence(layers.Flatten(), Doubles()), series(), "logits"),
}  # fmt: skip


def only_rebuilt() -> None:
    """Leave the routes out that need no other process."""
    from leptonai.adapters.frameworks import keras_onnx

    keras_onnx.here = lambda *_: iter(())


def run(name: str, folder: Path) -> dict[str, Any]:
    """Train and export one model."""
    keras.utils.set_random_seed(0)
    if name.startswith("only rebuilt"):
        only_rebuilt()
    model, table, loss = MODELS[{"only rebuilt": "gru", "only rebuilt, own layer": "own layer"}.get(name, name)]()
    losses = {
        "logits": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "probabilities": "sparse_categorical_crossentropy",
    }
    desk = learn(model, table, folder, compiled={"optimizer": "adam", "loss": losses.get(loss, loss)})
    began = time.monotonic()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        result = publish(desk)
    export = result["lineage"]["export"]
    return {
        "name": name, "seconds": round(time.monotonic() - began, 2), "note": result["note"], "bytes": result["bytes"],
        "route": export["route"], "difference": export["difference"], "refused": export["refused"],
        "said": sorted({str(warning.message) for warning in said if not issubclass(warning.category, DeprecationWarning)}),
    }  # fmt: skip


if __name__ == "__main__":
    for chosen in sys.argv[2:] or MODELS:
        print(json.dumps(run(chosen, Path(sys.argv[1]))), flush=True)
