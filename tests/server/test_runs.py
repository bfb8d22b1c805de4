"""The life of a Run over HTTP: asked for once, claimed, followed while it goes on, ended, settled."""

import contextlib
import json
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from tests.server.conftest import API, Place, run

from leptonai.core.nouns import Audit, Dataset, Run, utcnow
from leptonai.sdk.http import Http
from leptonai.server.stream import ALONE_SECONDS

RESULT = {
    "name": "things", "digest": "d" * 64, "rows": 2, "bytes": 10, "columns": [{"name": "a", "type": "number"}], "target": None,
    "manifest": "a" * 64, "shards": ["b" * 64], "source": {},
}  # fmt: skip


def finish(place: Place, claim: dict[str, Any], **more: Any) -> Any:
    body = {"epoch": claim["run"]["epoch"], "state": "succeeded", "result": RESULT, **more}
    return place.ask("POST", f"/runs/{claim['run']['id']}/finish", claim["token"], json=body)


def test_from_submit_to_a_dataset(place: Place) -> None:
    made = place.submit()
    assert (made["state"], made["by"], made["name"]) == ("queued", "local", "things")
    claim = place.claim()
    assert claim["run"]["id"] == made["id"]
    assert claim["store_url"] == str(place.home / "blobs")
    assert "token" not in claim["run"]
    ended = finish(place, claim)
    assert ended.json()["state"] == "succeeded"
    assert finish(place, claim).json() == ended.json(), "the same end again is the same"
    found = place.ask("GET", "/datasets/things").json()
    assert (found["version"], found["run"], found["by"]) == (1, made["id"], "local")
    actions = [(row.name, row.by) for row in place.context.catalog.find(Audit)]
    assert ("dataset.create", "local") in actions
    assert ("run.submit", "local") in actions


def test_a_bad_ask_names_the_field(place: Place) -> None:
    for body, field in (
        ({"stage": "bake", "spec": {}}, "stage"),
        (
            {"stage": "import", "spec": {"name": "x", "files": [{"name": "a", "size": -1, "parts": []}]}},
            "spec.files.0.size",
        ),
        ({"stage": "import", "spec": {"name": "../x", "files": [], "colour": 1}}, "spec.name"),
        ({"stage": "import", "spec": {}, "max_attempts": 0}, "max_attempts"),
        ({"stage": "import", "spec": {}, "limits": {"memory": 1}}, "limits.memory"),
        ({"stage": "import", "spec": {}, "parent": "no"}, "parent"),
    ):
        answer = place.ask("POST", "/runs", json=body)
        assert answer.status_code == 422, answer.text
        assert field in [e["field"] for e in answer.json()["errors"]], answer.text
    spec = {"name": "x", "files": [{"name": "a", "size": 1, "parts": ["0" * 64]}]}
    assert place.ask("POST", "/runs", json={"stage": "import", "spec": spec, "site": "mars"}).status_code == 404
    assert place.ask("GET", "/runs").json()["items"] == []


def test_the_same_request_again_has_one_effect(place: Place) -> None:
    part = place.upload(b"a\n1\n")
    spec = {"stage": "import", "spec": {"name": "x", "files": [{"name": "a", "size": 4, "parts": [part]}]}}
    one = place.ask("POST", "/runs", json=spec, headers={"idempotency-key": "k-2"}).json()
    two = place.ask("POST", "/runs", json=spec, headers={"idempotency-key": "k-2"}).json()
    assert one["id"] == two["id"]
    other = place.ask("POST", "/runs", json={**spec, "name": "other"}, headers={"idempotency-key": "k-2"})
    assert other.status_code == 409
    assert "Idempotency-Key" in other.json()["detail"]
    stranger = place.key("dataset:write", name="stranger")
    mine = place.ask("POST", "/runs", stranger, json=spec, headers={"idempotency-key": "k-2"})
    assert mine.status_code == 403, "the same word of another caller is another one, and the part is not his"
    assert place.ask("POST", "/runs", json=spec, headers={"idempotency-key": "a b"}).status_code == 422
    assert len(place.ask("GET", "/runs").json()["items"]) == 1


def test_the_same_request_at_once_has_one_effect(place: Place) -> None:
    spec = {"name": "x", "files": [{"name": "a", "size": 1, "parts": [place.upload(b"a\n1\n")]}]}
    found: list[Any] = []

    def ask() -> None:
        body = {"stage": "import", "spec": spec}
        found.append(place.ask("POST", "/runs", json=body, headers={"idempotency-key": "at-once"}))

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in found} == {201}
    assert len({answer.json()["id"] for answer in found}) == 1


