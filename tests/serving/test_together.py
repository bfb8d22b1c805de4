"""Requests that arrive at once in the same words are answered as if each had come by itself."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.serving.test_forms import Wire
from tests.serving.test_quick import BYTE, ONE, signature
from tests.support.bundles import adder, fussy
from tests.support.plane import Plane

from leptonai.core import plugins
from leptonai.core.runtimes import LoadedModel
from leptonai.core.signature import Signature
from leptonai.serving.plane import body, v2
from leptonai.serving.plane.front import Front
from leptonai.serving.plane.http import Connection
from leptonai.serving.plane.quick import Quick
from leptonai.serving.plane.router import Router
from leptonai.serving.plane.server import Server
from leptonai.serving.served import Served, told
from leptonai.serving.table import Line

WHOLE = signature(("x", "INT64", (-1, 4)))
PAIR = signature(("a", "UINT8", (-1, 4)), ("b", "FP64", (-1, 2)))
MANY = 24


def words(which: Signature, data: bytes) -> bytes:
    spec = which.inputs[0]
    shape = json.dumps([1, *spec.shape[1:]]).encode()
    form = b'{"inputs":[{"name":"x","shape":%s,"datatype":"%s","data":%s}]}'
    return form % (shape, spec.datatype.encode(), data)


def usual(which: Signature) -> bytes:
    return words(which, json.dumps([1] * int(np.prod(which.inputs[0].shape[1:]))).encode())


LISTS = st.one_of(
    st.lists(st.integers(0, 255), min_size=3, max_size=4).map(lambda found: json.dumps(found).encode()),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=4, max_size=4).map(lambda found: json.dumps(found).encode()),
    st.sampled_from(
        [b"[1,2,3,4],[1,2,3,4]", b'"xxx]', b'",[1,2,3,4]', b"[[1],[2],[3],[4]]", b"[1,2", b"[1,2,[3]", b"4]", b"[[1,2,3,4]", b"{}", b"[{}]",
         b"[1,2,3,NaN]", b"[1,2,3,1e39]", b"[1,2,3,null]", b'[1,2,3,"4"]', b",[1,2,3,4]", b"[1,2,3,4],", b"1,[1,2,3,4]", b"[]", b""]
    ),
)  # fmt: skip


@given(st.sampled_from((ONE, BYTE, WHOLE)), st.lists(LISTS, min_size=1, max_size=6))
def test_what_is_read_together_is_what_each_says(which: Signature, lists: list[bytes]) -> None:
    quick = Quick(which)
    assert quick.request(usual(which)) is not None  # its words are known from now on
    bodies = [words(which, data) for data in lists]
    plain = [(found, whole) for whole in bodies if (found := quick.plain(whole, None)) is not None]
    if not plain:
        return
    (known, _), _ = plain[0]
    made = quick.together(known, [numbers for (_, numbers), _ in plain])
    if made is not None:
        for row, (_, whole) in zip(made["x"], plain, strict=True):
            right = v2.request(body.load(whole), which).inputs["x"]
            assert right.dtype == row.dtype
            np.testing.assert_array_equal(row[None], right)


def test_plain_requests_are_read_together() -> None:
    for which in (ONE, BYTE, WHOLE):
        quick = Quick(which)
        assert quick.plain(usual(which), None) is None  # its words are new
        quick.request(usual(which))
        found = [quick.plain(usual(which), None) for _ in range(3)]
        assert found[0] is not None
        made = quick.together(found[0][0], [one[1] for one in found if one is not None])
        assert made is not None
        assert made["x"].shape == (3, *which.inputs[0].shape[1:])


@given(st.lists(st.binary(min_size=20, max_size=20), min_size=1, max_size=5))
def test_raw_tensors_are_read_together(rows: list[bytes]) -> None:
    quick = Quick(PAIR)
    tensors = [
        {"name": "a", "shape": [1, 4], "datatype": "UINT8", "parameters": {"binary_data_size": 4}},
        {"name": "b", "shape": [1, 2], "datatype": "FP64", "parameters": {"binary_data_size": 16}},
    ]
    header = orjson.dumps({"inputs": tensors})
    length = b"%d" % len(header)
    made = header + bytes(20)
    quick.raw(made, len(header), lambda: v2.request(body.load(header), PAIR, memoryview(made)[len(header) :]))
    found = [quick.plain(header + row, length) for row in rows]
    assert found[0] is not None
    inputs = quick.together(found[0][0], [one[1] for one in found if one is not None])
    assert inputs is not None
    assert b"".join(a.tobytes() + b.tobytes() for a, b in zip(inputs["a"], inputs["b"], strict=True)) == b"".join(rows)
    for wrong in (header + bytes(19), header + bytes(21), header[:-1] + bytes(21)):
        assert quick.plain(wrong, length) is None
    for odd in (b"x", b"", b"99999", b"999999"):
        assert quick.plain(header + bytes(20), odd) is None


def asked(service: str, name: str, datatype: str, data: str) -> bytes:
    """A request of one row to a service, as it stands on the wire."""
    text = '{"inputs":[{"name":"%s","shape":[1],"datatype":"%s","data":%s}]}' % (name, datatype, data)  # noqa: UP031
    head = f"POST /v2/models/{service}/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(text)}\r\n\r\n"
    return (head + text).encode()


def at_once(plane: Plane, requests: list[bytes], *, raw: bool = False) -> list[tuple[int, Any, bytes]]:
    """Send each over a connection of its own while the plane stands still; return statuses, answers and ids.

    `raw`: of an answer the float32 behind its JSON.
    """
    connections = [socket.create_connection(("127.0.0.1", plane.port)) for _ in requests]
    try:
        for one in connections:
            one.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert _answer(one)[0] == 200  # it is accepted
        os.kill(plane.process.pid, signal.SIGSTOP)
        try:
            for one, request in zip(connections, requests, strict=True):
                one.sendall(request)
        finally:
            os.kill(plane.process.pid, signal.SIGCONT)
        return [_answer(one, raw) for one in connections]
    finally:
        for one in connections:
            one.close()


def _answer(connection: socket.socket, raw: bool = False) -> tuple[int, Any, bytes]:
    connection.settimeout(30)
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, rest = data.partition(b"\r\n\r\n")
    lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    while len(rest) < int(lines[b"content-length"]):
        rest += connection.recv(65536)
    length = int(lines.get(b"inference-header-content-length", len(rest)))
    said = np.frombuffer(rest[length:], np.float32).item() if raw else orjson.loads(rest)
    return int(head[9:12]), said, lines[b"x-request-id"]


def value(answer: dict[str, Any]) -> float:
    return float(answer["outputs"][0]["data"][0])


def test_each_gets_its_own_answer_and_is_counted(plane: Plane) -> None:
    plane.load(adds=adder(1))
    for turn in range(3):
        found = at_once(plane, [asked("adds", "x", "FP64", f"[{number:4}]") for number in range(MANY)])
        assert [status for status, *_ in found] == [200] * MANY
        assert [value(answer) for _, answer, _ in found] == [1000 + number for number in range(MANY)]
        assert len({id for *_, id in found}) == MANY, turn
    text = plane.client.get("/metrics").text
    labels = 'model="adder",version="1",variant="stable",service="adds"'
    assert f'leptonai_inference_requests_total{{{labels},code="200"}} {3 * MANY}' in text
    for stage in ("parse", "queue", "model", "encode", "total"):
        assert f'leptonai_inference_duration_seconds_count{{{labels},stage="{stage}"}} {3 * MANY}' in text
    assert f"leptonai_queue_depth{{{labels}}} 0" in text
    assert f"leptonai_batch_size_sum{{{labels}}} {3 * MANY}" in text


@pytest.mark.parametrize("outputs", [[], [{"name": "prediction", "parameters": {"binary_data": True}}]])
def test_raw_values_get_their_own_answers(plane: Plane, outputs: list[Any]) -> None:
    plane.load(adds=adder(1))
    tensor = {"name": "x", "shape": [1], "datatype": "FP64", "parameters": {"binary_data_size": 8}}
    header = orjson.dumps({"inputs": [tensor]} | ({"outputs": outputs} if outputs else {}))
    head = f"POST /v2/models/adds/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(header) + 8}\r\nInference-Header-Content-Length: {len(header)}\r\n\r\n"
    for _ in range(3):
        requests = [head.encode() + header + np.float64(number).tobytes() for number in range(MANY)]
        found = at_once(plane, requests, raw=bool(outputs))
        for number, (status, answer, _) in enumerate(found):
            assert status == 200
            assert (answer if outputs else value(answer)) == 1000 + number


@pytest.mark.parametrize("wrong", ["[abc]", "[[1]]", "[1,2]", '["1"]', "[1", "[NaN]", "[true]", "[]"])
def test_one_that_is_wrong_harms_no_other(plane: Plane, wrong: str) -> None:
    plane.load(adds=adder(1))
    width = max(6, len(wrong))
    right = asked("adds", "x", "FP64", f"{'[7]':{width}}")
    assert at_once(plane, [right] * 2)[0][0] == 200
    found = at_once(plane, [right] * 5 + [asked("adds", "x", "FP64", f"{wrong:{width}}")] + [right] * 5)
    statuses = [status for status, *_ in found]
    assert statuses == [200] * 5 + [400] + [200] * 5
    assert {value(answer) for status, answer, _ in found if status == 200} == {1007}


def test_one_that_cannot_be_computed_harms_no_other(plane: Plane) -> None:
    plane.load(fussy())
    rows = [asked("fussy", "where", "INT64", f"[{row}]") for row in (0, 1, 0, 7, 1, 0)]
    for _ in range(2):
        found = at_once(plane, rows)
        assert [status for status, *_ in found] == [200, 200, 200, 400, 200, 200]
        assert [value(answer) for status, answer, _ in found if status == 200] == [0.5, 1.5, 0.5, 1.5, 0.5]


def test_another_method_is_refused_whatever_was_asked_before(plane: Plane) -> None:
    plane.load(adds=adder(1))
    right = asked("adds", "x", "FP64", "[7]")
    for _ in range(3):
        found = at_once(plane, [right, right.replace(b"POST", b"GET", 1), right])
        assert [status for status, *_ in found] == [200, 405, 200]


class Counted:
    """A model that says how many batches it computed."""

    def __init__(self, loaded: LoadedModel):
        self._loaded = loaded
        self.batches: list[int] = []

    def predict(self, inputs: Mapping[str, Any], outputs: Sequence[str] = ()) -> dict[str, Any]:
        self.batches.append(len(next(iter(inputs.values()))))
        return self._loaded.predict(inputs, outputs)

    def close(self) -> None:
        self._loaded.close()


def test_they_are_computed_as_one() -> None:
    asyncio.run(_as_one())


async def _as_one() -> None:
    model, files = adder(1)
    served = Served.of(told(model))
    counted = Counted(plugins.runtime("onnx").load(files, 1, precision="fp32", device="cpu"))
    router = Router()
    await router.load(served, lambda: counted)
    router.route([Line.one("adds", served.id, True)])
    server = Server(Front(router))
    wires, took = [], []
    for _ in range(6):  # the first time their words are new; later a pause of the machine may be taken for a slow model
        counted.batches.clear()
        wires = [Wire() for _ in range(MANY)]
        for number, wire in enumerate(wires):
            connection = Connection(server)
            connection.connection_made(wire)
            connection.data_received(asked("adds", "x", "FP64", f"[{number:4}]"))
        assert router.find("adds").replica.depth + len(counted.batches) <= MANY
        while not all(wire.written for wire in wires):
            await asyncio.sleep(0)
        assert sum(counted.batches) == MANY
        took.append(len(counted.batches))
    assert [orjson.loads(b"".join(wire.written).partition(b"\r\n\r\n")[2])["outputs"][0]["data"] for wire in wires] == [
        [1000.0 + number] for number in range(MANY)
    ]
    await router.close()
    assert min(took[1:]) <= MANY // 2, took
