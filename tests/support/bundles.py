"""Small published models for the tests, made with onnx.helper: what they compute is plain arithmetic."""

import io
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from leptonai.core.nouns import Model
from leptonai.core.signature import FeatureType, Signature, TensorSpec

_KINDS = {
    "FP64": TensorProto.DOUBLE,
    "FP32": TensorProto.FLOAT,
    "INT64": TensorProto.INT64,
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "BYTES": TensorProto.STRING,
}
Bundle = tuple[Model, dict[str, bytes]]


def bundle(name: str, version: int, signature: Signature, nodes: list[Any], constants: dict[str, Any]) -> Bundle:
    def info(spec: TensorSpec) -> Any:
        return helper.make_tensor_value_info(spec.name, _KINDS[spec.datatype], ["batch", *spec.shape[1:]])

    graph = helper.make_graph(
        nodes,
        name,
        [info(spec) for spec in signature.inputs],
        [info(spec) for spec in signature.outputs],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    data = helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
    return record(name, version, signature, {"model.onnx": data}), {"model.onnx": data}


def record(name: str, version: int, signature: Signature, files: dict[str, bytes], **lineage: Any) -> Model:
    return Model.new(
        name=name,
        version=version,
        digest=f"{name}-{version}",
        framework="sklearn",
        files=dict.fromkeys(files, "0" * 64),
        bytes=sum(map(len, files.values())),
        signature=signature,
        lineage=lineage,
        run="run_test",
    )


def node(op: str, inputs: list[str], output: str, **more: Any) -> Any:
    return helper.make_node(op, inputs, [output], **more)


def people() -> Bundle:
    """Every scalar type. label "yes" when age / 100 + (city is "bern") + (missing age counts 0) > 0.5; one probability each."""
    signature = Signature(
        inputs=(
            TensorSpec(name="age", datatype="FP64", shape=(-1,), type=FeatureType.NUMBER),
            TensorSpec(
                name="city", datatype="BYTES", shape=(-1,), type=FeatureType.CATEGORY, categories=("bern", "oslo")
            ),
            TensorSpec(name="kids", datatype="INT64", shape=(-1,), type=FeatureType.INTEGER),
            TensorSpec(name="floor", datatype="INT64", shape=(-1,), type=FeatureType.CATEGORY, categories=(0, 1, 2)),
            TensorSpec(name="member", datatype="BOOL", shape=(-1,), type=FeatureType.BOOLEAN),
            TensorSpec(name="seen", datatype="INT64", shape=(-1,), type=FeatureType.DATETIME),
        ),
        outputs=(
            TensorSpec(name="label", datatype="BYTES", shape=(-1,), categories=("no", "yes")),
            TensorSpec(name="probabilities", datatype="FP32", shape=(-1, 2)),
        ),
        task="classification",
        classes=("no", "yes"),
    )
    nodes = [
        node("IsNaN", ["age"], "gap"),
        node("Where", ["gap", "zero", "age"], "known"),
        node("Div", ["known", "hundred"], "share"),
        node(
            "LabelEncoder",
            ["city"],
            "town",
            domain="ai.onnx.ml",
            keys_strings=["bern"],
            values_int64s=[1],
            default_int64=0,
        ),
        *(
            node("Cast", [name], f"{name}64", to=TensorProto.DOUBLE)
            for name in ("town", "kids", "floor", "member", "seen")
        ),
        node("Mul", ["kids64", "zero"], "a"),
        node("Mul", ["floor64", "zero"], "b"),
        node("Mul", ["member64", "zero"], "c"),
        node("Mul", ["seen64", "zero"], "d"),
        node("Sum", ["share", "town64", "a", "b", "c", "d"], "sum"),
        node("Clip", ["sum", "zero", "one"], "yes"),
        node("Sub", ["one", "yes"], "no"),
        node("Unsqueeze", ["yes", "axis"], "yes2"),
        node("Unsqueeze", ["no", "axis"], "no2"),
        node("Concat", ["no2", "yes2"], "both", axis=1),
        node("Cast", ["both"], "probabilities", to=TensorProto.FLOAT),
        node("ArgMax", ["probabilities"], "best", axis=1, keepdims=0),
        node("Gather", ["words", "best"], "label"),
    ]
    constants = {
        "zero": np.float64(0),
        "one": np.float64(1),
        "hundred": np.float64(100),
        "axis": np.array([1]),
        "words": np.array([b"no", b"yes"], object),
    }
    return bundle("people", 1, signature, nodes, constants)


def adder(version: int, *, columns: tuple[str, ...] = ("x",), name: str = "adder") -> Bundle:
    """prediction = sum of the columns + 1000 * version."""
    signature = Signature(
        inputs=tuple(TensorSpec(name=c, datatype="FP64", shape=(-1,), type=FeatureType.NUMBER) for c in columns),
        outputs=(TensorSpec(name="prediction", datatype="FP32", shape=(-1,)),),
        task="regression",
    )
    nodes = [node("Sum", [*columns, "marker"], "sum"), node("Cast", ["sum"], "prediction", to=TensorProto.FLOAT)]
    return bundle(name, version, signature, nodes, {"marker": np.float64(1000 * version)})


def fussy() -> Bundle:
    """prediction = the word of `where`, found in a table of two: a word that stands there computes, a number < 0 fails."""
    signature = Signature(
        inputs=(TensorSpec(name="where", datatype="INT64", shape=(-1,), type=FeatureType.INTEGER),),
        outputs=(TensorSpec(name="prediction", datatype="FP32", shape=(-1,)),),
        task="regression",
    )
    nodes = [node("Gather", ["table", "where"], "prediction")]
    return bundle("fussy", 1, signature, nodes, {"table": np.array([0.5, 1.5], np.float32)})


def picture(height: int = 4, width: int = 6, channels: int = 1) -> Bundle:
    """label: 1 when the mean of all pixels is above 127; probabilities [1 - mean / 255, mean / 255]."""
    signature = Signature(
        inputs=(
            TensorSpec(name="image", datatype="UINT8", shape=(-1, height, width, channels), type=FeatureType.IMAGE),
        ),
        outputs=(
            TensorSpec(name="label", datatype="INT64", shape=(-1,), categories=(0, 1)),
            TensorSpec(name="probabilities", datatype="FP32", shape=(-1, 2)),
        ),
        task="classification",
        classes=(0, 1),
    )
    nodes = [
        node("Cast", ["image"], "floats", to=TensorProto.FLOAT),
        node("ReduceMean", ["floats", "axes"], "mean", keepdims=0),
        node("Div", ["mean", "top"], "bright"),
        node("Sub", ["one", "bright"], "dark"),
        node("Unsqueeze", ["bright", "axis"], "bright2"),
        node("Unsqueeze", ["dark", "axis"], "dark2"),
        node("Concat", ["dark2", "bright2"], "probabilities", axis=1),
        node("ArgMax", ["probabilities"], "label", axis=1, keepdims=0),
    ]
    constants = {
        "axes": np.array([1, 2, 3]),
        "axis": np.array([1]),
        "top": np.float32(255),
        "one": np.float32(1),
    }
    return bundle("picture", 1, signature, nodes, constants)


def tensors() -> Bundle:
    """Every datatype that is published, echoed; `grid` has a fixed shape."""
    kinds = {"b": "BOOL", "u": "UINT8", "i": "INT64", "f": "FP32", "d": "FP64", "s": "BYTES"}
    inputs = [TensorSpec(name=name, datatype=kind, shape=(-1,)) for name, kind in kinds.items()]
    grid = TensorSpec(name="grid", datatype="FP32", shape=(-1, 2, 3), type=FeatureType.TENSOR)
    outputs = [replace(spec, name=f"{spec.name}_out") for spec in (*inputs, grid)]
    signature = Signature(inputs=(*inputs, grid), outputs=tuple(outputs), task="regression")
    nodes = [node("Identity", [spec.name], f"{spec.name}_out") for spec in signature.inputs]
    return bundle("tensors", 1, signature, nodes, {})


def broken(version: int, how: str) -> Bundle:
    """A version of `adder` that cannot serve."""
    model, files = adder(version)
    if how == "no model":
        return model, {"model.onnx": b"junk"}
    if how == "cut":
        return model, {"model.onnx": files["model.onnx"][:-40]}
    if how == "other inputs":
        return model, adder(version, columns=("x", "y"))[1]
    if how == "other output":
        other = onnx.load_from_string(files["model.onnx"])
        other.graph.output[0].name = other.graph.node[-1].output[0] = "else"
        return model, {"model.onnx": other.SerializeToString()}
    if how == "fixed batch":
        other = onnx.load_from_string(files["model.onnx"])
        other.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
        return model, {"model.onnx": other.SerializeToString()}
    assert how == "nothing"
    return model, {}


BROKEN = ("no model", "cut", "other inputs", "other output", "fixed batch", "nothing")


def image_file(
    kind: str = "PNG", size: tuple[int, int] = (6, 4), colour: int | tuple[int, ...] = 200, mode: str = "L"
) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, colour).save(out, kind)
    return out.getvalue()


