"""A folder of images by class, as one table: the image and the name of its folder."""

import io
import warnings
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from PIL import Image, UnidentifiedImageError

from leptonai.core.errors import FieldError, Invalid, TooLarge
from leptonai.data.blocks import block, table

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
MAX_PIXELS = 64_000_000  # of one image
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
_GREY = {"1", "L", "LA", "I;16"}


def read_images(files: Iterator[tuple[str, str, bytes]], size: tuple[int, int] | None) -> pa.Table:
    """Return a table (image, label) of (file, label, bytes).

    Grey images stay grey when all are; else all are RGB. All must have one size, unless `size` (height, width) says to which
    they are resized (bilinear). Raises `Invalid` naming the file.
    """
    names: list[str] = []
    labels: list[str] = []
    arrays: list[np.ndarray] = []
    for name, label, data in files:
        array = _decode(name, data, size)
        if arrays and array.shape[:2] != arrays[0].shape[:2]:
            raise _other_size(name, array, names[0], arrays[0])
        names.append(name)
        labels.append(label)
        arrays.append(array)
    stacked = _stack(arrays)
    return table([block("image", stacked), (pa.field("label", pa.large_string()), pa.array(labels, pa.large_string()))])


def _stack(arrays: list[np.ndarray]) -> np.ndarray:
    """Return (rows, height, width, channels), freeing each array as it is copied."""
    height, width = arrays[0].shape[:2]
    colour = any(array.ndim == 3 for array in arrays)
    stacked = np.empty((len(arrays), height, width, 3 if colour else 1), np.uint8)
    for row in range(len(arrays)):
        array, arrays[row] = arrays[row], arrays[0][:0]
        stacked[row] = array if array.ndim == 3 else array[..., None]
    return stacked


def _decode(name: str, data: bytes, size: tuple[int, int] | None) -> np.ndarray:
    """Return (height, width) of a grey image, (height, width, 3) of any other; of several frames the first."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd metadata; what matters is checked here
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise TooLarge(
                        f"{name} has {image.width:,} x {image.height:,} pixels, and at most {MAX_PIXELS:,} are unpacked: make "
                        "it smaller",
                        errors=[FieldError(name, f"at most {MAX_PIXELS:,} pixels")],
                    )
                image.load()
                found = image.convert("L" if image.mode in _GREY else "RGB")
                if size is not None and (found.height, found.width) != size:
                    found = found.resize((size[1], size[0]), Image.Resampling.BILINEAR)
                return np.asarray(found, dtype=np.uint8)
    except (
        UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError, OverflowError, Image.DecompressionBombError,
    ) as error:  # fmt: skip
        raise Invalid(
            f"{name} is not an image that can be read: take it out of the folder, or save it as PNG or JPEG",
            errors=[FieldError(name, "an image")],
        ) from error


def _other_size(name: str, array: np.ndarray, first: str, like: np.ndarray) -> Invalid:
    height, width = like.shape[:2]
    return Invalid(
        f"{name} has {array.shape[1]} x {array.shape[0]} pixels, and {first} has {width} x {height}: make them the same, or give "
        f"image_size=({height}, {width}) to resize all",
        errors=[FieldError(name, f"{width} x {height} pixels")],
    )
