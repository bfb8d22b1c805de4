"""Arrays and random generators as bytes that carry no code: safetensors with a JSON header, and JSON."""

import json
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def dump(arrays: Mapping[str, Array], about: Mapping[str, Any]) -> bytes:
    """Return a safetensors file; `about` (JSON) goes into its header."""
    from safetensors.numpy import save

    return save({name: np.asarray(a, order="C") for name, a in arrays.items()}, {"about": json.dumps(dict(about))})


def parse(data: bytes) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return what `dump` was given."""
    from safetensors.numpy import load

    return dict(load(data)), about(data)


def about(data: bytes) -> dict[str, Any]:
    """Return the facts in the header of a safetensors file."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    return dict(json.loads(header.get("__metadata__", {}).get("about", "{}")))


def generators() -> dict[str, Any]:
    """Return the states of the global generators of Python and NumPy, as JSON data."""
    version, words, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": [version, list(words), gauss],
        "numpy": [str(kind), np.asarray(keys).tolist(), int(position), int(has_gauss), float(cached)],
    }


def set_generators(state: Mapping[str, Any]) -> None:
    """Put the global generators of Python and NumPy into a state that `generators` gave."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), position, has_gauss, cached))


def seed_generators(seed: int) -> None:
    """Seed the global generators of Python and NumPy: layers draw their own seeds from them."""
    random.seed(seed)
    np.random.seed(seed)
