"""What outlives a serving process that dies: the bytes of the requests it had not answered, in memory that all planes share.

Each connection has a slot. What its client sends is read from the kernel straight into the slot, so there is no moment at
which bytes are in the process alone; before an answer is written, the slot says at which byte of the connection it will end.
How far the dead process came is then asked of the kernel, which counts what was read from a connection and what was written
to it: from that follows, to the byte, which requests were answered, which were not, and whether an answer was cut in two.

The slot is emptied when the client sends again and has all its answers, so a client that asks one thing at a time uses the
same few pages; what a large request used is given back.

Numbers in a slot are words of 64 bits, each written in one step. They are ordered so that a process may die between any two.
"""

import array
import contextlib
import fcntl
import mmap
import os
import socket
import struct
import termios
import time
from enum import IntEnum
from typing import NamedTuple

from leptonai.serving import marks

HEAD_BYTES = 4096
ROOM = 17 << 20  # of a slot: the largest body and its headers
STRIDE = HEAD_BYTES + ROOM
CONTROL_BYTES = 2 << 20  # in front of the slots: when each address may ask again; and what each process computes
BUCKETS = 1 << 17
PLACES = (CONTROL_BYTES - BUCKETS * 8) // marks.BYTES
KEEP_BYTES = 64 << 10  # that a slot keeps between requests, 16 KiB between connections
ENDS = 448  # answers whose end is remembered

_BASE, _COUNT, _LAST, _INTERIM, _FLAGS, _TRIES, _FIRST_END = 0, 1, 2, 3, 4, 5, 64
_ORDINAL = (1 << 24) - 1
_POSITION = (1 << 40) - 1
_OPEN = (1 << 63) - 1
_UNKEPT, _CLOSED = 1, 2
_CLOSE_WAIT, _ESTABLISHED = 8, 1
_INFO_BYTES = 256
_ZEROS = bytes(8 * (_TRIES + 1))


class Kind(IntEnum):
    """What is written: a whole answer, the last one, a piece of one, or what is no answer yet (100 Continue)."""

    WHOLE = 0
    LAST = 1
    PIECE = 2
    INTERIM = 3


class Passed(IntEnum):
    """How a connection comes to a process: new, or from one that crashed, that ended in order, or that somebody killed, be it
    the system for want of memory.
    """

    NEW = 0
    INHERITED = 1
    HANDED = 2
    KILLED = 3


class Past(NamedTuple):
    """What is left of a connection. `data`: what its client sent since it last had all answers, of which the first `skip`
    requests are answered. None instead of it: an answer was cut in two, or the bytes are not there any more.
    """

    data: bytes
    skip: int


class Standing(NamedTuple):
    """Bytes that were read from a connection, and written to it, since it began."""

    read: int
    written: int


def standing(connection: socket.socket) -> Standing | None:
    """Ask the kernel how far a connection came; None when it is over, or the kernel (before Linux 4.19) does not count."""
    for _ in range(100):  # what arrives in between is seen by the second look
        before = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
        waiting = array.array("i", [0])
        fcntl.ioctl(connection, termios.FIONREAD, waiting)
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
        if before[0] != info[0] or before[128:136] != info[128:136]:
            continue
        if len(info) < 216 or info[0] not in (_ESTABLISHED, _CLOSE_WAIT):
            return None
        (arrived,) = struct.unpack_from("<Q", info, 128)
        (unsent,) = struct.unpack_from("<I", info, 144)
        sent, again = struct.unpack_from("<QQ", info, 200)
        return Standing(arrived - (info[0] == _CLOSE_WAIT) - waiting[0], sent - again + unsent)
    return None


class Escrow:
    """The memory of all slots, as a process of the plane sees it."""

    def __init__(self, file: int, slots: int):
        """`file`: its descriptor, which stays the caller's."""
        self.memory = mmap.mmap(file, size(slots))
        self.words = memoryview(self.memory).cast("Q")
        self._times = memoryview(self.memory).cast("d")

    def slot(self, number: int) -> "Slot":
        """Return a slot, as it is."""
        return Slot(self, number)

    def marks(self, process: int) -> marks.Marks:
        """Return where a process says what it computes."""
        return marks.Marks(self.words, place(process))

    def ask(self, bucket: int, rate: float, burst: float) -> float:
        """Take one request of an address into account; return 0, or after how many seconds it may come again.

        `rate`: requests a second; `burst`: how many may come at once. The generic cell rate algorithm (ITU-T I.371): one
        number for each address, so processes that write it at the same time lose a request's worth of count at most.
        """
        now = time.monotonic()
        due = max(now, self._times[bucket])
        if due - now > (burst - 1) / rate:
            return due - now - (burst - 1) / rate
        self._times[bucket] = due + 1 / rate
        return 0.0

    def close(self) -> None:
        """Give the memory back; slots must not be used any more."""
        self.words.release()
        self._times.release()
        with contextlib.suppress(BufferError):
            self.memory.close()


def make(slots: int) -> int:
    """Return the descriptor of memory for so many slots; what is not written takes none."""
    file = os.memfd_create("leptonai-escrow")
    os.ftruncate(file, size(slots))
    return file


