"""The text of a CSV file: its encoding, delimiter and header; and, when it cannot be read, which row is to blame."""

import codecs
import csv
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from leptonai.core.errors import FieldError, Invalid
from leptonai.data.bounds import check_columns

_CHUNK = 16 << 20
_DELIMITERS = (";", "\t", "|")  # in a .csv file whose header has no comma


class Text(NamedTuple):
    """A CSV file as UTF-8, with its header read."""

    name: str
    data: bytes
    header: tuple[str, ...]
    body: int  # where the rows begin
    delimiter: str
    quoted: bool  # whether a quote is anywhere in the rows
    rows: int = 0  # of the file that lie before these bytes
    lines: int = 0  # of the file that lie before these bytes


def read_text(name: str, data: bytes, *, tabs: bool) -> Text:
    """Return the file with its header. Raises `Invalid` when it is no text, or its header names no columns."""
    data = _utf8(name, data)
    if b"\n" not in data and b"\r" in data:
        data = data.replace(b"\r", b"\n")  # as old Macs wrote lines
    if data[:1] in (b"\n", b"\r"):
        data = data.lstrip(b"\r\n")
    while data.endswith((b"\n\n", b"\n\r\n")):
        data = data.rstrip(b"\r\n") + b"\n"
    first = data[: data.find(b"\n") + 1 or len(data)].decode()
    delimiter = "\t" if tabs else next((d for d in _DELIMITERS if "," not in first and d in first), ",")
    found, body = _header(name, data, delimiter)
    header = tuple(column.strip() for column in found)
    _check_header(name, header)
    if body >= len(data):
        raise Invalid(f"{name} has a header and no rows: there is no data in it", errors=[FieldError(name, "no rows")])
    return Text(name, data, header, body, delimiter, b'"' in data)


def _utf8(name: str, data: bytes) -> bytes:
    data = data.removeprefix(codecs.BOM_UTF8)
    if b"\0" in data:
        raise Invalid(f"{name} is not a text file: it holds binary data", errors=[FieldError(name, "UTF-8 text")])
    if not data.isascii():
        _check_utf8(name, data)
    return data


def _check_utf8(name: str, data: bytes, before: int = 0) -> None:
    """Raise `Invalid` that names the line, of which `before` lie before these bytes."""
    at = 0
    while at < len(data):
        end = data.rfind(b"\n", at, at + _CHUNK) + 1 or min(at + _CHUNK, len(data))
        if end == at + _CHUNK:  # one line that is longer than a chunk
            end = data.find(b"\n", end) + 1 or len(data)
        try:
            data[at:end].decode()
        except UnicodeDecodeError as error:
            place = at + error.start
            line = before + data.count(b"\n", 0, place) + 1
            where = "its header" if line == 1 else f"row {line - 1:,} (line {line:,})"
            piece = data[max(data.rfind(b"\n", 0, place) + 1, place - 20) : place + 20].decode("utf-8", "replace")
            raise Invalid(
                f"{name}, {where}: {piece.strip()!r} is not UTF-8 text: save the file as UTF-8",
                errors=[FieldError(f"{name} line {line}", "UTF-8 text")],
            ) from error
        at = end


@contextmanager
def long_values() -> Iterator[None]:
    """Let the csv module read values of any length, as the other readers do."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def more(text: Text, data: bytes, rows: int, lines: int) -> Text:
    """Return the bytes that follow in the file as text of the same columns. Raises `Invalid`."""
    if b"\0" in data:
        raise Invalid(
            f"{text.name} is not a text file: it holds binary data", errors=[FieldError(text.name, "UTF-8 text")]
        )
    if not data.isascii():
        _check_utf8(text.name, data, lines)
    return text._replace(data=data, body=0, quoted=b'"' in data, rows=rows, lines=lines)


def _header(name: str, data: bytes, delimiter: str) -> tuple[list[str], int]:
    at = 0

    def lines() -> Iterator[str]:
        nonlocal at
        while at < len(data):
            end = data.find(b"\n", at) + 1 or len(data)
            line, at = data[at:end], end
            yield line.decode()

    try:
        with long_values():
            return next(csv.reader(lines(), delimiter=delimiter)), at
    except StopIteration:
        raise Invalid(f"{name} is empty: there is no data in it", errors=[FieldError(name, "is empty")]) from None
    except csv.Error as error:
        raise Invalid(f"{name} has a header that cannot be read as CSV: {error}") from error


def _check_header(name: str, header: tuple[str, ...]) -> None:
    check_columns(name, len(header))
    for number, column in enumerate(header, start=1):
        if not column:
            raise Invalid(
                f"{name}: column {number} has no name in the header: give it one, or save the table without it "
                "(pandas: to_csv(…, index=False))",
                errors=[FieldError(f"{name} column {number}", "a name")],
            )


def rows(text: Text, *, strict: bool = False) -> Iterator[tuple[int, int, list[str]]]:
    """Yield number, line and values of each row, both counted from 1 (the header is line 1); blank lines are no rows.

    Slow and exact: for messages. Raises `csv.Error`.
    """
    with long_values():
        first = text.lines + text.data.count(b"\n", 0, text.body)
        lines = io.TextIOWrapper(io.BytesIO(memoryview(text.data)[text.body :]), "utf-8", newline="")
        reader = csv.reader(lines, delimiter=text.delimiter, strict=strict)
        number, line = text.rows, first + 1
        for values in reader:
            if values:
                number += 1
                yield number, line, values
            line = first + reader.line_num + 1


def say_row(number: int, line: int) -> str:
    """Return the number of a row for people; its line where that is not simply the next."""
    return f"row {number:,}" if line == number + 1 else f"row {number:,} (line {line:,})"


def ragged(text: Text) -> Invalid | None:
    """Return what is wrong with the first row that has more or fewer values than the header; None when all fit."""
    wanted = len(text.header)
    try:
        for number, line, values in rows(text):
            if len(values) != wanted:
                where = say_row(number, line)
                return Invalid(
                    f"{text.name}, {where}: it has {len(values)} values, and the header has {wanted}: mend the row, or put "
                    f"quotes around a value that holds {text.delimiter!r}",
                    errors=[FieldError(f"{text.name} row {number}", f"{wanted} values")],
                )
    except csv.Error as error:
        return Invalid(f"{text.name} is not a CSV file that can be read: {error}")
    return None


def unclosed(text: Text) -> Invalid | None:
    """Return what is wrong when a quote is opened and never closed, so that the rest of the file became one value."""
    number, line = text.rows, text.lines + 2
    try:
        for number, line, _ in rows(text, strict=True):  # noqa: B007  (where it stopped is what we want)
            pass
    except csv.Error as error:
        if "unexpected end of data" in str(error):
            return Invalid(
                f"{text.name}: a quote that is opened after {say_row(number, line)} is never closed: close it, or take it out",
                errors=[FieldError(f"{text.name} row {number + 1}", "a closing quote")],
            )
    return None
