"""Image files become arrays. Only common formats, and nothing larger than a cap, is ever unpacked."""

import base64
import binascii
import io
from typing import Any

import numpy as np

from leptonai.core.errors import FieldError, Invalid, TooLarge
from leptonai.core.signature import TensorSpec

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
PIXEL_LIMIT = 64_000_000

_GREY = {"1", "L", "I;16", "LA"}
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def decode(data: bytes, spec: TensorSpec) -> Any:
    """Return a file as uint8 (height, width, channels), as the model takes it. Raises `Invalid`, `TooLarge`."""
    from PIL import Image, UnidentifiedImageError  # most planes never see an image file, and need not hold this library

    height, width, channels = spec.shape[1:]
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > PIXEL_LIMIT:
                raise TooLarge(
                    f"the image has {image.width} x {image.height} pixels; at most {PIXEL_LIMIT} are unpacked"
                )
            if (image.width, image.height) != (width, height) and -1 not in (width, height):
                right = f"{width} x {height} pixels (width x height)"
                found = f"{image.width} x {image.height}"
                raise Invalid(f"the image is {found}; the model takes {right}", errors=[FieldError(spec.name, right)])
            if channels not in _MODES:
                raise Invalid(f"the model takes images of {channels} channels, which no file format has: send numbers")
            # As an import does it: grey stays grey, all else is RGB first.
            plain = image.convert("L" if image.mode in _GREY else "RGBA" if channels == 4 else "RGB")
            made = np.asarray(plain.convert(_MODES[channels]), np.uint8)
    except (UnidentifiedImageError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        right = f"one of {', '.join(FORMATS)}"
        raise Invalid(f"the image cannot be read: it is not {right}", errors=[FieldError(spec.name, right)]) from error
    except (OSError, ValueError, SyntaxError, EOFError, OverflowError, MemoryError) as error:
        raise Invalid(
            "the image cannot be read: its data are damaged", errors=[FieldError(spec.name, "damaged")]
        ) from error
    return made.reshape(made.shape[0], made.shape[1], channels)


def from_base64(text: str) -> bytes:
    """Return the bytes of an image that stands in JSON, with or without ``data:…;base64,`` in front. Raises `Invalid`."""
    try:
        return base64.b64decode(text.partition(";base64,")[2] or text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Invalid("a file in JSON must be a list of numbers, or the base64 text of the file") from error