def test_cancel_and_retry(place: Place) -> None:
    first = place.submit()["id"]
    early = place.ask("POST", f"/runs/{first}/retry")
    assert early.status_code == 409
    assert place.ask("POST", f"/runs/{first}/cancel").json()["state"] == "cancelled"
    key = {"idempotency-key": "r"}
    second = place.ask("POST", f"/runs/{first}/retry", headers=key)
    assert second.status_code == 201
    assert place.ask("POST", f"/runs/{first}/retry", headers=key).json()["id"] == second.json()["id"]
    reader = place.key("run:read", "model:write", name="reader")
    for verb in ("cancel", "retry"):
        denied = place.ask("POST", f"/runs/{first}/{verb}", reader)
        assert (denied.status_code, denied.json()["about"]) == (403, {"permission": "dataset:write"})


def test_an_old_epoch_is_fenced(place: Place) -> None:
    place.submit()
    claim = place.claim()
    id, epoch = claim["run"]["id"], claim["run"]["epoch"]
    for path, more in (("events", {"events": []}), ("checkpoint", {"files": {}}), ("finish", {"state": "failed"})):
        answer = place.ask("POST", f"/runs/{id}/{path}", claim["token"], json={"epoch": epoch + 1, **more})
        assert (path, answer.json()["code"]) == (path, "fenced")
    retried = finish(place, claim, state="failed", result=None, error={"code": "error", "message": "x"}, retry=True)
    assert retried.json()["state"] == "queued"
    again = place.claim()
    assert again["run"]["epoch"] == epoch + 1
    late = place.ask("POST", f"/runs/{id}/events", claim["token"], json={"epoch": epoch, "events": []})
    assert late.status_code == 401, "the token of the attempt before opens nothing"


def test_a_run_that_ended_takes_no_events(place: Place) -> None:
    place.submit()
    claim = place.claim()
    finish(place, claim)
    body = {"epoch": claim["run"]["epoch"], "events": [{"stream": "log", "body": {"line": "late"}}]}
    assert place.ask("POST", f"/runs/{claim['run']['id']}/events", claim["token"], json=body).status_code == 409


def test_an_agent_works_at_its_own_site_only(place: Place) -> None:
    place.context.catalog.add(run(site="edge"))
    edge = place.key("site:agent:edge", name="edge")
    body = {"agent": "e", "wait_seconds": 0}
    assert place.ask("POST", "/sites/home/claim", edge, json=body).status_code == 403
    assert place.ask("GET", "/sites/home/services", edge).status_code == 403
    place.submit()
    home = place.claim()["run"]
    ended = place.ask("POST", f"/runs/{home['id']}/finish", edge, json={"epoch": home["epoch"], "state": "failed"})
    assert ended.status_code == 403
    assert place.ask("GET", f"/runs/{home['id']}", edge).status_code == 403
    assert place.ask("POST", "/sites/edge/claim", "agent", json=body).status_code == 403


def test_heartbeats(place: Place) -> None:
    place.submit()
    held = place.claim()["run"]
    beat = {"agent": "a1", "runs": [{"id": held["id"], "epoch": held["epoch"]}, {"id": "run_" + "0" * 26, "epoch": 1}]}
    said = place.ask(
        "POST", "/sites/home/heartbeat", "agent", json={**beat, "plane": "http://x", "facts": {"cores": 2}}
    )
    assert said.json()["runs"] == {held["id"]: "ok", "run_" + "0" * 26: "lost"}
    place.ask("POST", f"/runs/{held['id']}/cancel")
    assert place.ask("POST", "/sites/home/heartbeat", "agent", json=beat).json()["runs"][held["id"]] == "stop"
    site = place.ask("GET", "/sites/home").json()
    assert (site["plane"], site["facts"]) == ("http://x", {"cores": 2})
    assert site["seen"]


def test_a_stream_hears_of_every_move_at_once(place: Place) -> None:
    run = place.submit()
    child = place.submit(parent=run["id"])
    took = []
    with contextlib.closing(Http(place.url, place.context.local_token)) as http:
        mine, its = (http.events(f"/runs/{one['id']}/events", {"streams": "state"}) for one in (run, child))
        for stream in (mine, its):
            assert next(stream)[1]["body"]["state"] == "queued"
        claimed = place.claim()
        assert claimed["run"]["id"] == run["id"]
        for stream, act, states in (
            (mine, lambda: None, ["running"]),
            (mine, lambda: place.ask("POST", f"/runs/{run['id']}/cancel"), ["stopping"]),
            (its, lambda: None, ["cancelled"]),
            (mine, lambda: finish(place, claimed, state="cancelled", result=None), ["cancelled"]),
        ):
            start = time.perf_counter()
            act()
            assert [next(stream)[1]["body"]["state"] for _ in states] == states
            took.append(time.perf_counter() - start)
        mine.close()
        its.close()
    assert max(took) < 0.8 * ALONE_SECONDS, took


