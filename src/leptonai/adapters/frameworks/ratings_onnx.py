"""Ratings as a graph of ONNX: two tables, a product and a sum; alone, or as a member of a vote."""

from typing import Any

import numpy as np
from onnx import TensorProto
from skl2onnx import update_registered_converter
from skl2onnx.common.data_types import FloatTensorType

from leptonai.adapters.frameworks.ratings import Ratings


def register() -> None:
    """Tell skl2onnx how to convert `Ratings`."""
    update_registered_converter(Ratings, "LeptonaiRatings", _shape, _convert, overwrite=True)


def _shape(operator: Any) -> None:
    operator.outputs[0].type = FloatTensorType([operator.inputs[0].get_first_dimension(), 1])


def _convert(scope: Any, operator: Any, container: Any) -> None:
    model = operator.raw_operator

    def constant(values: Any, dtype: Any) -> str:
        array = np.asarray(values, dtype)
        kind = TensorProto.INT64 if array.dtype == np.int64 else TensorProto.FLOAT
        name = str(scope.get_unique_variable_name("constant"))
        container.add_initializer(name, kind, list(array.shape), array.reshape(-1).tolist())
        return name

    def add(op: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:
        output = output or str(scope.get_unique_variable_name(op.lower()))
        container.add_node(op, inputs, output, op_version=20, name=scope.get_unique_operator_name(op), **attributes)
        return output

    places = add("Cast", [operator.inputs[0].full_name], to=TensorProto.INT64)
    parts = []
    for side, table in enumerate((model.users_, model.items_)):
        place = add("Gather", [places, constant(side, np.int64)], axis=1)
        known = add("Less", [place, constant(len(table), np.int64)])
        place = add("Where", [known, place, constant(0, np.int64)])
        parts.append(add("Gather", [constant(table, np.float32), place], axis=0))
    product = add("ReduceSum", [add("Mul", parts), constant([1], np.int64)], keepdims=1)
    whole = add("Add", [product, constant(model.mean_, np.float32)])
    least, most = (constant(end, np.float32) for end in model.range_)
    add("Clip", [whole, least, most], operator.outputs[0].full_name)
