"""What a Run tells of itself: soon after a silence, seldom while it goes on and on, all of it at the end."""

import time
from typing import Any

from leptonai.agent.sender import LONGEST_PAUSE, SHORTEST_PAUSE, Sender


def test_what_goes_on_and_on_is_sent_seldom_and_nothing_of_it_is_lost() -> None:
    posts: list[list[dict[str, Any]]] = []
    sender = Sender(posts.append)
    until, number = time.monotonic() + 8 * LONGEST_PAUSE, 0
    while time.monotonic() < until:
        sender.put("metric", {"step": number})
        sender.put("progress", {"done": number})
        number += 1
        time.sleep(0.01)
    sender.close()
    told = [event["body"]["step"] for post in posts for event in post if event["stream"] == "metric"]
    assert told == list(range(number))
    assert len(posts) <= 8 + 5, "twice a second, and more often at the beginning"


def test_what_comes_after_a_silence_is_sent_soon() -> None:
    posts: list[float] = []
    sender = Sender(lambda _: posts.append(time.monotonic()))
    late = []
    for _ in range(4):
        time.sleep(2.5 * LONGEST_PAUSE)
        began = time.monotonic()
        sender.put("log", {"line": "x"})
        while not posts or posts[-1] < began:
            time.sleep(0.005)
        late.append(posts[-1] - began)
    sender.close()
    assert min(late) < 2 * SHORTEST_PAUSE, late
