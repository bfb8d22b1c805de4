"""Streaming authenticated encryption: the format AES256_GCM_HKDF_1MB of Google's Tink, on the library `cryptography`.

Format (https://developers.google.com/tink/streaming-aead/aes_gcm_hkdf_streaming, reviewed there; the scheme is the STREAM
construction of Hoang, Reyhanitabar, Rogaway, Vizár, https://eprint.iacr.org/2015/189)::

    header  = 40 (one byte: its own length) | 32 bytes salt | 7 bytes nonce prefix
    key     = HKDF-SHA256(secret, salt, info = associated data), 32 bytes
    segment = AES-256-GCM(key, nonce prefix | 4-byte big-endian number | 1 if it is the last else 0, plaintext), no further data
    stored  = header | segments of 1 MiB with their tags; the first is shorter by the header, the last by what is left

The number in the nonce stops reordering, the last-flag stops truncation and appending, the key of its own stops swapping.
Tink's own wheel is not used here because it brings a protocol-buffer runtime that clashes with other libraries'; the tests
check this file against it, both ways.
"""

import io
import mmap
import secrets
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from leptonai.core.errors import Corrupt, TooLarge

SEGMENT = 1 << 20  # bytes of ciphertext, with its tag
TAG = 16
SALT = 32
PREFIX = 7
HEADER = 1 + SALT + PREFIX
_MOST_SEGMENTS = 1 << 32  # the number in the nonce has four bytes

Bytes = bytes | bytearray | memoryview


