"""Serving processes that die while they are called: nobody notices."""

import json
import os
import random
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from tests.support import bundles
from tests.support.callers import Callers, post, read_answer
from tests.support.site import until

from leptonai.agent.crashes import Crashes
from leptonai.agent.planes import Planes
from leptonai.serving.table import Line

DEADLY = Path(__file__).parent.parent / "support" / "deadly"
WAYS = ("keep_alive", "keep_alive", "anew", "anew", "pipelined", "pipelined", "halves", "large", "binary")


def fill(planes: Planes) -> None:
    model, files = bundles.adder(1)
    other, more = bundles.adder(2, name="other")
    for slot in planes.dead:
        plane = planes.start(slot)
        plane.load(model.model_copy(update={"id": "model_1"}), files)
        plane.load(other.model_copy(update={"id": "model_2"}), more)
        plane.route([Line.one("adder", "model_1", True), Line.one("other", "model_2", True)])
        planes.keep(slot, plane)


@pytest.fixture
def planes(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Planes]:
    for name, value in getattr(request, "param", {}).items():
        monkeypatch.setenv(name, value)
    made = Planes(0, tmp_path / "plane.log", 2)
    monkeypatch.undo()
    fill(made)
    yield made
    made.close()


def kill(planes: Planes, slot: int) -> None:
    victim = planes.members[slot]
    assert victim is not None
    os.kill(victim.pid, signal.SIGKILL)
    until(lambda: not victim.alive)


def files_of(process: psutil.Process) -> int:
    return process.num_fds()


def test_nobody_notices_that_processes_are_killed(planes: Planes) -> None:
    chance = random.Random(3)
    before = files_of(psutil.Process())
    callers = Callers(planes.port)
    callers.start(*WAYS)
    try:
        for _ in range(4):
            time.sleep(chance.random() * 0.8)
            kill(planes, chance.randrange(2))
            time.sleep(chance.random() * 0.2)  # the other one answers alone
            fill(planes)
        for slot in (0, 1):  # and one after the other, so that for a while there is none
            kill(planes, slot)
        fill(planes)
        time.sleep(0.3)
    finally:
        callers.stop()
    assert callers.failures == []
    assert set(callers.counts) - {"busy"} == set(WAYS)
    assert callers.counts["busy"] < 0.02 * callers.counts.total(), "a process that has just begun turns nobody away"
    until(lambda: planes.connections == 0)
    until(lambda: files_of(psutil.Process()) <= before)


def test_a_process_is_replaced_under_load_in_order(planes: Planes) -> None:
    callers = Callers(planes.port)
    callers.start("keep_alive", "anew", "pipelined", "far_ahead", "far_ahead", "halves")
    try:
        for slot in (0, 1):
            former = planes.members[slot]
            assert former is not None
            with httpx.Client(trust_env=False) as idle:  # a connection that nothing is going on in
                idle.get(f"http://127.0.0.1:{planes.port}/v2/health/live")
                planes.replace(slot, fill_one)
                assert not former.alive
                assert idle.get(f"http://127.0.0.1:{planes.port}/v2/health/live").status_code == 200
    finally:
        callers.stop()
    assert callers.failures == []


def fill_one(plane: "object") -> None:
    model, files = bundles.adder(1)
    plane.load(model.model_copy(update={"id": "model_1"}), files)  # type: ignore[attr-defined]
    plane.route([Line.one("adder", "model_1", True)])  # type: ignore[attr-defined]


@pytest.mark.parametrize("planes", [{"PYTHONPATH": str(DEADLY)}], indirect=True)
def test_a_deadly_request_is_told_so_and_its_neighbours_are_answered(
    planes: Planes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(DEADLY))
    for slot in (0, 1):
        kill(planes, slot)
    fill(planes)  # now with what kills
    callers = Callers(planes.port, "other", add=2000)
    callers.start("keep_alive", "keep_alive", "anew", "pipelined")
    blamed: list[list[str]] = []
    try:
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", planes.port), timeout=60) as poison:
                poison.sendall(post("/services/adder/predict", json.dumps({"rows": [{"x": 66666}]}).encode()))
                for _ in range(2):  # the one, and then the other; or both before we look
                    until(lambda: planes.dead, 10)
                    time.sleep(0.2)
                    blamed += [ids for slot in planes.dead if (ids := planes.computing(slot)) is not None]
                    fill(planes)
                    if len(blamed) % 2 == 0:
                        break
                with poison.makefile("rb") as stream:
                    status, body = read_answer(stream)
                    assert status == 503
                    assert "not tried again" in json.loads(body)["detail"]
                    poison.sendall(post("/services/adder/predict", json.dumps({"rows": [{"x": 1}]}).encode()))
                    assert read_answer(stream)[0] == 200  # the connection goes on
    finally:
        callers.stop()
    assert callers.failures == []
    assert len(blamed) == 4
    assert all("model_1" in ids for ids in blamed)


def test_a_model_that_crashes_processes_again_and_again_is_found() -> None:
    now = 0.0
    crashes = Crashes(lambda: now)
    assert [crashes.note(ids) for ids in (["a", "b"], ["a"], ["a", "c"])] == [None, None, "a"]
    assert [crashes.note(ids) for ids in (["a", "b"], ["b", "a"], ["a", "b"])] == [None, None, None]  # which one?
    assert crashes.note(["b"]) == "b"
    assert [crashes.note([]), crashes.note(["a"]), crashes.note(["a"])] == [None, None, None]
    now = 100.0
    assert crashes.note(["a"]) is None  # the others are long ago


@pytest.mark.parametrize("planes", [{"LEPTONAI_ADDRESS_CONNECTIONS": "3"}], indirect=True)
def test_an_address_has_so_many_connections(planes: Planes) -> None:
    def connect() -> socket.socket:
        made = socket.create_connection(("127.0.0.1", planes.port), timeout=10)
        made.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return made

    def status(connection: socket.socket) -> bytes:
        return connection.recv(4096).split(b"\r\n")[0]

    open_ones = [connect() for _ in range(3)]
    assert [status(one) for one in open_ones] == [b"HTTP/1.1 200 OK"] * 3
    with connect() as fourth:
        assert status(fourth) == b"HTTP/1.1 429 Too Many Requests"
    open_ones.pop().close()

    def again() -> bool:
        with connect() as one:
            return status(one) == b"HTTP/1.1 200 OK"

    until(again)
    for one in open_ones:
        one.close()


@pytest.mark.parametrize("planes", [{"LEPTONAI_ADDRESS_RATE": "2"}], indirect=True)
def test_an_address_sends_so_many_requests_a_second_whichever_process_they_come_to(planes: Planes) -> None:
    request = post("/services/adder/predict", json.dumps({"rows": [{"x": 1}]}).encode())
    statuses: list[int] = []
    told = b""
    for _ in range(2):  # connections, which the door gives to one process each
        with socket.create_connection(("127.0.0.1", planes.port), timeout=30) as one, one.makefile("rb") as stream:
            one.sendall(request * 20)
            for _ in range(20):
                status, body = read_answer(stream)
                statuses.append(status)
                told = body if status == 429 else told
    assert statuses[0] == 200
    assert statuses.count(429) > 10
    assert set(statuses) == {200, 429}
    assert "this address" in json.loads(told)["detail"]
    time.sleep(1.0)
    url = f"http://127.0.0.1:{planes.port}/services/adder/predict"
    assert httpx.post(url, json={"rows": [{"x": 1}]}, trust_env=False).status_code == 200
