"""Answers that are written for a whole batch at once say what each says when it is written by itself."""

import json
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from leptonai.core.signature import Signature, TensorSpec
from leptonai.serving.plane.outputs import Batch, Part
from leptonai.serving.plane.v2 import Request
from leptonai.serving.plane.writer import Writer

SHAPES = {
    "50 % s": ("BYTES", (-1,)),
    "words": ("BYTES", (-1, 2)),
    "class": ("INT64", (-1,)),
    "scores": ("FP32", (-1, -1)),
}
VALUES = {
    "50 % s": st.sampled_from(("%s", 'a],["b', "Zürich")),
    "words": st.text(max_size=4),
    "class": st.integers(-(2**63), 2**63 - 1),
    "scores": st.floats(width=32, allow_nan=False, allow_infinity=False),
}
TYPES = {"BYTES": object, "INT64": np.int64, "FP32": np.float32}
WRITER = Writer(
    "of 100%d",
    "1",
    Signature(
        task="custom",
        inputs=(TensorSpec(name="x", datatype="FP32", shape=(-1,)),),
        outputs=tuple(TensorSpec(name=name, datatype=kind, shape=shape) for name, (kind, shape) in SHAPES.items()),
    ),
)


@st.composite
def batches(draw: st.DrawFn) -> dict[str, Any]:
    rows, made = draw(st.integers(1, 4)), {}
    for name, (kind, shape) in SHAPES.items():
        full = (rows, *(draw(st.integers(1, 3)) if size == -1 else size for size in shape[1:]))
        values = draw(st.lists(VALUES[name], min_size=int(np.prod(full)), max_size=int(np.prod(full))))
        made[name] = np.array(values, TYPES[kind]).reshape(full)
    return made


@given(batches(), st.lists(st.sampled_from(tuple(SHAPES)), min_size=1, unique=True).map(tuple))
def test_a_row_that_is_written_with_its_batch_says_what_it_says_alone(
    outputs: dict[str, Any], names: tuple[str, ...]
) -> None:
    batch = Batch(outputs)
    for row in range(len(outputs["class"])):
        part = Part(batch, row, row + 1)
        said = json.loads(WRITER.write(Request(None, {}, names), part).body)
        alone = json.loads(WRITER.write(Request("i", {}, names), part).body)  # those with an id are written one by one
        assert alone.pop("id") == "i"
        assert said == alone
        assert said["model_name"] == "of 100%d"
        assert [tensor["name"] for tensor in said["outputs"]] == [name for name in SHAPES if name in names]
        for tensor in said["outputs"]:
            row_of = outputs[tensor["name"]][row : row + 1]
            assert np.array_equal(np.array(tensor["data"], object).astype(row_of.dtype), row_of.ravel())
            assert tensor["shape"] == list(row_of.shape)
