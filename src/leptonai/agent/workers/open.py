"""Loads a version in its worker, from the files of its bundle."""

import json
from collections.abc import Mapping
from pathlib import Path

from leptonai.agent.workers.computing import Computing, Trained
from leptonai.core.beginning import BASE
from leptonai.core.nouns import Model
from leptonai.core.stages import load
from leptonai.serving.predictor import WRITTEN
from leptonai.serving.written import open_written

FROM_FILES = "leptonai.training.predictor:from_files"  # (code, weights, fitted, base) -> core.stages.Predictor


def open_computing(model: Model, parts: Mapping[str, bytes], files: Path) -> Computing:
    """Load the user's code, and what it needs. `files`: the folder of those that came with it. Raises whatever that raises."""
    if model.framework == WRITTEN:
        return open_written(parts["code"], json.loads(parts["predictor.json"]), files, model.signature)
    weights = parts.get("weights.safetensors", parts.get("model.skops", b""))
    base = [parts[name] for name in sorted(parts) if name.startswith(BASE)]
    return Trained(load(FROM_FILES)(parts["code"], weights, json.loads(parts["fitted.json"]), base), model.signature)
