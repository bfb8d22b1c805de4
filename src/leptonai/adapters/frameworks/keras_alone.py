"""Keras without JAX, which it imports wherever that is installed, whatever it computes with: half a second and 120 MB of each process."""

import sys
from typing import Any

from leptonai.core import settings

_modules: dict[str, Any] = sys.modules
_without = settings.variable("KERAS_BACKEND") != "jax" and "jax" not in _modules
if _without:
    _modules["jax"] = None  # its import fails, which Keras takes for not installed
try:
    import keras  # noqa: F401
finally:
    if _without:
        del _modules["jax"]
