import pytest
from tests.support import bundles

from leptonai.adapters.runtimes import onnx as adapter
from leptonai.core import plugins
from leptonai.core.errors import Invalid, Unsupported
from leptonai.core.runtimes import Runtime, Variant

MODEL, FILES = bundles.adder(1)


@pytest.fixture
def runtime() -> Runtime:
    return plugins.runtime("onnx")


def test_a_provider_that_is_not_installed_is_named_with_those_that_are(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEPTONAI_PROVIDERS", "RocketExecutionProvider, CPUExecutionProvider")
    for call in (lambda: runtime.load(FILES), lambda: runtime.variants(MODEL.signature)):
        with pytest.raises(Invalid, match=r"LEPTONAI_PROVIDERS.*RocketExecutionProvider.*has .*CPUExecutionProvider"):
            call()
    runtime.load(FILES, device="cpu").close()  # the processor needs no setting


def test_each_provider_of_the_setting_is_a_way_to_compute(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a graphics card, as far as names go: what ONNX Runtime is asked for."""
    cuda, tensorrt, cpu = (f"{name}ExecutionProvider" for name in ("CUDA", "Tensorrt", "CPU"))
    asked: list[list[str]] = []

    class Session:
        def __init__(self, data: bytes, options: object, providers: list[tuple[str, dict[str, str]]]):
            asked.append([name for name, _ in providers])

        def get_providers(self) -> list[str]:
            return [name for name in asked[-1] if name != tensorrt]  # this one does not start

        def get_inputs(self) -> list[object]:
            return []

        get_outputs = get_inputs

    monkeypatch.setattr(adapter.ort, "get_available_providers", lambda: [tensorrt, cuda, cpu])
    monkeypatch.setattr(adapter.ort, "InferenceSession", Session)
    monkeypatch.setenv("LEPTONAI_PROVIDERS", f"{tensorrt},{cuda}")
    assert runtime.variants(MODEL.signature) == [
        Variant("onnx"),
        Variant("onnx", device="tensorrt"),
        Variant("onnx", device="cuda"),
    ]
    runtime.load(FILES, device="cuda")
    runtime.load(FILES, device="cpu")
    with pytest.raises(Unsupported, match="TensorrtExecutionProvider did not start"):
        runtime.load(FILES)
    assert asked == [[cuda, cpu], [cpu], [tensorrt, cuda, cpu]]
