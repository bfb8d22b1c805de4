"""What was found of personal data, as user code holds it."""

from typing import TYPE_CHECKING, Any

from leptonai.data.spec_private import FindPii, Personal, PiiReport
from leptonai.sdk import runs, show
from leptonai.sdk.specs import check, sent

if TYPE_CHECKING:
    from rich.table import Table

    from leptonai.sdk.client import Client


class FoundPii(tuple[Personal, ...]):
    """Personal data by column and kind; at a prompt and in a notebook it shows itself as a table."""

    report: PiiReport

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns in which something was found: what `pii=…` of ``create_dataset`` may name."""
        return tuple(dict.fromkeys(one.column for one in self))

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return self.report.model_dump(mode="json")

    def _cells(self) -> tuple[list[str], list[list[str]]]:
        names = ["column", "kind", "share", "known by", "examples"]
        return names, [[o.column, o.kind, f"{o.share:.0%}", o.by, "  ".join(o.examples)] for o in self]

    def __rich__(self) -> "Table":
        return show.table(*self._cells())

    def __repr__(self) -> str:
        return show.text(self.__rich__())

    def _repr_html_(self) -> str:
        return show.html_table(*self._cells())


def run(via: "Client", data: str, *, rows: int | None = None, country: str | None = None) -> FoundPii:
    """Look for personal data in a Run, and return what it found."""
    given = {name: value for name, value in {"rows": rows, "country": country}.items() if value is not None}
    spec = check(FindPii, {"data": data, **given}, "find_pii")
    record = runs.follow(via.http, runs.submit(via.http, "find_pii", sent(spec)).id, title="find personal data")
    report = PiiReport.model_validate(record.result)
    found = FoundPii(report.found)
    found.report = report
    return found
