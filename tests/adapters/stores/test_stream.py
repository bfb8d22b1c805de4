"""The streaming format: against Tink itself, and against every kind of damage, with no digest to help."""

import io
import random
from collections.abc import Iterator

import pytest
import tink
from hypothesis import given, settings
from hypothesis import strategies as st
from tink import secret_key_access, streaming_aead
from tink.proto import aes_gcm_hkdf_streaming_pb2, common_pb2, tink_pb2

from leptonai.adapters.stores.stream import HEADER, SEGMENT, TAG, decrypt, encrypt, plain_size
from leptonai.core.errors import Corrupt
from leptonai.testing.store import some_bytes

KEY = bytes(range(32))
ABOUT = b"leptonai/blob/1/uid_x"
FIRST = SEGMENT - HEADER - TAG  # bytes of plaintext in the first segment
SIZES = (0, 1, FIRST - 1, FIRST, FIRST + 1, FIRST + SEGMENT - TAG, FIRST + SEGMENT - TAG + 1, 3 * SEGMENT)


def sealed(data: bytes, key: bytes = KEY, about: bytes = ABOUT) -> bytes:
    return b"".join(encrypt(key, about, [data]))


def read(stored: bytes, key: bytes = KEY, about: bytes = ABOUT) -> bytes:
    with decrypt(io.BytesIO(stored), key, about) as file:
        return file.read()


def pieces(stored: bytes, size: int = 100_000) -> Iterator[bytes]:
    with decrypt(io.BytesIO(stored), KEY, ABOUT) as file:
        while piece := file.read(size):
            yield piece


def given_of(stored: bytes, data: bytes) -> int:
    """Read damaged bytes in pieces; return how many right bytes came before `Corrupt`. A wrong one fails the test."""
    good = 0
    try:
        for piece in pieces(stored):
            assert piece == data[good : good + len(piece)], "a wrong byte was given"
            good += len(piece)
    except Corrupt:
        return good
    raise AssertionError("damage was not found")


@pytest.fixture(scope="module")
def theirs() -> streaming_aead.StreamingAead:
    """Tink's own implementation with our key."""
    streaming_aead.register()
    params = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingParams(
        ciphertext_segment_size=SEGMENT, derived_key_size=32, hkdf_hash_type=common_pb2.SHA256
    )
    key = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey(version=0, key_value=KEY, params=params)
    data = tink_pb2.KeyData(
        type_url="type.googleapis.com/google.crypto.tink.AesGcmHkdfStreamingKey",
        value=key.SerializeToString(),
        key_material_type=tink_pb2.KeyData.SYMMETRIC,
    )
    one = tink_pb2.Keyset.Key(key_data=data, status=tink_pb2.ENABLED, key_id=1, output_prefix_type=tink_pb2.RAW)
    keyset = tink_pb2.Keyset(primary_key_id=1, key=[one])
    handle = tink.proto_keyset_format.parse(keyset.SerializeToString(), secret_key_access.TOKEN)
    return handle.primitive(streaming_aead.StreamingAead)


class Kept(io.BytesIO):
    """Holds its bytes after it was closed."""

    def close(self) -> None:
        self.kept = self.getvalue()
        super().close()


@pytest.mark.parametrize("size", SIZES)
def test_tink_reads_what_we_write(theirs: streaming_aead.StreamingAead, size: int) -> None:
    data = some_bytes(size)
    with theirs.new_decrypting_stream(io.BytesIO(sealed(data)), ABOUT) as file:
        assert file.read() == data


@pytest.mark.parametrize("size", SIZES)
def test_we_read_what_tink_writes(theirs: streaming_aead.StreamingAead, size: int) -> None:
    data, target = some_bytes(size), Kept()
    with theirs.new_encrypting_stream(target, ABOUT) as file:
        file.write(data)
    assert len(target.kept) == len(sealed(data))
    assert read(target.kept) == data


@settings(max_examples=60, deadline=None)
@given(
    cuts=st.lists(st.one_of(st.integers(0, 70), st.integers(0, 2 * SEGMENT)), max_size=6),
    step=st.integers(1, 3 * SEGMENT),
)
def test_any_cutting_gives_the_same_back(cuts: list[int], step: int) -> None:
    parts = [some_bytes(size, index) for index, size in enumerate(cuts)]
    stored = b"".join(encrypt(KEY, ABOUT, parts))
    assert b"".join(pieces(stored, step)) == b"".join(parts)
    assert plain_size(len(stored)) == sum(cuts)


def test_two_encryptions_share_nothing() -> None:
    first, second = sealed(b"x" * 1000), sealed(b"x" * 1000)
    assert first[1:HEADER] != second[1:HEADER]
    assert first[HEADER:] != second[HEADER:]


