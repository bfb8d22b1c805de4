"""Fitted estimators as skops files: arrays and parameters, no code; the same estimator gives the same bytes."""

import io
import json
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from leptonai.core.errors import Denied

_TRUSTED = ("sklearn", "numpy", "scipy")
# How boosting on categories keeps a function of scikit-learn with its arguments; what is in it is asked of, too.
_PARTIAL = "functools.partial"
_OURS = tuple(
    f"leptonai.adapters.frameworks.{name}"
    for name in ("ratings.Ratings", "series.Naive", "series.Smoothing", "series.Lagged")
)
_EPOCH = (1980, 1, 1, 0, 0, 0)  # where the time of a zip file begins


def write(estimator: Any) -> bytes:
    """Return a fitted estimator as a skops file."""
    from skops import io as skops  # type: ignore[import-untyped]

    _plain_words(estimator)
    return _settled(skops.dumps(estimator))


def read(data: bytes, mine: Sequence[Any]) -> Any:
    """Read a skops file. Raises `Denied` for a type of neither scikit-learn, NumPy, SciPy, ours, nor the user's own (`mine`)."""
    from skops import io as skops

    own = {f"{made.__module__}.{name}" for made in mine for name in (made.__qualname__, made.__name__)}
    found = skops.get_untrusted_types(data=data)
    strange = [
        name
        for name in found
        if name.partition(".")[0] not in _TRUSTED and name not in own and name not in (*_OURS, _PARTIAL)
    ]
    if strange:
        raise Denied(f"the weights hold {', '.join(strange)}, which is not trusted", types=strange)
    return skops.loads(data, trusted=found)


def _settled(data: bytes) -> bytes:
    """Number the parts of the file by their order, not by their place in memory, and take out the time."""
    numbers: dict[str, str] = {}

    def renamed(node: Any) -> Any:
        if isinstance(node, list):
            return [renamed(part) for part in node]
        if not isinstance(node, dict):
            return node
        made = {name: renamed(part) for name, part in node.items()}
        if isinstance(node.get("__id__"), int) and "__loader__" in node:
            made["__id__"] = int(numbers.setdefault(str(node["__id__"]), str(len(numbers) + 1)))
        if isinstance(node.get("file"), str) and "__loader__" in node:
            made["file"] = file(node["file"])
        return made

    def file(name: str) -> str:
        stem, dot, kind = name.partition(".")
        return numbers.setdefault(stem, str(len(numbers) + 1)) + dot + kind

    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        schema = renamed(json.loads(old.read("schema.json")))
        names = sorted(
            (file(info.filename), info.filename) for info in old.infolist() if info.filename != "schema.json"
        )
        for name, before in names:
            new.writestr(zipfile.ZipInfo(name, _EPOCH), old.read(before))
        new.writestr(zipfile.ZipInfo("schema.json", _EPOCH), json.dumps(schema))
    return out.getvalue()


def _plain_words(part: Any) -> None:
    """Make the places of a vocabulary Python's numbers: skops writes one of NumPy as a file, 50,000 in more than a minute."""
    if isinstance(part, list | tuple) or (isinstance(part, np.ndarray) and part.dtype == object):
        for one in part:
            _plain_words(one)
    elif isinstance(part, BaseEstimator):
        words = getattr(part, "vocabulary_", None)
        if isinstance(words, dict):
            part.vocabulary_ = {word: int(place) for word, place in words.items()}
        for one in vars(part).values():
            _plain_words(one)
