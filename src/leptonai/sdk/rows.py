"""Rows as people have them, made ready for JSON: dicts, data frames, NumPy scalars, dates, missing values."""

import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from leptonai.core.errors import FieldError, Invalid

_IMAGES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".bmp": "image/bmp", ".gif": "image/gif",
           ".webp": "image/webp", ".tif": "image/tiff", ".tiff": "image/tiff"}  # fmt: skip
_SOUNDS = {".wav": "audio/wav", ".flac": "audio/flac"}
_FILES = {**_IMAGES, **_SOUNDS}
_MAGIC = ((b"\x89PNG", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"BM", "image/bmp"), (b"GIF8", "image/gif"),
          (b"fLaC", "audio/flac"))  # fmt: skip


def file(given: object) -> tuple[bytes, str] | None:
    """Return the bytes and the media type of an image or sound file (a path, or its bytes), or None for anything else.

    Raises `Invalid` for a path that cannot be read or is neither.
    """
    if isinstance(given, (bytes, bytearray)):
        data = bytes(given)
        return data, next((kind for magic, kind in _MAGIC if data.startswith(magic)), "application/octet-stream")
    if not isinstance(given, (str, Path)):
        return None
    path = Path(given)
    kind = _FILES.get(path.suffix.lower())
    if kind is None:
        right = f"an image or sound file ({', '.join(_FILES)}), or rows as dicts"
        raise Invalid(f"{str(given)[:200]!r} is not {right}", errors=[FieldError("rows", right)])
    try:
        return path.read_bytes(), kind
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror}", errors=[FieldError(str(path), str(error.strerror))]) from error


def rows(given: object) -> list[dict[str, Any]]:
    """Return rows as JSON data: of one dict, a list of dicts, or a pandas or polars data frame. Raises `Invalid`."""
    if isinstance(given, Mapping):
        given = [given]
    elif hasattr(given, "to_dicts"):  # polars
        given = given.to_dicts()
    elif hasattr(given, "to_dict") and hasattr(given, "columns"):  # pandas
        given = given.to_dict(orient="records")
    if not isinstance(given, Sequence) or isinstance(given, (str, bytes)):
        right = "a dict, a list of dicts, a data frame, or an image or sound file"
        raise Invalid(f"rows must be {right}, not {type(given).__name__}", errors=[FieldError("rows", right)])
    found = []
    for number, row in enumerate(given, 1):
        if not isinstance(row, Mapping):
            right = "a dict of values by column name"
            raise Invalid(
                f"row {number} must be {right}, not {type(row).__name__}", errors=[FieldError(f"row {number}", right)]
            )
        found.append({str(name): plain(value) for name, value in row.items()})
    return found


def plain(value: Any) -> Any:
    """Return a value as JSON has it; a number that is missing (NaN) becomes None. Raises `Invalid`."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else float(value)
    if isinstance(value, (datetime, date, time)):
        return None if str(value) == "NaT" else value.isoformat()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy scalars and arrays, torch tensors
        return plain(value.tolist())
    if str(value) in ("<NA>", "NaT"):  # pandas' words for missing
        return None
    raise Invalid(f"a value of type {type(value).__name__} cannot be sent; give numbers, text, dates or arrays")