def plain_size(stored: int) -> int:
    """Return how many bytes of plaintext `stored` bytes of ciphertext hold; 0 where they cannot be a ciphertext."""
    segments = max(1, -(-stored // SEGMENT))
    return max(0, stored - HEADER - segments * TAG)


def _cipher(secret: bytes, salt: bytes, associated: bytes) -> AESGCM:
    if len(secret) != 32:
        raise ValueError(f"a data key has 32 bytes, not {len(secret)}")
    return AESGCM(HKDF(algorithm=SHA256(), length=32, salt=salt, info=associated).derive(secret))


def _nonce(prefix: bytes, number: int, last: bool) -> bytes:
    return prefix + number.to_bytes(4, "big") + bytes([last])


def _segments(chunks: Iterable[Bytes]) -> Iterator[tuple[Bytes, bool]]:
    """Yield plaintext cut to the size of a segment, and whether it is the last. Each is valid until the next is asked for.

    A full segment is held back until it is known whether more follows. The one buffer is used again and again: on many
    machines the kernel's work for fresh memory costs more than the cipher.
    """
    size, filled = SEGMENT - HEADER - TAG, 0
    held = memoryview(bytearray(SEGMENT - TAG))
    for chunk in chunks:
        view = memoryview(chunk).cast("B")
        while filled + len(view) > size:
            taken = size - filled
            if filled:
                held[filled:size] = view[:taken]
                yield held[:size], False
            else:
                yield view[:taken], False
            view, size, filled = view[taken:], SEGMENT - TAG, 0
        held[filled : filled + len(view)] = view
        filled += len(view)
    yield held[:filled], True


def encrypt(secret: bytes, associated: bytes, chunks: Iterable[Bytes]) -> Iterator[bytes]:
    """Yield the ciphertext of `chunks`: the header, then one piece for each segment.

    `secret` (32 bytes) should be used once. `associated` is not stored: who reads must give the same. Raises `TooLarge`
    beyond 2**32 segments (4 PiB).
    """
    salt, prefix = secrets.token_bytes(SALT), secrets.token_bytes(PREFIX)
    cipher = _cipher(secret, salt, associated)
    yield bytes([HEADER]) + salt + prefix
    for number, (segment, last) in enumerate(_segments(chunks)):
        if number >= _MOST_SEGMENTS:
            raise TooLarge("a blob can hold at most 4 PiB: split it")
        yield cipher.encrypt(_nonce(prefix, number, last), segment, None)


def _fill(source: BinaryIO, buffer: memoryview) -> int:
    """Read until `buffer` is full or the source ends, and return how much was read; a raw file may give less at once."""
    filled = 0
    readinto = getattr(source, "readinto", None)  # nearly every file has it, though BinaryIO does not promise it
    while filled < len(buffer):
        if readinto is not None:
            got = readinto(buffer[filled:])
        else:
            data = source.read(len(buffer) - filled)
            got = len(data)
            buffer[filled : filled + got] = data
        if not got:
            break
        filled += got
    return filled


def _room() -> memoryview:
    """Return room for a segment. A page of it is there once it is touched: most blobs are much smaller than a segment."""
    return memoryview(mmap.mmap(-1, SEGMENT))


class DecryptingReader(io.RawIOBase):
    """Reads the plaintext of a stream that `encrypt` made. A segment is given out only after its tag was checked.

    Every read raises `Corrupt` from the first segment on that is damaged, cut, out of order, or followed by more bytes.
    """

    def __init__(self, source: BinaryIO, secret: bytes, associated: bytes, name: str = "the blob"):
        self._source = source
        self._name = name
        self._number = 0
        self._done = self._broken = False
        header = memoryview(bytearray(HEADER))
        if _fill(source, header) != HEADER or header[0] != HEADER:
            raise self._corrupt()
        self._prefix = bytes(header[1 + SALT :])
        self._cipher = _cipher(secret, bytes(header[1 : 1 + SALT]), associated)
        # Two buffers of ciphertext, since whether a segment is the last shows only when the next one is read; one of plaintext.
        self._ahead, self._spare = _room(), _room()
        self._ready = _fill(source, self._ahead[: SEGMENT - HEADER])
        self._buffer = _room()
        self._plain = self._buffer[:0]  # what is decrypted, verified and not yet given out

    def _corrupt(self) -> Corrupt:
        self._broken = True
        return Corrupt(f"{self._name} is damaged or was altered, so nothing of it is used: restore it from a backup")

    def _segment(self) -> memoryview:
        """Return the plaintext of the next segment; empty at the end (or for an empty last segment)."""
        if self._broken:
            raise self._corrupt()
        if self._done:
            return self._buffer[:0]
        segment = self._ahead[: self._ready]
        self._ahead, self._spare = self._spare, self._ahead
        self._ready = _fill(self._source, self._ahead)
        self._done = not self._ready
        plain = self._buffer[: max(0, len(segment) - TAG)]
        try:
            self._cipher.decrypt_into(_nonce(self._prefix, self._number, self._done), segment, None, plain)
        except InvalidTag:
            raise self._corrupt() from None
        self._number += 1
        return plain

    def readable(self) -> bool:
        """Say that this stream can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` as far as the segment at hand goes and return how many bytes that were; 0 at the end."""
        if not self._plain:
            self._plain = self._segment()
        taken = min(len(buffer), len(self._plain))
        buffer[:taken] = self._plain[:taken]
        self._plain = self._plain[taken:]
        return taken

    def readall(self) -> bytes:
        """Return all that is left. Nothing is returned unless all of it is sound."""
        whole = io.BytesIO()
        whole.write(self._plain)
        self._plain = self._buffer[:0]
        while part := self._segment():
            whole.write(part)
        return whole.getvalue()

    def close(self) -> None:
        """Close the source too."""
        if not self.closed:
            self._source.close()
        super().close()


def decrypt(source: BinaryIO, secret: bytes, associated: bytes, name: str = "the blob") -> BinaryIO:
    """Return a file that reads the plaintext of `source` and closes it with itself. Raises `Corrupt`, here or at a read."""
    try:
        raw = DecryptingReader(source, secret, associated, name)
    except Corrupt:
        source.close()
        raise
    return cast(BinaryIO, io.BufferedReader(raw, 1 << 17))
