"""Runs as user code holds them, and how one is followed to its end."""

import time
import uuid
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

from leptonai.core.errors import LeptonError, RunCancelled, RunFailed, Unavailable, from_dict
from leptonai.core.nouns import Event
from leptonai.core.nouns import Run as RunRecord
from leptonai.core.states import RunState
from leptonai.sdk import client, show

if TYPE_CHECKING:
    from leptonai.sdk.client import Client
    from leptonai.sdk.http import Http

_PATIENCE = 60.0  # seconds that a server may be away, while it is started again, before following gives up
_CANCEL_SECONDS = 5.0  # how long Ctrl-C waits for the Run to have stopped


class Run:
    """Anything slow that was asked for: a training, an import, an evaluation, an export."""

    def __init__(self, record: RunRecord, via: "Client"):
        self.record = record
        self._client = via

    @property
    def id(self) -> str:
        """Its id."""
        return self.record.id

    @property
    def stage(self) -> str:
        """What kind of Run it is, such as ``train``."""
        return self.record.stage

    @property
    def state(self) -> RunState:
        """Where it is in its life; asks the server unless it has ended."""
        return self.refresh().record.state

    @property
    def result(self) -> dict[str, Any] | None:
        """What it came to, once it has succeeded."""
        return self.refresh().record.result

    def refresh(self) -> Self:
        """Ask the server how it stands, unless it has ended, which never changes."""
        if not self.record.state.ended:
            self.record = RunRecord.model_validate(self._client.http.call("GET", f"/runs/{self.id}"))
        return self

    def wait(self, *, verbose: bool | None = None) -> Self:
        """Follow it to its end, with live progress. Raises what it failed with, or `RunCancelled`; Ctrl-C cancels it."""
        self.record = follow(self._client.http, self.id, shown=self._progress(verbose))
        return self

    def watch(self, *, verbose: bool | None = None) -> Self:
        """Follow it to its end as `wait` does, however it ends, and leave it alone: Ctrl-C stops the watching only."""
        with self._progress(verbose) as bar:
            self.record = _watch(self._client.http, self.id, bar)
        return self

    def _progress(self, verbose: bool | None) -> show.Progress:
        if self.stage != "tune":
            return show.Progress(self.stage or self.id, show=verbose)
        from leptonai.sdk.tuning_live import LiveTable
        from leptonai.tuning.spec import Tune

        spec = Tune.model_validate(self.record.spec)
        return LiveTable(self.stage, spec.goals, list(spec.space), show=verbose)

    def events(self, *streams: str, follow: bool = False) -> Iterator[Event]:
        """Yield what happened, oldest first; streams are ``metric``, ``log``, ``progress`` and ``state``, default all.

        With `follow` it goes on until the Run has ended.
        """
        if follow:
            yield from (event for event in stream(self._client.http, self.id, streams) if isinstance(event, Event))
            return
        after = 0
        while True:
            asked = {"after": after, "streams": ",".join(streams) or None}
            page = self._client.http.call("GET", f"/runs/{self.id}/events", params=asked)["items"]
            for item in page:
                event = Event.model_validate(item)
                after = event.seq
                yield event
            if not page:
                return

    def logs(self, *, follow: bool = False) -> Iterator[str]:
        """Yield what it printed, line by line."""
        return (str(event.body.get("line", "")) for event in self.events("log", follow=follow))

    def metrics(self) -> dict[str, list[float]]:
        """Return its metric series: values by metric, in the order of their steps."""
        series: dict[str, list[float]] = {}
        for event in self.events("metric"):
            for name, value in event.body.items():
                if name != "step":
                    series.setdefault(name, []).append(float("nan") if value is None else float(value))
        return series

    def leaderboard(self) -> list[dict[str, Any]]:
        """Return the candidates of an auto Run so far, the best first. Raises `Invalid` for a Run of another stage."""
        from leptonai.sdk.auto import rows_of, so_far

        return rows_of(so_far(self))

    def cancel(self) -> Self:
        """Ask that it stops, with its children."""
        self.record = RunRecord.model_validate(self._client.http.call("POST", f"/runs/{self.id}/cancel"))
        return self

    def retry(self) -> "Run":
        """Start a new Run with the same spec."""
        return Run(RunRecord.model_validate(self._client.http.call("POST", f"/runs/{self.id}/retry")), self._client)

    def summary(self) -> dict[str, object]:
        """Return what a table shows of it."""
        record = self.record
        seconds = (record.ended - record.started).total_seconds() if record.started and record.ended else None
        facts = {
            "stage": record.stage,
            "state": str(record.state),
            "name": record.name,
            "site": record.site,
            "made": show.ago(record.created),
            "took": None if seconds is None else show.span(seconds),
            "error": (record.error or {}).get("message"),
        }
        return {name: value for name, value in facts.items() if value}

    def __repr__(self) -> str:
        facts = self.summary()
        error = f": {facts['error']}" if "error" in facts else ""
        took = f" in {facts['took']}" if "took" in facts else ""
        return f"Run({self.id}, {self.stage}, {self.record.state}{took}{error})"

    def _repr_html_(self) -> str:
        return show.card(f"Run {self.id}", self.summary())


