"""OpenTelemetry traces, by its standard variables. Without them nothing of it is loaded and no request is looked at for it.

A request that is traced has a span, with one for its wait in the queue and one for its model. They are made after the answer is
sent, from the times that are taken anyway, and leave by the SDK's own thread: its queue is bounded, and a collector that is
slow or gone costs spans, never time of a request.
"""

import contextlib
import logging
import math
import re
import threading
import time
from typing import TYPE_CHECKING, Any

from leptonai import __version__
from leptonai.core.settings import variable

if TYPE_CHECKING:
    from leptonai.serving.plane.recent import Sight

FLUSH_SECONDS = 1.0  # at the end

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_WHOLE = {"always_on": 1.0, "always_off": 0.0, "parentbased_always_on": 1.0, "parentbased_always_off": 0.0}

_PARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")

_log = logging.getLogger(__name__)


def wanted() -> bool:
    """Whether the variables ask for traces."""
    if (variable("OTEL_SDK_DISABLED") or "").lower() == "true" or variable("OTEL_TRACES_EXPORTER") == "none":
        return False
    return any(variable(name) for name in _ENDPOINTS)


def sampler() -> tuple[float, bool]:
    """Return the share of the requests that are traced, and whether a caller's decision comes first."""
    name = (variable("OTEL_TRACES_SAMPLER") or "parentbased_always_on").strip().lower()
    if name in _WHOLE:
        return _WHOLE[name], name.startswith("parentbased")
    if name in ("traceidratio", "parentbased_traceidratio"):
        try:
            share = float(variable("OTEL_TRACES_SAMPLER_ARG") or 1.0)
        except ValueError:
            share = math.nan
        if 0 <= share <= 1:
            return share, name.startswith("parentbased")
    _log.warning("OTEL_TRACES_SAMPLER %s is not known, or its argument is no share: every request is traced", name)
    return 1.0, True


def open_traces() -> "Traces | None":
    """Return what traces, or None when it is not asked for, or the SDK is not installed."""
    if not wanted():
        return None
    try:
        return Traces(*sampler())
    except ImportError:
        _log.warning("traces are asked for, and OpenTelemetry is not installed: pip install 'lepton-ai-sdk[otel]'")
        return None


class Traces:
    """Makes the spans of one process. Used on the event loop."""

    def __init__(self, share: float, parents: bool):
        """Raises ImportError where the SDK is not installed."""
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON
        from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        own = {"service.version": __version__}
        if not variable("OTEL_SERVICE_NAME"):
            own["service.name"] = "leptonai-plane"
        self.share = share
        self._parents = parents
        # Which request is traced is decided before it comes here.
        self._provider = TracerProvider(sampler=ALWAYS_ON, resource=Resource.create(own), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("leptonai.serving", __version__)
        self._extract = TraceContextTextMapPropagator().extract
        self._within = set_span_in_context
        self._server, self._error = SpanKind.SERVER, StatusCode.ERROR

    def look(self, sight: "Sight", reached: bool) -> None:
        """Trace a request: when its turn came, or when its caller traces it."""
        parent = sight.headers.get(b"traceparent") if self._parents else None
        context = None
        if parent is not None and _PARENT.fullmatch(parent):
            if parent[-1:] not in b"13579bdf":
                return  # the caller does not trace it
            given = {
                name.decode(): sight.headers.get(name, b"").decode("latin-1")
                for name in (b"traceparent", b"tracestate")
            }
            context = self._extract(given)
        elif not reached:
            return
        self._spans(sight, context)

    def _spans(self, sight: "Sight", context: Any) -> None:
        route, item = sight.route, sight.item
        offset = time.time_ns() - int(time.perf_counter() * 1e9)

        def at(moment: float) -> int:
            return offset + int(moment * 1e9)

        about: dict[str, Any] = {
            "http.request.method": sight.method.decode("latin-1"),
            "url.path": sight.path.partition(b"?")[0][:500].decode("latin-1"),
            "http.response.status_code": sight.status,
            "http.request.body.size": sight.size,
            "http.response.body.size": sight.sent,
            "leptonai.request.id": sight.id.decode("latin-1"),
            "leptonai.service": route.service,
            "leptonai.model": route.replica.model.name,
            "leptonai.version": route.version,
            "leptonai.variant": route.variant,
            "leptonai.rows": item.rows,
            "leptonai.batch": item.batch,
        }
        name = f"predict {route.service}"
        span = self._tracer.start_span(name, context, self._server, about, start_time=at(sight.start))
        inside = self._within(span)
        if item.taken:
            for stage, start, end in (("queue", item.queued, item.taken), ("model", item.taken, item.done)):
                self._tracer.start_span(stage, inside, start_time=at(start)).end(at(max(start, end)))
        if sight.status >= 500:
            span.set_status(self._error)
        span.end(at(sight.encoded))

    def close(self) -> None:
        """Send what there is, as far as a second allows: the collector may be gone."""

        def end() -> None:
            with contextlib.suppress(Exception):  # whatever becomes of spans, the plane ends
                self._provider.force_flush(int(FLUSH_SECONDS * 1000))
                self._provider.shutdown()

        thread = threading.Thread(target=end, name="traces", daemon=True)
        thread.start()
        thread.join(FLUSH_SECONDS)
