"""Which file and row a value came from, so that a message can say so."""

from bisect import bisect_right
from itertools import accumulate
from typing import NamedTuple


class Piece(NamedTuple):
    """Rows that follow each other in one file."""

    file: str
    first: int  # the number of the first of them in the file, from 0
    rows: int


class Origin(NamedTuple):
    """Where the rows of a table came from: pieces of files, in their order."""

    pieces: tuple[Piece, ...]
    wrote_text: bool = False  # whether a file writes all values as text, so that text need not have been meant

    @property
    def files(self) -> tuple[str, ...]:
        """The file of each piece."""
        return tuple(piece.file for piece in self.pieces)

    def place(self, row: int) -> str:
        """Return file and number, from 1, of a row that is counted from 0 over all pieces."""
        ends = list(accumulate(piece.rows for piece in self.pieces))
        at = min(bisect_right(ends, row), len(ends) - 1)
        piece = self.pieces[at]
        return f"{piece.file}, row {piece.first + row - (ends[at] - piece.rows) + 1:,}"
