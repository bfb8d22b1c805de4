"""What a command answers: data on stdout as a table, JSON, YAML or TOML; everything else on stderr."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from leptonai.cli import formats

if TYPE_CHECKING:
    from rich.console import RenderableType

Columns = dict[str, Callable[[Any], object]]
"""How a table shows a record of the HTTP API: each column's head, and its cell."""


def emit(output: str, data: Any, table: "Callable[[], RenderableType]") -> None:
    """Write `data` (JSON data) to stdout in the form asked for; `table` is called for "table" only."""
    if output == "table":
        from leptonai.sdk import show

        show.console().print(table())
    elif output == "yaml":
        sys.stdout.write(formats.to_yaml(data))
    elif output == "toml":
        sys.stdout.write(formats.to_toml(data))
    else:
        sys.stdout.write(formats.to_json(data) + "\n")


def emit_list(output: str, items: Sequence[Mapping[str, Any]], columns: Columns, noun: str) -> None:
    """Write a list of records; `columns` says how a table shows each. An empty table says so on stderr."""
    from leptonai.sdk import show

    if output == "table" and not items:
        show.note(f"there is no {noun}")
        return
    rows = ([value(item) for value in columns.values()] for item in items)
    emit(output, list(items), lambda: show.table(list(columns), rows))


def emit_record(output: str, record: Mapping[str, Any], spec: Callable[[Any], dict[str, Any]] | None = None) -> None:
    """Write one record. As TOML it is what `create -f` takes, which `spec` makes of the record."""
    from leptonai.sdk import show

    shown = {name: flat(value) for name, value in record.items() if value not in (None, "", [], {})}
    data = spec(record) if output == "toml" and spec is not None else record
    emit(output, data, lambda: show.facts_table(shown))


def begun(output: str, record: Any) -> None:
    """Write the record of a Run that nobody waits for."""
    from leptonai.sdk import show

    facts = {"run": record.id, "state": str(record.state)}
    emit(output, record.model_dump(mode="json"), lambda: show.facts_table(facts))


def left(private: bool) -> None:
    """Say on stderr what becomes of a Run that nobody waits for, where the server ends with the command."""
    from leptonai.sdk import show

    if private:
        show.note("the server of this home ends with this command, and takes the Run up again when it next starts")


def flat(value: object) -> object:
    """Return a value as one cell of a table shows it."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={flat(item)}" for key, item in value.items() if item not in (None, "", [], {}))
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ", ".join(str(flat(item)) for item in value)
    from leptonai.sdk import show

    return show.number(value)


def would(output: str, what: str, body: Mapping[str, Any] | None = None) -> None:
    """Answer a dry run: what would be done, and with what; nothing was changed."""
    from leptonai.sdk import show

    data = {"dry_run": True, "would": what, "body": dict(body or {})}
    emit(output, data, lambda: show.facts_table({"would": what, **{k: flat(v) for k, v in (body or {}).items()}}))


def ago(moment: str | None) -> str:
    """Return how long ago a time of the HTTP API was."""
    from datetime import datetime

    from leptonai.sdk import show

    return show.ago(datetime.fromisoformat(moment)) if moment else ""


def took(started: str | None, ended: str | None) -> str:
    """Return the time between two times of the HTTP API."""
    from datetime import datetime

    from leptonai.sdk import show

    if not started or not ended:
        return ""
    return show.span((datetime.fromisoformat(ended) - datetime.fromisoformat(started)).total_seconds())


def size(count: float) -> str:
    """Return a number of bytes as people read it."""
    from leptonai.sdk import show

    return show.size(count)


def words(text: str) -> "RenderableType":
    """Return text that is printed as it is."""
    from rich.text import Text

    return Text(text)