def near(version: int) -> Bundle:
    """A version that answers nearly as the first one does: prediction = x + 1000 + version / 1000."""
    signature = adder(version)[0].signature
    nodes = [node("Sum", ["x", "marker"], "sum"), node("Cast", ["sum"], "prediction", to=TensorProto.FLOAT)]
    return bundle("adder", version, signature, nodes, {"marker": np.float64(1000 + version / 1000)})


def slow(version: int) -> Bundle:
    """A version that answers as the first one does, after some work: products of large matrices that come to nothing."""
    signature = adder(version)[0].signature
    size, times = 400, 8
    nodes = [
        node("ReduceMax", ["x"], "top", keepdims=0),
        node("Mul", ["top", "nothing"], "seed"),
        node("Add", ["square", "seed"], "m0"),
    ]
    nodes += [node("MatMul", [f"m{i}", "square"], f"m{i + 1}") for i in range(times)]
    nodes += [
        node("ReduceMax", [f"m{times}"], "most", keepdims=0),
        node("Mul", ["most", "nothing"], "none"),
        node("Sum", ["x", "marker", "none"], "sum"),
        node("Cast", ["sum"], "prediction", to=TensorProto.FLOAT),
    ]
    constants = {
        "marker": np.float64(1000),
        "nothing": np.float64(0),
        "square": np.full((size, size), 1 / size, np.float64),
    }
    return bundle("adder", version, signature, nodes, constants)


