"""What a plane tells of itself: the access log, OpenTelemetry traces, and Prometheus' metrics. None of it holds up a request."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families
from tests.support.bundles import adder, picture
from tests.support.plane import Plane
from tests.support.site import until

from leptonai import __version__
from leptonai.core.errors import Invalid
from leptonai.serving.build import build
from leptonai.serving.plane import access, traces
from leptonai.serving.plane.access import Kept, Rotating, kept

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Plane]]:
    made: list[Plane] = []

    def start(**variables: str) -> Plane:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        made.append(Plane(tmp_path))
        made[0].load(a=adder(1))
        return made[0]

    yield start
    for plane in made:
        plane.close()


def logged(folder: Path) -> list[dict[str, Any]]:
    path = folder / "access-0.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


# -------------------------------------------------------------------------------------------------- access log


def test_every_request_has_a_line(started: Callable[..., Plane], tmp_path: Path) -> None:
    plane = started(LEPTONAI_ACCESS_LOG="on")
    good = plane.rows("a", {"x": 1.0}, {"x": 2.0})
    bad = plane.rows("a", {"x": "one"})
    none = plane.client.get("/nowhere?secret=1")
    plane.client.get("/v2/health/live")
    lines = until(lambda: found if len(found := logged(tmp_path)) == 3 else None)
    assert [line["id"] for line in lines] == [one.headers["x-request-id"] for one in (good, bad, none)]
    first, second, third = lines
    assert (first["service"], first["version"], first["variant"], first["key"]) == ("a", "1", "stable", "test")
    assert (first["method"], first["path"], first["status"]) == ("POST", "/services/a/predict", 200)
    assert (first["rows"], first["batch"], first["bytes_out"]) == (2, 2, len(good.content))
    assert first["ms"] > 0 and "Bearer" not in json.dumps(lines)
    assert (second["status"], second["service"]) == (bad.status_code, "a")
    assert (third["status"], third["service"], third["path"]) == (404, None, "/nowhere")


def test_by_default_only_what_failed_has_one(started: Callable[..., Plane], tmp_path: Path) -> None:
    plane = started()
    plane.rows("a", {"x": 1.0})
    plane.client.get("/nowhere")
    assert [line["status"] for line in until(lambda: logged(tmp_path))] == [404]


def test_a_log_that_cannot_be_written_drops_lines_and_counts_them(
    started: Callable[..., Plane], tmp_path: Path
) -> None:
    (tmp_path / "access-0.jsonl").mkdir()
    plane = started(LEPTONAI_ACCESS_LOG="on")
    for _ in range(5):
        assert plane.rows("a", {"x": 1.0}).status_code == 200
    until(lambda: values(plane, "leptonai_access_log_dropped_total") == [5.0])


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=60))
def test_files_stay_small_and_lines_whole(tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    file, lines = Rotating(path, size=100, files=3), [piece.hex().encode() + b"\n" for piece in pieces]
    for line in lines:
        file.write(line)
    found = [p for p in (path.with_name("log.2"), path.with_name("log.1"), path) if p.exists()]
    assert len(list(path.parent.iterdir())) == len(found)
    text = b"".join(p.read_bytes() for p in found)
    assert b"".join(lines).endswith(text)
    assert all(p.stat().st_size <= 100 for p in found)


def test_the_setting() -> None:
    assert (kept("off"), kept("errors"), kept("on"), kept("0.25")) == (
        Kept(0, False), Kept(0, True), Kept(1, True), Kept(0.25, True),
    )  # fmt: skip
    for wrong in ("", "all", "2", "-0.1", "nan"):
        with pytest.raises(Invalid, match="access_log"):
            kept(wrong)


def test_the_queue_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from leptonai.serving.plane.call import Answer, Call
    from leptonai.serving.plane.front import Front
    from leptonai.serving.plane.http import Connection
    from leptonai.serving.plane.keys import Keys
    from leptonai.serving.plane.router import Router
    from leptonai.serving.plane.server import Server

    monkeypatch.setattr(access, "QUEUE", 3)
    monkeypatch.setattr(access, "PAUSE_SECONDS", 60.0)
    log = access.AccessLog(tmp_path / "log", Keys(), Kept(1.0, True))

    async def refuse() -> None:
        connection = Connection(Server(Front(Router())))
        for _ in range(5):
            log.refused(Call(connection), "a", Answer(200, b""))

    asyncio.run(refuse())
    assert log.dropped == 2
    log.close()
    assert len((tmp_path / "log").read_text().splitlines()) == 3


# ------------------------------------------------------------------------------------------------------ traces


class Collector:
    """An OTLP/HTTP receiver."""

    def __init__(self) -> None:
        spans = self.spans = []  # type: list[Any]

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                got = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"])))
                spans.extend(span for r in got.resource_spans for s in r.scope_spans for span in s.spans)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


def test_a_request_has_a_span_with_its_queue_and_its_model(started: Callable[..., Plane], collector: Collector) -> None:
    plane = started(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="50")
    answer = plane.rows("a", {"x": 1.0})
    plane.client.get("/v2/health/ready")
    until(lambda: len(collector.spans) == 3)
    spans = {span.name: span for span in collector.spans}
    root = spans["predict a"]
    about = {one.key: one.value for one in root.attributes}
    assert about["leptonai.request.id"].string_value == answer.headers["x-request-id"]
    assert about["http.response.status_code"].int_value == 200
    assert not root.parent_span_id
    for stage in ("queue", "model"):
        assert spans[stage].parent_span_id == root.span_id and spans[stage].trace_id == root.trace_id
        assert root.start_time_unix_nano <= spans[stage].start_time_unix_nano <= spans[stage].end_time_unix_nano
    assert spans["model"].end_time_unix_nano <= root.end_time_unix_nano


def test_the_caller_decides_where_he_traces(started: Callable[..., Plane], collector: Collector) -> None:
    plane = started(
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="50",
        OTEL_TRACES_SAMPLER="parentbased_traceidratio", OTEL_TRACES_SAMPLER_ARG="0",
    )  # fmt: skip
    body = {"rows": [{"x": 1.0}]}
    for flags in ("00", "01"):
        header = {"traceparent": f"00-{TRACE}-b7ad6b716920333{flags[1]}-{flags}"}
        answer = plane.client.post("/services/a/predict", json=body, headers=header)
        assert answer.headers["traceparent"] == header["traceparent"]
    plane.rows("a", {"x": 1.0})
    until(lambda: len(collector.spans) == 3)
    root = next(span for span in collector.spans if span.name == "predict a")
    assert (root.trace_id.hex(), root.parent_span_id.hex()) == (TRACE, "b7ad6b7169203331")


def test_a_dead_collector_costs_no_request(started: Callable[..., Plane], tmp_path: Path) -> None:
    plane = started(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9", OTEL_BSP_SCHEDULE_DELAY="50")
    for _ in range(200):
        assert plane.rows("a", {"x": 1.0}).status_code == 200


def test_the_variables_say_what_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not traces.wanted()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    assert traces.wanted()
    for name, value in (("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert not traces.wanted()
    for name, argument, right in (
        ("always_on", "", (1.0, False)),
        ("parentbased_always_off", "", (0.0, True)),
        ("traceidratio", "0.1", (0.1, False)),
        ("parentbased_traceidratio", "0.25", (0.25, True)),
        ("traceidratio", "seven", (1.0, True)),
        ("jaeger_remote", "", (1.0, True)),
    ):
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", name)
        monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", argument)
        assert traces.sampler() == right


# ----------------------------------------------------------------------------------------------------- metrics


def values(plane: Plane, name: str) -> list[float]:
    families = text_string_to_metric_families(plane.client.get("/metrics").text)
    return [sample.value for family in families for sample in family.samples if sample.name == name]


def test_metrics_are_prometheus_text(started: Callable[..., Plane]) -> None:
    plane = started()
    for number in range(7):
        plane.rows("a", {"x": number})
    plane.rows("a", {"x": "one"})
    answer = plane.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    counts = {(s.labels["variant"], s.labels["code"]): s.value for s in families["leptonai_inference_requests"].samples}
    assert counts["stable", "200"] == 7 and sum(counts.values()) == 8
    total = {
        s.labels["le"]: s.value
        for s in families["leptonai_inference_duration_seconds"].samples
        if s.name.endswith("_bucket") and s.labels["stage"] == "total"
    }
    assert total["+Inf"] == 8 and list(total.values()) == sorted(total.values())
    assert families["leptonai_plane_resident_memory_bytes"].samples[0].value > 1e6
    assert families["leptonai_plane_info"].samples[0].labels == {"version": __version__, "build": build()}
    assert families["leptonai_plane_resident_memory_bytes"].type == "gauge"
    assert all(family.documentation for family in families.values())


def test_metrics_can_be_kept_for_keys(started: Callable[..., Plane]) -> None:
    from hashlib import sha256

    plane = started(LEPTONAI_METRICS_KEY="yes")
    plane.process.keys([
        [sha256(b"test").hexdigest(), "test", ["*"], None],
        [sha256(b"see").hexdigest(), "see", [], None, True],
    ])  # fmt: skip
    assert [
        plane.client.get("/metrics", headers={"authorization": f"Bearer {key}"}).status_code
        for key in ("none", "test", "see")
    ] == [401, 403, 200]
    assert plane.client.post("/services/a/predict", headers={"authorization": "Bearer see"}, json={"rows": [{"x": 1}]})


def test_when_nobody_fetches_the_prediction_log_requests_go_on_and_what_is_lost_is_counted(tmp_path: Path) -> None:
    plane = Plane(tmp_path)
    try:
        model, files = picture(64, 64, 3)
        plane.load((model, files))
        plane.process.watch({"picture": 1.0})
        pixels = bytes(64 * 64 * 64 * 3)
        tensor = {"name": model.signature.inputs[0].name, "shape": [64, 64, 64, 3], "datatype": "UINT8"}
        head = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": len(pixels)}}]}).encode()
        body, headers = head + pixels, {"inference-header-content-length": str(len(head))}
        sent = 48

        def ask() -> int:
            return plane.client.post("/v2/models/picture/infer", content=body, headers=headers).status_code

        for _ in range(sent):  # about half a MB each, of 16 MiB that are held
            assert ask() == 200
        found, dropped = plane.process.logged()
        assert len(found) + dropped == sent
        assert 0 < len(found) < sent
        assert ask() == 200
        found, again = plane.process.logged()
        assert (len(found), again) == (1, dropped)
    finally:
        plane.close()
