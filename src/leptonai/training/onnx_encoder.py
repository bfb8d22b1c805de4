"""The encoder as an ONNX graph: columns in, the array that the model takes out.

It computes what `training/encoder.py` computes, by the rules in the docstrings of `FeatureCode` and `Encoding`. Columns
that are coded alike are put side by side first, so that a table of thirty numbers costs a handful of nodes, not two
hundred.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from onnx import TensorProto

from leptonai.core.errors import Unsupported
from leptonai.training.encoder import width
from leptonai.training.onnx_inputs import kind, unseen
from leptonai.training.onnx_parts import ML, Parts
from leptonai.training.spec import Encoding, FeatureCode

_DTYPES = {"float32": (TensorProto.FLOAT, np.float32), "int64": (TensorProto.INT64, np.int64)}


class _Member(NamedTuple):
    """A feature and where its columns lie in the encoded array."""

    feature: FeatureCode
    start: int
    width: int


def encode(parts: Parts, encoding: Encoding) -> str:
    """Add the encoder; return the name of its output. Raises `Unsupported` for what has no array."""
    if not encoding.features:
        raise Unsupported("the model has no input column")
    to = _DTYPES[encoding.dtype][0]
    if encoding.layout in ("channels_last", "channels_first"):
        if len(encoding.features) != 1:
            raise Unsupported(f"layout {encoding.layout} takes one column, and there are {len(encoding.features)}")
        return parts.cast(_whole(parts, encoding.features[0], encoding.layout), to)
    groups: dict[tuple[str, int], list[_Member]] = {}
    start = 0
    for feature in encoding.features:
        key = ("scale" if feature.op == "time" else feature.op, kind(feature).onnx)
        if width(feature):
            groups.setdefault(key, []).append(_Member(feature, start, width(feature)))
        start += width(feature)
    if not groups:
        raise Unsupported("no column of the model has a value in the training part")
    encoded = parts.concat([_group(parts, op, elem, members, to) for (op, elem), members in groups.items()])
    return _in_order(parts, encoded, list(chain.from_iterable(groups.values())))


def _group(parts: Parts, op: str, elem: int, members: Sequence[_Member], to: int) -> str:
    features = [member.feature for member in members]
    if op in ("image", "tensor"):
        flat = [
            parts.add("Reshape", _whole(parts, m.feature, "flat"), parts.constant([-1, m.width], np.int64))
            for m in members
        ]
        return parts.cast(parts.concat(flat), to)
    if op in ("index", "onehot"):
        return parts.cast(parts.concat([_category(parts, feature, elem) for feature in features]), to)
    side_by_side = parts.concat([_column(parts, feature.column) for feature in features])
    if op == "scale":
        side_by_side = _scale(parts, side_by_side, elem, features)
    return parts.cast(side_by_side, to)


def _column(parts: Parts, values: str) -> str:
    return parts.add("Unsqueeze", values, parts.constant([1], np.int64))


def _scale(parts: Parts, values: str, elem: int, features: Sequence[FeatureCode]) -> str:
    if elem != TensorProto.DOUBLE:
        values = parts.cast(values, TensorProto.DOUBLE)
    centred = parts.add("Sub", values, parts.constant([feature.mean for feature in features], np.float64))
    scaled = parts.add("Div", centred, parts.constant([feature.std for feature in features], np.float64))
    if elem == TensorProto.DOUBLE:  # only a float can be missing
        scaled = parts.add("Where", parts.add("IsNaN", scaled), parts.constant(0.0, np.float64), scaled)
    return scaled


def _category(parts: Parts, feature: FeatureCode, elem: int) -> str:
    """Return (batch, 1) positions from 1, or (batch, categories) of truth; 0 for what is not known."""
    positions = range(1, 1 + len(feature.categories))
    keys = list(feature.categories)
    attributes: dict[str, Any] = {"values_int64s": list(positions), "default_int64": 0}
    if not keys:  # a column that is empty in the training part: nothing of it is known
        keys, attributes["values_int64s"] = [unseen((), kind(feature).datatype)], [0]
    attributes["keys_strings" if elem == TensorProto.STRING else "keys_int64s"] = keys
    index = _column(parts, parts.add("LabelEncoder", feature.column, domain=ML, **attributes))
    if feature.op == "index":
        return index
    return parts.add("Equal", index, parts.constant(positions, np.int64))


def _whole(parts: Parts, feature: FeatureCode, layout: str) -> str:
    if feature.op == "tensor":
        return feature.column
    scaled = parts.add("Div", parts.cast(feature.column, TensorProto.FLOAT), parts.constant(255.0, np.float32))
    return parts.add("Transpose", scaled, perm=[0, 3, 1, 2]) if layout == "channels_first" else scaled


def _in_order(parts: Parts, encoded: str, members: Sequence[_Member]) -> str:
    """Bring the columns from the order of the groups to that of the features."""
    now = [column for member in members for column in range(member.start, member.start + member.width)]
    if now == sorted(now):
        return encoded
    return parts.add("Gather", encoded, parts.constant(np.argsort(now), np.int64), axis=1)
