"""How many replicas a Service may have, over HTTP; what its agent tells of them, and what stands in the audit."""

from dataclasses import replace
from typing import Any

from tests.server.conftest import Place, model, service

from leptonai.core.nouns import Audit, Model, Service, ServiceStatus, Site
from leptonai.core.states import ServiceState


def written(**fields: Any) -> Model:
    return model(framework="python", files={"code": "c" * 64, "predictor.json": "p" * 64}, **fields)


def live(of: Model, **fields: Any) -> Service:
    return service(of, status=ServiceStatus(state=ServiceState.READY, live=(of.id,)), **fields)


def test_a_range_is_asked_changed_and_taken_back(place: Place) -> None:
    made = written()
    place.context.catalog.add(made)
    body = {"name": "svc", "model": made.id, "replicas": {"min": 1, "max": 4}}
    asked = place.ask("POST", "/services", json=body).json()["replicas"]
    assert asked == {"min": 1, "max": 4, "wait_ms": 100.0, "down_seconds": 30.0}
    before = place.ask("GET", "/sites/home/services", "agent").json()["fingerprint"]
    more = {"replicas": {**asked, "max": 8}}
    assert place.ask("PUT", "/services/svc/replicas", json=more).json()["replicas"]["max"] == 8
    assert place.ask("GET", "/sites/home/services", "agent").json()["fingerprint"] != before
    same = place.ask("POST", "/services", json={"name": "svc", "model": made.id, "strategy": "now"})
    assert same.json()["replicas"]["max"] == 8  # a deploy that does not speak of it changes nothing
    assert place.ask("PUT", "/services/svc/replicas", json={"replicas": None}).json()["replicas"] is None
    assert place.ask("GET", "/services/svc/replicas").json() == {"replicas": None, "now": None, "changes": []}


def test_what_cannot_be_is_refused(place: Place) -> None:
    onnx, text, made = model(), written(name="t"), written(name="w")
    text = text.model_copy(update={"signature": replace(text.signature, task="chat")})
    place.context.catalog.add(onnx, text, made, live(onnx))
    for one, word in ((onnx, "one for each core"), (text, "model of text")):
        body = {"name": "other", "model": one.id, "replicas": {"max": 2}}
        answer = place.ask("POST", "/services", json=body)
        assert answer.status_code == 422, answer.text
        assert word in answer.text
    assert place.ask("PUT", "/services/svc/replicas", json={"replicas": {"max": 2}}).status_code == 422
    for bad in ({"min": 3, "max": 2}, {"min": 0, "max": 2}, {"max": 65}, {"wait_ms": 0}, "1..4", {"most": 4}):
        answer = place.ask("POST", "/services", json={"name": "other", "model": made.id, "replicas": bad})
        assert answer.status_code == 422, answer.text
    assert place.ask("PUT", "/services/none/replicas", json={"replicas": None}).status_code == 404


def test_what_the_agent_tells_is_shown_and_written_down(place: Place) -> None:
    made = written()
    asked = {"min": 1, "max": 4}
    place.context.catalog.add(made, Site.new(name="edge"), live(made, replicas=asked))
    place.context.catalog.add(live(made, name="far", site="edge", replicas=asked))
    text = "1 -> 2 replicas: p90 wait 180 ms over 100 ms"
    changes = [{"service": name, "text": text, "before": 1, "after": 2} for name in ("svc", "far", "none")]
    beat = {"agent": "a", "scaled": {"svc": {"wanted": 2, "ready": 1, "why": text}}, "changes": changes}
    assert place.ask("POST", "/sites/home/heartbeat", "agent", json=beat).status_code == 200
    said = place.ask("GET", "/services/svc/replicas").json()
    assert said["now"] == {"wanted": 2, "ready": 1, "why": text}
    assert [change["text"] for change in said["changes"]] == [text]
    assert place.ask("GET", "/services/svc").json()["status"]["replicas"]["ready"] == 1
    assert place.ask("GET", "/services/far").json()["status"]["replicas"] is None
    rows = place.context.catalog.find(Audit, {"name": "service.scaled"})
    assert [row.subject for row in rows] == ["svc"]  # an agent speaks of its own Site's services only
    assert place.ask("POST", "/sites/home/heartbeat", "agent", json={"agent": "a"}).status_code == 200
    assert place.ask("GET", "/services/svc").json()["status"]["replicas"]["ready"] == 1
