"""Answers in pieces, from a generator in a worker to a client: whole, broken off, given up, and many at once."""

import contextlib
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.predictors import Mute, Pool, Shop, Teller, packed, shop
from tests.support.site import until

from leptonai.serving.table import Line, Share


@pytest.fixture
def telling(tmp_path: Path) -> Iterator[tuple[Shop, Pool, Path]]:
    notes = tmp_path / "notes"
    notes.touch()
    with shop(tmp_path) as made:
        files = {"words/prefix.txt": b"<"}
        yield made, made.serve(packed(Teller, "tale", files=files, workers=2, options={"notes": str(notes)})), notes


def events(made: Shop, text: str, pause: float = 0.0) -> tuple[int, list[tuple[str, Any]], bool]:
    """Return the status, the events, and whether the answer came to its end."""
    found: list[tuple[str, Any]] = []
    body = {"rows": [{"text": text, "pause": pause}]}
    whole = False
    with contextlib.suppress(httpx.RemoteProtocolError):
        with httpx.stream(
            "POST", f"{made.plane.url}/services/tale/stream", json=body, timeout=30, trust_env=False
        ) as answer:
            name = ""
            for line in answer.iter_lines():
                key, _, value = line.partition(": ")
                if key == "event":
                    name = value
                elif key == "data":
                    found.append((name, json.loads(value)))
                    name = ""
        whole = True
    return answer.status_code, found, whole


def test_pieces_come_in_order_and_a_file_that_came_with_it_is_read_only(telling: tuple[Shop, Pool, Path]) -> None:
    made, pool, notes = telling
    status, found, whole = events(made, "once upon a time")
    assert (status, whole) == (200, True)
    assert [data["word"] for _, data in found[:-1]] == ["<once", "<upon", "<a", "<time"]
    assert found[-1] == ("end", {"pieces": 4})
    until(lambda: notes.read_text() == "closed\n")
    held = pool.workers.path / "w0" / "files" / "words" / "prefix.txt"
    assert held.read_text() == "<"
    with pytest.raises(OSError):  # noqa: SIM117 - whatever the kernel calls it
        with held.open("r+") as file:
            file.write("changed")
    assert (
        made.plane.client.post("/services/tale/predict", json={"rows": [{"text": "a", "pause": 0}]}).status_code == 422
    )
    two = {"rows": [{"text": "a", "pause": 0}] * 2}
    assert made.plane.client.post("/services/tale/stream", json=two).status_code == 422


def test_a_worker_that_is_sent_away_tells_its_story_to_the_end(telling: tuple[Shop, Pool, Path]) -> None:
    made, pool, _ = telling
    with ThreadPoolExecutor(4) as callers:
        stories = [callers.submit(events, made, "once upon a time", 0.3) for _ in range(4)]  # two of each worker
        until(lambda: sum(reading.waiting for reading in pool.workers.readings().values()) == 4)
        assert len(pool.pids()) == 2
        pool.workers.resize(1)
        assert pool.workers.numbers == (0,)
        made.plane.process.crew(pool.model.id, (0,), 1)
        pool.workers.let_go()
        assert events(made, "later")[2]
        for story in stories:
            status, found, whole = story.result()
            assert (status, whole, len(found)) == (200, True, 5)
    until(lambda: len(pool.pids()) == 1)
    pool.workers.resize(2)
    until(lambda: len(pool.workers.numbers) == 2)
    assert pool.workers.failure() == ""


