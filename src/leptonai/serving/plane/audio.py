"""Sound files become arrays: WAV and FLAC, at the rate and with the channels that the model takes, of a bounded length.

libsndfile reads them and soxr changes their rate; both are imported when the first file comes.
"""

import io
from fractions import Fraction
from typing import Any

import numpy as np

from leptonai.core.errors import FieldError, Invalid, TooLarge, Unsupported
from leptonai.core.signature import TensorSpec

SAMPLE_LIMIT = 30_000_000  # of all channels, before and after the rate is changed: ten minutes of 48 kHz
RATES = (1_000, 768_000)  # samples a second that a file may have
SLACK_SECONDS = 0.01  # by which a file may be longer or shorter than the model takes


def decode(data: bytes, spec: TensorSpec) -> Any:
    """Return a file as the model takes it: (samples,) or (samples, channels), floats from -1 to 1.

    Raises `Invalid` for what is no sound or of another length, `TooLarge`, `Unsupported` without the libraries.
    """
    found, rate = _read(data, spec)
    channels = spec.shape[2] if len(spec.shape) > 2 else 1
    found = _mixed(found, channels, spec)
    if spec.rate is not None and rate != spec.rate:
        found = _resampled(found, rate, spec.rate, spec)
    found = _fitted(found, spec.shape[1], spec.rate or rate, spec)
    made = np.ascontiguousarray(found, np.float64 if spec.datatype == "FP64" else np.float32)
    return made if len(spec.shape) > 2 else made[:, 0]


def _read(data: bytes, spec: TensorSpec) -> tuple[Any, int]:
    """Return the samples (n, channels) of a file, float32, and how many there are a second."""
    if not (data[:4] == b"fLaC" or (data[:4] == b"RIFF" and data[8:12] == b"WAVE")):
        raise _wrong(spec, "is not WAV or FLAC", "a WAV or FLAC file")
    try:
        import soundfile
    except (ImportError, OSError) as error:
        raise Unsupported("sound files are not read here yet:  pip install 'lepton-ai-sdk[audio]'") from error
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            rate, channels = int(file.samplerate), int(file.channels)
            if not RATES[0] <= rate <= RATES[1] or channels < 1:
                right = f"from {RATES[0]} to {RATES[1]} samples a second"
                raise _wrong(spec, f"has {rate} samples a second", right)
            most = SAMPLE_LIMIT // channels
            if spec.shape[1] != -1:  # what is longer is refused before it is unpacked
                wanted = spec.rate or rate
                most = min(most, round((spec.shape[1] / wanted + 2 * SLACK_SECONDS) * rate) + 1)
                if file.frames > most:
                    raise _wrong_length(file.frames, rate, spec.shape[1], wanted, spec)
            elif file.frames > most:
                raise _too_large(file.frames, channels)
            found = file.read(most, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError, ValueError, RuntimeError) as error:
        raise _wrong(spec, "cannot be read: its data are damaged", "a whole file") from error
    if len(found) == 0:
        raise _wrong(spec, "holds no sound", "at least one sample")
    if not np.isfinite(found).all():
        raise _wrong(spec, "holds samples that are no numbers", "numbers")
    return found, rate


def _mixed(found: Any, channels: int, spec: TensorSpec) -> Any:
    """Return the channels that the model takes: the mean of several for one, one repeated for several."""
    given = found.shape[1]
    if channels in (given, -1):
        return found
    if channels == 1:
        return found.mean(axis=1, keepdims=True)
    if given == 1:
        return np.repeat(found, channels, axis=1)
    raise _wrong(spec, f"has {given} channels", f"1 or {channels} channels")


def _resampled(found: Any, rate: int, wanted: int, spec: TensorSpec) -> Any:
    if len(found) * found.shape[1] * Fraction(wanted, rate) > SAMPLE_LIMIT:
        raise _too_large(len(found) * wanted // rate, found.shape[1])
    import soxr

    made = soxr.resample(found, rate, wanted, quality="HQ")
    if len(made) == 0:
        raise _wrong(spec, "is too short", "more samples")
    return made


def _fitted(found: Any, samples: int, rate: int, spec: TensorSpec) -> Any:
    """Return the length that the model takes: a few samples more or less come of other rates, and are cut off or silent."""
    if samples in (-1, len(found)):
        return found
    if abs(len(found) - samples) > max(1, round(SLACK_SECONDS * rate)):
        raise _wrong_length(len(found), rate, samples, rate, spec)
    if len(found) > samples:
        return found[:samples]
    return np.pad(found, ((0, samples - len(found)), (0, 0)))


def _wrong(spec: TensorSpec, what: str, right: str) -> Invalid:
    return Invalid(f"the sound {what}; the model takes {right}", errors=[FieldError(spec.name, right)])


def _wrong_length(frames: int, rate: int, samples: int, wanted: int, spec: TensorSpec) -> Invalid:
    right = f"{samples / wanted:.3g} s ({samples} samples, {wanted} a second)"
    return _wrong(spec, f"is {frames / rate:.3g} s long", right)


def _too_large(frames: int, channels: int) -> TooLarge:
    return TooLarge(f"the sound has {frames} samples in {channels} channels; at most {SAMPLE_LIMIT} are unpacked")
