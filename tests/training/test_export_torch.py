"""PyTorch modules go through training, export and ONNX Runtime, and give what PyTorch gives."""

from pathlib import Path
from typing import Any

import pytest
import tests.support.libraries  # noqa: F401
import torch
from tests.support.export import DATA, learn, mixed, pictures, publish, series, tokens
from tests.support.handle import ArrayReader, FileHandle
from torch import nn

from leptonai.adapters.frameworks.torch_onnx import by_export, by_tracer
from leptonai.core.errors import Unsupported
from leptonai.core.signature import Signature
from leptonai.training.export_check import TOLERANCE


class Last(nn.Module):
    """The last step of a recurrent layer."""

    def __init__(self, layer: nn.Module, outputs: int):
        super().__init__()
        self.layer, self.head = layer, nn.Linear(16, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(x)[0][:, -1])


class Attention(nn.Module):
    def __init__(self, outputs: int):
        super().__init__()
        self.into, self.attention, self.head = (
            nn.Linear(4, 16),
            nn.MultiheadAttention(16, 2, batch_first=True),
            nn.Linear(16, outputs),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.into(x)
        return self.head((x + self.attention(x, x, x)[0]).mean(1))


class Scaled(Attention):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.into(x)
        return self.head(nn.functional.scaled_dot_product_attention(x, x, x).mean(1))


class Chooses(nn.Module):
    """Goes another way for large values: a trace would hold one way only."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.mean(1)
        return self.head(x * 2 if bool(x.mean() > 1000) else x)


class Branches(Chooses):
    """The same, written so that it can be exported."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.mean(1)
        return self.head(torch.where(x.mean() > 1000, x * 2, x))


def dense(outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.LazyLinear(16), nn.BatchNorm1d(16), nn.GELU(), nn.Dropout(0.5), nn.Linear(16, outputs)
    )  # fmt: skip


def convolution(outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, outputs)
    )  # fmt: skip


def pooled(outputs: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 16, 3), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, outputs))


def transformer(outputs: int) -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    return nn.Sequential(nn.Linear(4, 16), nn.TransformerEncoder(layer, 2), nn.Flatten(), nn.Linear(112, outputs))


def embedding(outputs: int) -> nn.Module:
    return nn.Sequential(nn.Embedding(50, 8), nn.Flatten(), nn.LazyLinear(outputs))


def exported(desk: FileHandle) -> dict[str, Any]:
    result = publish(desk)
    assert result["note"] == "", result["note"]
    assert result["lineage"]["export"]["difference"] <= TOLERANCE
    return result


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize(
    ("make", "table"),
    [
        (convolution, pictures),
        (pooled, pictures),
        (lambda n: Last(nn.LSTM(4, 16, 2, batch_first=True), n), series),
        (lambda n: Last(nn.GRU(4, 8, bidirectional=True, batch_first=True), n), series),
        (Attention, series),
        (Scaled, series),
        (transformer, series),
        (embedding, tokens),
    ],
    ids=["cnn", "pooled", "lstm", "gru", "attention", "scaled attention", "transformer", "embedding"],
)
def test_modules(make: Any, table: Any, task: str, tmp_path: Path) -> None:
    desk = learn(make(3 if task == "classification" else 1), table(task), tmp_path)
    result = exported(desk)
    assert result["lineage"]["export"]["route"] == "PyTorch's tracer"
    outputs = Signature.of(result["signature"]).outputs
    shapes = {output.name: (output.datatype, output.shape) for output in outputs}
    expected = {"label": ("BYTES", (-1,)), "probabilities": ("FP32", (-1, 3))}
    assert shapes == (expected if task == "classification" else {"prediction": ("FP32", (-1, 1))})


@pytest.mark.parametrize(("task", "outputs"), [("binary", 1), ("binary", 2), ("three classes", 3), ("regression", 1)])
@pytest.mark.parametrize("options", [{"category_encoding": "onehot"}, {}], ids=["onehot", "index"])
def test_tables(task: str, outputs: int, options: dict[str, Any], tmp_path: Path) -> None:
    exported(learn(dense(outputs), mixed(task), tmp_path, **options))


def test_a_sigmoid_inside_the_model(tmp_path: Path) -> None:
    module = nn.Sequential(dense(1), nn.Sigmoid())
    desk = learn(module, mixed("binary"), tmp_path, compiled={"loss": "bce"})
    exported(desk)


def test_a_dropped_last_axis(tmp_path: Path) -> None:
    result = exported(learn(nn.Sequential(dense(1), nn.Flatten(0)), mixed("regression"), tmp_path))
    assert result["signature"]["outputs"][0]["shape"] == [-1]


def test_choices_by_value_are_never_traced(tmp_path: Path) -> None:
    desk = learn(Chooses(), series(), tmp_path)
    result = publish(desk)
    assert "model.onnx" not in result["files"]
    assert result["bytes"] > 0
    note = result["note"]
    assert note.startswith("This version has no ONNX file and is served by torch in a process of its own.")
    assert "PyTorch's tracer: the model seems to choose by values (test_export_torch.py, line" in note
    assert "torch.export: " in note
    assert "\x1b" not in note
    assert [refused["route"] for refused in result["lineage"]["export"]["refused"]] == [
        "PyTorch's tracer",
        "torch.export",
    ]
    exported(learn(Branches(), series(), tmp_path))


def test_export_takes_what_the_tracer_refuses() -> None:
    class Asserts(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert x.shape[1] == 4
            return x * 2

    module, example = Asserts(), torch.zeros(2, 4).numpy()
    with pytest.raises(Unsupported, match="choose by values"):
        by_tracer(module, example)
    assert len(by_export(module, example)) > 0


def test_a_fixed_batch_is_no_route(tmp_path: Path) -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            rows = x.shape[0]
            return self.head(x.mean(1)) + torch.arange(int(rows))[:, None] * 0.001

    desk = learn(Fixed(), series(), tmp_path)
    result = publish(desk)
    if "model.onnx" in result["files"]:  # torch.export keeps the batch open
        assert result["lineage"]["export"]["route"] == "torch.export"
    else:
        assert "PyTorch's tracer" in result["note"]


def test_export_leaves_the_module_as_it_was() -> None:
    module = dense(3)
    module(torch.zeros(2, 5))
    module[3].eval()
    for build in (by_tracer, by_export):
        build(module, torch.zeros(2, 5).numpy())
        assert [part.training for part in module.modules()] == [True, True, True, True, False, True]


def test_an_empty_dataset_is_said(tmp_path: Path) -> None:
    desk = learn(dense(2), mixed("binary"), tmp_path)
    table = desk.datasets[DATA]
    empty = {name: values[:0] for name, values in table.read().items()}
    desk.datasets[DATA] = ArrayReader(table.columns, empty, "t")
    with pytest.raises(Exception, match="no rows"):
        publish(desk)


@pytest.mark.parametrize("rows", [3, 9])
def test_a_tiny_dataset_is_repeated(rows: int, tmp_path: Path) -> None:
    desk = learn(dense(2), mixed("binary", 20), tmp_path)
    table = desk.datasets[DATA]
    desk.datasets[DATA] = ArrayReader(
        table.columns, {name: values[:rows] for name, values in table.read().items()}, "t"
    )
    assert exported(desk)["lineage"]["export"]["rows"] == 12
