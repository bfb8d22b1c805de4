"""For processes that a test starts with this folder in front: a batch in which 66666 stands kills the process that computes it,
as a fault in a native library does.
"""

import os
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

NAME = "leptonai.adapters.runtimes.onnx"


class _Deadly(Loader):
    def __init__(self, loader: Any):
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        for kind in [kind for kind in vars(module).values() if isinstance(kind, type) and kind.__module__ == NAME]:
            if hasattr(kind, "predict"):
                _wrap(kind)


def _wrap(kind: Any) -> None:
    compute = kind.predict

    def predict(self: Any, inputs: Any, outputs: Any = ()) -> Any:
        if any((value == 66666).any() for value in inputs.values()):
            os.abort()
        return compute(self, inputs, outputs)

    kind.predict = predict


class _Finder(MetaPathFinder):
    def find_spec(self, name: str, path: Any = None, _target: Any = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path) if name == NAME else None
        if spec is not None:
            spec.loader = _Deadly(spec.loader)
        return spec


sys.meta_path.insert(0, _Finder())
