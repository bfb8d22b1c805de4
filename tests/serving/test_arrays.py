"""What goes between planes and workers: arrays as they were, and nothing believed that was not checked."""

import asyncio
import json
import socket
import struct
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from leptonai.core.errors import Corrupt
from leptonai.serving import arrays, frames
from leptonai.serving.plane import line as plane_line
from leptonai.serving.plane.line import Line

NUMBERS = st.sampled_from(["<f4", "<f8", "<i8", "|u1", "|b1"])
ANY = hnp.arrays(NUMBERS, hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4))
TEXT = st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5)


def read(message: bytes) -> frames.Frame:
    size = struct.unpack(">I", message[:4])[0]
    header, sizes = frames.parse(message[4 : 4 + size])
    parts, at = [], 4 + size
    for length in sizes:
        parts.append(message[at : at + length])
        at += length
    assert at == len(message)
    return frames.Frame(header, parts)


@given(st.dictionaries(st.sampled_from("abc"), ANY, min_size=1), TEXT)
def test_arrays_come_out_as_they_went_in(given_arrays: dict[str, Any], text: list[str]) -> None:
    made = np.empty(len(text), object)
    made[:] = text
    given_arrays["text"] = made
    header, parts = arrays.pack(given_arrays)
    found = arrays.unpack(read(b"".join(frames.quick({"op": "done", **header}, parts))))
    assert found.keys() == given_arrays.keys()
    for name, array in given_arrays.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize(
    "about",
    [
        {},
        {"name": "a"},
        {"name": "a", "dtype": "O", "shape": [1]},
        {"name": "a", "dtype": "<f4", "shape": [2]},
        {"name": "a", "dtype": "<f4", "shape": [-1]},
        {"name": "a", "dtype": "<f4", "shape": [1 << 40, 1 << 40]},
        {"name": "a", "dtype": "V4", "shape": [1]},
        {"name": "a", "dtype": "<M8[s]", "shape": [1]},
        {"name": "a", "dtype": "text", "shape": [2], "values": ["one"]},
        {"name": "a", "dtype": "text", "shape": [1], "values": [1]},
        {"name": "a", "dtype": "text", "shape": [1], "values": None},
        7,
    ],
)
def test_what_is_no_array_is_refused(about: Any) -> None:
    with pytest.raises(Corrupt):
        arrays.unpack(frames.Frame({"arrays": [about]}, [b"1234"]))
    for wrong in (None, 7, {"a": 1}):
        with pytest.raises(Corrupt):
            arrays.unpack(frames.Frame({"arrays": wrong}, []))


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.sampled_from([0, 1, 100, 40_000, 200_000, 400_000]), min_size=1, max_size=6),
    st.lists(st.integers(1, 100_000), min_size=1, max_size=8),
)
def test_messages_come_through_however_they_are_cut(sizes: list[int], cuts: list[int]) -> None:
    data = b"".join(
        b"".join(frames.quick({"id": n, "long": "x" * (size % 90_000)}, [bytes([n]) * size, b"end"]))
        for n, size in enumerate(sizes)
    )
    got = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    with got as runner:
        found = runner.run(_hear(data, cuts, len(sizes)))
    assert [(f.header["id"], len(f.parts[0]), bytes(f.parts[1])) for f in found] == [
        (n, size, b"end") for n, size in enumerate(sizes)
    ]
    assert all(set(bytes(f.parts[0])) <= {n} for n, f in enumerate(found))


async def _hear(data: bytes, cuts: list[int], count: int) -> list[frames.Frame]:
    """Feed a line with pieces of these lengths, again and again."""
    found: list[frames.Frame] = []
    made = Line(Path("/nowhere/at/all"), found.append, lambda _: None)
    made.up = True
    at = turn = 0
    while at < len(data):
        buffer = made.get_buffer(-1)
        size = min(cuts[turn % len(cuts)], len(buffer), len(data) - at)
        assert size > 0
        buffer[:size] = data[at : at + size]
        del buffer
        made.buffer_updated(size)
        at, turn = at + size, turn + 1
    assert len(found) == count
    made.close()
    return found


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\xff\xff\xff\xff",
        b"\0\0\0\2[]",
        b"\0\0\0\2{}",
        b"\0\0\0\1x",
        struct.pack(">I", 30) + json.dumps({"sizes": [1 << 40]}).encode().ljust(30),
        struct.pack(">I", 30) + json.dumps({"sizes": [-1]}).encode().ljust(30),
    ],
)
def test_a_worker_that_talks_nonsense_is_hung_up_on_and_tried_again(
    nonsense: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plane_line, "LONGEST_PAUSE", 0.01)

    async def test() -> list[bool]:
        changes: list[bool] = []
        again = asyncio.Event()

        def changed(up: bool) -> None:
            changes.append(up)
            if changes.count(True) == 2:
                again.set()

        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
            listening.bind(str(tmp_path / "worker"))
            listening.listen()
            listening.setblocking(False)
            made = Line(tmp_path / "worker", lambda _: None, changed)
            made.open()
            loop = asyncio.get_running_loop()
            first, _ = await loop.sock_accept(listening)
            await loop.sock_sendall(first, nonsense)
            second, _ = await loop.sock_accept(listening)
            await asyncio.wait_for(again.wait(), 5)
            made.close()
            await asyncio.sleep(0.02)
            first.close()
            second.close()
        return changes

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(test())[:3] == [True, False, True]


@given(st.lists(st.integers(1, 300), min_size=1, max_size=5), st.sampled_from([0, 5, 2_000, 200_000]))
@settings(max_examples=25, deadline=None)
def test_a_caller_who_waits_is_understood_however_his_message_is_cut(cuts: list[int], size: int) -> None:
    data = b"".join(frames.quick({"id": 1, "text": "é" * 50}, [b"a" * size, b"b"]))
    ours, theirs = socket.socketpair()
    with ours, theirs:

        def send() -> None:
            at = turn = 0
            while at < len(data):
                cut = cuts[turn % len(cuts)] * (1 if at < 600 else 1000)
                theirs.sendall(data[at : at + cut])
                at, turn = at + cut, turn + 1

        sender = threading.Thread(target=send)
        sender.start()
        frame = frames.receive_alone(ours, bytearray(500))
        sender.join()
        assert frame is not None
        assert frame.header == {"id": 1, "text": "é" * 50}
        assert [bytes(part) for part in frame.parts] == [b"a" * size, b"b"]
        theirs.sendall(b"".join(frames.quick({"id": 2})) + b"x")
        with pytest.raises(Corrupt, match="longer"):
            frames.receive_alone(ours, bytearray(500))
        theirs.close()
        assert frames.receive_alone(ours, bytearray(500)) is None
