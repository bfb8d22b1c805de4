"""Services as user code holds them: names under which a model answers."""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

from leptonai.core.errors import Busy, Unavailable, from_dict
from leptonai.core.nouns import Model as ModelRecord
from leptonai.core.nouns import PredictionLog, ServiceStatus
from leptonai.core.nouns import Service as ServiceRecord
from leptonai.core.refs import check_name
from leptonai.core.states import ServiceState
from leptonai.sdk import client, rows, show, wire
from leptonai.sdk.memory import Keeping, kept
from leptonai.sdk.replicas import Scaling, counted, document
from leptonai.sdk.rollouts import Rolling, step_of

if TYPE_CHECKING:
    from leptonai.sdk.client import Client
    from leptonai.sdk.http import Answer, Http
    from leptonai.sdk.predictions import When


class Service(Rolling, Keeping, Scaling):
    """A name under which a model version answers, over HTTP, at its Site."""

    def __init__(self, record: ServiceRecord, via: "Client", since: int = 0):
        self.record = record
        self._client = via
        self._since = since  # what its Site said before the deploy is not about what was deployed

    @property
    def name(self) -> str:
        """Its name."""
        return self.record.name

    @property
    def http(self) -> "Http":
        """The connection to its server."""
        return self._client.http

    @property
    def key(self) -> str | None:
        """The key that goes with the requests of this program."""
        return self._client.plane(self.url.partition("/services/")[0]).key

    @property
    def status(self) -> ServiceStatus:
        """What its Site last said; asks the server."""
        return self.refresh().record.status

    @property
    def state(self) -> ServiceState:
        """What it is doing; asks the server."""
        return self.status.state

    @property
    def url(self) -> str:
        """Where rows or an image are posted to: ``…/services/NAME/predict``. Raises `Unavailable` while it is not up."""
        found = self.record.status.url or self.status.url
        if found is None:
            raise Unavailable(f"service {self.name} has no address yet: {self._why()}")
        tail = f"/services/{self.name}/predict"
        return found if found.endswith(tail) else found.rstrip("/") + tail

    @property
    def grpc_url(self) -> str:
        """Where it answers the Open Inference Protocol over gRPC: ``host:port``. Raises `Unavailable` where gRPC is off."""
        found = self.record.status.grpc_url or self.status.grpc_url
        if found is None:
            why = self._why() if self.record.status.url is None else "start the server with --grpc-port 8001"
            raise Unavailable(f"service {self.name} does not answer gRPC: {why}")
        return found

    @property
    def openai_url(self) -> str:
        """What OpenAI's clients are given as ``base_url``, for a model of text; its `name` is their ``model``."""
        return self.url.partition("/services/")[0] + "/v1"

    def refresh(self) -> Self:
        """Ask the server how it stands."""
        self.record = ServiceRecord.model_validate(self._client.http.call("GET", f"/services/{self.name}"))
        return self

    def predict(self, data: object) -> Any:
        """Predict for rows as people have them, or for an image or sound file.

        A list of dicts or a data frame gives a list of answers, one dict gives one; so does the path of a file, or
        its bytes. Of rows from `Dataset.head` it takes the columns that the model knows, which leaves out the target. The
        key that this program has for the server goes with the request. Raises `Invalid` that names the row and the field,
        `Busy` when the service has too much to do, `Denied` when the key may not call it.
        """
        from leptonai.sdk.datasets import Rows

        if isinstance(data, Rows):
            known = {tensor.name for tensor in self._model().signature.inputs}
            data = [{name: value for name, value in row.items() if name in known} for row in data]
        found = rows.file(data)
        asked: dict[str, Any] = {"json": {"rows": rows.rows(data)}} if found is None else {}
        if found is not None:
            asked = {"content": found[0], "headers": {"Content-Type": found[1]}}
        answer = self._post(asked)
        if answer.status == 401 and self._client.host is None:
            self.refresh()  # the server of this machine may have been started again, and has another token then
            answer = self._post(asked)
        if answer.status >= 400:
            raise wire.error_of(answer.status, answer.headers, answer.body, f"service {self.name}")
        predictions = json.loads(answer.body)["predictions"]
        return predictions[0] if found is not None or isinstance(data, Mapping) else predictions

    def stream(self, row: Mapping[str, Any]) -> Iterator[Any]:
        """Yield the pieces of the answer to one row, as a `Predictor` with `stream` makes them.

        Leave the loop, or close the iterator, and the service stops making more. Raises what went wrong, also in the middle.
        """
        base = self.url.partition("/services/")[0]
        with contextlib.closing(
            self._client.plane(base).pieces(f"/services/{self.name}/stream", {"rows": [dict(row)]})
        ) as found:
            for event, data in found:
                if event == "end":
                    return
                if event == "error":
                    raise from_dict({"code": data.get("code"), "message": data.get("error")})
                yield data
        raise Unavailable(f"service {self.name}: the answer broke off before its end")

    def _post(self, asked: Mapping[str, Any]) -> "Answer":
        base, _, tail = self.url.partition("/services/")
        return self._client.plane(base).raw("POST", f"/services/{tail}", **asked)

    def explain(self, data: object, **asked: Any) -> Any:
        """Say why its stable version answers rows as it does: `data` is as in `predict`, and so is what comes back, one for each row.

        Each has ``of`` (the class that is said) and ``score``; of a table ``base`` and ``shares`` (column, value, share), which add up to
        the score; of a picture ``where`` (a grid by method) and ``maps``, of a text ``words``. `asked`: ``data="people"``, whose rows
        stand for what is not known (default: what the version learnt from), and ``gradients=True`` for pictures and texts. A Run does
        it beside the service, which is not slowed down. Raises as `predict`.
        """
        from leptonai.sdk.explanations import explain

        return explain(self._client, {"service": self.name}, self.refresh()._model(), data, asked)

    def _model(self) -> ModelRecord:
        return ModelRecord.model_validate(self._client.http.call("GET", f"/models/{self.record.variants[0].model}"))

    def wait_ready(self, timeout: float = 300.0) -> Self:
        """Return when the version asked for is loaded, warmed and answers, and its rollout is through.

        Raises `Unavailable` with the reason when it cannot be loaded or was turned back (the last good version, if any, still
        answers), or `Busy` when that takes longer than `timeout` seconds, and what the steps of a rollout may take.
        """
        wanted = self.record.wanted
        if (rollout := self.record.rollout) is not None and rollout.going and rollout.strategy == "guarded":
            timeout += len(rollout.guard.steps) * rollout.guard.step_seconds
        until, pause = time.monotonic() + timeout, 0.02
        with show.Progress(f"deploy {self.name}") as bar:
            while True:
                status = self.status
                # One that failed, and has what is asked for, answers with it: a newer version was turned back before.
                if status.state in (ServiceState.READY, ServiceState.FAILED) and wanted in status.live:
                    return self
                if status.state is ServiceState.FAILED and status.rev >= self._since:
                    raise Unavailable(f"service {self.name}: {status.message or 'the model could not be loaded'}")
                if time.monotonic() > until:
                    raise Busy(f"service {self.name} was not ready after {show.span(timeout)}: {self._why()}")
                bar.tell(f"{status.state} {status.message}".strip())
                time.sleep(pause)
                pause = min(pause * 1.5, 0.5)

    def predictions(self, since: "When" = None, until: "When" = None) -> Any:
        """Return what was kept of its requests and answers, as a polars data frame with one row for each row of a request.

        `since`, `until`: a moment (datetime), or how long ago that was (timedelta). The columns are ``time``, ``request_id``,
        ``row``, ``model``, ``version``, ``variant``, ``status``, ``seconds``, ``key``, and an ``input.NAME`` and ``output.NAME``
        for each of the model's. Needs a key with the scope prediction:read.
        """
        from leptonai.sdk import predictions

        return predictions.frame(self._client.http, self.name, since, until)

    def log(self, **kept: Any) -> PredictionLog:
        """Change what is kept of its requests, and return it: `share` (0 to 1), `drop` and `hash` (names of inputs), `days`,
        `megabytes` a day. What is not given stays. Raises `Invalid`.
        """
        from leptonai.sdk import predictions
        from leptonai.sdk.specs import check

        now = self.refresh().record.log.model_dump()
        made = check(PredictionLog, {**now, **kept}, "prediction log")
        if kept:
            predictions.keep(self._client.http, self.name, made)
            self.refresh()
        return made

    def delete_predictions(self, before: "When" = None) -> int:
        """Delete what was kept, or the batches that ended before a time; return how many batches."""
        from leptonai.sdk import predictions

        return predictions.delete(self._client.http, self.name, before)

    def delete(self) -> None:
        """Take it away; callers get an error from then on."""
        self._client.http.call("DELETE", f"/services/{self.name}")

    def _why(self) -> str:
        status = self.record.status
        return f"it is {status.state}" + (f" ({status.message})" if status.message else "")

    def summary(self) -> dict[str, object]:
        """Return what a table shows of it."""
        status = self.record.status
        facts = {
            "state": str(status.state),
            "url": self.url if status.url else None,
            "grpc": status.grpc_url,
            "model": ", ".join(f"{v.model} ({v.name}, {v.percent} %)" for v in self.record.variants),
            "rollout": step_of(self.record),
            "sticky": self.record.sticky,
            "site": self.record.site,
            "replicas": counted(self.record),
            "memory": kept(self.record),
            "public": "yes: anybody may call it, without a key" if self.record.public else None,
            "message": status.message,
        }
        return {name: value for name, value in facts.items() if value}

    def __repr__(self) -> str:
        url = f", {self.url}" if self.record.status.url else ""
        message = f": {self.record.status.message}" if self.record.status.message else ""
        word = "" if (word := kept(self.record)) == "resident" else word
        return f"Service({self.name}, {self.record.status.state}{url}{f', {word}' if word else ''}{message})"

    def _repr_html_(self) -> str:
        return show.card(f"Service {self.name}", self.summary())