def test_many_at_once_each_get_their_own(telling: tuple[Shop, Pool, Path]) -> None:
    made, _, _ = telling
    results: dict[int, list[str]] = {}

    def one(number: int) -> None:
        _, found, _ = events(made, " ".join(f"{number}-{i}" for i in range(100)))
        results[number] = [data["word"] for _, data in found[:-1]]

    threads = [threading.Thread(target=one, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {n: [f"<{n}-{i}" for i in range(100)] for n in range(12)}


def test_a_generator_that_raises_in_the_middle_ends_with_an_error_and_no_end(telling: tuple[Shop, Pool, Path]) -> None:
    made, _, notes = telling
    status, found, whole = events(made, "one two FAIL never")
    assert (status, whole) == (200, False)
    assert [data.get("word") for _, data in found[:-1]] == ["<one", "<two"]
    assert found[-1][0] == "error"
    assert "ValueError" in found[-1][1]["error"]
    assert "secret" not in json.dumps(found)
    until(lambda: notes.read_text() == "closed\n")
    status, found, _ = events(made, "FAIL")  # before there was a piece, it has a status
    assert status == 500


def test_a_worker_that_dies_in_the_middle_breaks_off_and_one_before_the_first_piece_is_begun_again(
    telling: tuple[Shop, Pool, Path],
) -> None:
    made, pool, _ = telling
    status, found, whole = events(made, "one DIE")
    assert (status, whole) == (200, False)
    assert found[-1][0] == "error"
    assert "code 1" in found[-1][1]["error"]
    until(lambda: len(pool.pids()) == 2)
    for pid in pool.pids():
        os.kill(pid, signal.SIGKILL)
    status, found, whole = events(made, "again there")
    assert (status, whole, len(found)) == (200, True, 3)
    status, _, _ = events(made, "DIE")  # again and again: given up
    assert status == 503
    until(lambda: len(pool.pids()) == 2)


def test_a_client_that_hangs_up_closes_the_generator(telling: tuple[Shop, Pool, Path]) -> None:
    made, _, notes = telling
    body = json.dumps({"rows": [{"text": "word " * 10_000, "pause": 0.01}]}).encode()
    with socket.create_connection(("127.0.0.1", made.plane.port), timeout=10) as client:
        client.sendall(
            b"POST /services/tale/stream HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(body) + body
        )
        assert b"200 OK" in client.recv(100)
    until(lambda: notes.read_text() == "closed\n", 10)


def test_a_generator_waits_for_a_client_who_reads_slowly(telling: tuple[Shop, Pool, Path]) -> None:
    made, _, notes = telling
    body = json.dumps({"rows": [{"text": "w" * 20_000 + (" " + "w" * 20_000) * 300, "pause": 0}]}).encode()
    with socket.create_connection(("127.0.0.1", made.plane.port), timeout=10) as client:
        client.sendall(
            b"POST /services/tale/stream HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(body) + body
        )
        assert b"200 OK" in client.recv(100)
        threading.Event().wait(0.5)
        assert notes.read_text() == ""  # megabytes of it are not made yet
        data = b""
        while b"event: end" not in data[-100:]:
            data = data[-100:] + client.recv(1 << 20)
    until(lambda: notes.read_text() == "closed\n")


def test_a_canary_is_judged_by_its_pieces_and_what_it_cannot_begin_the_stable_version_tells(
    telling: tuple[Shop, Pool, Path],
) -> None:
    made, pool, _ = telling
    other = made.serve(packed(Mute, "mute"))
    shares = (Share("stable", pool.model.id, 50), Share("canary", other.model.id, 50))
    made.plane.process.route([Line("tale", shares, public=True, salt="r")])
    for _ in range(20):
        status, found, whole = events(made, "once more")
        assert (status, whole, [data.get("word") for _, data in found[:-1]]) == (200, True, ["<once", "<more"])
    broken = [events(made, "too late") for _ in range(20)]  # it began, so nobody else can go on
    assert {whole for _, _, whole in broken} == {True, False}

    def counted() -> bool:
        seen: dict[str, int] = {}
        for line in made.plane.client.get("/metrics").text.splitlines():
            if line.startswith("leptonai_inference_requests_total") and 'variant="canary"' in line:
                seen[line.partition('code="')[2][:3]] = int(line.split()[-1])
        return sum(seen.values()) >= 4 and not seen.get("200")

    until(counted)
