"""What the head of a GGUF file says of its model: the architecture, the longest text, the chat template, the control tokens.

The tensors are llama.cpp's to read. The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from leptonai.core.errors import Invalid

ENTRIES = 10_000  # pairs of name and value in a head
TEXT = 4 << 20  # bytes of one text
ITEMS = 4 << 20  # in one list
CONTROL = 3  # the type of a token that is no text

_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


def head(path: Path) -> dict[str, Any]:
    """Return the names and values in the head of a GGUF file. Raises `Invalid` when it is none."""
    with path.open("rb") as file:
        try:
            magic, version = file.read(4), _number(file, "I")
            if magic != b"GGUF" or version not in (2, 3):
                raise Invalid("the file is not a GGUF file of version 2 or 3")
            _number(file, "Q")  # tensors
            entries = _limited(_number(file, "Q"), ENTRIES)
            return {_text(file): _value(file, _number(file, "I")) for _ in range(entries)}
        except (struct.error, UnicodeDecodeError) as error:
            raise Invalid("the head of the GGUF file cannot be read: it is cut or damaged") from error


def _value(file: BinaryIO, kind: int, *, nested: bool = False) -> Any:
    if kind in _NUMBERS:
        return _number(file, _NUMBERS[kind])
    if kind == _STRING:
        return _text(file)
    if kind == _ARRAY and not nested:
        of, count = _number(file, "I"), _limited(_number(file, "Q"), ITEMS)
        if of in _NUMBERS:
            form = f"<{count}{_NUMBERS[of]}"
            return struct.unpack(form, file.read(struct.calcsize(form)))
        read: Callable[[], Any] = lambda: _value(file, of, nested=True)  # noqa: E731
        return [read() for _ in range(count)]
    raise Invalid(f"the head of the GGUF file has a value of a kind that is not known: {kind}")


def _number(file: BinaryIO, form: str) -> Any:
    return struct.unpack(f"<{form}", file.read(struct.calcsize(f"<{form}")))[0]


def _text(file: BinaryIO) -> str:
    size = _limited(_number(file, "Q"), TEXT)
    data = file.read(size)
    if len(data) != size:
        raise Invalid("the head of the GGUF file cannot be read: it is cut or damaged")
    return data.decode()


def _limited(count: int, most: int) -> int:
    if count > most:
        raise Invalid(f"the head of the GGUF file announces {count} of what may be {most} at most")
    return count