def test_a_run_whose_lease_ran_out_is_told_to_who_waits(place: Place) -> None:
    place.submit()
    held = place.context.catalog.get(Run, place.claim()["run"]["id"])
    took: list[float] = []
    late = held.model_copy(update={"lease_until": utcnow() - timedelta(seconds=1)})
    wait_for(took, lambda: place.context.catalog.change(late), lambda: place.claim(20))
    assert took[0] < 0.8 * ALONE_SECONDS, took
    assert place.context.catalog.get(Run, held.id).attempt == 2


def wait_for(latencies: list[float], act: Any, wait: Any) -> None:
    """Start `wait`, then `act`; note the seconds from the act to the answer."""
    done: list[float] = []
    thread = threading.Thread(target=lambda: (wait(), done.append(time.perf_counter())))
    thread.start()
    time.sleep(0.3)
    start = time.perf_counter()
    act()
    thread.join(10)
    latencies.append(done[0] - start)


def test_long_polls_wake_at_once(place: Place) -> None:
    spec = {"name": "x", "files": [{"name": "a", "size": 1, "parts": [place.upload(b"a\n1\n")]}]}
    took: list[float] = []
    for _ in range(3):
        act = lambda: place.ask("POST", "/runs", json={"stage": "import", "spec": spec})  # noqa: E731
        wait_for(took, act, lambda: place.claim(20))
    assert min(took) < 0.35, took  # the database is looked at every 5 s; a wake-up takes milliseconds
    start = time.perf_counter()
    answer = place.ask("POST", "/sites/home/claim", "agent", json={"agent": "a", "wait_seconds": 0.3})
    assert answer.status_code == 204
    assert 0.25 < time.perf_counter() - start < 10


def test_events_stream_while_the_run_goes_on_and_a_lost_connection_takes_up_again(place: Place) -> None:
    place.submit()
    claim = place.claim()
    id, epoch = claim["run"]["id"], claim["run"]["epoch"]

    def say(step: int) -> None:
        events = [
            {"stream": "metric", "body": {"step": step, "loss": None}},
            {"stream": "log", "body": {"line": f"{step}"}},
        ]
        assert place.ask(
            "POST", f"/runs/{id}/events", claim["token"], json={"epoch": epoch, "events": events}
        ).is_success

    http = Http(place.url, place.context.local_token)
    try:
        say(0)
        stream = http.events(f"/runs/{id}/events", {"streams": "metric"})
        assert next(stream)[1]["body"] == {"step": 0, "loss": None}
        for step in range(1, 4):
            start = time.perf_counter()
            say(step)
            kind, event = next(stream)
            assert (kind, event["body"]["step"]) == ("metric", step)
            assert time.perf_counter() - start < 10
        finish(place, claim)
        assert next(stream)[1]["state"] == "succeeded"
        assert list(stream) == []
        seen = [found for found in http.events(f"/runs/{id}/events") if found[0] != "state"]
        assert [kind for kind, _ in seen] == ["metric", "log"] * 4 + ["end"]
        page = http.call(
            "GET", f"/runs/{id}/events", params={"limit": 3, "after": seen[1][1]["seq"], "streams": "metric,log"}
        )
        assert [item["stream"] for item in page["items"]] == ["metric", "log", "metric"]
        assert page["next"] == page["items"][-1]["seq"]
    finally:
        http.close()
    with place.client.stream(
        "GET", f"{API}/runs/{id}/events", params={"after": seen[5][1]["seq"]},
        headers={"authorization": f"Bearer {place.context.local_token}", "accept": "text/event-stream"},
    ) as answer:  # fmt: skip
        assert answer.headers["content-type"].startswith("text/event-stream")
        text = answer.read().decode()
    assert text.count("event: metric") == 1
    assert json.loads(text.rsplit("data: ", 1)[1])["id"] == id


def test_a_stream_ends_when_the_server_stops(place: Place) -> None:
    id = place.submit()["id"]
    http = Http(place.url, place.context.local_token)
    done = threading.Event()

    def follow() -> None:
        with pytest.raises(Exception, match=r"no server answers|ended early|stopping|cannot be read"):
            list(http.events(f"/runs/{id}/events"))
        done.set()

    thread = threading.Thread(target=follow)
    thread.start()
    time.sleep(0.5)
    start = time.perf_counter()
    place.close()
    assert time.perf_counter() - start < 15
    thread.join(30)
    http.close()
    assert done.is_set()


def test_a_twin_of_a_finish_makes_one_version(place: Place) -> None:
    place.submit()
    claim = place.claim()
    threads = [threading.Thread(target=finish, args=(place, claim)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(place.context.catalog.find(Dataset)) == 1
