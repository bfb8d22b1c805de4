"""How two versions differ, as user code holds it."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from leptonai.data.spec_diff import Diff, DiffReport
from leptonai.sdk import runs, show
from leptonai.sdk.specs import check, sent

if TYPE_CHECKING:
    from rich.console import Group

    from leptonai.sdk.client import Client


def run(via: "Client", before: str, after: str, **more: Any) -> "Difference":
    """Compare two versions."""
    given = {name: value for name, value in more.items() if value is not None}
    spec = sent(check(Diff, {"before": before, "after": after, **given}, "diff"))
    record = runs.follow(via.http, runs.submit(via.http, "diff", spec).id, title="diff")
    return Difference(DiffReport.model_validate_json(via.http.download((record.result or {})["report"])))


class Difference:
    """What was added, removed and changed from one version to another; true where they differ."""

    def __init__(self, record: DiffReport):
        self.record = record

    @property
    def rows(self) -> dict[str, int]:
        """How many rows there were before and are after; how many were added, removed, changed, and are the same."""
        return dict(self.record.rows)

    @property
    def changed(self) -> dict[str, int]:
        """How many values changed, by column."""
        return dict(self.record.changed)

    def __bool__(self) -> bool:
        return not self.record.same

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return self.record.model_dump(mode="json", by_alias=True)

    def json(self, indent: int | None = 2) -> str:
        """Return it as JSON."""
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False)

    def _title(self) -> str:
        return f"From {self.record.before} to {self.record.after}"

    def _facts(self) -> dict[str, object]:
        rows, schema = self.record.rows, self.record.schema_
        facts = {
            "rows": f"{rows['before']:,} before, {rows['after']:,} after",
            "added": rows["added"],
            "removed": rows["removed"],
            "changed": rows["changed"],
            "the same": rows["same"],
            "repeated keys": rows["repeated_keys"],
            "values changed": ", ".join(f"{name} {count:,}" for name, count in self.changed.items()),
            "columns added": ", ".join(schema["added"]),
            "columns removed": ", ".join(schema["removed"]),
            "columns of another type": ", ".join(
                f"{name} ({' to '.join(kinds)})" for name, kinds in schema["retyped"].items()
            ),
        }
        return {
            name: value
            for name, value in facts.items()
            if value not in ("", 0) or name in ("added", "removed", "changed")
        }

    _STATISTICS = ("column", "statistic", "before", "after")
    _EXAMPLES = ("", "row", "values")

    def _statistics(self) -> list[list[object]]:
        return [[one[word] for word in self._STATISTICS] for one in self.record.statistics[:20]]

    def _examples(self) -> list[list[object]]:
        found: list[list[object]] = []
        for one in self.record.examples.get("changed", ()):
            values = ", ".join(f"{name}: {_short(old)} to {_short(new)}" for name, (old, new) in one["values"].items())
            found.append(["changed", " to ".join(map(str, one["rows"])), f"{_values(one['key'])}  {values}".strip()])
        for word in ("added", "removed"):
            found += [[word, one["row"], _values(one["values"])] for one in self.record.examples.get(word, ())[:5]]
        return found

    def __rich__(self) -> "Group":
        from rich.console import Group
        from rich.text import Text

        parts: list[Any] = [show.facts_table(self._facts(), title=self._title())]
        if self.record.statistics:
            parts.append(show.table(self._STATISTICS, self._statistics()))
        if examples := self._examples():
            parts.append(show.table(self._EXAMPLES, examples))
        parts += [Text(f"note: {note}") for note in self.record.notes]
        return Group(*parts)

    def __repr__(self) -> str:
        return show.text(self.__rich__())

    def _repr_html_(self) -> str:
        more = show.html_table(self._STATISTICS, self._statistics()) + show.html_table(self._EXAMPLES, self._examples())
        return show.card(self._title(), self._facts(), more)


def _values(values: Mapping[str, Any]) -> str:
    shown = [f"{name}={_short(value)}" for name, value in list(values.items())[:8]]
    return ", ".join(shown) + (", …" if len(values) > 8 else "")


def _short(value: object) -> str:
    text = "missing" if value is None else show.number(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
