"""Keras on TensorFlow to ONNX by tf2onnx, with two gaps of tf2onnx 1.17 filled.

It has no Erfc (which GELU uses), and it turns tensors that a graph captured (the means of Normalization) into inputs.
"""

from typing import Any

import keras
import numpy as np
import onnx
import tensorflow as tf
import tf2onnx

from leptonai.adapters.frameworks.keras_fed import arrays_of, in_order
from leptonai.adapters.frameworks.onnx_quiet import quiet

OPSET = 18


def by_tf2onnx(model: keras.Model, example: Any) -> bytes:
    """Export the inference graph of the model, its batch size left open."""
    given = arrays_of(example)
    specs = [tf.TensorSpec((None, *x.shape[1:]), x.dtype.name, name=f"x{place}") for place, x in enumerate(given)]
    compute = in_order(model)
    with quiet():
        graph = tf.function(lambda *x: compute(*x), input_signature=specs)
        converted, _ = tf2onnx.convert.from_function(
            graph, input_signature=specs, opset=OPSET, custom_op_handlers={"Erfc": (_erfc, [])}
        )
        captured = {
            inner.name: outer.numpy()
            for outer, inner in graph.get_concrete_function().graph.captures
            if outer.dtype != tf.resource
        }
    _give(converted, captured)
    return bytes(converted.SerializeToString())


def _erfc(context: Any, node: Any, _name: str, _arguments: Any) -> None:
    """erfc(x) = 1 - erf(x)."""
    output = node.output[0]
    shapes, dtypes = [context.get_shape(output)], [context.get_dtype(output)]
    erf = context.make_node("Erf", [node.input[0]], shapes=shapes, dtypes=dtypes)
    one = context.make_const(
        tf2onnx.utils.make_name("one"), np.array(1, onnx.helper.tensor_dtype_to_np_dtype(dtypes[0]))
    )
    context.remove_node(node.name)
    context.make_node(
        "Sub", [one.output[0], erf.output[0]], outputs=[output], name=node.name, shapes=shapes, dtypes=dtypes
    )


def _give(model: onnx.ModelProto, captured: dict[str, Any]) -> None:
    """Turn inputs that hold captured tensors into constants."""
    for value in [value for value in model.graph.input if value.name in captured]:
        model.graph.initializer.append(onnx.numpy_helper.from_array(captured[value.name], value.name))
        model.graph.input.remove(value)
