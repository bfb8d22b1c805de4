"""The next item is made in a thread while the one before is used."""

from collections import deque
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Generator[T, None, None], depth: int = 1) -> Generator[T, None, None]:
    """Yield the items, up to `depth` of which are made meanwhile: for what works outside the interpreter's lock.

    What the items raise is raised here, in its place. Whoever stops early ends the items too, once the one at hand is made.
    """
    end = object()
    with closing(items), ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        following = deque(pool.submit(next, items, end) for _ in range(depth))
        try:
            while (item := following.popleft().result()) is not end:
                following.append(pool.submit(next, items, end))
                yield item  # type: ignore[misc]  # it is not the end
        finally:
            pool.shutdown(cancel_futures=True)