def test_a_source_that_gives_little_at_once() -> None:
    class Slow(io.RawIOBase):
        def __init__(self, data: bytes) -> None:
            self.inner = io.BytesIO(data)

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            return self.inner.readinto(buffer[:70_001])

    class OnlyRead:
        def __init__(self, data: bytes) -> None:
            self.inner = io.BytesIO(data)

        def read(self, size: int) -> bytes:
            return self.inner.read(min(size, 70_001))

        def close(self) -> None:
            self.inner.close()

    data = some_bytes(2 * SEGMENT + 5)
    for kind in (Slow, OnlyRead):
        with decrypt(kind(sealed(data)), KEY, ABOUT) as file:  # type: ignore[arg-type]
            assert file.read() == data


def test_the_source_is_closed_too() -> None:
    source = io.BytesIO(sealed(b"x"))
    with decrypt(source, KEY, ABOUT):
        pass
    assert source.closed
    source = io.BytesIO(b"nothing")
    with pytest.raises(Corrupt):
        decrypt(source, KEY, ABOUT)
    assert source.closed


# ------------------------------------------------------------------------------------------------ damage


def test_another_key_or_identity() -> None:
    stored = sealed(b"text")
    for key, about in ((bytes(32), ABOUT), (KEY, b"leptonai/blob/1/uid_y"), (KEY, b"")):
        with pytest.raises(Corrupt):
            read(stored, key, about)


def test_every_bit_of_a_small_blob() -> None:
    stored = sealed(some_bytes(200))
    for bit in range(len(stored) * 8):
        bad = bytearray(stored)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Corrupt):
            read(bytes(bad))


@pytest.mark.parametrize("tries", [150, pytest.param(10_000, marks=pytest.mark.slow)])
def test_random_bits_of_a_larger_blob(tries: int) -> None:
    data = some_bytes(3 * SEGMENT + 12_345)
    bad, chance = bytearray(sealed(data)), random.Random(7)
    for _ in range(tries):
        bit = chance.randrange(len(bad) * 8)
        bad[bit // 8] ^= 1 << bit % 8
        given_of(bytes(bad), data)
        bad[bit // 8] ^= 1 << bit % 8
    assert read(bytes(bad)) == data


def test_every_truncation_of_a_small_blob() -> None:
    data = some_bytes(100)
    stored = sealed(data)
    for size in range(len(stored)):
        with pytest.raises(Corrupt):
            read(stored[:size])


def test_truncation_and_appending_at_the_segments() -> None:
    data = some_bytes(3 * SEGMENT)
    stored = sealed(data)
    for cut in (0, HEADER, HEADER + TAG, *range(SEGMENT, len(stored), SEGMENT)):
        for size in {max(0, cut - 1), cut, cut + 1}:
            given_of(stored[:size], data)
    for more in (b"\0", bytes(TAG), bytes(SEGMENT), stored, stored[-SEGMENT:]):
        given_of(stored + more, data)
    whole = sealed(some_bytes(FIRST))  # ends where a segment ends
    for more in (b"\0", bytes(SEGMENT)):
        given_of(whole + more, some_bytes(FIRST))


def test_segments_in_another_order() -> None:
    data = some_bytes(4 * SEGMENT)
    stored = sealed(data)
    parts = [stored[start : start + SEGMENT] for start in range(0, len(stored), SEGMENT)]
    for i in range(len(parts)):
        for j in range(i):
            moved = parts.copy()
            moved[i], moved[j] = moved[j], moved[i]
            given_of(b"".join(moved), data)
        given_of(b"".join(parts[:i] + parts[i + 1 :]), data)
        given_of(b"".join([*parts[: i + 1], *parts[i:]]), data)


def test_segments_of_another_blob_with_the_same_key() -> None:
    data = some_bytes(3 * SEGMENT)
    ours, other = sealed(data), sealed(some_bytes(3 * SEGMENT, 1))
    for start in (HEADER, *range(SEGMENT, len(ours), SEGMENT)):
        end = start - start % SEGMENT + SEGMENT
        given_of(ours[:start] + other[start:end] + ours[end:], data)


def test_after_damage_every_read_says_so() -> None:
    stored = bytearray(sealed(some_bytes(2 * SEGMENT)))
    stored[SEGMENT + 10] ^= 1
    with decrypt(io.BytesIO(bytes(stored)), KEY, ABOUT) as file:
        for _ in range(3):
            with pytest.raises(Corrupt):
                file.read()


def test_a_key_of_the_wrong_size() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        list(encrypt(b"short", ABOUT, [b""]))
