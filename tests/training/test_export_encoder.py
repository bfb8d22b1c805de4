"""The encoder inside the graph gives bit for bit what the NumPy encoder gives."""

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from leptonai.core import plugins
from leptonai.core.errors import Invalid, Unsupported
from leptonai.training import onnx_graph, onnx_inputs
from leptonai.training.encoder import encode, width
from leptonai.training.spec import Encoding, FeatureCode


def identity(shape: tuple[int, ...], dtype: str = "float32", opset: int = 18) -> bytes:
    """A middle that gives what it takes."""
    kind = TensorProto.FLOAT if dtype == "float32" else TensorProto.INT64
    graph = helper.make_graph(
        [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)],
        "identity",
        [helper.make_tensor_value_info("x", kind, ["batch", *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", *shape])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return bytes(made.SerializeToString())


def through(encoding: Encoding, batch: dict[str, np.ndarray], opset: int = 18) -> np.ndarray:
    with np.errstate(over="ignore"):  # beyond float32 is infinite, in the graph too
        expected = encode(encoding, batch)
    graph = onnx_graph.publishable(
        identity(expected.shape[1:], encoding.dtype, opset), encoding, "value", expected.shape[1:]
    )
    model = plugins.runtime("onnx").load({"model.onnx": graph})
    (found,) = model.predict(onnx_inputs.feed(encoding, batch)).values()
    model.close()
    return found


def same(encoding: Encoding, batch: dict[str, np.ndarray], opset: int = 18) -> None:
    with np.errstate(over="ignore"):
        expected = encode(encoding, batch).astype(np.float32)
    np.testing.assert_array_equal(through(encoding, batch, opset), expected, strict=True)


def table(*features: FeatureCode, dtype: str = "float32", layout: str = "table") -> Encoding:
    return Encoding(features=features, dtype=dtype, layout=layout, target="t", task="regression")


# ------------------------------------------------------------------------------------------------ any encoding

WORDS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), max_size=6)
NAMES = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), min_size=1, max_size=8)
FLOATS = st.floats(allow_nan=True, allow_infinity=False, width=64)
FINITE = st.floats(-1e12, 1e12)
WHOLE = st.integers(-(2**62), 2**62)
ROWS = 4


@st.composite
def a_column(draw: st.DrawFn, name: str) -> tuple[FeatureCode, np.ndarray]:
    kind = draw(st.sampled_from(["number", "integer", "missing integer", "words", "codes", "truth", "datetime"]))
    about = {"column": name, "mean": draw(FINITE), "std": draw(st.floats(1e-6, 1e12))}
    if kind == "number":
        values = draw(st.lists(FLOATS, min_size=ROWS, max_size=ROWS))
        op = draw(st.sampled_from(["scale", "raw"]))
        return FeatureCode(op=op, type="number", dtype="float64", **about), np.array(values, np.float64)
    if kind == "integer":
        values = draw(st.lists(WHOLE, min_size=ROWS, max_size=ROWS))
        op = draw(st.sampled_from(["scale", "raw"]))
        return FeatureCode(op=op, type="integer", dtype="int64", **about), np.array(values, np.int64)
    if kind == "missing integer":
        values = draw(st.lists(st.one_of(st.just(np.nan), st.integers(-1000, 1000)), min_size=ROWS, max_size=ROWS))
        return FeatureCode(op="scale", type="integer", dtype="float64", **about), np.array(values, np.float64)
    if kind == "truth":
        values = draw(st.lists(st.booleans(), min_size=ROWS, max_size=ROWS))
        return FeatureCode(op="flag", type="boolean", dtype="bool", **about), np.array(values, np.bool_)
    if kind == "datetime":
        values = draw(st.lists(st.integers(-(2**55), 2**55), min_size=ROWS, max_size=ROWS))
        return FeatureCode(op="time", type="datetime", dtype="int64", **about), np.array(values, np.int64)
    one = WORDS if kind == "words" else WHOLE
    known = draw(st.lists(one, max_size=4, unique=True))
    values = draw(
        st.lists(st.one_of(st.none(), one, *([st.sampled_from(known)] if known else [])), min_size=ROWS, max_size=ROWS)
    )
    op = draw(st.sampled_from(["index", "onehot"]))
    dtype = "str" if kind == "words" else "int64"
    code = FeatureCode(op=op, type="category", dtype=dtype, categories=tuple(sorted(known)), **about)
    return code, np.array([*values, None], object)[:-1]


@st.composite
def a_table(draw: st.DrawFn) -> tuple[Encoding, dict[str, np.ndarray]]:
    names = draw(st.lists(NAMES, min_size=1, max_size=6, unique=True))
    columns = [draw(a_column(name)) for name in names]
    return table(*(code for code, _ in columns)), {code.column: values for code, values in columns}


