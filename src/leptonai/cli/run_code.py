"""A model in a Python file, for ``lepton run create train --code FILE``: it is run here, and travels as a model of the SDK does."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

from leptonai.core.errors import FieldError, Invalid

_COMPILED = ("optimizer", "loss", "metrics")


def fields(path: Path) -> dict[str, Any]:
    """Run the file, and return the fields of a train spec that name its model. Raises `Invalid`.

    The file has a `model`: an object, or a function that makes it; and, if it wants, an `optimizer`, a `loss` and `metrics`.
    """
    from leptonai.sdk.models import Model

    module = _run(path)
    found = getattr(module, "model", None)
    if found is None:
        raise Invalid(
            f"{path} has no `model`: an object, or a function that makes it", errors=[FieldError("code", "a `model`")]
        )
    model = Model(found() if hasattr(found, "__code__") else found)
    given = {name: getattr(module, name) for name in _COMPILED if hasattr(module, name)}
    if given:
        model.compile(**given)
    return model.code()


def _run(path: Path) -> Any:
    if not path.is_file():
        raise Invalid(f"there is no file {path}", errors=[FieldError("code", "a Python file")])
    spec = importlib.util.spec_from_file_location(path.stem, path.resolve())
    if spec is None or spec.loader is None:
        raise Invalid(f"{path} is no Python file: it must end in .py", errors=[FieldError("code", "a .py file")])
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # so that what it defines is found to be the user's own, and travels by value
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        short = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        raise Invalid(f"{path} cannot be run: {short}", errors=[FieldError("code", short)]) from error
    return module