def clear(file: int, number: int) -> None:
    """Make a slot ready for another connection, before any process is told of that."""
    os.pwrite(file, _ZEROS, CONTROL_BYTES + number * STRIDE)


def place(process: int) -> int:
    """Return the byte at which the place of a process begins, see `serving.marks`."""
    return BUCKETS * 8 + process % PLACES * marks.BYTES


def size(slots: int) -> int:
    """Return how many bytes so many slots span."""
    return CONTROL_BYTES + slots * STRIDE


class Slot:
    """The slot of one connection, used by the process that has the connection."""

    __slots__ = ("_at", "_count", "_first", "_high", "_memory", "_sent", "_start", "_taken", "_view", "_word", "_words")

    def __init__(self, escrow: Escrow, number: int):
        start = CONTROL_BYTES + number * STRIDE
        self._memory = escrow.memory
        self._words = escrow.words
        self._word = start // 8
        self._first = self._word + _FIRST_END
        self._start = start + HEAD_BYTES
        self._view = memoryview(escrow.memory)[self._start : self._start + ROOM]
        self._at = 0  # where the next bytes go
        self._high = 0  # how far the slot was written
        self._taken = 0  # bytes read from the connection
        self._sent = 0  # bytes written to it
        self._count = 0  # answers

    # ------------------------------------------------------------------------------------------ what arrives

    @property
    def used(self) -> int:
        """Bytes that are kept."""
        return self._at

    def empty(self) -> None:
        """Forget what was sent: the client has all its answers, and they are with the kernel."""
        self._words[self._word] = (self._taken & _POSITION) << 24 | (self._count & _ORDINAL)
        self._at = 0
        if self._high > KEEP_BYTES:
            self._words[self._word + _FLAGS] = 0
            self._give_back(KEEP_BYTES)

    def room(self) -> memoryview:
        """Return where the next bytes are to be read to. When the slot is full, it is kept no longer."""
        at = self._at
        if at == 0:
            return self._view
        if at >= ROOM:
            self._words[self._word + _FLAGS] = _UNKEPT
            self._high = ROOM
            self._at = 0
            return self._view
        return self._view[at:]

    def took(self, size: int) -> bytes:
        """Return the bytes that were just read to where `room` said."""
        start = self._start + self._at
        self._at += size
        self._taken += size
        if self._at > self._high:
            self._high = self._at
        return self._memory[start : start + size]

    def _give_back(self, keep: int) -> None:
        with contextlib.suppress(OSError):  # memory that is not given back is used again
            self._memory.madvise(mmap.MADV_REMOVE, self._start + keep, ROOM - keep)
        self._high = 0

    # ------------------------------------------------------------------------------------------- what is sent

    def writes(self, size: int, kind: Kind) -> None:
        """Say, before it is done, that so many bytes are written."""
        words, word = self._words, self._word
        if kind <= Kind.LAST:
            self._sent += size
            count = self._count
            if count and words[self._first + count % ENDS] == _OPEN:
                words[self._first + count % ENDS] = self._sent
            else:
                count = self._count = count + 1
                words[self._first + count % ENDS] = self._sent
            if kind:
                words[word + _LAST] = count
            words[word + _COUNT] = count
        elif kind == Kind.PIECE:
            self._sent += size
            count = self._count
            if not count or words[self._first + count % ENDS] != _OPEN:
                self._count = count + 1
                words[self._first + self._count % ENDS] = _OPEN
                words[word + _COUNT] = self._count
        else:
            self._sent += size
            words[word + _INTERIM] = self._sent

    def close(self) -> None:
        """The connection ends: whatever was not answered will not be."""
        self._words[self._word + _FLAGS] = _CLOSED
        if self._high > KEEP_BYTES // 4:
            self._give_back(KEEP_BYTES // 4)

    # --------------------------------------------------------------------------------------- after a death

    @property
    def tries(self) -> int:
        """How often the request that is first was begun again, each time after a process died with it."""
        return self._words[self._word + _TRIES]

    @tries.setter
    def tries(self, value: int) -> None:
        self._words[self._word + _TRIES] = value

    def inherit(self, now: Standing) -> Past | None:
        """Take over a connection from a process that is gone; None when there is nothing more to answer it with."""
        words, word = self._words, self._word
        base, first = words[word] >> 24, words[word] & _ORDINAL
        length = (now.read - base) & _POSITION
        found = self._answered(now.written)
        if words[word + _FLAGS] or found is None or length > ROOM:
            return None
        if found and words[word + _LAST] == found:
            return None
        words[word + _COUNT] = self._count = found
        self._taken, self._sent, self._at = now.read, now.written, length
        self._high = max(length, KEEP_BYTES + 1)  # how far it was written is not known
        return Past(self._memory[self._start : self._start + length], (found - first) & _ORDINAL)

    def _answered(self, written: int) -> int | None:
        """Return how many answers are written; None when that cannot be said, or one is written in part."""
        words, count = self._words, self._words[self._word + _COUNT]
        for found in range(count, max(-1, count - ENDS), -1):
            end = words[self._first + found % ENDS] if found else 0
            if end <= written:
                return found if end == written or written == words[self._word + _INTERIM] else None
        return None
