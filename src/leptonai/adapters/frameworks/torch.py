"""PyTorch, behind the port `Framework`."""

import copy
import sys
from collections.abc import Iterator, Mapping
from typing import Any, cast

from leptonai.adapters.frameworks import packing
from leptonai.core.errors import Invalid, Unsupported
from leptonai.core.learning import ALL
from leptonai.core.ports import Learner, Packed, Recipe, Route
from leptonai.core.ranks import Rank


class TorchFramework:
    """Modules of PyTorch, with its optimisers and losses by name or as objects."""

    name = "torch"
    learns = ALL - {"mitigate"}  # which fits an estimator again and again
    starts = True  # from weights of elsewhere
    several = True  # inputs, and targets

    def owns(self, model: object) -> bool:
        """Whether it is a ``torch.nn.Module`` (and not a Keras model, which may be one too)."""
        torch, keras = sys.modules.get("torch"), sys.modules.get("keras")
        if torch is None or not hasattr(torch, "nn") or not isinstance(model, torch.nn.Module):
            return False
        return not (keras is not None and hasattr(keras, "Model") and isinstance(model, keras.Model))

    def pack(self, model: Any, compiled: Mapping[str, Any]) -> Packed:
        """See the port. Without an optimizer: Adam. Without a loss: by the target, cross entropy or mean squares."""
        from leptonai.adapters.frameworks import torch_metrics, torch_parts

        torch_parts.check_options(compiled)
        metrics = compiled.get("metrics") or []
        torch_metrics.check(metrics)
        loss = compiled.get("loss")
        torch_parts.losses(loss)
        parts = {
            "module": _on_cpu(model),
            "optimizer": tuple(torch_parts.optimizer(compiled.get("optimizer"))),
            "loss": loss,
            "metrics": metrics,
        }
        kind = type(model)
        facts: dict[str, Any] = {"class": f"{kind.__module__}.{kind.__qualname__}", "parameters": _count(model)}
        if hasattr(model, "tokenize"):
            facts["texts"] = True
        elif len(inputs := torch_parts.inputs(model)) > 1:
            facts["inputs"] = inputs
        return Packed(packing.by_value(parts, "the model"), "torch", facts)

    def load(self, code: bytes, weights: bytes | None = None) -> Learner:
        """See the port."""
        from leptonai.adapters.frameworks import torch_parts

        parts = packing.unpack(code)
        recipe = torch_parts.OptimizerRecipe(*parts["optimizer"])
        learner = _learner_of(parts["module"])(
            parts["module"], recipe, torch_parts.losses(parts["loss"]), parts["metrics"]
        )
        learner.repacked = lambda: packing.by_value({**parts, "module": _on_cpu(learner.model)}, "the model")
        if weights is not None:
            learner.load_weights(weights)
        return cast("Learner", learner)

    def join(self, rank: Rank) -> Any:
        """Join the processes of a Run that train one model. Raises `Unavailable` when they cannot be reached."""
        from leptonai.adapters.frameworks import torch_group

        return torch_group.join(rank)

    def made_of(self, files: Mapping[str, bytes], task: str, outputs: int) -> tuple[Any, dict[str, Any]]:
        """Return a model of texts for the files of a folder as Hugging Face writes it, and how it learns; its weights travel apart."""
        from leptonai.adapters.frameworks.text_model import of_folder

        return of_folder(files, task, outputs)

    def recipe(self, code: bytes) -> Recipe:
        """See `core.ports.Recipe`."""
        from leptonai.adapters.frameworks.torch_recipe import TorchRecipe

        return TorchRecipe(code)

    def absorb(self, model: Any, weights: bytes) -> None:
        """See the port. The module keeps its device and its mode."""
        from leptonai.adapters.frameworks.torch_state import load_into

        try:
            load_into(model, weights)
        except RuntimeError as error:
            raise Invalid(f"the trained weights do not fit this model: {error}") from error

    def export(self, learner: Learner, example: Any) -> Iterator[Route]:
        """See the port."""
        if hasattr(learner.model, "tokenize"):
            raise Unsupported("a model of texts has a tokeniser, which is no part of a graph")
        from leptonai.adapters.frameworks.torch_onnx import routes

        return routes(learner, example)


def _learner_of(module: Any) -> Any:
    from leptonai.adapters.frameworks import text_learner, torch_learner

    if not hasattr(module, "tokenize"):
        return torch_learner.TorchLearner
    return text_learner.GeneratingLearner if getattr(module, "generates", False) else text_learner.TextLearner


def _on_cpu(model: Any) -> Any:
    if all(part.device.type == "cpu" for part in (*model.parameters(), *model.buffers())):
        return model
    return copy.deepcopy(model).to("cpu")  # the Run may have no such device


def _count(model: Any) -> int:
    from torch.nn import UninitializedParameter

    return sum(p.numel() for p in model.parameters() if not isinstance(p, UninitializedParameter))
