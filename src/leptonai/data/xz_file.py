"""An xz file, unpacked with bounded memory: what `lzma.open` takes is up to the file, which may ask for gigabytes."""

import lzma
from typing import BinaryIO

_MEMORY = 256 << 20  # bytes; the highest level of xz needs 65 MiB
_READ = 1 << 18


class Xz:
    """The content of an xz file, of one stream or of several. Raises `lzma.LZMAError`, and `EOFError` where it ends early."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self._decoder: lzma.LZMADecompressor | None = None
        self._rest = b""  # of the packed bytes

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes; none at the end."""
        while True:
            if self._decoder is None:
                self._rest = (self._rest or self._file.read(_READ)).lstrip(b"\0")  # streams may be padded
                if not self._rest:
                    if following := self._file.read(_READ):
                        self._rest = following
                        continue
                    return b""
                self._decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY)
            if self._decoder.needs_input:
                self._rest = self._rest or self._file.read(_READ)
                if not self._rest:
                    raise EOFError("it ends before its end was marked")
            data = self._decoder.decompress(self._rest, size)
            self._rest = b""
            if self._decoder.eof:
                self._rest, self._decoder = self._decoder.unused_data, None
            if data:
                return data
