"""What gradients tell of Keras models. Run as a process of its own, for Keras reads its back end once; prints JSON.

``python -m tests.support.keras_probed FOLDER`` with KERAS_BACKEND set.
"""

import json
import os
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from tests.training.test_work import asked, handle_for

from leptonai.core.learning import Adversarial
from leptonai.training.predictor import from_files
from leptonai.training.work import train

FAR = 0.15  # of the way from black to white


def learnt(folder: Path, table: dict[str, Any], target: str, cut: int, model: Any, **options: Any) -> tuple[Any, Any]:
    """Return what was learnt, as a Predictor, and rows that it has not seen."""
    handle = handle_for(folder, table, target, cut, **options.pop("types", {}))
    result = train(asked(handle, model, **options), handle)
    return from_files(handle.read(result["code"]), handle.read(result["weights"]), result), handle.data("test").read()


def attacks(folder: Path) -> dict[str, Any]:
    """Return how many written digits are read right as they are and under either attack, plain and where it learnt from attacks; and how far."""
    found: dict[str, Any] = {}
    for name, learning in (("plain", {}), ("hardened", {"adversarial": f"fgsm:epsilon={FAR}"})):
        predictor, rows = digits(folder / name, learning)
        truth = np.array([list(predictor.fitted.encoding.classes).index(word) for word in rows["digit"]])
        found[name] = {"clean": float((predictor.scores(rows).argmax(1) == truth).mean())}
        for method in ("fgsm", "pgd"):
            rule = Adversarial.model_validate({"method": method, "epsilon": FAR, "steps": 10, "share": 1})
            found[name][method] = float((predictor.attacked(rows, truth, rule).argmax(1) == truth).mean())
    x = np.ones((4, 8, 8, 1), np.float32)
    rule = Adversarial.model_validate({"method": "pgd", "epsilon": 0.1, "steps": 7, "share": 1})
    moved = predictor.learner.under_attack(x, truth[:4], rule, (0.95, 2.0), "softmax")
    found["furthest"] = float(np.abs(moved - x).max())
    found["least"] = float(moved.min())
    return found


def digits(folder: Path, learning: dict[str, Any]) -> tuple[Any, Any]:
    """Return what was learnt of digits that people wrote, and others of them."""
    import keras

    known = load_digits()
    table = {
        "picture": (known.images * 15.9).astype(np.uint8)[..., None],
        "digit": np.array([str(n) for n in known.target], dtype=object),
    }
    random.seed(0)
    layers = keras.layers
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(64, "relu"), layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    compiled = {"optimizer": keras.optimizers.Adam(0.01), "loss": loss}
    options = {"compiled": compiled, "epochs": 10, "batch_size": 100, "seed": 1, "learning": learning}
    return learnt(folder, table, "digit", 1400, model, **options)


def looks(folder: Path) -> dict[str, Any]:
    """Return how well the map of each picture adds up to what it explains, and how often Grad-CAM looks where the square is."""
    import keras

    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 40, (240, 12, 12, 1)).astype(np.uint8)
    left = np.arange(240) % 2 == 0
    pictures[left, 4:8, 1:5] += 200
    pictures[~left, 4:8, 7:11] += 200
    table = {"picture": pictures, "side": np.array(["left" if one else "right" for one in left], dtype=object)}
    random.seed(0)
    model = keras.Sequential(
        [
            keras.Input((12, 12, 1)), keras.layers.Conv2D(8, 3, activation="relu"), keras.layers.MaxPooling2D(),
            keras.layers.Flatten(), keras.layers.Dense(2),
        ]
    )  # fmt: skip
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    compiled = {"optimizer": keras.optimizers.Adam(0.01), "loss": loss}
    predictor, rows = learnt(folder, table, "side", 200, model, compiled=compiled, epochs=6)
    said = predictor.scores(rows).argmax(1)
    maps = predictor.attributed(rows, said.tolist())
    x = rows["picture"].astype(np.float32) / np.float32(255)
    places = np.arange(len(x))
    gained = (predictor.learner.predict(x) - predictor.learner.predict(np.zeros_like(x)))[places, said]
    summed = maps["integrated gradients"].sum((1, 2))
    cam = maps["Grad-CAM"]
    strength = np.abs(cam)  # the head sees the place, the mean slope of a channel does not: it may speak against
    on_left = strength[:, 4:8, 1:5].mean((1, 2)) > strength[:, 4:8, 7:11].mean((1, 2))
    return {
        "right": float((said == (rows["side"] == "right")).mean()),
        "apart": float(np.abs(summed - gained).max() / np.abs(gained).max()),
        "shape": list(cam.shape),
        "seen": float((on_left == (rows["side"] == "left")).mean()),
    }


def main(folder: Path) -> dict[str, Any]:
    """Return both."""
    os.chdir(folder)
    return {"attacks": attacks(folder / "attacks"), "looks": looks(folder / "looks")}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
