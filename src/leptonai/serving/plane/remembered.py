"""Answers that a serving process remembers, so that the same request of the same version is not computed again.

Off unless a service asks for it. What is looked for is the version and the bytes of the request, by a digest: so an answer is that
of this very version, and a service that several versions answer for remembers nothing meanwhile.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any

from leptonai.serving.plane.call import Answer, Call
from leptonai.serving.plane.writer import Written

HEAD = b"x-leptonai-cache: hit\r\n"
_OVERHEAD = 300  # bytes that a remembered answer takes beside its own
_SHARE = 8  # an answer larger than that part of the whole is not remembered


class Answers:
    """The answers of one service, what was asked least recently leaving first. Used on the event loop only."""

    def __init__(self, most: int):
        self.most = most  # bytes
        self.bytes = 0  # that are remembered now
        self._kept: OrderedDict[bytes, Written] = OrderedDict()

    def recall(self, digest: bytes, head: bytes) -> Answer | None:
        """Return the answer to a request that was seen before. `head`: header lines that say who answered."""
        found = self._kept.get(digest)
        if found is None:
            return None
        self._kept.move_to_end(digest)
        return Answer(200, found.body, found.head + head + HEAD)

    def keep(self, digest: bytes, written: Written) -> None:
        """Remember an answer, and forget others for it."""
        size = _size(written)
        if size * _SHARE > self.most or digest in self._kept:
            return
        self._kept[digest] = written
        self.bytes += size
        while self.bytes > self.most:
            self.bytes -= _size(self._kept.popitem(last=False)[1])

    def keeping(self, digest: bytes, write: Callable[[Any], Written]) -> Callable[[Any], Written]:
        """Return what writes an answer and remembers it."""

        def written(outputs: Any) -> Written:
            made = write(outputs)
            self.keep(digest, made)
            return made

        return written

    def resize(self, most: int) -> None:
        """Remember more or less from now on."""
        self.most = most
        while self.bytes > most:
            self.bytes -= _size(self._kept.popitem(last=False)[1])


def digest(model: str, how: object, call: Call) -> bytes:
    """Return what a request is known by: the version's id, the way its body is read, what its headers say of the body, and that."""
    headers: Mapping[bytes, bytes] = call.headers
    media, length = headers.get(b"content-type", b""), headers.get(b"inference-header-content-length", b"")
    # Lengths in front keep the parts apart, so that no other request has the same bytes.
    start = b"%d %d %d %s%s" % (id(how), len(media), len(length), media, length)
    return blake2b(call.body, digest_size=24, key=blake2b(start + model.encode(), digest_size=32).digest()).digest()


def _size(written: Written) -> int:
    return len(written.body) + len(written.head) + _OVERHEAD
