"""A small builder of ONNX graphs: nodes, constants and names that never clash with the names of columns."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

ML = "ai.onnx.ml"


class Parts:
    """Collects nodes and constants. Its names start with `prefix`, which no name of a column starts with."""

    def __init__(self, prefix: str, columns: Iterable[str]):
        while any(column.startswith(prefix) for column in columns):
            prefix += "/"
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._count = 0

    def name(self, hint: str) -> str:
        """Return a fresh name."""
        self._count += 1
        return f"{self.prefix}{hint.lower()}_{self._count}"

    def constant(self, value: Any, dtype: Any) -> str:
        """Add a constant tensor (a string tensor for dtype `object`); return its name."""
        name = self.name("constant")
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def add(self, op: str, *inputs: str, output: str | None = None, domain: str = "", **attributes: Any) -> str:
        """Add a node of one output; return the name of that."""
        output = output or self.name(op)
        self.nodes.append(
            helper.make_node(op, list(inputs), [output], name=self.name(f"node_{op}"), domain=domain, **attributes)
        )
        return output

    def cast(self, value: str, to: int) -> str:
        """Add a Cast."""
        return self.add("Cast", value, to=to)

    def concat(self, values: list[str]) -> str:
        """Put values side by side (axis 1)."""
        return values[0] if len(values) == 1 else self.add("Concat", *values, axis=1)
