"""How a user's model travels: cloudpickle, with the user's own code by value, since a Run has only what is installed.

`unpack` executes code. It is called only inside a Run's own process, or in the process of a model that is served by its
framework; never in the server, the plane, or the agent.
"""

import difflib
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from leptonai.core.errors import FieldError, Invalid

_OWN = "leptonai"


def by_value(packed: object, what: str) -> bytes:
    """Pickle with all code of the user's by value. Raises `Invalid` that names what cannot travel."""
    import cloudpickle  # type: ignore[import-untyped]

    with _users_code(cloudpickle):
        try:
            return bytes(cloudpickle.dumps(packed))
        except Exception as error:  # pickling runs the user's own code, which may raise anything
            raise Invalid(
                f"{what} cannot travel to the Run: {error}. Keep locks, open files and connections out of the model "
                "and out of the global names that its code uses",
                errors=[FieldError("model", str(error))],
            ) from error


def unpack(code: bytes) -> Any:
    """Load what `by_value` made. Executes the user's code. Raises `Invalid` when something it needs is not installed."""
    import cloudpickle

    try:
        return cloudpickle.loads(code)
    except ImportError as error:
        raise Invalid(
            f"the model's code needs {error.name or error}, which is not installed where the Run is"
        ) from error


def is_users(module: str) -> bool:
    """Whether a module is the user's own: neither installed, nor of the standard library, nor ours."""
    if module == "__main__":
        return True
    found = sys.modules.get(module)
    return found is not None and _written_here(module, found)


def _written_here(name: str, module: ModuleType) -> bool:
    if name.partition(".")[0] == _OWN or name in sys.builtin_module_names:
        return False
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and file.endswith(".py") and not file.startswith(_installed())


def _installed() -> tuple[str, ...]:
    return _places(tuple(sys.path))


@lru_cache(maxsize=1)
def _places(path: tuple[str, ...]) -> tuple[str, ...]:
    places = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    places |= {one for one in path if one.endswith(("site-packages", "dist-packages"))}
    return tuple(f"{place.rstrip('/')}/" for place in places | {str(Path(p).resolve()) for p in places})


def _all_users() -> Iterator[ModuleType]:
    """Yield the user's modules that are imported, but for `__main__`.

    What is in a package that is installed is not looked at: a process that was forked copies the page of each object that it touches.
    """
    installed = {_OWN: True, "__main__": True}
    places = _installed()
    for name in list(sys.modules):
        top = name.partition(".")[0]
        if top not in installed:
            file = getattr(sys.modules.get(top), "__file__", None)  # a namespace has none
            installed[top] = top in sys.builtin_module_names or (isinstance(file, str) and file.startswith(places))
        if installed[top]:
            continue
        module = sys.modules.get(name)
        if module is not None and getattr(module, "__name__", None) == name and _written_here(name, module):
            yield module


@contextmanager
def _users_code(cloudpickle: Any) -> Iterator[None]:
    known = set(cloudpickle.list_registry_pickle_by_value())
    mine = [module for module in _all_users() if module.__name__ not in known]
    for module in mine:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in mine:
            cloudpickle.unregister_pickle_by_value(module)


def unknown(kind: str, name: object, known: Iterable[str]) -> Invalid:
    """Return the error for a name that is not known: the nearest ones, and all there are."""
    names = sorted(set(known))
    near = difflib.get_close_matches(str(name).lower(), names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    listed = ", ".join(names)
    return Invalid(
        f"there is no {kind} {name!r}: {hint}known are {listed}", errors=[FieldError(kind, f"one of {listed}")]
    )
