"""The prediction log of a Service as user code reads it: a data frame, a file, or its batches."""

import io
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leptonai.core.errors import FieldError, Invalid, Unsupported
from leptonai.core.nouns import PredictionLog
from leptonai.core.nouns import Predictions as Batch

if TYPE_CHECKING:
    from leptonai.sdk.http import Http

When = datetime | timedelta | None
"""A moment, or how long ago it was."""

ENDINGS = (".parquet", ".csv", ".jsonl")


def batches(http: "Http", name: str, since: When = None, until: When = None) -> list[Batch]:
    """Return the batches of a service's log that have requests of that time, oldest first."""
    asked = {"since": _moment(since), "until": _moment(until)}
    found = http.call("GET", f"/services/{name}/predictions", params={k: v for k, v in asked.items() if v})
    return [Batch.model_validate(item) for item in found["items"]]


def files(http: "Http", name: str, found: Iterable[Batch]) -> Iterator[bytes]:
    """Yield each batch as a Parquet file."""
    for batch in found:
        yield http.download(f"/services/{name}/predictions/{batch.id}")


def frame(http: "Http", name: str, since: When = None, until: When = None) -> Any:
    """Return what was kept as a polars data frame, one row for each row of a request, oldest first.

    Versions with other columns stand in one frame, with nulls where one has no such column. Raises `Unsupported` where polars
    is not installed.
    """
    try:
        import polars
    except ImportError:
        raise Unsupported(
            "a prediction log is read with polars: pip install 'lepton-ai-sdk[platform]', or export it to a .parquet file"
        ) from None
    made = [polars.read_parquet(io.BytesIO(data)) for data in files(http, name, batches(http, name, since, until))]
    if not made:
        return polars.DataFrame(schema={"time": polars.Datetime("us", "UTC"), "request_id": polars.String})
    whole = polars.concat(made, how="diagonal_relaxed").sort("time", maintain_order=True)
    for bound, keep in ((since, polars.Expr.ge), (until, polars.Expr.lt)):
        if (moment := _moment(bound)) is not None:
            whole = whole.filter(keep(polars.col("time"), datetime.fromisoformat(moment)))
    return whole


def export(http: "Http", name: str, path: Path, since: When = None, until: When = None) -> int:
    """Write what was kept to a file, .parquet, .csv or .jsonl, and return the number of rows. Raises `Invalid`."""
    if path.suffix not in ENDINGS:
        right = f"a name that ends in {', '.join(ENDINGS)}"
        raise Invalid(
            f"{path} is no file a prediction log is written to: use {right}", errors=[FieldError("out", right)]
        )
    found = frame(http, name, since, until)
    if path.suffix == ".parquet":
        found.write_parquet(path)
    elif path.suffix == ".jsonl":
        found.write_ndjson(path)
    else:
        import polars

        lists = [column for column, kind in found.schema.items() if isinstance(kind, (polars.List, polars.Array))]
        texts = [polars.col(c).map_elements(lambda v: str(list(v)), return_dtype=polars.String) for c in lists]
        found.with_columns(texts).write_csv(path)
    return int(found.height)


def keep(http: "Http", name: str, log: PredictionLog) -> None:
    """Say what is kept from now on."""
    http.call("PUT", f"/services/{name}/log", json=log.model_dump(mode="json"))


def delete(http: "Http", name: str, before: When = None) -> int:
    """Delete the batches of a log, or those that ended before a time; return how many."""
    moment = _moment(before)
    params = {"before": moment} if moment else None
    return int(http.call("DELETE", f"/services/{name}/predictions", params=params)["deleted"])


def _moment(given: When) -> str | None:
    if given is None:
        return None
    moment = datetime.now(UTC) - given if isinstance(given, timedelta) else given
    return (moment if moment.tzinfo else moment.astimezone()).isoformat()
