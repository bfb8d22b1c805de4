"""Several serving processes on one port."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.support import bundles
from tests.support.site import until

from leptonai.agent.plane_process import PlaneProcess
from leptonai.agent.planes import Planes, listen
from leptonai.serving.plane.main import POST_SECONDS
from leptonai.serving.table import Line


@pytest.fixture
def planes(tmp_path: Path) -> Iterator[Planes]:
    made = Planes(0, tmp_path / "plane.log", 3)
    fill(made)
    yield made
    made.close()


def fill(planes: Planes) -> None:
    model, files = bundles.adder(1)

    for slot in planes.dead:
        plane = planes.start(slot)
        plane.load(model.model_copy(update={"id": "model_1"}), files)
        plane.route([Line.one("adder", "model_1", True)])
        planes.keep(slot, plane)


def ask(planes: Planes, times: int) -> None:
    """Each time over a connection of its own, so that the kernel deals them out."""
    for _ in range(times):
        url = f"http://127.0.0.1:{planes.port}/services/adder/predict"
        answer = httpx.post(url, json={"rows": [{"x": 1}]}, trust_env=False, timeout=30)
        assert answer.json()["predictions"] == [{"prediction": 1001.0}]


def counted(planes: Planes) -> int:
    text = httpx.get(f"http://127.0.0.1:{planes.port}/metrics", trust_env=False, timeout=30).text
    return sum(
        int(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith("leptonai_inference_requests_total{") and 'code="200"' in line
    )


def test_each_answers_and_any_knows_what_all_have_counted(planes: Planes) -> None:
    ask(planes, 60)
    for _ in range(6):
        until(lambda: counted(planes) == 60, 10)


def test_one_that_dies_is_replaced_while_the_others_go_on(planes: Planes) -> None:
    ask(planes, 30)
    until(lambda: counted(planes) == 30, 10)
    time.sleep(2 * POST_SECONDS)  # until the victim's own counts are on its board
    victim = planes.members[1]
    assert victim is not None
    os.kill(victim.pid, signal.SIGKILL)
    until(lambda: planes.dead == [1])
    others = [member.pid for member in planes.alive]
    fill(planes)
    assert planes.dead == []
    assert [planes.members[slot].pid for slot in (0, 2)] == others  # type: ignore[union-attr]
    ask(planes, 30)
    until(lambda: counted(planes) == 60, 10)  # what the dead one had counted is not lost


def test_what_is_done_with_each_is_done_with_all_before_an_error_is_raised(planes: Planes) -> None:
    seen: list[int] = []

    def do(plane: PlaneProcess) -> None:
        seen.append(plane.pid)
        if plane is planes.members[0]:
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        planes.each(do)
    assert sorted(seen) == sorted(member.pid for member in planes.alive)


def test_a_port_that_somebody_has_is_left_to_him() -> None:
    first = listen(0, 2)
    port = first[0].getsockname()[1]
    second = listen(port, 2)  # another home that answered there before
    try:
        assert {made.getsockname()[1] for made in first} == {port}
        other = {made.getsockname()[1] for made in second}
        assert len(other) == 1
        assert other != {port}
    finally:
        for made in (*first, *second):
            made.close()
    with socket.create_server(("127.0.0.1", 0)) as plain:
        (made,) = listen(plain.getsockname()[1], 1)
        assert made.getsockname()[1] != plain.getsockname()[1]
        made.close()
