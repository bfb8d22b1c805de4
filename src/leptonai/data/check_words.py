"""A rule in one word, as a command line has it: ``range:age=0..120``, ``unique:id``, ``foreign_key:customer=customers.id``."""

import json
from typing import Any

from leptonai.core.errors import FieldError, Invalid

WORDS = {
    "range": "range:COLUMN=LOW..HIGH",
    "unique": "unique:COLUMN,…",
    "regex": "regex:COLUMN=PATTERN",
    "not_missing": "not_missing:COLUMN,…",
    "one_of": "one_of:COLUMN=VALUE,…",
    "foreign_key": "foreign_key:COLUMN=DATASET.COLUMN",
    "fresh": "fresh:COLUMN=7d",
    "row_count": "row_count=LOW..HIGH",
    "k_anonymity": "k_anonymity:COLUMN,…=5",
}


def rule(text: str) -> dict[str, Any]:
    """Return the rule that a word names, as `spec_check` reads it. Raises `Invalid`."""
    head, _, value = text.partition("=")
    name, _, listed = head.partition(":")
    if name not in WORDS:
        right = ", ".join(sorted(WORDS))
        raise Invalid(
            f"rule {text!r}: there is no rule {name!r}: use one of {right}", errors=[FieldError("rule", right)]
        )
    columns = [column.strip() for column in listed.split(",") if column.strip()]
    found = _rule(name, columns, value)
    if found is None:
        raise Invalid(f"rule {text!r} is not complete: write {WORDS[name]}", errors=[FieldError("rule", WORDS[name])])
    return {"rule": name, **found}


def _rule(name: str, columns: list[str], value: str) -> dict[str, Any] | None:
    if name in ("unique", "not_missing"):
        return {"columns": columns} if columns and not value else None
    if name == "k_anonymity":
        k = _plain(value) if value else 5
        return {"columns": columns, "k": k} if columns and isinstance(k, int) else None
    if name == "row_count":
        return _bounds(value) if not columns else None
    if len(columns) != 1 or not value:
        return None
    column = {"column": columns[0]}
    if name == "range":
        bounds = _bounds(value)
        return None if bounds is None else {**column, **bounds}
    if name == "one_of":
        return {**column, "values": [_plain(item) for item in value.split(",")]}
    if name == "foreign_key":
        to, dot, key = value.rpartition(".")
        return {**column, "to": to, "key": key} if dot and to and key else None
    return {**column, {"regex": "pattern", "fresh": "within"}[name]: value}


def _bounds(value: str) -> dict[str, Any] | None:
    low, dots, high = value.partition("..")
    found = {"min": _plain(low) if low else None, "max": _plain(high) if high else None}
    return {word: bound for word, bound in found.items() if bound is not None} if dots else None


def _plain(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, (bool, int, float)) else text
