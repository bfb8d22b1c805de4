"""Models, aliases and services over HTTP; the agent's long poll for services."""

import threading
import time
from typing import Any

from tests.server.conftest import Place, dataset, model, service

from leptonai.core.nouns import Audit
from leptonai.core.states import ServiceState
from leptonai.server.context import forget_what_answered


def test_versions_and_aliases(place: Place) -> None:
    one, two = model(version=1, digest="1"), model(version=2, digest="2")
    place.context.catalog.add(one, two)
    assert place.ask("GET", "/models/m").json()["version"] == 2
    assert place.ask("GET", "/models/m/1").json()["id"] == one.id
    assert place.ask("GET", f"/models/{one.id}").json()["version"] == 1
    assert place.ask("GET", "/models/m/3").status_code == 404
    assert place.ask("GET", "/models/m@champion").status_code == 404
    made = place.ask("PUT", "/models/m/aliases/champion", json={"version": 1})
    assert made.json()["model"] == one.id
    assert place.ask("GET", "/models/m@champion").json()["version"] == 1
    stale = place.ask("PUT", "/models/m/aliases/champion", json={"version": 2}, headers={"if-match": '"9"'})
    assert stale.status_code == 412
    moved = place.ask(
        "PUT", "/models/m/aliases/champion", json={"version": 2}, headers={"if-match": made.headers["etag"]}
    )
    assert moved.json()["model"] == two.id
    assert [a["alias"] for a in place.ask("GET", "/aliases", params={"name": "m"}).json()["items"]] == ["champion"]
    held = place.ask("DELETE", "/models/m/2")
    assert held.status_code == 409
    assert "champion" in held.json()["detail"]
    assert place.ask("DELETE", "/models/m").status_code == 422
    assert place.ask("DELETE", "/models/m/aliases/champion").status_code == 204
    assert place.ask("DELETE", "/models/m/aliases/champion").status_code == 404
    assert place.ask("DELETE", "/models/m/2").status_code == 204
    assert {row.name for row in place.context.catalog.find(Audit)} == {"alias.set", "alias.drop", "model.delete"}


def test_aliases_moved_at_once_have_one_holder(place: Place) -> None:
    place.context.catalog.add(*(model(version=v, digest=str(v)) for v in range(1, 9)))
    answers: list[Any] = []
    threads = [
        threading.Thread(
            target=lambda v=v: answers.append(place.ask("PUT", "/models/m/aliases/a", json={"version": v}))
        )
        for v in range(1, 9)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} <= {200, 503}
    assert len(place.ask("GET", "/aliases").json()["items"]) == 1


def test_deploy_move_and_take_away(place: Place) -> None:
    one, two = model(version=1), model(version=2, digest="2")
    place.context.catalog.add(one, two)
    body = {"name": "svc", "model": "m/1"}
    made = place.ask("POST", "/services", json=body, headers={"idempotency-key": "d"})
    assert made.status_code == 201
    assert (
        place.ask("POST", "/services", json=body, headers={"idempotency-key": "d"}).json()["rev"] == made.json()["rev"]
    )
    stale = place.ask("POST", "/services", json={**body, "model": "m/2"}, headers={"if-match": '"9"'})
    assert stale.status_code == 412
    moved = place.ask("POST", "/services", json={**body, "model": two.id})
    assert moved.json()["variants"][0]["model"] == two.id
    assert place.ask("POST", "/services", json={**body, "model": "m/9"}).status_code == 404
    assert place.ask("POST", "/services", json={**body, "site": "mars"}).status_code == 404
    assert [s["name"] for s in place.ask("GET", "/services").json()["items"]] == ["svc"]
    assert place.ask("DELETE", "/services/svc").status_code == 204
    assert place.ask("GET", "/services/svc").status_code == 404


def test_an_agent_hears_of_a_deploy_at_once_and_not_of_its_own_report(place: Place) -> None:
    place.context.catalog.add(model(version=1), model(version=2, digest="2"))
    first = place.ask("GET", "/sites/home/services", "agent").json()
    assert first["services"] == []
    heard: list[float] = []
    answers: list[Any] = []

    def listen() -> None:
        answers.append(
            place.ask("GET", "/sites/home/services", "agent", params={"after": first["fingerprint"], "wait": 20}).json()
        )
        heard.append(time.perf_counter())

    thread = threading.Thread(target=listen)
    thread.start()
    time.sleep(0.3)
    start = time.perf_counter()
    place.ask("POST", "/services", json={"name": "svc", "model": "m/1"})
    thread.join(15)
    assert heard[0] - start < 1.0
    found = answers[0]
    assert found["services"][0]["models"][0]["version"] == 1
    status = {"state": "ready", "rev": found["services"][0]["service"]["status"]["rev"], "live": [], "url": "http://x"}
    assert place.ask("PUT", "/services/svc/status", "agent", json=status).json()["status"]["state"] == "ready"
    after = place.ask("GET", "/sites/home/services", "agent").json()
    assert after["fingerprint"] == found["fingerprint"]
    old = place.ask("PUT", "/services/svc/status", "agent", json={**status, "rev": 0, "state": "failed"})
    assert old.json()["status"]["state"] == "ready", "what is said of an earlier deploy changes nothing"


def test_a_start_forgets_what_answered_before(place: Place) -> None:
    made = model()
    ready = service(made)
    status = ready.status.model_copy(
        update={"state": ServiceState.READY, "live": (made.id,), "url": "http://gone", "rev": 3}
    )
    place.context.catalog.add(made, ready.model_copy(update={"status": status}))
    for _ in range(2):
        forget_what_answered(place.context)
        found = place.ask("GET", "/services/svc").json()
        assert (found["status"]["state"], found["status"]["url"], found["status"]["live"]) == (
            "starting",
            None,
            [made.id],
        )
        assert found["rev"] == 2, "a second start changes nothing"


def test_datasets(place: Place) -> None:
    manifest = place.upload(b'{"preview": [{"a": 1}]}')
    place.context.catalog.add(dataset(manifest=manifest), dataset(version=2, digest="2", manifest=manifest))
    assert place.ask("GET", "/datasets/things").json()["version"] == 2
    assert place.ask("GET", "/datasets/things@v1").json()["version"] == 1
    assert place.ask("GET", "/datasets/things@v1/preview").json()["rows"] == [{"a": 1}]
    assert place.ask("GET", "/datasets/things@v3").status_code == 404
    assert place.ask("GET", "/datasets/nothing").status_code == 404
    assert place.ask("DELETE", "/datasets/things@v2").status_code == 204
    assert place.ask("GET", "/datasets/things").json()["version"] == 1
