"""What a class says of itself, and what it may be called."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from leptonai.core.errors import Invalid, LeptonError, NotFound
from leptonai.core.signature import FeatureType, TensorSpec
from leptonai.serving.predictor import Context, Predictor, signature_of, work_of
from leptonai.serving.sealed import check_path
from leptonai.serving.written import check_requirements, outputs


class Good(Predictor):
    inputs: ClassVar = {
        "text": str,
        "n": int,
        "x": float,
        "on": bool,
        "row": ("float32", 3),
        "face": ("image", 8, 8, 3),
    }
    outputs: ClassVar = {"y": np.float64}
    max_batch = 7

    def __init__(self, factor: float = 1.0):
        self.factor = factor

    def predict(self, batch: dict[str, Any]) -> Any:
        return batch["x"] * self.factor


def test_a_class_says_what_it_takes_and_gives() -> None:
    found = signature_of(Good)
    assert [(spec.datatype, spec.shape, spec.type) for spec in found.inputs] == [
        ("BYTES", (-1,), FeatureType.TEXT),
        ("INT64", (-1,), FeatureType.INTEGER),
        ("FP64", (-1,), FeatureType.NUMBER),
        ("BOOL", (-1,), FeatureType.BOOLEAN),
        ("FP32", (-1, 3), FeatureType.TENSOR),
        ("UINT8", (-1, 8, 8, 3), FeatureType.IMAGE),
    ]
    assert found.task == "custom"
    assert found == signature_of(Good(2.0))
    work = work_of(Good, workers=2, memory_mb=None)
    assert (work.max_batch, work.workers, work.predicts, work.streams) == (7, 2, True, False)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"inputs": {}}, "inputs is empty"),
        ({"outputs": {}}, "outputs is empty"),
        ({"inputs": {"a": dict}}, "use one of"),
        ({"inputs": {"a": "float16"}}, "use one of"),
        ({"inputs": {"a": ("float32", 0)}}, "sizes"),
        ({"inputs": {"a": ("float32", "3")}}, "sizes"),
        ({"inputs": {"a": ("image", 8, 8)}}, "sizes"),
        ({"inputs": ["a"]}, "must be a dict"),
        ({"__init__": lambda self, needed: None}, "cannot be made without needed"),
    ],
)
def test_what_a_class_says_wrongly_is_named(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(Invalid, match=why):
        signature_of(type("Bad", (Good,), fields))


def test_what_is_no_service_is_refused() -> None:
    with pytest.raises(Invalid, match="derive the class"):
        signature_of(int)
    with pytest.raises(Invalid, match="neither predict"):
        work_of(type("Empty", (Predictor,), {"inputs": {"a": str}}))


SPECS = (
    TensorSpec(name="a", datatype="FP32", shape=(-1, 2)),
    TensorSpec(name="b", datatype="BYTES", shape=(-1,)),
)


def test_what_predict_returns_may_have_several_forms() -> None:
    columns = outputs({"a": [[1, 2], [3, 4]], "b": ["x", 5], "more": 1}, 2, SPECS)
    rows = outputs([{"a": [1, 2], "b": "x"}, {"a": [3, 4], "b": 5}], 2, SPECS)
    for found in (columns, rows):
        assert list(found) == ["a", "b"]
        assert found["a"].dtype == np.float32
        np.testing.assert_array_equal(found["a"], [[1, 2], [3, 4]])
        assert found["b"].tolist() == ["x", "5"]
    single = (TensorSpec(name="y", datatype="FP64", shape=(-1,)),)
    assert outputs([1, 2], 2, single)["y"].tolist() == [1.0, 2.0]
    assert outputs(np.ones((2, 1)), 2, single)["y"].shape == (2,)


@pytest.mark.parametrize(
    "found", [None, 7, [1, 2], {"a": [[1, 2]]}, {"a": [[1, 2]], "b": ["x", "y"]}, {"a": [["x", "y"]], "b": ["x"]}, []]
)
def test_what_does_not_fit_is_the_fault_of_the_class(found: Any) -> None:
    with pytest.raises(LeptonError) as error:
        outputs(found, 1, SPECS)
    assert not isinstance(error.value, Invalid)


def test_files_and_requirements(tmp_path: Path) -> None:
    assert check_path("a/b.txt") == "a/b.txt"
    for name in ("", "/etc/passwd", "../a", "a/../b", "a//b", ".", "a\0b", "x" * 501):
        with pytest.raises(Invalid):
            check_path(name)
    check_requirements(["numpy>=1", "numpy", 'nothing>1; python_version < "3"'])
    for wanted in ("numpy>=99", "no-such-library", "what is this?"):
        with pytest.raises(Invalid, match="requirements are not met"):
            check_requirements([wanted])
    with pytest.raises(NotFound, match="there are: none"):
        Context(tmp_path, {}).path("a")
