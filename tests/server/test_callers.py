"""What a Site is told of keys: which may call what, at once, and nothing by which it could call itself."""

import contextlib
import hashlib
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.server.conftest import Place, model

from leptonai.core.nouns import Audit, Key, Site, utcnow


def told(place: Place, site: str = "home", **params: Any) -> dict[str, Any]:
    answer = place.ask("GET", f"/sites/{site}/keys", "agent" if site == "home" else "local", params=params)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def sha(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def test_a_site_is_told_of_the_keys_that_may_call(place: Place) -> None:
    ends = utcnow() + timedelta(hours=1)
    made = {
        "any": place.key("service:predict", name="any"),
        "two": place.key("service:predict:b", "service:predict:a", "run:read", name="two", expires=ends),
        "deployer": place.key("service:write", name="deployer"),
    }
    place.key("service:read", "site:agent", name="reader")
    place.key("*", name="revoked", revoked=utcnow())
    place.key("*", name="expired", expires=utcnow() - timedelta(seconds=1))
    keys = {key.pop("name"): key for key in told(place)["keys"]}
    assert keys == {
        "local": {
            "check": sha(place.context.local_token),
            "services": ["*"],
            "expires": None,
            "metrics": True,
            "manages": True,
        },
        "any": {"check": sha(made["any"]), "services": ["*"], "expires": None, "metrics": False, "manages": False},
        "two": {
            "check": sha(made["two"]),
            "services": ["a", "b"],
            "expires": ends.isoformat(),
            "metrics": False,
            "manages": False,
        },
        "deployer": {
            "check": sha(made["deployer"]),
            "services": ["*"],
            "expires": None,
            "metrics": False,
            "manages": True,
        },
    }
    text = place.ask("GET", "/sites/home/keys", "agent").text
    for key in place.context.catalog.find(Key):
        assert key.digest not in text
    assert not any(secret in text for secret in made.values())


def test_the_token_of_this_machine_is_for_its_own_site(place: Place) -> None:
    place.context.catalog.add(Site.new(name="edge"))
    edge = place.key("site:agent:edge", name="edge-agent")
    assert told(place, "edge")["keys"] == []
    assert place.ask("GET", "/sites/edge/keys", edge).status_code == 200
    assert place.ask("GET", "/sites/home/keys", edge).status_code == 403
    assert place.ask("GET", "/sites/edge/keys", "agent").status_code == 403
    assert place.ask("GET", "/sites/mars/keys").status_code == 404


def test_it_hears_at_once_when_a_key_is_made_and_revoked(place: Place) -> None:
    gaps: list[float] = []
    for change, names in (
        (lambda: place.ask("POST", "/keys", json={"name": "new", "scopes": ["service:predict"]}), ["local", "new"]),
        (lambda: place.ask("DELETE", "/keys/new"), ["local"]),
    ):
        before = told(place)
        heard: list[tuple[float, Any]] = []

        def listen(after: str = before["fingerprint"], heard: list[tuple[float, Any]] = heard) -> None:
            answer = told(place, after=after, wait=20)
            heard.append((time.perf_counter(), answer))

        thread = threading.Thread(target=listen)
        thread.start()
        time.sleep(0.6)
        assert not heard
        assert change().is_success
        answered = time.perf_counter()
        thread.join(15)
        gaps.append(heard[0][0] - answered)
        assert [key["name"] for key in heard[0][1]["keys"]] == names
        assert heard[0][1]["fingerprint"] != before["fingerprint"]
    assert min(gaps) < 0.2  # it does not wait for the next look


def test_it_hears_of_what_a_server_did_whose_clock_is_behind(tmp_path: Path) -> None:
    shared = f"sqlite:///{tmp_path / 'home' / 'catalog.sqlite'}"  # said so, another server may have it, too
    with contextlib.closing(Place(tmp_path / "home", database=shared)) as place:
        hears_of_a_late_revocation(place)


def hears_of_a_late_revocation(place: Place) -> None:
    late = Audit.new(name="key.revoke", subject="a", by="another server")
    time.sleep(0.01)
    for name in ("a", "b", "c"):
        place.ask("POST", "/keys", json={"name": name, "scopes": ["service:predict"]})
    before = told(place)
    assert len(before["keys"]) == 4
    (key,) = place.context.catalog.find(Key, {"name": "a"})
    start = time.perf_counter()
    place.context.catalog.change(key.model_copy(update={"revoked": utcnow()}), add=(late,))
    after = told(place, after=before["fingerprint"], wait=20)
    assert time.perf_counter() - start < 10  # of 20
    assert sorted(k["name"] for k in after["keys"]) == ["b", "c", "local"]


def test_many_keys_are_all_told(place: Place) -> None:
    for number in range(1001):
        place.context.catalog.add(Key.new(name=f"k{number}", digest="", check=f"{number:064x}", scopes=("*",)))
    assert len(told(place)["keys"]) == 1002


def test_what_does_not_concern_it_is_no_news(place: Place) -> None:
    before = told(place)
    place.ask("POST", "/keys", json={"name": "reader", "scopes": ["run:read"]})
    start = time.perf_counter()
    assert told(place, after=before["fingerprint"], wait=0.4) == before
    assert time.perf_counter() - start >= 0.35


def test_a_key_that_was_made_before_sites_were_told_is_completed_by_its_first_use(place: Place) -> None:
    secret = place.key("*", name="old", check="")
    assert [key["name"] for key in told(place)["keys"]] == ["local"]
    assert place.ask("GET", "/me", secret).status_code == 200
    assert told(place)["keys"][1]["check"] == sha(secret)
    (record,) = place.context.catalog.find(Key, {"name": "old"})
    assert place.ask("GET", "/me", secret).status_code == 200
    assert place.context.catalog.get(Key, record.id).rev == record.rev


def test_who_may_call_may_let_others_call_and_no_more(place: Place) -> None:
    def make(token: str, name: str, scope: str) -> int:
        return int(place.ask("POST", "/keys", token, json={"name": name, "scopes": [scope]}).status_code)

    every = place.key("key:write", "service:predict", name="every")
    one = place.key("key:write", "service:predict:a", name="one")
    deployer = place.key("key:write", "service:write", name="deployer")
    assert [make(every, f"e{i}", s) for i, s in enumerate(("service:predict", "service:predict:b", "service:read"))] == [
        201, 201, 403,
    ]  # fmt: skip
    assert [make(one, f"o{i}", s) for i, s in enumerate(("service:predict:a", "service:predict:b", "service:predict"))] == [
        201, 403, 403,
    ]  # fmt: skip
    assert make(deployer, "d", "service:predict:b") == 201


def test_a_public_service_is_told_of_and_changes_the_table_of_services(place: Place) -> None:
    place.context.catalog.add(model())
    prints = set()
    for body in ({}, {"public": True}, {}, {"public": False}):
        assert place.ask("POST", "/services", json={"name": "svc", "model": "m/1", **body}).status_code == 201
        found = place.ask("GET", "/sites/home/services", "agent").json()
        prints.add((found["services"][0]["service"]["public"], found["fingerprint"]))
    assert [public for public, _ in sorted(prints)] == [False, False, True, True]
    assert place.ask("POST", "/services", json={"name": "svc", "model": "m/1", "public": "maybe"}).status_code == 422
    facts = [row.facts.get("public") for row in place.context.catalog.find(Audit, {"name": "service.deploy"})]
    assert facts == [False, None, True, None]
