"""Keras models go through training, export and ONNX Runtime, and give what Keras gives, on each back end.

Keras reads its back end once, when it is imported: each back end has a process of its own, and exports many models.
"""

from pathlib import Path
from typing import Any

import pytest
from tests.support.back_end import said

from leptonai.training.export_check import TOLERANCE

QUICK = (
    "dense",
    "cnn",
    "lstm",
)  # tables, pictures, series; tokens are what the snippet of the README learns, in every run
SIMPLE = ("dense sigmoid", "embedding", "functional", "the snippet")
MORE = ("dense softmax", "dense regression", "normalization", "gru", "masked", "attention", "multi-head attention")


def exports(backend: str, folder: Path, *names: str) -> dict[str, dict[str, Any]]:
    lines = said(backend, "export_keras", str(folder), *names)
    assert [line["name"] for line in lines] == list(names)
    return {line["name"]: line for line in lines}


def agrees(found: dict[str, Any], *routes: str) -> None:
    assert found["route"] in routes, found
    assert found["difference"] <= TOLERANCE
    assert (found["note"], found["said"]) == ("", [])


def test_on_pytorch(tmp_path: Path) -> None:
    for found in exports("torch", tmp_path, *QUICK).values():
        agrees(found, "PyTorch's tracer", "torch.export")


@pytest.mark.slow
def test_on_pytorch_all(tmp_path: Path) -> None:
    found = exports("torch", tmp_path, *SIMPLE, *MORE, "own layer")
    for name in SIMPLE:
        agrees(found[name], "PyTorch's tracer", "torch.export")
    for name in MORE:
        agrees(found[name], "torch.export" if "attention" in name else "PyTorch's tracer")
    note = found["own layer"]["note"]
    assert "served by keras in a process of its own" in note
    assert "PyTorch's tracer: the model seems to choose by values" in note
    assert "torch.export: the model chooses by values" in note
    assert "rebuilt on Keras with tensorflow: Doubles is not of Keras" in note


@pytest.mark.slow
def test_on_tensorflow(tmp_path: Path) -> None:
    for found in exports("tensorflow", tmp_path, *QUICK).values():
        agrees(found, "tf2onnx")


@pytest.mark.slow
def test_on_tensorflow_all(tmp_path: Path) -> None:
    for found in exports("tensorflow", tmp_path, *SIMPLE, *MORE, "own layer").values():
        agrees(found, "tf2onnx")


@pytest.mark.slow
@pytest.mark.timeout(660)
def test_on_jax(tmp_path: Path) -> None:
    """Keras' own exporter needs jax2onnx; without it the model is rebuilt on a back end that exports by itself."""
    for found in exports("jax", tmp_path, *QUICK).values():
        agrees(found, "Keras' own exporter", "rebuilt on Keras with torch", "rebuilt on Keras with tensorflow")


@pytest.mark.slow
@pytest.mark.parametrize(("here", "other"), [("torch", "tensorflow"), ("tensorflow", "torch")])
def test_rebuilt_on_another_back_end(here: str, other: str, tmp_path: Path) -> None:
    found = exports(here, tmp_path, "only rebuilt", "only rebuilt, own layer")
    agrees(found["only rebuilt"], f"rebuilt on Keras with {other}")
    assert "Doubles is not of Keras" in found["only rebuilt, own layer"]["note"]
