"""What several processes of a plane let each other know: each writes a note on a board of its own, and reads those of all.

A board is memory that the agent made and all share. It outlives its process, so the next one in that place goes on from there.
A note is written twice, in turn, into two halves; a number in front says which half holds, and it changes last. So a reader
sees a whole note, and a writer that dies in the middle leaves the one before.
"""

import json
import mmap
import os
import struct
import zlib
from collections.abc import Sequence
from typing import Any

_TURN = struct.Struct("<Q")
_HEAD = struct.Struct("<II")  # length, CRC-32
_START = 64


class Board:
    """The boards of a plane, of which one is this process's own. Without any, a note is seen by nobody else."""

    def __init__(self, boards: Sequence[int] = (), own: int = 0):
        """`boards`: their file descriptors, which are closed here."""
        self.slot = self._own = own
        self._maps = [mmap.mmap(number, os.fstat(number).st_size) for number in boards]
        for number in boards:
            os.close(number)

    def write(self, note: str) -> None:
        """Put up a note, a JSON object as text; one that is too large stays away."""
        if not self._maps:
            return
        board = self._maps[self._own]
        data = note.encode()
        half = (len(board) - _START) // 2
        if len(data) > half - _HEAD.size:
            return
        turn = _TURN.unpack_from(board, 0)[0] + 1
        at = _START + (turn % 2) * half
        _HEAD.pack_into(board, at, len(data), zlib.crc32(data))
        board[at + _HEAD.size : at + _HEAD.size + len(data)] = data
        _TURN.pack_into(board, 0, turn)

    def own(self) -> dict[str, Any] | None:
        """Return the note on this process's board, which may be that of the process before it."""
        return self._read(self._maps[self._own]) if self._maps else None

    def others(self) -> list[dict[str, Any]]:
        """Return the notes on the other boards."""
        notes = (self._read(board) for slot, board in enumerate(self._maps) if slot != self._own)
        return [note for note in notes if note is not None]

    def close(self) -> None:
        """Let go of the memory, which stays for those that have it."""
        for board in self._maps:
            board.close()

    @staticmethod
    def _read(board: mmap.mmap) -> dict[str, Any] | None:
        for _ in range(3):  # the writer may be faster
            turn = _TURN.unpack_from(board, 0)[0]
            if turn == 0:
                return None
            at = _START + (turn % 2) * ((len(board) - _START) // 2)
            length, check = _HEAD.unpack_from(board, at)
            data = board[at + _HEAD.size : at + _HEAD.size + length]
            if zlib.crc32(data) == check:
                note: dict[str, Any] = json.loads(data)
                return note
        return None
