"""A step of cleaning in one word, as a command line has it: ``impute:age=median``, ``drop:name,phone``, ``resample:time=1h``.

The part after the colon names columns, the one after ``=`` says how. What cannot be said so (a column with a comma in its name, two
settings at once) is written as a table in a file, or as a step of `spec_clean`.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

from leptonai.core.errors import FieldError, Invalid

_IMPUTES = ("mean", "median", "most_frequent", "drop")


def step(text: str) -> dict[str, Any]:
    """Return the step that a word names, as `spec_clean` reads it. Raises `Invalid`."""
    head, equals, value = text.partition("=")
    name, _, listed = head.partition(":")
    columns = [column.strip() for column in listed.split(",") if column.strip()]
    if name not in _STEPS:
        right = ", ".join(sorted(_STEPS))
        raise Invalid(
            f"step {text!r}: there is no step {name!r}: use one of {right}", errors=[FieldError("step", right)]
        )
    if equals and not value:
        raise Invalid(f"step {text!r}: nothing stands behind '='", errors=[FieldError("step", _STEPS[name][1])])
    found = _STEPS[name][0](columns, value)
    if found is None:
        raise Invalid(
            f"step {text!r} is not complete: write {_STEPS[name][1]}", errors=[FieldError("step", _STEPS[name][1])]
        )
    return {key: item for key, item in found.items() if item not in (None, [])}


def words() -> tuple[str, ...]:
    """Return how each step is written."""
    return tuple(about for _, about in _STEPS.values())


_Make = Callable[[Sequence[str], str], dict[str, Any] | None]


def _impute(columns: Sequence[str], value: str) -> dict[str, Any]:
    by: dict[str, Any] = (
        {"by": value or "median"} if value in (*_IMPUTES, "") else {"by": "constant", "value": _plain(value)}
    )
    return {"step": "impute", "columns": list(columns), **by}


def _outliers(do: str) -> _Make:
    return lambda columns, value: {"step": "outliers", "columns": list(columns), "do": do, "by": value or "iqr"}


def _cast(columns: Sequence[str], value: str) -> dict[str, Any] | None:
    kind, loose = value.removesuffix("?"), value.endswith("?")
    about = {"step": "cast", "types": dict.fromkeys(columns, kind), "misfits": "missing" if loose else None}
    return about if columns and kind else None


def _text(columns: Sequence[str], value: str) -> dict[str, Any]:
    if value.upper() in ("NFC", "NFKC"):
        return {"step": "text", "columns": list(columns), "unicode": value.upper()}
    return {"step": "text", "columns": list(columns), "case": value or None}


def _resample(columns: Sequence[str], value: str) -> dict[str, Any] | None:
    return {"step": "resample", "time": columns[0], "every": value} if len(columns) == 1 and value else None


def _series(columns: Sequence[str], value: str) -> dict[str, Any] | None:
    lags, _, horizon = value.partition("+")
    numbers = [word.strip() for word in lags.split(",") if word.strip()]
    if not columns or not all(word.isdigit() for word in (*numbers, horizon or "0")):
        return None
    calendar = ["hour", "weekday", "month"]
    about = {"time": columns[0], "group": list(columns[1:]), "lags": [int(word) for word in numbers]}
    return {"step": "series", **about, "horizon": int(horizon or 0), "calendar": calendar}


def _rename(columns: Sequence[str], value: str) -> dict[str, Any] | None:
    return {"step": "rename", "names": {columns[0]: value}} if len(columns) == 1 and value else None


def _needs(name: str) -> _Make:
    return lambda columns, value: {"step": name, "columns": list(columns)} if columns and not value else None


_STEPS: dict[str, tuple[_Make, str]] = {
    "drop_duplicates": (
        lambda columns, value: None if value else {"step": "drop_duplicates", "columns": list(columns)},
        "drop_duplicates or drop_duplicates:COLUMN,…",
    ),
    "blank": (
        lambda columns, value: {
            "step": "blank", "columns": list(columns), "values": [_plain(word) for word in value.split(",")] if value else None
        },
        "blank:COLUMN,…=VALUE,…",
    ),
    "impute": (_impute, "impute:COLUMN,…=mean|median|most_frequent|drop|VALUE"),
    "clip": (_outliers("clip"), "clip:COLUMN,…=iqr|zscore|quantiles"),
    "flag": (_outliers("flag"), "flag:COLUMN,…=iqr|zscore|quantiles"),
    "drop_outliers": (_outliers("drop"), "drop_outliers:COLUMN,…=iqr|zscore|quantiles"),
    "cast": (_cast, "cast:COLUMN,…=TYPE, or TYPE? where what does not fit becomes missing"),
    "text": (_text, "text:COLUMN,…=lower|upper|NFC|NFKC"),
    "denoise_images": (
        lambda columns, value: {"step": "denoise_images", "columns": list(columns), "by": value or "median"},
        "denoise_images:COLUMN,…=median|gaussian",
    ),
    "smooth": (
        lambda columns, value: (
            {"step": "smooth", "columns": list(columns), "window": _plain(value) if value else None} if columns else None
        ),
        "smooth:COLUMN,…=WINDOW",
    ),
    "resample": (_resample, "resample:TIME_COLUMN=1h"),
    "series": (_series, "series:TIME_COLUMN,GROUP,…=LAGS+HORIZON, such as series:when,station=1,24+24"),
    "cap_categories": (
        lambda columns, value: {
            "step": "cap_categories", "columns": list(columns), "keep": _plain(value) if value else None
        },
        "cap_categories:COLUMN,…=KEEP",
    ),
    "k_anonymity": (
        lambda columns, value: (
            {"step": "k_anonymity", "columns": list(columns), "k": _plain(value) if value else None} if columns else None
        ),
        "k_anonymity:COLUMN,…=K",
    ),
    "drop": (_needs("drop"), "drop:COLUMN,…"),
    "select": (_needs("select"), "select:COLUMN,…"),
    "rename": (_rename, "rename:OLD=NEW"),
}  # fmt: skip


def _plain(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, (bool, int, float)) else text
