"""How people write spaces, goals and budgets in few words, in Python and on a command line."""

import json
import re
from collections.abc import Mapping
from typing import Any

from leptonai.core.errors import FieldError, Invalid

_UNITS = {"s": 1.0, "sec": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})((?::(?:log|step={_NUMBER}))*)")


def dimension(name: str, given: Any) -> dict[str, Any]:
    """Return what a dimension is described by: ``(low, high)``, ``(low, high, "log")``, ``[choices]``, or a dict. Raises `Invalid`."""
    if hasattr(given, "model_dump"):
        return dict(given.model_dump(exclude_unset=True))
    if isinstance(given, Mapping):
        found = dict(given)
        if "when" in found:
            found["when"] = {
                one: list(value) if isinstance(value, (list, tuple)) else [value]
                for one, value in found["when"].items()
            }
        if "kind" not in found:
            found["kind"] = (
                "choice" if "choices" in found else _kind(found.get("low"), found.get("high"), found.get("step"))
            )
        return found
    if isinstance(given, list):
        return {"kind": "choice", "choices": given}
    if isinstance(given, tuple) and len(given) in (2, 3) and all(_is_number(value) for value in given[:2]):
        low, high, *more = given
        found = {"kind": _kind(low, high, None), "low": low, "high": high}
        if more and more[0] != "log":
            raise _unclear(name, given)
        return found | ({"log": True} if more else {})
    raise _unclear(name, given)


def _unclear(name: str, given: object) -> Invalid:
    right = '(low, high), (low, high, "log"), or a [list] of what to choose from'
    return Invalid(f"space: {name} is {given!r:.80}; write {right}", errors=[FieldError(f"space.{name}", right)])


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _kind(*values: object) -> str:
    return (
        "int"
        if all(value is None or (isinstance(value, int) and not isinstance(value, bool)) for value in values)
        else "float"
    )


def setting(text: str) -> tuple[str, dict[str, Any]]:
    """Read ``rate=1e-4..0.1:log``, ``depth=2..12``, ``optimizer=adam|sgd``, ``momentum=0..0.9@optimizer=sgd``. Raises `Invalid`."""
    body, _, condition = text.partition("@")
    name, equals, words = body.partition("=")
    name = name.strip()
    if not (name and equals and words):
        right = "NAME=LOW..HIGH, NAME=LOW..HIGH:log or NAME=ONE|OTHER"
        raise Invalid(f"space: {text!r} is not clear; write {right}", errors=[FieldError("space", right)])
    if match := _RANGE.fullmatch(words.strip()):
        low, high = (json_of(value) for value in match.group(1, 2))
        options = dict(option.partition("=")[::2] for option in match.group(3).split(":") if option)
        step = json_of(options["step"]) if "step" in options else None
        found = {"kind": _kind(low, high, step), "low": low, "high": high}
        found |= ({"log": True} if "log" in options else {}) | ({} if step is None else {"step": step})
    else:
        found = {"kind": "choice", "choices": [json_of(word) for word in words.split("|")]}
    if condition:
        other, _, wanted = condition.partition("=")
        found["when"] = {other.strip(): [json_of(word) for word in wanted.split("|")]}
    return name, found


def json_of(word: str) -> Any:
    """Read a word as JSON, else as text; ``True``, ``False`` and ``None`` as Python has them."""
    word = word.strip()
    named = {"True": True, "False": False, "None": None}
    if word in named:
        return named[word]
    try:
        return json.loads(word)
    except ValueError:
        try:
            return float(word)  # such as 1. or .5
        except ValueError:
            return word


def goals(given: object) -> list[dict[str, str]]:
    """Read a goal, or several: ``"val_accuracy"``, ``["val_accuracy", "min:latency_ms"]``, ``{"my_metric": "max"}``. Raises `Invalid`."""
    if isinstance(given, Mapping):
        return [{"metric": str(metric), "direction": str(direction)} for metric, direction in given.items()]
    found = []
    for word in [given] if isinstance(given, str) else list(given) if isinstance(given, (list, tuple)) else [None]:
        if not isinstance(word, str) or not word:
            right = 'a metric such as "val_accuracy", or a list of some'
            raise Invalid(f"goal: {given!r:.80} is no metric; give {right}", errors=[FieldError("goal", right)])
        direction, colon, metric = word.partition(":")
        found.append({"metric": metric, "direction": direction} if colon else {"metric": word})
    return found


def budget(given: object) -> dict[str, Any]:
    """Read a budget: a number of trials, a time such as ``"10min"``, or both in a list. Raises `Invalid`."""
    found: dict[str, Any] = {}
    for one in given if isinstance(given, (list, tuple)) else [given]:
        if isinstance(one, int) and not isinstance(one, bool) and one > 0:
            found["trials"] = one
        elif isinstance(one, str) and (match := re.fullmatch(rf"\s*({_NUMBER})\s*([a-z]*)\s*", one)):
            number, unit = match.groups()
            if not unit and number.isdigit() and int(number) > 0:
                found["trials"] = int(number)
            elif unit in _UNITS and float(number) > 0:
                found["seconds"] = float(number) * _UNITS[unit]
            else:
                raise _no_budget(one)
        else:
            raise _no_budget(one)
    return found


def _no_budget(given: object) -> Invalid:
    right = 'a number of trials such as 50, a time such as "10min" or "30s", or both in a list'
    return Invalid(f"budget: {given!r:.80} is none; give {right}", errors=[FieldError("budget", right)])


def example(space: Mapping[str, Any], order: list[str], active: Any) -> dict[str, Any]:
    """Return settings from the middle of a space: what a function that builds models is tried with before it travels."""
    found: dict[str, Any] = {}
    for name in order:
        one = space[name]
        if not active(one, found):
            continue
        if one.kind == "choice":
            found[name] = list(one.choices[0]) if isinstance(one.choices[0], tuple) else one.choices[0]
            continue
        middle = (one.low * one.high) ** 0.5 if one.log else (one.low + one.high) / 2
        found[name] = int(middle) if one.kind == "int" else middle
    return found
