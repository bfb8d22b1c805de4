"""A long CSV file in blocks of whole rows, as UTF-8."""

import codecs
import csv
import io
from collections.abc import Iterator
from typing import BinaryIO

from leptonai.core.errors import Invalid
from leptonai.data.csv_text import long_values

_LONGEST = 32 << 20  # bytes of one row


def blocks(name: str, file: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield pieces of about `size` bytes that end where a row ends; the first holds more than the header."""
    begun, rest = False, b""
    source = _utf8(name, file, size)
    data = next(source, b"")
    while True:
        following = next(source, b"")
        if not following:
            yield rest + data
            return
        end = data.rfind(b"\n") + 1
        if end and begun and (rest.count(b'"') + data.count(b'"', 0, end)) % 2 == 0:  # the usual case, with one copy
            piece, rest = b"".join((rest, memoryview(data)[:end])), data[end:]
        else:
            whole = rest + data
            cut = _last_end(whole)
            if not begun and whole.count(b"\n", 0, cut) < 2:
                cut = 0  # a header alone is no block
            if not cut and len(whole) >= _LONGEST:
                raise Invalid(
                    f"{name}: the row that begins with {whole[:40].decode(errors='replace')!r} is longer than {_LONGEST >> 20} MiB: "
                    "a quote in it is never closed"
                )
            piece, rest = whole[:cut], whole[cut:]
        if piece:
            yield piece
            begun = True
        data = following


def _utf8(name: str, file: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield the bytes as UTF-8 with Unix or Windows ends of lines; the byte order mark stays for who reads the header."""
    data = file.read(size)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        decoder = codecs.getincrementaldecoder("utf-16")()
        while data:
            following = file.read(size)
            try:
                yield decoder.decode(data, final=not following).encode()
            except UnicodeError:
                raise Invalid(f"{name} begins as UTF-16 text and goes on as something else: save it as UTF-8") from None
            data = following
        return
    mac = b"\n" not in data and b"\r" in data[:-1]  # as old Macs wrote lines
    while data:
        yield data.replace(b"\r", b"\n") if mac else data
        data = file.read(size)


def _last_end(data: bytes) -> int:
    """Return where the last row that is whole ends; 0 where none does."""
    end = data.rfind(b"\n") + 1
    if not end or data.count(b'"', 0, end) % 2 == 0:
        return end
    # The last line ends inside quotes, or a quote stands alone inside a value. Go back over some lines, then look closely.
    back = end
    for _ in range(1000):
        after, back = back, data.rfind(b"\n", 0, back - 1) + 1
        if not back:
            break
        if data.count(b'"', back, after) % 2:  # so many before it are even
            return back
    return _exact_end(data)


def _exact_end(data: bytes) -> int:
    """Return where the last whole row ends as the csv module reads it: slow, and right also for a lone quote in a value."""
    with long_values():
        text = io.TextIOWrapper(io.BytesIO(data), "utf-8", errors="replace", newline="")
        reader = csv.reader(text, strict=False)
        ends = [0, 0]  # lines after the last two rows
        for _ in reader:
            ends = [ends[1], reader.line_num]
    # The last row may be cut off: it is left to the next block.
    at = 0
    for _ in range(ends[0]):
        at = data.find(b"\n", at) + 1
    return at
