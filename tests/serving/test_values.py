"""Properties of what reads JSON, and of what carries arrays between processes."""

import gc
import json
import math
import socket
import threading
import time
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptonai.core.errors import Corrupt, Invalid
from leptonai.serving import frames
from leptonai.serving.arrays import pack, unpack
from leptonai.serving.plane import body
from leptonai.serving.plane.values import DATATYPES, Misfit, array, flat

ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=30,
)


def depth(value: Any) -> int:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if parts is None else 1 + max(map(depth, parts), default=0)


@given(ANY, st.booleans())
def test_json_is_read_as_it_was_written(value: Any, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    try:
        expected = orjson.loads(text)
    except orjson.JSONDecodeError:
        with pytest.raises(Invalid):
            body.load(text)
        return
    assert body.load(text) == expected
    assert too_deep(text) == (depth(value) > body.DEPTH_LIMIT)


@given(ANY, st.integers(0, 2 * body.DEPTH_LIMIT), st.integers(0, 3))
def test_depth_is_seen_whatever_stands_around(value: Any, levels: int, wide: int) -> None:
    for _ in range(levels):
        value = [*[{}] * wide, value]
    text = json.dumps(value).encode()
    assert too_deep(text) == (depth(value) > body.DEPTH_LIMIT)


def too_deep(text: bytes) -> bool:
    """Return what the scan says, which is the same however large the parts are that it looks at."""
    found: list[bytes | None] = []
    for size in (2**16, 7, 1):
        try:
            found.append(body._skeleton(text, size))
        except Invalid as error:
            assert "nested more than 64 levels" in error.message
            found.append(None)
    assert len(set(found)) == 1
    return found[0] is None


@given(st.lists(st.sampled_from([b"[", b"]", b"{", b"}", b'"', b":", b"\\", b"a", b"[[[[[[[["]), max_size=60))
def test_strings_and_escapes_may_be_cut_anywhere(pieces: list[bytes]) -> None:
    too_deep(b"".join(pieces))


def test_a_trap_of_four_megabytes_is_seen_at_its_beginning() -> None:
    text = b'{"inputs": "\\"[[", "data": ' + b"[" * 2_000_000 + b"]" * 2_000_000 + b"}"
    gc.collect()  # not in one of the two spans
    with pytest.raises(Invalid, match="64 levels deep"):
        body.load(text)  # the first one makes what the others find
    begun = time.process_time()
    for _ in range(10):
        with pytest.raises(Invalid, match="64 levels deep"):
            body.load(text)
    spent = time.process_time() - begun
    begun = time.process_time()
    for _ in range(10):
        text.translate(None, b"a")  # what it would take to go through all of it once
    assert spent < time.process_time() - begun


@given(st.binary(max_size=200))
def test_any_bytes_are_json_or_invalid(data: bytes) -> None:
    try:
        body.load(data)
    except Invalid as error:
        assert error.message


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":1}',
        '[{"a":1},{"b":2,"b":3}]',
        '{"a":{"b":[1,{"c":1,"c":2}]}}',
        '{"a":[1,{"c":1,"c":2}]}',
        r'{"\u0061":1,"a":2}',
    ],
)
def test_a_key_that_is_named_twice(text: str) -> None:
    with pytest.raises(Invalid, match="twice"):
        body.load(text.encode())


@given(st.sampled_from(sorted(DATATYPES)), st.lists(ANY, min_size=1, max_size=6))
def test_values_become_what_they_are_or_are_refused(datatype: str, values: list[Any]) -> None:
    try:
        made = array(values, datatype)
    except Misfit as error:
        assert 0 <= error.index < len(values)
        return
    assert made.dtype == DATATYPES[datatype].numpy
    for value, found in zip(values, made.tolist(), strict=True):
        assert type(value) in DATATYPES[datatype].takes
        if datatype == "FP32":
            assert math.isclose(found, value, rel_tol=1e-6, abs_tol=1e-38)
        else:
            assert found == (float(value) if datatype == "FP64" else value)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=4).map(tuple))
def test_nested_and_flat_lists_are_the_same(shape: tuple[int, ...]) -> None:
    values = np.arange(math.prod(shape)).reshape(shape)
    assert flat(values.tolist(), shape) == values.ravel().tolist() or 0 in shape
    assert flat(values.ravel().tolist(), shape) == values.ravel().tolist()


@pytest.mark.parametrize(
    "data", [[[1, 2], [3]], [[1, 2], 3], [1, [2, 3]], [[[1], [2]], [[3], [4]]], [[1, 2]], [], 7, None, "ab"]
)
def test_ragged_lists_are_refused(data: Any) -> None:
    with pytest.raises(Misfit):
        array(flat(data, (2, 2)), "FP64")


@given(
    st.dictionaries(
        st.text(min_size=1),
        st.sampled_from(["<f8", "<f4", "<i8", "|u1", "|b1", "text"]).flatmap(
            lambda kind: st.lists(st.text() if kind == "text" else st.integers(0, 1), max_size=6).map(
                lambda values: np.array(values, object if kind == "text" else kind)
            )
        ),
        max_size=4,
    )
)
def test_arrays_survive_the_way_between_processes(arrays: dict[str, Any]) -> None:
    header, parts = pack(arrays)
    found = unpack(frames.Frame(json.loads(json.dumps(header)), [bytes(part) for part in parts]))
    assert found.keys() == arrays.keys()
    for name, value in arrays.items():
        assert found[name].dtype == value.dtype
        assert found[name].tolist() == value.tolist()


def test_messages_are_read_as_they_were_sent_and_a_broken_one_is_corrupt() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sent = threading.Thread(
            target=lambda: [frames.send(ours, {"n": i}, [bytes(i * 100_000), b"x"]) for i in range(4)]
        )
        sent.start()
        for i in range(4):
            frame = frames.receive(theirs)
            assert frame is not None
            assert (frame.header, [len(part) for part in frame.parts]) == ({"n": i}, [i * 100_000, 1])
        sent.join()
        ours.sendall(b"\0\0\0\x02[]")
        with pytest.raises(Corrupt):
            frames.receive(theirs)
        ours.sendall(b"\xff\xff\xff\xff")
        with pytest.raises(Corrupt):
            frames.receive(theirs)
        ours.sendall(b"\0\0")
        ours.close()
        with pytest.raises(ConnectionResetError):
            frames.receive(theirs)
        assert frames.receive(theirs) is None
