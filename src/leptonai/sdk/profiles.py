"""A profile as user code holds it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leptonai.data.spec_profile import Alert, Profile, ProfileReport
from leptonai.sdk import runs, show
from leptonai.sdk.specs import check, sent

if TYPE_CHECKING:
    from rich.console import Group

    from leptonai.sdk.client import Client

_HEAD = ("column", "type", "missing", "unique", "mean", "min", "50%", "max", "outliers", "tells the target")


def run(via: "Client", ref: str, **more: Any) -> "Profiled":
    """Look at a dataset version, and return what was found."""
    given = {name: value for name, value in more.items() if value is not None}
    spec = sent(check(Profile, {"data": ref, **given}, "profile"))
    record = runs.follow(via.http, runs.submit(via.http, "profile", spec).id, title="profile")
    return Profiled(ProfileReport.model_validate_json(via.http.download((record.result or {})["report"])))


class Profiled:
    """What is in the rows of a dataset version: columns, correlations, duplicates, balance, leakage, drift; and what to look at."""

    def __init__(self, record: ProfileReport):
        self.record = record

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """What asks for a second look, the gravest first."""
        return self.record.alerts

    def __getitem__(self, column: str) -> dict[str, Any]:
        """What is known of one column."""
        return next(one for one in self.record.columns if one["name"] == column)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return self.record.model_dump(mode="json")

    def json(self, indent: int | None = 2) -> str:
        """Return it as JSON."""
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False)

    def html(self, path: str | Path | None = None) -> str:
        """Return it as one HTML page with plots, that needs no network and runs no script; and write it, where a path is given."""
        from leptonai.sdk.profile_page import page

        text = page(self.record)
        if path is not None:
            Path(path).write_text(text, "utf-8")
        return text

    def _title(self) -> str:
        return f"{self.record.data}: {self.record.rows:,} rows, {len(self.record.columns)} columns"

    def _rows(self) -> list[list[object]]:
        power = {one["column"]: one["score"] for one in self.record.leakage.get("target", [])}
        found: list[list[object]] = []
        for column in self.record.columns:
            stats = column["stats"]
            cells = [_short(stats.get(word, "")) for word in _HEAD[2:8]]
            outliers = column.get("outliers", {}).get("count", "")
            found.append([column["name"], column["type"], *cells, outliers, power.get(column["name"], "")])
        return found

    def _moved(self) -> list[list[object]]:
        found = self.record.drift.get("columns", [])
        return [
            [one["column"], one["verdict"], one["psi"], one["test"], one["statistic"], one["p"]] for one in found[:12]
        ]

    def __rich__(self) -> "Group":
        from rich.console import Group
        from rich.text import Text

        columns = show.table(_HEAD, self._rows())
        for column in columns.columns[2:]:
            column.justify = "right"
        parts: list[Any] = [show.titled(columns, self._title())]
        if self.record.drift:
            moved = show.table(("column", "verdict", "PSI", "test", "statistic", "p"), self._moved())
            parts.append(show.titled(moved, f"Drift since {self.record.drift['against']}"))
        parts += [Text(f"{alert.about}: {alert.text}") for alert in self.alerts] or [Text("nothing stands out")]
        parts += [Text(f"note: {note}") for note in self.record.notes]
        return Group(*parts)

    def __repr__(self) -> str:
        return show.text(self.__rich__())

    def _repr_html_(self) -> str:
        alerts = {f"{number} {alert.about}": alert.text for number, alert in enumerate(self.alerts, 1)}
        return show.card(self._title(), alerts, show.html_table(_HEAD, self._rows()))


def _short(value: object) -> object:
    if isinstance(value, float):
        from leptonai.sdk.profile_page import figure

        return figure(value)
    text = show.number(value)
    return value if isinstance(value, int) else text if len(text) <= 24 else f"{text[:23]}…"
