"""What a worker on another machine says of itself, on the clock of this one."""

import time
from pathlib import Path

import pytest

from leptonai.serving import pulse


def test_times_move_to_the_clock_of_the_reader_and_what_is_no_time_does_not(tmp_path: Path) -> None:
    worker = pulse.Pulse(tmp_path)
    worker.did()
    worker.work(3)
    said = pulse.read(tmp_path)
    assert said is not None
    path = tmp_path / pulse.NAME
    path.write_bytes(pulse.moved(path.read_bytes(), 1000.0))
    found = pulse.read(tmp_path)
    assert found is not None
    assert (found.waiting, found.done, found.busy, found.rss) == (3, 1, said.busy, said.rss)
    assert (found.beat, found.since, found.begun) == pytest.approx(
        (said.beat + 1000, said.since + 1000, said.begun + 1000)
    )
    assert found.hangs(time.monotonic() + 1000, 60) is None
    worker = pulse.Pulse(tmp_path)
    worker.rest(0)
    path.write_bytes(pulse.moved(path.read_bytes(), -5.0))
    found = pulse.read(tmp_path)
    assert found is not None
    assert (found.since, found.begun) == (0.0, 0.0), "it computes nothing on either clock"


def test_what_a_worker_spoilt_stays_spoilt(tmp_path: Path) -> None:
    (tmp_path / pulse.NAME).write_bytes(pulse.moved(b"short", 1.0))
    assert pulse.read(tmp_path) is None
