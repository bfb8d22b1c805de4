from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from leptonai.core import plugins
from leptonai.core.errors import Invalid
from leptonai.core.ports import Runtime
from leptonai.testing.runtime import RuntimeContract


def build() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Mul", ["x", "two"], ["doubled"]),
        helper.make_node("Cast", ["doubled"], ["twice"], to=TensorProto.FLOAT),
        helper.make_node(
            "LabelEncoder",
            ["word"],
            ["code"],
            domain="ai.onnx.ml",
            keys_strings=["a", "b"],
            values_int64s=[1, 2],
            default_int64=0,
        ),
    ]
    graph = helper.make_graph(
        nodes,
        "contract",
        [
            helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["batch", 3]),
            helper.make_tensor_value_info("word", TensorProto.STRING, ["batch"]),
        ],
        [
            helper.make_tensor_value_info("twice", TensorProto.FLOAT, ["batch", 3]),
            helper.make_tensor_value_info("code", TensorProto.INT64, ["batch"]),
        ],
        [numpy_helper.from_array(np.array(2.0), "two")],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


class TestOnnxRuntime(RuntimeContract):
    @pytest.fixture
    def runtime(self) -> Runtime:
        return plugins.runtime("onnx")

    @pytest.fixture
    def files(self) -> dict[str, bytes]:
        return {"model.onnx": build().SerializeToString()}

    @pytest.mark.parametrize("where", ["weights.bin", "../weights.bin", "{absolute}"])
    def test_a_file_that_names_another_file_is_refused(
        self, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
    ) -> None:
        (tmp_path / "in").mkdir()
        for folder in (tmp_path, tmp_path / "in"):
            (folder / "weights.bin").write_bytes(np.float64(2.0).tobytes())
        monkeypatch.chdir(tmp_path / "in")
        model = build()
        weights = model.graph.initializer[0]
        weights.ClearField("raw_data")
        weights.data_location = TensorProto.EXTERNAL
        for key, value in (
            ("location", where.format(absolute=tmp_path / "weights.bin")),
            ("offset", "0"),
            ("length", "8"),
        ):
            weights.external_data.add(key=key, value=value)
        with pytest.raises(Invalid):
            runtime.load({"model.onnx": model.SerializeToString()})

    def test_the_reason_is_one_short_line(self, runtime: Runtime) -> None:
        with pytest.raises(Invalid) as caught:
            runtime.load({"model.onnx": b"junk"})
        assert (
            caught.value.message == "model.onnx cannot be loaded: Failed to load model because protobuf parsing failed."
        )