@given(a_table(), st.sampled_from([9, 13, 15, 18, 21]))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_table_is_encoded_in_the_graph_as_in_numpy(
    case: tuple[Encoding, dict[str, np.ndarray]], opset: int
) -> None:
    encoding, batch = case
    if not sum(map(width, encoding.features)):
        return
    same(encoding, batch, opset)


# ------------------------------------------------------------------------------------------------- single cases


def test_names_of_columns_are_the_names_of_inputs() -> None:
    names = ["encoder/", "model/x", "tail/", "prediction", "x", "y", "a b", "q\"'", "ü/日本", "-1", "encoder//cast_1"]
    features = [FeatureCode(column=name, op="scale", type="number", dtype="float64", mean=1, std=3) for name in names]
    encoding = table(*features)
    same(encoding, {name: np.arange(5.0) + at for at, name in enumerate(names)})
    graph = onnx.load_model_from_string(onnx_graph.publishable(identity((11,)), encoding, "value", (11,)))
    assert [value.name for value in graph.graph.input] == names
    assert [value.name for value in graph.graph.output] == ["prediction_"]


def test_columns_keep_their_order_when_like_ones_are_computed_together() -> None:
    number = {"op": "scale", "type": "number", "dtype": "float64", "mean": 2.0, "std": 0.3}
    word = {"op": "onehot", "type": "category", "dtype": "str", "categories": ("", "it's", "ü")}
    encoding = table(
        FeatureCode(column="a", **number),
        FeatureCode(column="b", **word),
        FeatureCode(column="c", **number),
        FeatureCode(column="d", op="flag", type="boolean", dtype="bool"),
        FeatureCode(column="e", **{**word, "op": "index"}),
        FeatureCode(column="f", **number),
    )
    same(
        encoding,
        {
            "a": np.array([1, np.nan, 3.0]),
            "b": np.array(["it's", None, "none of them"], object),
            "c": np.array([np.nan] * 3),
            "d": np.array([True, None, False], object),
            "e": np.array(["", "ü", None], object),
            "f": np.array([1e300, -1e300, 0.0]),
        },
    )


@pytest.mark.parametrize("layout", ["channels_last", "channels_first", "flat"])
def test_images(layout: str) -> None:
    image = FeatureCode(column="image", op="image", type="image", dtype="uint8", shape=(4, 5, 3))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3)).astype(np.uint8)
    same(table(image, layout=layout), {"image": pixels})


def test_a_tensor_and_a_number_side_by_side() -> None:
    tensor = FeatureCode(column="t", op="tensor", type="tensor", dtype="float32", shape=(2, 3))
    number = FeatureCode(column="n", op="raw", type="number", dtype="float64")
    rng = np.random.default_rng(0)
    same(
        table(tensor, number, layout="flat"),
        {"t": rng.normal(size=(5, 2, 3)).astype(np.float32), "n": rng.normal(size=5)},
    )


def test_whole_numbers_for_an_embedding() -> None:
    encoding = table(
        FeatureCode(column="token", op="raw", type="integer", dtype="int64"),
        FeatureCode(column="word", op="index", type="category", dtype="str", categories=("a", "b")),
        dtype="int64",
    )
    same(encoding, {"token": np.array([3, 7]), "word": np.array(["b", None], object)})


def test_a_category_that_is_empty_in_the_training_part() -> None:
    number = FeatureCode(column="n", op="raw", type="number", dtype="float64")
    for op in ("index", "onehot"):
        empty = FeatureCode(column="e", op=op, type="category", dtype="str")
        same(table(empty, number), {"e": np.array([None, "x"], object), "n": np.array([1.0, 2.0])})
    with pytest.raises(Unsupported, match="no column"):
        onnx_graph.publishable(identity((0,)), table(empty), "value", (0,))


def test_an_empty_batch() -> None:
    number = FeatureCode(column="n", op="scale", type="number", dtype="float64")
    word = FeatureCode(column="w", op="index", type="category", dtype="str", categories=("a",))
    assert through(table(number, word), {"n": np.zeros(0), "w": np.zeros(0, object)}).shape == (0, 2)


def test_columns_of_different_length_are_refused() -> None:
    features = [FeatureCode(column=name, op="scale", type="number", dtype="float64") for name in "abc"]
    graph = onnx_graph.publishable(identity((3,)), table(*features), "value", (3,))
    model = plugins.runtime("onnx").load({"model.onnx": graph})
    with pytest.raises(Invalid):
        model.predict({"a": np.zeros(4), "b": np.zeros(1), "c": np.zeros(4)})
    model.close()
