"""The quick route of the protocol says exactly what the strict one says, or nothing."""

import json
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptonai.core.errors import Invalid, Unsupported
from leptonai.core.signature import Signature, TensorSpec
from leptonai.serving.plane import binary, body, v2
from leptonai.serving.plane.quick import Quick

DATATYPES = {"FP32": np.float32, "FP64": np.float64, "INT64": np.int64, "UINT8": np.uint8}


def signature(*specs: tuple[str, str, tuple[int, ...]]) -> Signature:
    inputs = tuple(TensorSpec(name=name, datatype=datatype, shape=shape) for name, datatype, shape in specs)
    return Signature(task="regression", inputs=inputs, outputs=(TensorSpec(name="y", datatype="FP32", shape=(-1, 1)),))


ONE = signature(("x", "FP32", (-1, 2, 2)))
TWO = signature(("a", "INT64", (-1,)), ("b", "FP64", (-1, 3)))
BYTE = signature(("x", "UINT8", (-1, 3)))

numbers = st.one_of(
    st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 255), st.just(1.5)
)
odd = st.one_of(st.none(), st.booleans(), st.text(max_size=3), st.lists(numbers, max_size=2))


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Requests that are nearly right, and right ones."""
    which = draw(st.sampled_from((ONE, TWO, BYTE)))
    tensors = []
    rows = draw(st.integers(0, 3))
    for spec in which.inputs:
        shape = [rows, *spec.shape[1:]]
        size = int(np.prod(shape))
        plain = st.integers(0, 255) if draw(st.booleans()) else numbers
        data: Any = draw(st.lists(plain, min_size=size, max_size=size))
        tensor: dict[str, Any] = {"name": spec.name, "shape": shape, "datatype": spec.datatype, "data": data}
        match draw(st.integers(0, 12)):
            case 0:
                data.append(1)
            case 1 if data:
                data[draw(st.integers(0, size - 1))] = draw(odd)
            case 2:
                tensor["data"] = np.array(data, object).reshape(shape).tolist()
            case 3:
                tensor[draw(st.sampled_from(("name", "shape", "datatype", "more")))] = draw(odd)
            case 4:
                tensor["parameters"] = {"binary_data": False}
        if draw(st.booleans()):
            tensor = dict(sorted(tensor.items()))
        tensors.append(tensor)
    request: dict[str, Any] = {"inputs": tensors}
    match draw(st.integers(0, 6)):
        case 0:
            request["id"] = draw(st.text(max_size=5))
        case 1:
            request["outputs"] = [{"name": "y"}]
        case 2:
            request["inputs"] = tensors + tensors[:1]
    text = json.dumps(request, separators=draw(st.sampled_from(((",", ":"), (", ", ": ")))))
    if draw(st.integers(0, 9)) == 0:
        text = text.replace('"name":', '"name":"x","name":', 1)
    return text.encode()


def strict(data: bytes, which: Signature) -> v2.Request | None:
    try:
        return v2.request(body.load(data), which)
    except (Invalid, Unsupported):
        return None


QUICK = {id(which): Quick(which) for which in (ONE, TWO, BYTE)}  # one for all, so that what it remembers is tried


@given(bodies())
def test_it_agrees_with_the_strict_route(data: bytes) -> None:
    for which in (ONE, TWO, BYTE):
        for _ in range(2):  # the second time the form may be known
            found = QUICK[id(which)].request(data)
            if found is None:
                continue
            right = strict(data, which)
            assert right is not None, data
            assert (found.id, found.outputs, found.binary) == (right.id, right.outputs, right.binary)
            assert found.inputs.keys() == right.inputs.keys()
            for name, value in found.inputs.items():
                assert value.dtype == right.inputs[name].dtype
                np.testing.assert_array_equal(value, right.inputs[name])


@pytest.mark.parametrize(
    "data",
    [
        b'{"inputs":[{"name":"x","shape":null,"datatype":"FP32","data":[[1,2,3,4]]}]}',
        b'{"inputs":[{"name":"x","shape":[[1,2,2]],"datatype":"FP32","data":null}]}',
        b'{"inputs":[null,[1],[2]]}',
        b'{"inputs":[1,[1],[2]]}',
    ],
)
def test_what_is_of_another_kind_is_left_to_the_strict_route(data: bytes) -> None:
    assert Quick(ONE).request(data) is None


def test_it_is_the_usual_way() -> None:
    quick = Quick(ONE)
    for numbers in ([1, 2, 3, 4], [0.5, -1e30, 3, 4], [1e-50, 2, 3, 4]):
        for separators in ((",", ":"), (", ", ": ")):
            tensor = {"name": "x", "shape": [1, 2, 2], "datatype": "FP32", "data": numbers}
            found = quick.request(json.dumps({"inputs": [tensor]}, separators=separators).encode())
            assert found is not None
            np.testing.assert_array_equal(found.inputs["x"].ravel(), np.array(numbers, np.float32))


@pytest.mark.parametrize(
    "data",
    [b"[1,2,3]", b"[1,2,3,4,5]", b"[1,2,3,null]", b"[1,2,3,true]", b'[1,2,3,"4"]', b"[[1,2],[3,4]]", b"[1,2,3,1e39]", b"[1,2,3,4],[1]",
     b"[1,2,3,NaN]", b"[1,2,3,]", b"[1,[2,3],4]", b"[1 2 3 4]", b"{}", b"[]", b'"]"', b"[1,2,3,4", b"[1,2,3,4]]"],
)  # fmt: skip
def test_what_is_remembered_lets_nothing_wrong_through(data: bytes) -> None:
    quick = Quick(ONE)
    start, end = b'{"inputs":[{"name":"x","shape":[1,2,2],"datatype":"FP32","data":', b"}]}"
    for _ in range(3):
        assert quick.request(start + b"[1,2,3,4]" + end) is not None
    assert quick.request(start + data + end) is None
    assert quick.request(start + b"[1,2,3,4]" + end) is not None


def test_raw_tensors_of_a_known_form_are_checked_again() -> None:
    quick = Quick(ONE)
    header = orjson.dumps(
        {"inputs": [{"name": "x", "shape": [1, 2, 2], "datatype": "FP32", "parameters": {"binary_data_size": 16}}]}
    )

    def read(raw: bytes) -> v2.Request:
        data = header + raw
        return quick.raw(data, len(header), lambda: v2.request(body.load(header), ONE, memoryview(data)[len(header) :]))

    for value in (1.0, 2.0, 3.0):
        sent = np.full((1, 2, 2), value, np.float32)
        np.testing.assert_array_equal(read(sent.tobytes()).inputs["x"], sent)
    for size in (0, 15, 17, 32):
        with pytest.raises(Invalid, match="bytes"):
            read(b"\0" * size)


@given(st.lists(st.text(max_size=20), min_size=1, max_size=5))
def test_texts_as_raw_bytes_come_back(texts: list[str]) -> None:
    texts = [text.encode("utf-8", "ignore").decode() for text in texts]
    made = np.empty(len(texts), object)
    made[:] = texts
    spec = TensorSpec(name="t", datatype="BYTES", shape=(-1,))
    assert binary.array(memoryview(binary.dump(made)), [len(texts)], spec, "t").tolist() == texts


@given(st.binary(max_size=60), st.integers(1, 4))
def test_texts_that_are_none_are_refused(data: bytes, count: int) -> None:
    spec = TensorSpec(name="t", datatype="BYTES", shape=(-1,))
    try:
        found = binary.array(memoryview(data), [count], spec, "input 't'")
    except Invalid as error:
        assert "input 't'" in error.message
    else:
        assert binary.dump(found) == data
