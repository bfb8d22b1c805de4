"""Adapters are found by name. Ours enter by the same door as everybody's: entry points of the distribution."""

from __future__ import annotations

import contextlib
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from leptonai.core.errors import MissingExtra, Unsupported

if TYPE_CHECKING:  # the ports of records need pydantic, which serving processes do without
    from leptonai.core.ports import Catalog, Executor, Framework, KeyLock, Keyring, Store
    from leptonai.core.runtimes import Runtime, TextRuntime

_EXTRA = {
    "s3": "s3",
    "postgresql": "postgres",
    "torch": "torch",
    "tensorflow": "tensorflow",
    "jax": "jax",
    "ray": "ray",
    "llamacpp": "text",
    "encoder": "text",
}


@cache
def names(port: str) -> tuple[str, ...]:
    """Return the names of the adapters of a port ("catalogs", "stores", "executors", "frameworks", "runtimes")."""
    return tuple(sorted({point.name for point in entry_points(group=f"leptonai.{port}")}))


@cache
def _load(port: str, name: str) -> Any:
    points = tuple(entry_points(group=f"leptonai.{port}", name=name))
    if not points:
        raise Unsupported(f"there is no {port.removesuffix('s')} {name!r}; installed are: {', '.join(names(port))}")
    try:
        return points[0].load()
    except ImportError as error:
        extra = _EXTRA.get(name, "platform")
        raise MissingExtra(
            f"{name!r} needs {error.name or error}: install it with  pip install 'lepton-ai-sdk[{extra}]'"
        ) from error


def load_ahead() -> None:
    """Import the adapters that nearly every Run uses, where they are installed: a fork server does, so that no Run waits for it."""
    for port, wanted in (("stores", ("file", "sealed")), ("frameworks", names("frameworks"))):
        for name in wanted:
            with contextlib.suppress(MissingExtra, Unsupported):
                _load(port, name)


def catalog(url: str) -> Catalog:
    """Open the catalog at ``sqlite:///path`` or ``postgresql://…``, with its tables brought up to date."""
    return cast("Catalog", _load("catalogs", urlsplit(url).scheme.partition("+")[0])(url))


def store(url: str) -> Store:
    """Open the store at a folder path, ``file:///path`` or ``s3://bucket/prefix``: bytes as they are given."""
    scheme = urlsplit(url).scheme if "://" in url else "file"
    return cast("Store", _load("stores", scheme)(url))


def sealed(inner: Store, keyring: Keyring) -> Store:
    """Wrap a store so that everything is encrypted before it leaves this process."""
    return cast("Store", _load("stores", "sealed")(inner, keyring))


def lock(given: str) -> KeyLock:
    """Make what locks the key file: its name, and what it needs after a colon, such as ``passphrase:/run/secrets/lepton``."""
    name, _, rest = given.partition(":")
    return cast("KeyLock", _load("locks", name)(rest))


def executor(url: str = "local") -> Executor:
    """Make an executor: "local", or one of another kind by its name and what it needs, such as ``ray:auto``."""
    name, colon, _ = url.partition(":")
    found = _load("executors", name)
    return cast("Executor", found(url) if colon else found())


def framework(name: str) -> Framework:
    """Return a framework by name."""
    return cast("Framework", _load("frameworks", name)())


def framework_of(model: object) -> Framework:
    """Return the framework that owns this object. Raises `Unsupported`."""
    for name in names("frameworks"):
        found = framework(name)
        if found.owns(model):
            return found
    raise Unsupported(
        f"a model of type {type(model).__module__}.{type(model).__qualname__} is not known; "
        "give a Keras model, a torch.nn.Module or a scikit-learn estimator"
    )


def runtime(name: str = "onnx") -> Runtime:
    """Return a runtime by name."""
    return cast("Runtime", _load("runtimes", name)())


def text_runtime(name: str) -> TextRuntime:
    """Return a runtime of text by name."""
    return cast("TextRuntime", _load("texts", name)())
