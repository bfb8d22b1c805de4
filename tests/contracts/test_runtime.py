from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from leptonai.core import plugins
from leptonai.core.errors import Invalid
from leptonai.core.runtimes import Runtime
from leptonai.testing.runtime import RuntimeContract, TextRuntimeContract


def build(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: Iterable[onnx.TensorProto] = (),
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "contract", inputs, outputs, list(constants))
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def numbers() -> onnx.ModelProto:
    info = helper.make_tensor_value_info
    return build(
        [
            helper.make_node("Mul", ["x", "two"], ["doubled"]),
            helper.make_node("Cast", ["doubled"], ["twice"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["count", "one"], ["next"]),
        ],
        [info("x", TensorProto.DOUBLE, ["batch", 3]), info("count", TensorProto.INT64, ["batch"])],
        [info("twice", TensorProto.FLOAT, ["batch", 3]), info("next", TensorProto.INT64, ["batch"])],
        [numpy_helper.from_array(np.array(2.0), "two"), numpy_helper.from_array(np.array(1), "one")],
    )


def words() -> onnx.ModelProto:
    attributes = {"keys_strings": ["a", "b"], "values_int64s": [1, 2], "default_int64": 0}
    return build(
        [helper.make_node("LabelEncoder", ["word"], ["code"], domain="ai.onnx.ml", **attributes)],
        [helper.make_tensor_value_info("word", TensorProto.STRING, ["batch"])],
        [helper.make_tensor_value_info("code", TensorProto.INT64, ["batch"])],
    )


class ReadsNoOtherFile:
    """Our runtimes read ONNX, in which a tensor can name a file that it lies in."""

    @pytest.mark.parametrize("where", ["weights.bin", "../weights.bin", "{absolute}"])
    @pytest.mark.parametrize("nested", [False, True])
    def test_a_file_that_names_another_file_is_refused(
        self, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, nested: bool
    ) -> None:
        (tmp_path / "in").mkdir()
        for folder in (tmp_path, tmp_path / "in"):
            (folder / "weights.bin").write_bytes(np.float64(2.0).tobytes())
        monkeypatch.chdir(tmp_path / "in")
        model = numbers()
        weights = model.graph.initializer[0]
        weights.ClearField("raw_data")
        weights.data_location = TensorProto.EXTERNAL
        for key, value in (
            ("location", where.format(absolute=tmp_path / "weights.bin")),
            ("offset", "0"),
            ("length", "8"),
        ):
            weights.external_data.add(key=key, value=value)
        if nested:
            model.graph.node.insert(0, helper.make_node("Constant", [], ["two"], value=weights))
            del model.graph.initializer[0]
        with pytest.raises(Invalid):
            runtime.load({"model.onnx": model.SerializeToString()})

    def test_a_column_may_be_called_location(self, runtime: Runtime) -> None:
        info = helper.make_tensor_value_info
        model = build(
            [helper.make_node("Neg", ["location"], ["y"])],
            [info("location", TensorProto.FLOAT, ["batch"])],
            [info("y", TensorProto.FLOAT, ["batch"])],
        )
        loaded = runtime.load({"model.onnx": model.SerializeToString()})
        assert loaded.predict({"location": np.ones(1, np.float32)})["y"].tolist() == [-1]
        loaded.close()


class TestOnnxRuntime(RuntimeContract, TextRuntimeContract, ReadsNoOtherFile):
    @pytest.fixture
    def runtime(self) -> Runtime:
        return plugins.runtime("onnx")

    @pytest.fixture
    def files(self) -> dict[str, bytes]:
        return {"model.onnx": numbers().SerializeToString()}

    @pytest.fixture
    def text_files(self) -> dict[str, bytes]:
        return {"model.onnx": words().SerializeToString()}

    def test_the_reason_is_one_short_line(self, runtime: Runtime) -> None:
        with pytest.raises(Invalid) as caught:
            runtime.load({"model.onnx": b"junk"})
        assert (
            caught.value.message == "model.onnx cannot be loaded: Failed to load model because protobuf parsing failed."
        )


@pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")
class TestOpenvinoRuntime(RuntimeContract, ReadsNoOtherFile):
    @pytest.fixture
    def runtime(self) -> Runtime:
        return plugins.runtime("openvino")

    @pytest.fixture
    def files(self) -> dict[str, bytes]:
        return {"model.onnx": numbers().SerializeToString()}

    def test_the_reason_names_what_it_lacks(self, runtime: Runtime) -> None:
        with pytest.raises(Invalid) as caught:
            runtime.load({"model.onnx": words().SerializeToString()})
        assert caught.value.message == (
            "model.onnx cannot be loaded: No conversion rule found for operations: ai.onnx.ml.LabelEncoder"
        )
