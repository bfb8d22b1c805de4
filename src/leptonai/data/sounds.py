"""Sound files as arrays of one rate and one length: (samples,), float32 from -1 to 1, channels mixed to one."""

import io
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from leptonai.core.errors import FieldError, Invalid, TooLarge, Unsupported
from leptonai.data.blocks import block, table

MAX_SAMPLES = 30_000_000  # of one file: ten minutes of 48 kHz
_BYTES = 16 << 20  # of the sounds of one table

Files = Callable[[], Iterator[tuple[str, bytes]]]  # names and contents; may be called twice


def read_sounds(files: Files, rate: int | None, seconds: float | None) -> Iterator[pa.Table]:
    """Yield tables with one column, audio, of WAV and FLAC files.

    `rate`: samples a second, None for that of the first file, and then all must have it. `seconds`: how long each is made,
    None for the longest. Shorter sounds end in silence, longer ones are cut. First all headers are read. Raises `Invalid`
    naming the file.
    """
    found_rate, length = _common(files(), rate, seconds)
    each = max(1, _BYTES // (4 * length))
    given = files()
    while some := list(islice(given, each)):
        stacked = np.zeros((len(some), length), np.float32)
        for row, (name, data) in zip(stacked, some, strict=True):
            samples = _decoded(name, data, found_rate)[:length]
            row[: len(samples)] = samples
        field, array = block("audio", stacked)
        about = {**(field.metadata or {}), b"rate": str(found_rate).encode()}
        yield table([(field.with_metadata(about), array)])


def _common(files: Iterator[tuple[str, bytes]], rate: int | None, seconds: float | None) -> tuple[int, int]:
    found, longest, first = rate, 0.0, ""
    for name, data in files:
        with _opened(name, data) as file:
            own = int(file.samplerate)
            if file.frames * file.channels > MAX_SAMPLES:
                raise TooLarge(
                    f"{name} holds {file.frames * file.channels:,} samples, and at most {MAX_SAMPLES:,} are unpacked: cut it into pieces",
                    errors=[FieldError(name, f"at most {MAX_SAMPLES:,} samples")],
                )
            if not file.frames:
                raise Invalid(f"{name} holds no sound: take it out", errors=[FieldError(name, "at least one sample")])
            longest = max(longest, file.frames / own)
        if found is None:
            found, first = own, name
        if rate is None and own != found:
            raise Invalid(
                f"{name} has {own:,} samples a second, and {first} has {found:,}: give audio_rate={found} to bring all to one rate",
                errors=[FieldError(name, f"{found} samples a second")],
            )
    if found is None:
        raise Invalid("there is no sound: name at least one", errors=[FieldError("files", "at least one sound")])
    return found, max(1, round((seconds or longest) * found))


def _decoded(name: str, data: bytes, rate: int) -> np.ndarray:
    with _opened(name, data) as file:
        own = int(file.samplerate)
        try:
            samples = np.asarray(file.read(dtype="float32", always_2d=True).mean(axis=1), np.float32)
        except (OSError, RuntimeError, ValueError) as error:
            raise _wrong(name) from error
    if not np.isfinite(samples).all():
        raise Invalid(f"{name} holds samples that are no numbers: save it again", errors=[FieldError(name, "numbers")])
    if own == rate:
        return samples
    import soxr

    return np.asarray(soxr.resample(samples, own, rate, quality="HQ"), np.float32)


def _opened(name: str, data: bytes) -> Any:
    if not (data[:4] == b"fLaC" or (data[:4] == b"RIFF" and data[8:12] == b"WAVE")):
        raise _wrong(name)
    try:
        import soundfile
    except (ImportError, OSError) as error:
        raise Unsupported("sound files are not read here yet:  pip install 'lepton-ai-sdk[audio]'") from error
    try:
        return soundfile.SoundFile(io.BytesIO(data))
    except (OSError, RuntimeError, ValueError) as error:
        raise _wrong(name) from error


def _wrong(name: str) -> Invalid:
    return Invalid(
        f"{name} is not a sound that can be read: take it out, or save it as WAV or FLAC",
        errors=[FieldError(name, "WAV or FLAC")],
    )
