"""JSON Lines as tables, block by block: each line is an object, each of its fields a column."""

import json
import math
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.json as pajson

from leptonai.core.errors import FieldError, Invalid
from leptonai.data.plain import plain

BLOCK = 16 << 20
_LONGEST = 32 << 20  # bytes of one line
MAX_DEPTH = 64
_OPEN = b"[{"
_TEXT = re.compile(rb'"(?:[^"\\\\]|\\\\.)*"')
_OTHERS = bytes(set(range(256)) - set(b"[]{}"))


def read_jsonl(name: str, file: BinaryIO, block: int = BLOCK) -> Iterator[pa.Table]:
    """Yield the rows; a field that a line lacks is missing there. Raises `Invalid` naming the row and the field."""
    known: dict[str, pa.DataType] = {}
    rows, rest = 0, b""
    while data := file.read(block):
        end = data.rfind(b"\n") + 1
        if not end:
            rest += data
            if len(rest) > _LONGEST:
                raise Invalid(
                    f"{name}, row {rows + 1:,}: the line is longer than {_LONGEST >> 20} MiB: write one object in each line",
                    errors=[FieldError(f"{name} row {rows + 1}", f"at most {_LONGEST >> 20} MiB")],
                )
            continue
        if table := _table(name, rest + data[:end], rows, known):
            rows += table.num_rows
            yield table
        rest = data[end:]
    if rest.strip() and (table := _table(name, rest, rows, known)):
        yield table


def _table(name: str, data: bytes, before: int, known: dict[str, pa.DataType]) -> pa.Table | None:
    data = data.removeprefix(b"\xef\xbb\xbf") if not before else data
    if not data.strip():
        return None
    if problem := _not_text(name, data, before) or _too_deep(name, data, before):
        raise problem
    # What was text before stays text, also where all of a block looks like dates.
    texts = [pa.field(column, kind) for column, kind in known.items() if pa.types.is_string(kind)]
    try:
        found = pajson.read_json(
            pa.BufferReader(data),
            pajson.ReadOptions(block_size=len(data)),
            pajson.ParseOptions(explicit_schema=pa.schema(texts) if texts else None),
        )
    except pa.ArrowException as error:
        raise _problem(name, data, before, error) from error
    if before and (new := [column for column in found.column_names if column not in known]):
        raise Invalid(
            f"{name}: a line after row {before:,} has a field {new[0]!r}, which none of the rows before has: give it to one of "
            "the first rows too (null is enough)",
            errors=[FieldError(f"{name}, {new[0]}", "in the first rows too")],
        )
    for column, kind in known.items():
        if column not in found.column_names:
            found = found.append_column(pa.field(column, kind), pa.nulls(found.num_rows, kind))
    for field in found.schema:
        if pa.types.is_null(known.get(field.name, pa.null())):
            known[field.name] = field.type
    return plain(name, found)


def _not_text(name: str, data: bytes, before: int) -> Invalid | None:
    """Return what is wrong with the first line that is no UTF-8 text."""
    if data.isascii():
        return None
    try:
        data.decode()
    except UnicodeDecodeError as error:
        row = before + data.count(b"\n", 0, error.start) + 1
        where = f"{name}, row {row:,}"
        piece = data[max(0, error.start - 20) : error.start + 20].decode("utf-8", "replace")
        return Invalid(
            f"{where}: {piece!r} is not UTF-8 text: save the file as UTF-8", errors=[FieldError(where, "UTF-8 text")]
        )
    return None


def _too_deep(name: str, data: bytes, before: int) -> Invalid | None:
    """Return what is wrong with a line of many brackets: a parser should not be led into them."""
    if data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
        return None
    for number, line in enumerate(data.split(b"\n"), start=before + 1):
        if line.count(b"[") + line.count(b"{") > MAX_DEPTH and _depth(line) > MAX_DEPTH:
            return Invalid(
                f"{name}, row {number:,}: it is nested more than {MAX_DEPTH} deep: flatten it",
                errors=[FieldError(f"{name} row {number}", f"at most {MAX_DEPTH} levels")],
            )
    return None


def _depth(line: bytes) -> int:
    """Return how deep the brackets outside of text go."""
    depth = most = 0
    for letter in _TEXT.sub(b"", line).translate(None, _OTHERS):
        depth += 1 if letter in _OPEN else -1
        most = max(most, depth)
    return most


def _problem(name: str, data: bytes, before: int, error: Exception) -> Invalid:
    """Return what is wrong with the first line that is not like the others."""
    kinds: dict[str, tuple[str, Any]] = {}
    number = before
    for line in data.split(b"\n"):
        if not line.strip():
            continue
        number += 1
        where = f"{name}, row {number:,}"
        try:
            row = json.loads(line, object_pairs_hook=_once, parse_float=_finite)
            json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return Invalid(
                f"{where}: it holds half a character (a surrogate without its other half): write it in UTF-8",
                errors=[FieldError(where, "UTF-8 text")],
            )
        except (ValueError, RecursionError) as wrong:
            return Invalid(
                f"{where}: it is not JSON: {wrong}: mend the line", errors=[FieldError(where, "a JSON object")]
            )
        if not isinstance(row, dict):
            return Invalid(
                f'{where}: it is no object: write {{"column": value, …}} in each line',
                errors=[FieldError(where, "a JSON object")],
            )
        for column, value in row.items():
            kind = _KINDS.get(type(value), "nothing")
            if kind == "nothing":
                continue
            before_kind, seen = kinds.setdefault(column, (kind, value))
            if kind != before_kind:
                return Invalid(
                    f"{where}: field {column!r} holds {str(value)[:60]!r}, {kind}, and {str(seen)[:60]!r} in a row before: give it "
                    "one type in all rows",
                    errors=[FieldError(f"{where}, {column}", before_kind)],
                )
    return Invalid(
        f"{name} is not a JSON Lines file that can be read: {str(error).splitlines()[0][:200]}",
        errors=[FieldError(name, "a JSON object in each line")],
    )


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the field {key!r} is there twice")
        found[key] = value
    return found


def _finite(text: str) -> float:
    if math.isinf(number := float(text)):
        raise ValueError(f"the number {text[:40]} is too large for 64 bits")
    return number


_KINDS: dict[type, str] = {
    str: "text", int: "a number", float: "a number", bool: "true or false", list: "a list", dict: "an object",
}  # fmt: skip
