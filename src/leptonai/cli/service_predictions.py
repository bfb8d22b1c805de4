"""``lepton service predictions`` and ``lepton service log``: what is kept of the requests of a service."""

import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from leptonai.cli import output
from leptonai.cli.flags import DryRun, Output
from leptonai.cli.service import ServiceName, app
from leptonai.core.errors import FieldError, Invalid

if TYPE_CHECKING:
    from leptonai.sdk.predictions import When

_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def moment(text: str | None, flag: str) -> "When":
    """Return what ``30m``, ``24h``, ``7d`` or a date and time stands for. Raises `Invalid`."""
    if text is None:
        return None
    if found := _AGO.fullmatch(text.strip()):
        return timedelta(**{_UNITS[found[2]]: float(found[1])})
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        right = "such as 30m, 24h, 7d or 2026-01-31T12:00"
        raise Invalid(f"{flag} {text!r} is no time: use one {right}", errors=[FieldError(flag, right)]) from None


Since = Annotated[str | None, typer.Option(metavar="TIME", help="From then on: 30m, 24h, 7d ago, or a date and time.")]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Up to then, in the same forms.")]


@app.command("predictions")
def predictions(
    name: ServiceName,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write them to a .parquet, .csv or .jsonl file.")
    ] = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Show at most so many rows, the newest.")] = 20,
    delete: Annotated[bool, typer.Option("--delete", help="Delete them; with --until those before it.")] = False,
    dry_run: DryRun = False,
    as_: Output = "table",
) -> None:
    """Show, export or delete what was kept of a service's requests and answers.

    Example: lepton service predictions churn --since 24h --out churn.parquet
    """
    from leptonai.sdk import predictions as log
    from leptonai.sdk import show
    from leptonai.sdk.services import get_service

    found = get_service(name)
    first, last = moment(since, "--since"), moment(until, "--until")
    http = found.http
    if delete:
        if dry_run:
            output.would(as_, f"delete the prediction log of service {name}", {"before": until or "now"})
            return
        count = found.delete_predictions(last)
        output.emit(as_, {"deleted": count}, lambda: show.facts_table({"batches deleted": count}))
        return
    if out is not None:
        rows = log.export(http, name, out, first, last)
        output.emit(as_, {"file": str(out), "rows": rows}, lambda: show.facts_table({"file": str(out), "rows": rows}))
        return
    frame = found.predictions(first, last).tail(limit)
    rows_ = [{k: v.isoformat() if isinstance(v, datetime) else v for k, v in row.items()} for row in frame.to_dicts()]
    shown = [column for column in frame.columns if column not in ("model", "key", "seconds", "row")][:10]
    output.emit(as_, rows_, lambda: show.table(shown, ([_cell(row[c]) for c in shown] for row in rows_)))


def _cell(value: object) -> object:
    return f"[{len(value)} values]" if isinstance(value, list) and len(value) > 4 else output.flat(value)


@app.command("log")
def log(
    name: ServiceName,
    share: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of the requests that is kept; 0: none.")
    ] = None,
    drop: Annotated[list[str] | None, typer.Option(metavar="INPUT", help="Leave this input out; '' for none.")] = None,
    hash: Annotated[
        list[str] | None, typer.Option(metavar="INPUT", help="Keep a keyed digest of it; '' for none.")
    ] = None,
    days: Annotated[int | None, typer.Option(min=1, max=3650, help="Delete after so many days.")] = None,
    megabytes: Annotated[float | None, typer.Option(help="Keep at most so much a day.")] = None,
    as_: Output = "table",
) -> None:
    """Show or change what is kept of a service's requests, encrypted, for monitoring and replay.

    Example: lepton service log churn --share 0.05 --hash email --drop name
    """
    from leptonai.sdk import show
    from leptonai.sdk.services import get_service

    given = {"share": share, "drop": drop, "hash": hash, "days": days, "megabytes": megabytes}
    kept = {k: [one for one in v if one] if isinstance(v, list) else v for k, v in given.items() if v is not None}
    made = get_service(name).log(**kept).model_dump(mode="json")
    output.emit(
        as_, made, lambda: show.facts_table({k: output.flat(v) for k, v in made.items()}, title=f"Service {name}")
    )