def failing(version: int, *, modulus: float = 1.0, name: str = "adder", like: int | None = None) -> Bundle:
    """An adder that cannot compute a batch with a row whose x is a multiple of `modulus`, but for 0, which it is warmed with.

    `like`: the version whose answers it gives, else its own.
    """
    signature = adder(version)[0].signature
    nodes = [
        node("Mod", ["x", "modulus"], "rest", fmod=1),
        node("Equal", ["rest", "zero"], "multiple"),
        node("Equal", ["x", "zero"], "nothing"),
        node("Not", ["nothing"], "something"),
        node("And", ["multiple", "something"], "bad"),
        node("Cast", ["bad"], "place", to=TensorProto.INT64),
        node("Gather", ["table", "place"], "gathered"),  # of a table of one: place 1 is beyond it
        node("Sum", ["x", "gathered"], "sum"),
        node("Cast", ["sum"], "prediction", to=TensorProto.FLOAT),
    ]
    constants = {
        "modulus": np.float64(modulus),
        "zero": np.float64(0),
        "table": np.array([1000.0 * (like or version)], np.float64),
    }
    return bundle(name, version, signature, nodes, constants)


def hungry(*, always: bool) -> Bundle:
    """Adds 1 to x, by way of a tensor with x[0] elements, or `always` with 2**42: more memory than there is."""
    signature = adder(1)[0].signature
    nodes = [
        node("Sum", ["x", "most" if always else "none"], "wanted"),
        node("Slice", ["wanted", "zero", "one"], "first"),
        node("Abs", ["first"], "size"),
        node("Cast", ["size"], "shape", to=TensorProto.INT64),
        node("ConstantOfShape", ["shape"], "large"),
        node("ReduceMax", ["large"], "nothing", keepdims=0),
        node("Cast", ["nothing"], "no", to=TensorProto.DOUBLE),
        node("Sum", ["x", "no", "plus"], "sum"),
        node("Cast", ["sum"], "prediction", to=TensorProto.FLOAT),
    ]
    constants = {
        "most": np.float64(2.0**42),
        "none": np.float64(1),
        "plus": np.float64(1),
        "zero": np.array([0], np.int64),
        "one": np.array([1], np.int64),
    }
    return bundle("hungry", 1, signature, nodes, constants)
