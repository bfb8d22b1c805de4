"""Keys over HTTP: made once, shown once, never more than their maker's, revoked at once; and what the audit says of it."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.server.conftest import Place

from leptonai.core.nouns import Audit, Key, Receipt


def make(place: Place, token: str = "local", **body: Any) -> Any:
    return place.ask("POST", "/keys", token, json={"name": "alice", "scopes": ["run:read"], **body})


def test_a_key_is_shown_once(place: Place) -> None:
    made = make(place)
    assert made.status_code == 201
    secret = made.json()["secret"]
    assert place.ask("GET", "/me", secret).json() == {"name": "alice", "scopes": ["blob:read", "run:read"]}
    assert not {"digest", "check"} & made.json()["key"].keys()
    listed = place.ask("GET", "/keys")
    assert secret not in listed.text
    assert '"digest"' not in listed.text
    assert '"check"' not in listed.text
    for file in place.home.rglob("*"):
        if file.is_file():
            assert secret.encode() not in file.read_bytes(), file
    again = make(place)
    assert again.status_code == 409
    assert "choose another name" in again.json()["detail"]


def test_a_repeated_request_gets_the_same_secret_and_it_lies_nowhere_in_clear(place: Place) -> None:
    headers = {"idempotency-key": "once"}
    body = {"name": "bob", "scopes": ["run:read"]}
    first = place.ask("POST", "/keys", json=body, headers=headers)
    second = place.ask("POST", "/keys", json=body, headers=headers)
    assert first.json() == second.json()
    assert first.json()["secret"] not in str(place.context.catalog.find(Receipt))
    assert len(place.context.catalog.find(Key, {"name": "bob"})) == 1
    other = place.ask("POST", "/keys", json={**body, "scopes": ["*"]}, headers=headers)
    assert other.status_code == 409


def test_nobody_gives_more_than_he_has(place: Place) -> None:
    clerk = place.key("key:write", "dataset:read", name="clerk")
    assert make(place, clerk, name="a", scopes=["dataset:read"]).status_code == 201
    for scope in ("*", "dataset:write", "run:read", "site:agent", "audit:read"):
        answer = make(place, clerk, name="b", scopes=[scope])
        assert answer.status_code == 403, scope
        assert "cannot give it" in answer.json()["detail"]
    for scope in ("blob:read", "run:report", "everything", "site:agent:../x"):
        assert make(place, name="c", scopes=[scope]).status_code == 422


def test_names_of_others_are_not_given(place: Place) -> None:
    for name in ("local", "run_" + "0" * 26):
        assert make(place, name=name).status_code == 422


def test_expiry(place: Place) -> None:
    for text in ("2020-01-01T00:00:00Z", "2999-01-01T00:00:00", "tomorrow"):
        answer = make(place, expires=text)
        assert answer.status_code == 422
        assert "expires" in answer.json()["detail"]
    soon = (datetime.now(UTC) + timedelta(seconds=1.2)).isoformat()
    secret = make(place, expires=soon).json()["secret"]
    assert place.ask("GET", "/me", secret).status_code == 200
    time.sleep(2)
    gone = place.ask("GET", "/me", secret)
    assert gone.status_code == 401
    assert "expired" in gone.json()["detail"]


def test_revoking_works_within_a_second_and_is_kept(place: Place) -> None:
    secret = make(place).json()["secret"]
    assert place.ask("GET", "/me", secret).status_code == 200
    assert place.ask("DELETE", "/keys/alice").status_code == 204
    time.sleep(0.8)
    gone = place.ask("GET", "/me", secret)
    assert gone.status_code == 401
    assert "revoked" in gone.json()["detail"]
    assert gone.headers["www-authenticate"].startswith("Bearer")
    assert place.ask("DELETE", "/keys/nobody").status_code == 404
    assert make(place).status_code == 409, "the audit speaks of a name for ever"


def test_every_change_has_its_row(place: Place) -> None:
    make(place)
    place.ask("DELETE", "/keys/alice")
    rows = [(row.name, row.subject, row.by) for row in place.context.catalog.find(Audit)]
    assert rows == [("key.revoke", "alice", "local"), ("key.create", "alice", "local")]
    page = place.ask("GET", "/audit", params={"name": "key.create"}).json()
    assert [item["facts"] for item in page["items"]] == [{"scopes": ["run:read"]}]
