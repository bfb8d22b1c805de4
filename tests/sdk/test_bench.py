"""The bench measures what a server does, says when it was itself too slow, and loads nobody it may not."""

import contextlib
import json
import socket
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support import bundles
from tests.support.plane import Plane

from leptonai.core.errors import Invalid, Unavailable
from leptonai.sdk import bench, curve, load
from leptonai.sdk.load import Level


@pytest.fixture
def slow() -> Iterator[int]:
    """A server that answers one request at a time, each after 5 ms, and 500 to each fourth."""
    listening = socket.create_server(("127.0.0.1", 0))
    stop, turn = threading.Event(), threading.Lock()
    threads: list[threading.Thread] = []
    count = [0]

    def serve(one: socket.socket) -> None:
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with one, contextlib.suppress(OSError):
            while data := one.recv(65536):
                assert data.startswith(b"POST / HTTP/1.1")
                with turn:
                    stop.wait(0.005)
                    count[0] += 1
                    status = b"500 No" if count[0] % 4 == 0 else b"200 OK"
                one.sendall(b"HTTP/1.1 " + status + b"\r\ncontent-le")
                one.sendall(b"ngth: 2\r\n\r\n{}" if count[0] % 2 else b"ngth: 2\r\n\r\n{" + b"}")

    def accept() -> None:
        while not stop.is_set():
            try:
                one, _ = listening.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=serve, args=(one,)))
            threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    yield listening.getsockname()[1]
    stop.set()
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    for thread in (accepting, *threads):
        thread.join()


def test_what_is_measured_is_what_the_server_does(slow: int) -> None:
    asked = load.request("POST", "/", "x", b"{}", {})
    one = load.measure(("127.0.0.1", slow), [asked], 1, 0.4)
    assert 0 < one.per_second <= 200 and one.p50 >= 5.0
    assert one.failed == one.statuses["500"] > 0
    four = load.measure(("127.0.0.1", slow), [asked], 4, 0.4)
    assert four.p50 > 1.5 * one.p50  # they wait for each other
    assert not one.bound


def test_an_open_loop_counts_from_when_a_request_was_due(slow: int) -> None:
    asked = load.request("POST", "/", "x", b"{}", {})
    level = load.measure(("127.0.0.1", slow), [asked], 2, 0.6, rate=1000.0)  # five times what it can
    assert level.worst > 100.0
    assert level.rate == 1000.0


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(Unavailable, match="nobody answers"):
        bench.measured(("127.0.0.1", port), [b"x"], 1, 0.2)


def test_made_up_requests_are_ones_that_the_model_takes(plane: Plane) -> None:
    for model, files in (bundles.people(), bundles.picture(), bundles.adder(1)):
        plane.load((model, files))
        for body in bench.made_up(model.signature, rows=3, count=3):
            answer = plane.client.post(f"/v2/models/{model.name}/infer", content=body)
            assert answer.status_code == 200, answer.text
    requests = [load.request("POST", "/v2/models/adder/infer", "localhost", body, {"authorization": "Bearer test"})
                for body in bench.made_up(bundles.adder(1)[0].signature)]  # fmt: skip
    level = bench.measured(("127.0.0.1", plane.port), requests, 4, 0.3)
    assert level.answers > 0 and level.failed == 0


def test_rows_of_a_file_and_other_machines() -> None:
    assert json.loads(bench.from_rows([{"a": 1}])[0]) == {"rows": [{"a": 1}]}
    with pytest.raises(Invalid):
        bench.from_rows([])
    service: Any = type("S", (), {"url": "http://10.0.0.7:9/services/a/predict"})
    with pytest.raises(Invalid, match="another machine"):
        bench.address_of(service, remote=False)
    assert bench.address_of(service, remote=True) == ("10.0.0.7", 9)


def test_the_curve_is_a_picture() -> None:
    levels = [Level(n, None, 1.0, 100, 100.0 * n, 0.5, 1.0, 2.0 * n, 9.0, 0, {"200": 100}, 0.5) for n in (1, 2, 64)]
    for drawn in (levels, levels[:1], []):
        ElementTree.fromstring(curve.svg(drawn, "a <b>"))
    page = curve.html(levels, "a <b>")
    assert "a &lt;b&gt;" in page and "http" not in page.replace("http://www.w3.org/2000/svg", "")


@pytest.fixture
def plane(tmp_path: Any) -> Iterator[Plane]:
    made = Plane(tmp_path)
    yield made
    made.close()
