"""How a PyTorch module is made again and again, each time with other settings of its optimiser."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from leptonai.adapters.frameworks import packing, torch_parts
from leptonai.adapters.frameworks.torch_learner import TorchLearner
from leptonai.core.ports import Learner

_SHORT = {"learning_rate": "lr"}


class TorchRecipe:
    """See `core.ports.Recipe`: ``optimizer`` by name, and what the optimiser takes, such as ``learning_rate``."""

    def __init__(self, code: bytes):
        self._parts = packing.unpack(code)

    def knows(self, name: str) -> bool:
        """See the port."""
        return name == "optimizer" or _is_option(torch_parts.OptimizerRecipe(*self._parts["optimizer"]), name)

    def check(self, names: Iterable[str]) -> None:
        """See the port. Where optimisers are chosen from, which of them takes what is seen when it is made."""
        wanted = list(names)
        if "optimizer" in wanted:
            return
        recipe = torch_parts.OptimizerRecipe(*self._parts["optimizer"])
        for name in wanted:
            if not _is_option(recipe, name):
                kind = getattr(recipe.make, "__name__", "the optimizer")
                raise packing.unknown(f"setting of {kind}", name, ["learning_rate", "optimizer", *_options(recipe)])

    def learner(self, settings: Mapping[str, Any]) -> Learner:
        """See the port."""
        parts = self._parts
        module = copy.deepcopy(parts["module"])
        return TorchLearner(module, self._recipe(settings), torch_parts.losses(parts["loss"]), parts["metrics"])

    def pack(self, settings: Mapping[str, Any]) -> bytes:
        """See the port."""
        return packing.by_value({**self._parts, "optimizer": tuple(self._recipe(settings))}, "the model")

    def _recipe(self, settings: Mapping[str, Any]) -> torch_parts.OptimizerRecipe:
        given = torch_parts.OptimizerRecipe(*self._parts["optimizer"])
        if "optimizer" in settings:
            given = torch_parts.optimizer(settings["optimizer"])
        options = {_SHORT.get(name, name): value for name, value in settings.items() if name != "optimizer"}
        return given._replace(options={**given.options, **options})


def _is_option(recipe: torch_parts.OptimizerRecipe, name: str) -> bool:
    return _SHORT.get(name, name) in _options(recipe)


def _options(recipe: torch_parts.OptimizerRecipe) -> list[str]:
    import inspect

    return [name for name in inspect.signature(recipe.make).parameters if name not in ("self", "params", "parameters")]
