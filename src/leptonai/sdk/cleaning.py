"""Cleaning as user code asks for it: steps in, a new version out, or what it would be."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from leptonai.core.nouns import Frozen
from leptonai.data import clean_words
from leptonai.data.spec_clean import Clean, CleanReport
from leptonai.sdk import runs, show
from leptonai.sdk.specs import check, sent

if TYPE_CHECKING:
    from rich.console import Group

    from leptonai.core.nouns import Run as RunRecord
    from leptonai.sdk.client import Client

Step = str | Mapping[str, Any] | Frozen
"""A step: a word such as ``impute:age=median``, a dict, or a value of `leptonai.data.spec_clean`."""


def spec_of(ref: str, steps: Sequence[Step], **more: Any) -> dict[str, Any]:
    """Return what is asked for, checked. Raises `Invalid` that names the step."""
    found = []
    for step in steps:
        if isinstance(step, str):
            found.append(clean_words.step(step))
        else:
            found.append(step.model_dump(mode="json") if isinstance(step, Frozen) else dict(step))
    given = {name: value for name, value in more.items() if value is not None}
    return sent(check(Clean, {"data": ref, "steps": found, **given}, "clean"))


def run(via: "Client", spec: Mapping[str, Any]) -> tuple["RunRecord", "Cleaned"]:
    """Clean, and return the Run with what it did."""
    asked = runs.submit(via.http, "clean", dict(spec))
    record = runs.follow(via.http, asked.id, title="clean")
    report = CleanReport.model_validate_json(via.http.download((record.result or {})["report"]))
    return record, Cleaned(report, dry_run=bool(spec.get("dry_run")))


class Cleaned:
    """What cleaning did, or would do: rows, values and examples by step."""

    def __init__(self, record: CleanReport, *, dry_run: bool):
        self.record = record
        self.dry_run = dry_run

    @property
    def rows(self) -> int:
        """How many rows are left."""
        return self.record.rows_after

    @property
    def steps(self) -> tuple[dict[str, Any], ...]:
        """What each step did."""
        return tuple(step.model_dump(mode="json") for step in self.record.steps)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {"dry_run": self.dry_run, **self.record.model_dump(mode="json")}

    def json(self, indent: int | None = 2) -> str:
        """Return it as JSON."""
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False)

    def _title(self) -> str:
        word = "would leave" if self.dry_run else "left"
        return f"{self.record.data}: {word} {self.record.rows_after:,} of {self.record.rows_before:,} rows"

    def _rows(self) -> list[list[object]]:
        return [
            [
                number,
                _words(step.step),
                step.rows_after - step.rows_before or "",
                ", ".join(f"{name} {count:,}" for name, count in step.changed.items()),
                ", ".join(f"{name} {_short(value)}" for name, value in step.learnt.items()),
            ]
            for number, step in enumerate(self.record.steps, 1)
        ]

    def _examples(self) -> list[list[object]]:
        found: list[list[object]] = []
        for number, step in enumerate(self.record.steps, 1):
            for one in step.examples:
                before = one.get("before", "") if "column" in one else _short(one.get("left_out"))
                after = one.get("after") if "column" in one else "left out"
                found.append([number, one.get("row") or "", one.get("column", ""), _short(before), _short(after)])
        return found

    _HEAD = ("", "step", "rows", "values changed", "learnt")
    _EXAMPLE = ("step", "row", "column", "before", "after")

    def __rich__(self) -> "Group":
        from rich.console import Group

        parts: list[Any] = [show.titled(show.table(self._HEAD, self._rows()), self._title())]
        if examples := self._examples():
            parts.append(show.titled(show.table(self._EXAMPLE, examples), "Examples"))
        return Group(*parts)

    def __repr__(self) -> str:
        return show.text(self.__rich__())

    def _repr_html_(self) -> str:
        more = show.html_table(self._HEAD, self._rows()) + show.html_table(self._EXAMPLE, self._examples())
        return show.card(self._title(), {}, more)


def _words(step: Mapping[str, Any]) -> str:
    rest = [f"{_short(value)}" for name, value in step.items() if name != "step"]
    return f"{step['step']} {' '.join(rest)}".strip()


def _short(value: object) -> str:
    if isinstance(value, (list, tuple)):
        text = ", ".join(_short(item) for item in value)
    elif isinstance(value, Mapping):
        text = ", ".join(f"{name}={_short(item)}" for name, item in value.items())
    elif value is None:
        return "missing"
    else:
        text = show.number(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
