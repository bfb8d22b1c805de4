"""A folder of images by class, as one table: the image and the name of its folder."""

import io
import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from PIL import Image, UnidentifiedImageError

from leptonai.core.errors import FieldError, Invalid, TooLarge
from leptonai.data.tables import Blocks

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
MAX_PIXELS = 50_000_000  # of one image
_GREY = {"1", "L", "I;16", "LA"}


def read_images(
    files: Iterator[tuple[str, str, bytes]], size: tuple[int, int] | None
) -> tuple[pa.Table, dict[str, object]]:
    """Return a table (image, label) of (file, label, bytes), and facts about it.

    Grey images stay grey when all are; else all are RGB. All must have one size, unless `size` (height, width) says to which
    they are resized (bilinear). Raises `Invalid` naming the file.
    """
    names: list[str] = []
    labels: list[str] = []
    arrays: list[np.ndarray] = []
    for name, label, data in files:
        names.append(name)
        labels.append(label)
        arrays.append(_decode(name, data, size))
    if not any(array.ndim == 3 for array in arrays):
        stacked = [array[..., None] for array in arrays]
    else:
        stacked = [array if array.ndim == 3 else np.repeat(array[..., None], 3, axis=2) for array in arrays]
    _check_sizes(names, stacked)
    table = pa.table({"image": Blocks.array(np.stack(stacked)), "label": pa.array(labels, pa.large_string())})
    return table, {"images": len(names), "image_size": list(stacked[0].shape[:2])}


def _decode(name: str, data: bytes, size: tuple[int, int] | None) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd metadata; what matters is checked here
            with Image.open(io.BytesIO(data)) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise TooLarge(
                        f"{name} has {image.width} x {image.height} pixels; at most {MAX_PIXELS:,} are allowed"
                    )
                image.load()
                found = image.convert("L" if image.mode in _GREY else "RGB")
                if size is not None and (found.height, found.width) != size:
                    found = found.resize((size[1], size[0]), Image.Resampling.BILINEAR)
                return np.asarray(found, dtype=np.uint8)
    except TooLarge:
        raise
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise Invalid(
            f"{name} is not an image that can be read: take it out of the folder, or save it as PNG or JPEG",
            errors=[FieldError(name, "an image")],
        ) from error


def _check_sizes(names: Sequence[str], arrays: Sequence[np.ndarray]) -> None:
    height, width = arrays[0].shape[:2]
    for name, array in zip(names, arrays, strict=True):
        if array.shape[:2] != (height, width):
            raise Invalid(
                f"{name} has {array.shape[1]} x {array.shape[0]} pixels, {names[0]} has {width} x {height}: make them the same, or "
                f"give image_size=({height}, {width}) to resize all",
                errors=[FieldError(name, f"{width} x {height} pixels")],
            )
