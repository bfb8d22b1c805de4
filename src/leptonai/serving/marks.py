"""Which models a serving process computes at this moment, in memory that outlives it: so it is known what it died of.

Each process has a place, with a line for each of its models: the id, and a number that is 1 while it computes.
"""

import os
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from leptonai.core.runtimes import LoadedModel

LINES = 256  # models that are watched in one process; those beyond are not
LINE_BYTES = 64
BYTES = LINES * LINE_BYTES
_HEAD = struct.Struct("<QB")


class Marks:
    """The place of this process."""

    def __init__(self, memory: memoryview, start: int):
        """`memory`: words of 64 bits; `start`: the byte at which the place begins."""
        self._words = memory
        self._start = start
        self._free = list(range(LINES - 1, -1, -1))

    def around(self, id: str, load: Callable[[], LoadedModel]) -> Callable[[], LoadedModel]:
        """Return a way to load a model that is marked while it loads and computes."""

        def marked() -> LoadedModel:
            word = self._line(id)
            if word is None:
                return load()
            self._words[word] = 1
            try:
                loaded = load()
            except BaseException:
                self._release(word)
                raise
            self._words[word] = 0
            if getattr(loaded, "elsewhere", False):  # in a process of its own, whose death harms nobody
                self._release(word)
                return loaded
            return _Marked(loaded, self._words, word, self._release)

        return marked

    def _line(self, id: str) -> int | None:
        name = id.encode()[: LINE_BYTES - _HEAD.size]
        if not self._free:
            return None
        word = self._start // 8 + self._free.pop() * LINE_BYTES // 8
        line = bytearray(LINE_BYTES)
        _HEAD.pack_into(line, 0, 0, len(name))
        line[_HEAD.size : _HEAD.size + len(name)] = name
        self._words[word : word + LINE_BYTES // 8] = memoryview(line).cast("Q")
        return word

    def _release(self, word: int) -> None:
        self._words[word] = 0
        self._free.append((word * 8 - self._start) // LINE_BYTES)


class _Marked:
    """A model that says when it computes; everything else of it is as it is."""

    def __init__(self, loaded: LoadedModel, words: memoryview, word: int, release: Callable[[int], None]):
        self._loaded = loaded
        self._compute = loaded.predict
        self._words = words
        self._word = word
        self._release = release

    def predict(self, inputs: Mapping[str, Any], outputs: Sequence[str] = ()) -> dict[str, Any]:
        """Compute a batch, marked."""
        self._words[self._word] = 1
        try:
            return self._compute(inputs, outputs)
        finally:
            self._words[self._word] = 0

    def close(self) -> None:
        """Free the model and its line."""
        self._release(self._word)
        self._loaded.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loaded, name)


def computing(file: int, start: int) -> list[str]:
    """Return the ids of the models that were computed when a process died, whose place begins at a byte of a file."""
    place = os.pread(file, BYTES, start)
    found = []
    for at in range(0, len(place), LINE_BYTES):
        busy, length = _HEAD.unpack_from(place, at)
        if busy:
            found.append(place[at + _HEAD.size : at + _HEAD.size + length].decode())
    return found


def clear(file: int, start: int) -> None:
    """Make a place ready for another process."""
    os.pwrite(file, bytes(BYTES), start)