def deploy(
    via: "Client", name: str, model: str, site: str = "home", public: bool | None = None, **more: Any
) -> Service:
    """Make a model (a reference or an id) answer under a name, and return at once.

    A service that answers already moves to it step by step, unless `strategy` is "now", or "shadow"; `steps`, `step_seconds`,
    `alpha`, `agree`, `percent` and `sticky` say how, see `leptonai.serving.spec.Deploy`; with ``pin=True`` its model stays in
    memory whatever else is called; `replicas`, such as ``(1, 4)``: how many worker processes compute it.

    With `public` anybody who reaches its Site may call it without a key, and with ``public=False`` nobody; without, that
    stays as it is, and a new one needs a key.
    """
    body: dict[str, Any] = {"name": check_name(name, "service"), "model": model, "site": check_name(site, "site")}
    if public is not None:
        body["public"] = public
    body |= more
    if more.get("replicas") is not None:
        body["replicas"] = document(more["replicas"])
    record = ServiceRecord.model_validate(via.http.call("POST", "/services", json=body))
    return Service(record, via, since=record.status.rev)


def get_service(name: str) -> Service:
    """Return a Service by name. Raises `NotFound`."""
    via = client.current()
    found = via.http.call("GET", f"/services/{check_name(name, 'service')}")
    return Service(ServiceRecord.model_validate(found), via)


def list_services(*, limit: int = 100) -> list[Service]:
    """Return Services, newest first."""
    via = client.current()
    return [Service(ServiceRecord.model_validate(item), via) for item in via.http.pages("/services", limit=limit)]