def get_run(id: str) -> Run:
    """Return a Run by its id. Raises `NotFound`."""
    via = client.current()
    return Run(RunRecord.model_validate(via.http.call("GET", f"/runs/{id}")), via)


def list_runs(
    *,
    stage: str | None = None,
    state: str | None = None,
    name: str | None = None,
    parent: str | None = None,
    site: str | None = None,
    limit: int = 20,
) -> list[Run]:
    """Return Runs, newest first."""
    via = client.current()
    asked = {"stage": stage, "state": state, "name": name, "parent": parent, "site": site}
    return [Run(RunRecord.model_validate(item), via) for item in via.http.pages("/runs", params=asked, limit=limit)]


def submit(http: "Http", stage: str, spec: dict[str, Any], **more: Any) -> RunRecord:
    """Ask for a Run and return it as it stands, queued. `more` are the other fields of the request, such as `name`.

    Ctrl-C meanwhile cancels it: it may be there already, and the same request with the same key says which it is.
    """
    body = {"stage": stage, "spec": spec, **{name: value for name, value in more.items() if value is not None}}
    headers = {"idempotency-key": uuid.uuid4().hex}
    try:
        return RunRecord.model_validate(http.call("POST", "/runs", json=body, headers=headers))
    except KeyboardInterrupt:
        try:
            again = http.call("POST", "/runs", json=body, headers=headers, timeout=_CANCEL_SECONDS)
            said = _stop(http, RunRecord.model_validate(again).id)
        except LeptonError:
            raise KeyboardInterrupt from None
        raise KeyboardInterrupt(said) from None


# -------------------------------------------------------------------------------------------------- following


def stream(http: "Http", run_id: str, streams: Sequence[str] = ()) -> Iterator[Event | RunRecord]:
    """Yield the events of a Run as they happen, and at last its record. Takes up again where a connection broke."""
    after, heard = 0, time.monotonic()
    while True:
        try:
            asked = {"after": after, "streams": ",".join(streams) or None}
            for kind, data in http.events(f"/runs/{run_id}/events", params=asked):
                if kind == "end":
                    yield RunRecord.model_validate(data)
                    return
                event = Event.model_validate(data)
                after = max(after, event.seq)
                yield event
        except Unavailable:
            pass  # asked again below, with patience: a server that is started again is back in seconds
        try:
            http.call("GET", f"/runs/{run_id}")
            heard = time.monotonic()
        except Unavailable:
            if time.monotonic() - heard > _PATIENCE:
                raise
        time.sleep(0.2)


def follow(
    http: "Http", run_id: str, *, title: str = "", show_progress: bool | None = None, shown: show.Progress | None = None
) -> RunRecord:
    """Follow a Run to its end and return its record; progress is shown where somebody watches.

    Raises what the Run failed with (`RunFailed` where that has no class of its own), or `RunCancelled`. Ctrl-C cancels the
    Run on the server, and the KeyboardInterrupt that goes on says so.
    """
    try:
        with shown or show.Progress(title or run_id, show=show_progress) as bar:
            record = _watch(http, run_id, bar)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_stop(http, run_id)) from None
    return succeeded(record)


def _watch(http: "Http", run_id: str, bar: show.Progress) -> RunRecord:
    for seen in stream(http, run_id):
        if isinstance(seen, RunRecord):
            return seen
        if seen.stream == "progress":
            bar.update(
                float(seen.body.get("done") or 0), float(seen.body.get("total") or 0), str(seen.body.get("unit", ""))
            )
        elif seen.stream == "trial":
            bar.take(seen.body)
        elif seen.stream == "metric":
            words = (f"{name} {show.number(value)}" for name, value in seen.body.items() if name != "step")
            bar.tell("  ".join(words))
    raise Unavailable(f"the events of run {run_id} ended before it did")


def succeeded(record: RunRecord) -> RunRecord:
    """Return the record of a Run that succeeded; for any other raise what became of it."""
    if record.state is RunState.CANCELLED:
        raise RunCancelled(f"run {record.id} was cancelled", run=record.id)
    if record.state is RunState.FAILED:
        error = from_dict(record.error or {})
        about = {**error.about, "run": record.id}
        kind = RunFailed if type(error) is LeptonError else type(error)
        raise kind(error.message, errors=error.errors, retry_after=error.retry_after, **about)
    return record


def _stop(http: "Http", run_id: str) -> str:
    try:
        until = time.monotonic() + _CANCEL_SECONDS
        record = RunRecord.model_validate(http.call("POST", f"/runs/{run_id}/cancel"))
        while not record.state.ended and time.monotonic() < until:
            time.sleep(0.1)
            record = RunRecord.model_validate(http.call("GET", f"/runs/{run_id}"))
    except LeptonError as error:
        return f"stopped following; run {run_id} could not be cancelled: {error.message}"
    if record.state is RunState.SUCCEEDED:
        return f"run {run_id} had succeeded already"
    return f"run {run_id} is cancelled" if record.state.ended else f"run {run_id} is asked to stop"
