"""Run as a process of its own: read ``model.keras`` in a folder, write ``model.onnx`` beside it.

The parent chose the back end by KERAS_BACKEND, which Keras reads once, when it is imported. The model is made again from
its description and weights in Keras' safe mode: a layer that is not Keras' own cannot be made again here.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np

from leptonai.adapters.frameworks.keras_fed import Fed, arrays_of, in_order
from leptonai.adapters.frameworks.keras_onnx import here
from leptonai.core.several import Goal, Several


def main(folder: Path) -> str | None:
    """Export by the first route that works; return None, or why there is none, in one line."""
    example = np.load(folder / "example.npy", allow_pickle=False)
    try:
        model = keras.saving.load_model(folder / "model.keras", compile=False, safe_mode=True)
        told = json.loads((folder / "several.json").read_text())
        if told["inputs"] or told["goals"]:
            model = Fed(model, Several(tuple(told["inputs"]), tuple(Goal(**goal) for goal in told["goals"])))
        in_order(model)(*arrays_of(example[:1]))
    except Exception as error:  # noqa: BLE001  whatever a stranger's model raises is the reason
        return f"it cannot be made again: {_first_line(error)}"
    reasons = []
    for route in here(model, example):
        try:
            (folder / "model.onnx").write_bytes(route.build())
        except Exception as error:  # noqa: BLE001  exporters raise anything
            reasons.append(f"{route.name}: {_first_line(error)}")
        else:
            return None
    return "; ".join(reasons)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
