"""What OpenVINO does to the process that it is loaded into."""

import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper

from leptonai.core import plugins, settings
from leptonai.core.runtimes import Runtime
from leptonai.core.signature import Signature, TensorSpec

NUMBERS = Signature(
    inputs=(TensorSpec(name="x", datatype="FP32", shape=(-1, 1024)),),
    outputs=(TensorSpec(name="y", datatype="FP32", shape=(-1, 1024)),),
    task="regression",
)
WORDS = replace(NUMBERS, inputs=(TensorSpec(name="x", datatype="BYTES", shape=(-1,)),))


def matrix() -> dict[str, bytes]:
    """y = x @ w, with 4 MB of weights."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "matrix",
        [info("x", TensorProto.FLOAT, ["batch", 1024])],
        [info("y", TensorProto.FLOAT, ["batch", 1024])],
        [numpy_helper.from_array(np.eye(1024, dtype=np.float32), "w")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    assert isinstance(made, onnx.ModelProto)
    return {"model.onnx": made.SerializeToString()}


def child(code: str, home: Path) -> str:
    """Run code in a fresh process with a home of its own; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code], env=settings.environment(HOME=str(home)), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


WATCHED = """
import sys, threading
spoken = []
sys.addaudithook(lambda event, args: event.startswith(("socket.", "subprocess.", "os.fork")) and spoken.append(event))
from pathlib import Path
from leptonai.core import plugins
runtime = plugins.runtime("openvino")
assert "openvino" not in sys.modules, "the adapter imports it too early"
loaded = runtime.load({"model.onnx": Path(sys.argv[1] if len(sys.argv) > 1 else "model.onnx").read_bytes()})
assert "openvino" in sys.modules
assert not spoken, spoken
assert threading.active_count() == 1
assert not [name for name in sys.modules if name.startswith("openvino.tools.ovc")]
assert sys.modules["openvino_telemetry"] is None
"""

WITHOUT = """
import sys
sys.modules["openvino"] = None
from leptonai.core import plugins
from leptonai.core.errors import MissingExtra
from leptonai.core.signature import Signature, TensorSpec
spec = TensorSpec(name="x", datatype="FP32", shape=(-1,))
runtime = plugins.runtime("openvino")
assert runtime.variants(Signature(inputs=(spec,), outputs=(spec,), task="regression")) == []
try:
    runtime.load({"model.onnx": b""})
except MissingExtra as error:
    print(error.message)
"""


def test_without_it_nothing_is_offered_and_the_extra_is_named(tmp_path: Path) -> None:
    assert "lepton-ai-sdk[openvino]" in child(WITHOUT, tmp_path)


@pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")
class TestInstalled:
    @pytest.fixture
    def runtime(self) -> Runtime:
        return plugins.runtime("openvino")

    def test_it_is_imported_late_and_sends_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "model.onnx").write_bytes(matrix()["model.onnx"])
        child(WATCHED.replace('"model.onnx").read', f'"{tmp_path}/model.onnx").read'), tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"], "it left an identity in the home folder"

    def test_a_model_with_text_is_not_offered_and_does_not_import_it(self, tmp_path: Path) -> None:
        plugin = plugins.runtime("openvino")
        assert plugin.variants(WORDS) == []
        code = "import sys; from leptonai.core import plugins; from leptonai.core.nouns import Signature;"
        code += f"print(plugins.runtime('openvino').variants(Signature.of({WORDS.to_dict()!r})),"
        assert child(code + "'openvino' in sys.modules)", tmp_path).split() == ["[]", "False"]

    def test_bf16_is_offered_only_where_the_processor_has_it(self, runtime: Runtime) -> None:
        flags = Path("/proc/cpuinfo").read_text()
        able = "avx512_bf16" in flags or "amx_bf16" in flags
        assert [v.precision for v in runtime.variants(NUMBERS)] == (["fp32", "bf16"] if able else ["fp32"])

    def test_what_is_closed_is_freed(self, runtime: Runtime) -> None:
        files, process = matrix(), psutil.Process()
        x = np.ones((8, 1024), np.float32)
        sizes = []
        for _ in range(15):
            loaded = runtime.load(files)
            np.testing.assert_allclose(loaded.predict({"x": x})["y"], x)
            loaded.close()
            sizes.append(process.memory_info().rss)
        grown = (sizes[-1] - sizes[4]) / 2**20
        assert grown < 20, f"ten models of 4 MB left {grown:.0f} MB"
