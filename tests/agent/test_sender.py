"""What a Run tells of itself: soon after a silence, seldom while it goes on and on, all of it at the end."""

import time
from typing import Any

import pytest

from leptonai.agent import sender
from leptonai.agent.sender import Sender

SHORTEST, LONGEST = 0.04, 0.4


@pytest.fixture(autouse=True)
def quicker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "SHORTEST_PAUSE", SHORTEST)
    monkeypatch.setattr(sender, "LONGEST_PAUSE", LONGEST)


def test_what_goes_on_and_on_is_sent_seldom_and_nothing_of_it_is_lost() -> None:
    posts: list[list[dict[str, Any]]] = []
    told = Sender(posts.append)
    until, number = time.monotonic() + 8 * LONGEST, 0
    while time.monotonic() < until:
        told.put("metric", {"step": number})
        told.put("progress", {"done": number})
        number += 1
        time.sleep(0.01)
    told.close()
    steps = [event["body"]["step"] for post in posts for event in post if event["stream"] == "metric"]
    assert steps == list(range(number))
    assert len(posts) <= 8 + 7, "more often at the beginning only"


def test_progress_alone_is_sent_more_seldom() -> None:
    posts: list[list[dict[str, Any]]] = []
    told = Sender(posts.append)
    until, number = time.monotonic() + 5 * LONGEST, 0
    while time.monotonic() < until:
        number += 1
        told.put("progress", {"done": number})
        time.sleep(0.01)
    told.close()
    assert [event["body"] for event in posts[-1]] == [{"done": number}], "the last one is told"
    assert 2 <= len(posts) <= 5 + 2


def test_what_comes_after_a_silence_is_sent_soon() -> None:
    posts: list[float] = []
    told = Sender(lambda _: posts.append(time.monotonic()))
    late = []
    for _ in range(4):
        time.sleep(2.5 * LONGEST)
        began = time.monotonic()
        told.put("log", {"line": "x"})
        while not posts or posts[-1] < began:
            time.sleep(0.005)
        late.append(posts[-1] - began)
    told.close()
    assert min(late) < 3 * SHORTEST, late
