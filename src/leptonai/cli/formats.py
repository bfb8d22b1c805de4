"""JSON, YAML and TOML written without a library: the client stays small, and each can be read back by any."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_YAML_WORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def to_json(value: Any) -> str:
    """Return indented JSON; a number that JSON does not have (NaN, infinity) becomes null."""
    return json.dumps(_finite(value), indent=2, ensure_ascii=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _quoted(text: str) -> str:
    # A JSON string is a double-quoted string in YAML and in TOML, but for these characters, which JSON leaves as they are.
    encoded = json.dumps(text, ensure_ascii=False)
    return re.sub("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]", lambda found: f"\\u{ord(found[0]):04x}", encoded)


# ------------------------------------------------------------------------------------------------------- YAML


def to_yaml(value: Any) -> str:
    """Return YAML in block style. Raises TypeError for what is not JSON data."""
    return "\n".join(_yaml_lines(value)) + "\n"


def _yaml_scalar(value: Any) -> str | None:
    if isinstance(value, (dict, list, tuple)):
        return None if value else ("{}" if isinstance(value, dict) else "[]")
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) and value.lower() not in _YAML_WORDS else _quoted(value)
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else (".inf" if value > 0 else "-.inf")
    if isinstance(value, float):  # to YAML 1.1, 1e-06 is text and 1.0e-06 is a number
        digits, e, power = json.dumps(value).partition("e")
        return digits + (".0" if e and "." not in digits else "") + e + power
    return json.dumps(value)


def _yaml_lines(value: Any) -> Iterator[str]:
    scalar = _yaml_scalar(value)
    if scalar is not None:
        yield scalar
        return
    pairs = value.items() if isinstance(value, dict) else ((None, item) for item in value)
    for key, item in pairs:
        head = "-" if key is None else f"{_yaml_scalar(str(key))}:"
        inner = list(_yaml_lines(item))
        if _yaml_scalar(item) is not None:
            yield f"{head} {inner[0]}"
        else:
            yield head
            yield from (f"  {line}" for line in inner)


# ------------------------------------------------------------------------------------------------------- TOML


def to_toml(table: Mapping[str, Any]) -> str:
    """Return TOML; a value that is None is left out, since TOML has no word for it."""
    return "\n".join(_toml_lines(table, ())).strip("\n") + "\n"


def _toml_key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _quoted(key)


def _toml_value(value: Any) -> str:
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_toml_key(k)} = {_toml_value(v)}" for k, v in value.items() if v is not None)
        return f"{{{inner}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_toml_value(item) for item in value if item is not None)}]"
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return json.dumps(value)


def _toml_lines(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    plain = {key: item for key, item in table.items() if item is not None and not isinstance(item, Mapping)}
    tables = {key: item for key, item in table.items() if isinstance(item, Mapping)}
    if path and (plain or not tables):
        yield ""
        yield f"[{'.'.join(_toml_key(part) for part in path)}]"
    for key, item in plain.items():
        yield f"{_toml_key(key)} = {_toml_value(item)}"
    for key, item in tables.items():
        yield from _toml_lines(item, (*path, key))
