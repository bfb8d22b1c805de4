"""A PyTorch module that learns from texts: a Learner whose `x` are arrays of str, turned into tokens batch by batch."""

from typing import Any, cast

import numpy as np
import torch
from torch.nn import functional

from leptonai.adapters.frameworks.torch_learner import TorchLearner
from leptonai.adapters.frameworks.torch_parts import Loss
from leptonai.adapters.frameworks.torch_state import seed_all
from leptonai.adapters.frameworks.torch_tally import Tally
from leptonai.core.errors import FieldError, Unsupported
from leptonai.core.learning import Way

Tensor = torch.Tensor


class TextLearner(TorchLearner):
    """See `TorchLearner`; `x` is (texts,) of str."""

    layout = "text"

    @property
    def input_dtype(self) -> str:
        """Of nothing: texts are no numbers."""
        return "float32"

    @property
    def entries(self) -> int | None:
        """None: its tokeniser gives only what its embedding knows."""
        return None

    def learn_by(self, way: Way) -> None:
        """See `TorchLearner`. Raises `Unsupported` for an attack, which moves numbers a little: words cannot be."""
        if way.learning.adversarial is not None:
            raise Unsupported(
                "adversarial: words cannot be changed by a little: leave it out for a model of texts",
                errors=[FieldError("learning.adversarial", "not for texts")],
            )
        super().learn_by(way)

    def _input(self, x: Any) -> Tensor:
        return torch.from_numpy(self._tokens(x)).to(self.device)

    def _tokens(self, x: Any) -> Any:
        texts = ["" if text is None else str(text) for text in np.asarray(x).tolist()]
        return np.asarray(cast(Any, self.model).tokenize(texts), np.int64)


class GeneratingLearner(TextLearner):
    """A language model: it learns which token follows, and is measured by how probable it finds the texts that are there.

    `predict` gives the perplexity of each text: the exponential of the mean loss of its tokens (Jelinek et al. 1977).
    """

    @property
    def generates(self) -> bool:
        """That its target is the text itself."""
        return True

    def begin(self, x: Any, y: Any, task: str, classes: int, seed: int) -> None:  # noqa: ARG002  (there are no classes)
        """See the port."""
        if self._asked.learning.label_smoothing:
            raise Unsupported("label_smoothing: a language model has no labels: leave it out")
        seed_all(seed)
        if self.beginning is not None:
            self._take(self.beginning, x, y, "generation", 0, torch.empty(0))
        self._loss = Loss(_following, "custom", None)
        self._task, self._classes, self.activation = "generation", 0, "value"
        self._tally, self._weighed = Tally(), None
        self._try_loss(self._try(x), y)
        self._make_ready(seed)

    def _target(self, y: Any) -> Tensor:
        return self._input(y)

    def _shaped(self, output: Tensor, y: Tensor) -> Tensor:  # noqa: ARG002  (tokens are as they are)
        return y

    def _add(self, value: Tensor, output: Tensor, target: Tensor, shaped: Tensor) -> None:  # noqa: ARG002
        self.last_loss = value.item()
        self._tally.loss(self.last_loss, int((target[:, 1:] >= 0).sum()))  # of a longer text more is known

    def metrics(self) -> dict[str, float]:
        """See the port: the loss of a token, and the perplexity."""
        found = super().metrics()
        return {**found, "perplexity": float(np.exp(min(found["loss"], 700.0)))}

    def predict(self, x: Any) -> Any:
        """Return the perplexity of each text, float32 (texts,)."""
        self._look()
        with torch.no_grad():
            ids = self._input(x)
            losses = _losses(self.model(ids), ids)
            counts = (ids[:, 1:] >= 0).sum(1).clamp(min=1)
            return torch.exp(losses.sum(1) / counts).float().cpu().numpy()


def _losses(output: Tensor, ids: Tensor) -> Tensor:
    """Return the loss of each token but the first, 0 where there is none: (texts, tokens - 1)."""
    return functional.cross_entropy(output[:, :-1].transpose(1, 2), ids[:, 1:], ignore_index=-1, reduction="none")


def _following(output: Tensor, ids: Tensor) -> Tensor:
    return _losses(output, ids).sum() / (ids[:, 1:] >= 0).sum().clamp(min=1)
