"""How a scikit-learn estimator is made again and again, each time with other hyper-parameters."""

from collections.abc import Iterable, Mapping
from typing import Any

from sklearn.base import clone

from leptonai.adapters.frameworks import packing
from leptonai.adapters.frameworks.sklearn_learner import SklearnLearner
from leptonai.core.errors import FieldError, Invalid
from leptonai.core.ports import Learner


class SklearnRecipe:
    """See `core.ports.Recipe`. A step's parameter may leave out the step where one step alone has it: ``C`` for ``svc__C``."""

    def __init__(self, code: bytes):
        self._parts = packing.unpack(code)
        self._known = sorted(self._parts["estimator"].get_params(deep=True))

    def knows(self, name: str) -> bool:
        """See the port."""
        return bool(self._found(name))

    def check(self, names: Iterable[str]) -> None:
        """See the port."""
        for name in names:
            found = self._found(name)
            if len(found) > 1:
                words = " or ".join(found)
                raise Invalid(f"space: {name!r} may be {words}: name one", errors=[FieldError(f"space.{name}", words)])
            if not found:
                raise packing.unknown(f"setting of {type(self._parts['estimator']).__name__}", name, self._known)

    def learner(self, settings: Mapping[str, Any]) -> Learner:
        """See the port."""
        return SklearnLearner(self._made(settings), self._parts["metrics"], self._parts["mine"])

    def pack(self, settings: Mapping[str, Any]) -> bytes:
        """See the port."""
        return packing.by_value({**self._parts, "estimator": self._made(settings)}, "the estimator")

    def _made(self, settings: Mapping[str, Any]) -> Any:
        estimator = clone(self._parts["estimator"], safe=False)
        named = {self._found(name)[0]: value for name, value in settings.items()}
        # scikit-learn takes sizes of layers, ranges of n-grams and their like as tuples.
        estimator.set_params(
            **{name: tuple(value) if isinstance(value, list) else value for name, value in named.items()}
        )
        return estimator

    def _found(self, name: str) -> list[str]:
        return [name] if name in self._known else [one for one in self._known if one.endswith(f"__{name}")]
