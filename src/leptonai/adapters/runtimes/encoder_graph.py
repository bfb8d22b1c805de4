"""An ONNX graph of a BERT-like encoder, made of its safetensors file, so that ONNX Runtime computes it and no code travels.

The architecture is that of Devlin et al., 2019 (https://arxiv.org/abs/1810.04805), as Hugging Face names its weights. Inputs are
``ids`` and ``mask``, INT64 ``(batch, tokens)``; the output is ``hidden``, FP32 ``(batch, tokens, width)``.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from leptonai.core.errors import Invalid

OPSET = 20
_MASKED = -1e9  # added to the score of a token that is none


class Encoder:
    """Builds the graph, node by node."""

    def __init__(self, config: Mapping[str, Any], weights: Mapping[str, np.ndarray]):
        self._weights = {name.removeprefix("bert."): value for name, value in weights.items()}
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}
        self._heads = int(config["num_attention_heads"])
        self._width = int(config["hidden_size"])
        self._layers = int(config["num_hidden_layers"])
        self._epsilon = float(config.get("layer_norm_eps", 1e-12))

    def build(self) -> bytes:
        """Return the graph as bytes. Raises `Invalid` when a weight is missing."""
        hidden = self._embedded()
        mask = self._op("Cast", ["mask"], to=TensorProto.FLOAT)
        mask = self._op("Unsqueeze", [mask, self._constant([1, 2], np.int64)])
        bias = self._op("Mul", [self._op("Sub", [self._constant(1.0), mask]), self._constant(_MASKED)])
        for number in range(self._layers):
            hidden = self._layer(f"encoder.layer.{number}", hidden, bias)
        self._nodes.append(helper.make_node("Identity", [hidden], ["hidden"]))
        whole = ["batch", "tokens"]
        graph = helper.make_graph(
            self._nodes,
            "encoder",
            [helper.make_tensor_value_info(name, TensorProto.INT64, whole) for name in ("ids", "mask")],
            [helper.make_tensor_value_info("hidden", TensorProto.FLOAT, [*whole, self._width])],
            list(self._constants.values()),
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString())

    def _embedded(self) -> str:
        words = self._op("Gather", [self._weight("embeddings.word_embeddings.weight"), "ids"])
        length = self._op("Slice", [self._op("Shape", ["ids"]), *(self._constant([n], np.int64) for n in (1, 2))])
        table = self._weight("embeddings.position_embeddings.weight")
        places = self._op("Slice", [table, self._constant([0], np.int64), length, self._constant([0], np.int64)])
        kind = self._keep("kind", self._found("embeddings.token_type_embeddings.weight")[0])
        return self._norm("embeddings.LayerNorm", self._op("Add", [self._op("Add", [words, places]), kind]))

    def _layer(self, name: str, hidden: str, bias: str) -> str:
        query, key, value = (
            self._split(self._linear(f"{name}.attention.self.{part}", hidden), order)
            for part, order in (("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3]))
        )
        scale = self._constant(1 / math.sqrt(self._width // self._heads))
        scores = self._op("Add", [self._op("Mul", [self._op("MatMul", [query, key]), scale]), bias])
        mixed = self._op("MatMul", [self._op("Softmax", [scores], axis=-1), value])
        mixed = self._op("Transpose", [mixed], perm=[0, 2, 1, 3])
        mixed = self._op("Reshape", [mixed, self._constant([0, 0, self._width], np.int64)])
        mixed = self._linear(f"{name}.attention.output.dense", mixed)
        hidden = self._norm(f"{name}.attention.output.LayerNorm", self._op("Add", [mixed, hidden]))
        inner = self._op("Gelu", [self._linear(f"{name}.intermediate.dense", hidden)])
        inner = self._linear(f"{name}.output.dense", inner)
        return self._norm(f"{name}.output.LayerNorm", self._op("Add", [inner, hidden]))

    def _split(self, value: str, order: list[int]) -> str:
        """Return it as (batch, heads, …) in the order asked for."""
        shape = self._constant([0, 0, self._heads, self._width // self._heads], np.int64)
        return self._op("Transpose", [self._op("Reshape", [value, shape])], perm=order)

    def _linear(self, name: str, value: str) -> str:
        weight = self._keep(f"{name}.weight", np.ascontiguousarray(self._found(f"{name}.weight").T))
        return self._op("Add", [self._op("MatMul", [value, weight]), self._weight(f"{name}.bias")])

    def _norm(self, name: str, value: str) -> str:
        inputs = [value, self._weight(f"{name}.weight"), self._weight(f"{name}.bias")]
        return self._op("LayerNormalization", inputs, axis=-1, epsilon=self._epsilon)

    def _op(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        made = f"n{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [made], **attributes))
        return made

    def _weight(self, name: str) -> str:
        return self._keep(name, self._found(name))

    def _found(self, name: str) -> np.ndarray:
        if name not in self._weights:
            raise Invalid(f"the safetensors file has no weight {name}, which this architecture has")
        return np.asarray(self._weights[name], np.float32)

    def _keep(self, name: str, value: np.ndarray) -> str:
        self._constants.setdefault(name, numpy_helper.from_array(value, name))
        return name

    def _constant(self, value: Any, dtype: Any = np.float32) -> str:
        return self._keep(f"c_{np.dtype(dtype).name}_{value}", np.asarray(value, dtype))
