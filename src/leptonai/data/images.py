"""Image files as arrays of one size."""

import io
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from PIL import Image, UnidentifiedImageError

from leptonai.core.errors import FieldError, Invalid, TooLarge
from leptonai.data.blocks import block, table

MAX_PIXELS = 64_000_000  # of one image
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
_GREY = {"1", "L", "LA", "I;16"}
_BYTES = 16 << 20  # of the images of one table
_AT_ONCE = 2  # images that are decoded at the same time; Pillow does that outside the interpreter's lock

Files = Callable[[], Iterator[tuple[str, bytes]]]  # names and contents; may be called twice


class _Size(NamedTuple):
    """What all images have in common."""

    height: int
    width: int
    colour: bool
    first: str  # the file that says so


def read_images(
    files: Files, size: tuple[int, int] | None, sizes: dict[str, tuple[int, int]] | None = None
) -> Iterator[pa.Table]:
    """Yield tables with one column, image, of what `files` gives. It is gone through twice.

    Grey images stay grey when all are; else all are RGB. All must have one size, unless `size` (height, width) says to which
    they are resized (bilinear). `sizes` gets the (height, width) of each as it was. First all headers are read, so that a wrong size is told before anything is done. Raises
    `Invalid` naming the file.
    """
    with _quiet():
        common = _common(files(), size, sizes)
    channels = 3 if common.colour else 1
    each = max(1, _BYTES // (common.height * common.width * channels))
    found = files()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        while some := list(islice(found, each)):
            stacked = np.empty((len(some), common.height, common.width, channels), np.uint8)
            with _quiet():
                list(pool.map(partial(_fill, stacked, common), range(len(some)), some))
            yield table([block("image", stacked)])


def _common(
    files: Iterator[tuple[str, bytes]], size: tuple[int, int] | None, sizes: dict[str, tuple[int, int]] | None
) -> _Size:
    found: _Size | None = None
    for name, data in files:
        with _opened(name, data) as image:
            colour = image.mode not in _GREY
            height, width = size or (image.height, image.width)
            if sizes is not None:
                sizes[name] = (image.height, image.width)
        found = found or _Size(height, width, colour, name)
        if (height, width) != (found.height, found.width):
            raise _other_size(name, (height, width), found)
        if colour and not found.colour:
            found = found._replace(colour=True)
    if found is None:
        raise Invalid("there is no image: name at least one", errors=[FieldError("files", "at least one image")])
    return found


def _fill(stacked: np.ndarray, common: _Size, row: int, file: tuple[str, bytes]) -> None:
    """Decode one image into its row; of several frames the first."""
    name, data = file
    with _opened(name, data) as image:
        image.load()
        found = image.convert("RGB" if common.colour and image.mode not in _GREY else "L")
        if (found.height, found.width) != (common.height, common.width):
            found = found.resize((common.width, common.height), Image.Resampling.BILINEAR)
        pixels = np.asarray(found, np.uint8)
        stacked[row] = pixels if pixels.ndim == 3 else pixels[..., None]


@contextmanager
def _quiet() -> Iterator[None]:
    """Ignore warnings about odd metadata: what matters is checked here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _opened(name: str, data: bytes) -> Iterator[Image.Image]:
    """Open an image; whatever is wrong with it, now or while it is used, is told as `Invalid`."""
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise TooLarge(
                    f"{name} has {image.width:,} x {image.height:,} pixels, and at most {MAX_PIXELS:,} are unpacked: make "
                    "it smaller",
                    errors=[FieldError(name, f"at most {MAX_PIXELS:,} pixels")],
                )
            yield image
    except (
        UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError, OverflowError, Image.DecompressionBombError,
    ) as error:  # fmt: skip
        raise Invalid(
            f"{name} is not an image that can be read: take it out of the folder, or save it as PNG or JPEG",
            errors=[FieldError(name, "an image")],
        ) from error


def _other_size(name: str, size: tuple[int, int], common: _Size) -> Invalid:
    height, width = common.height, common.width
    return Invalid(
        f"{name} has {size[1]} x {size[0]} pixels, and {common.first} has {width} x {height}: make them the same, or give "
        f"image_size=({height}, {width}) to resize all",
        errors=[FieldError(name, f"{width} x {height} pixels")],
    )
