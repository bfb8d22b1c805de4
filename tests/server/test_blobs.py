"""Blobs over HTTP: what was announced is what is kept, nothing half-done is seen, and who may read what."""

import base64
import hashlib
import os
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from tests.server.conftest import Place, dataset, digest, model, run, service

from leptonai.core.errors import DiskFull
from leptonai.core.nouns import Blob
from leptonai.server import strict, uploads


def stored(place: Place) -> list[Any]:
    return [*place.context.raw.list(), *place.context.catalog.find(Blob)]


def test_what_is_uploaded_comes_back_and_lies_there_sealed(place: Place) -> None:
    data = os.urandom(3 << 20) + b"a plaintext that must not be found"
    blob = place.upload(data)
    answer = place.ask("GET", f"/blobs/{blob}")
    assert answer.content == data
    assert answer.headers["content-length"] == str(len(data))
    assert answer.headers["content-disposition"] == "attachment"
    raw = place.ask("GET", f"/blobs/{blob}/raw").content
    assert hashlib.sha256(raw).hexdigest() == blob
    assert b"must not be found" not in raw
    assert place.ask("GET", f"/blobs/{place.upload(b'')}").content == b""


def test_an_upload_is_what_was_announced_or_nothing(place: Place) -> None:
    for headers in ({}, {"content-digest": "md5=:abc:"}, digest(b"other"), {"content-digest": "sha-256=:AAAA:"}):
        for path in ("/blobs", "/blobs/raw"):
            answer = place.ask("POST", path, content=b"data", headers=headers)
            assert answer.status_code == 422
            assert "Content-Digest" in answer.json()["detail"]
    assert stored(place) == []


def test_an_upload_that_breaks_off_leaves_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks() -> Iterator[bytes]:
        yield b"x" * 100_000
        raise RuntimeError("the cable was pulled")

    with pytest.raises(RuntimeError, match="cable"):
        place.ask("POST", "/blobs", content=breaks(), headers=digest(b"x" * 200_000))
    monkeypatch.setattr(uploads, "MAX_BYTES", 1000)
    assert place.ask("GET", "/health").status_code == 200
    assert stored(place) == []
    assert not [*(place.home / "blobs" / "tmp").iterdir()] or place.ask("GET", "/health")


def test_an_upload_over_the_limit_is_cut(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads.Uploads.store, "__defaults__", (1 << 20,))
    data = b"x" * (2 << 20)
    answer = place.ask("POST", "/blobs", content=data, headers=digest(data))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert stored(place) == []


def test_who_falls_silent_is_cut_off(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setattr(strict, "SILENT_SECONDS", 0.2)

    def slow() -> Iterator[bytes]:
        yield b"x"
        time.sleep(1.5)
        yield b"y"

    try:
        answer = place.ask("POST", "/blobs", content=slow(), headers=digest(b"xy"))
        assert answer.status_code == 422
    except Exception as error:
        assert type(error).__name__ in ("WriteError", "ReadError", "RemoteProtocolError")
    assert stored(place) == []


def test_too_many_uploads_at_once_are_told_to_come_back(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "AT_ONCE", 0)
    answer = place.ask("POST", "/blobs", content=b"x", headers=digest(b"x"))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


def test_a_full_disk(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(chunks: Iterator[bytes]) -> None:
        next(chunks)
        raise DiskFull("the disk is full")

    monkeypatch.setattr(place.context.raw, "write", full)
    answer = place.ask("POST", "/blobs", content=b"x", headers=digest(b"x"))
    assert (answer.status_code, answer.json()["code"]) == (507, "disk_full")


def test_a_damaged_blob_is_an_error_and_no_data(place: Place) -> None:
    blob = place.upload(b"x" * 5000)
    path = next((place.home / "blobs").glob(f"{blob[:2]}/{blob[2:]}"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    answer = place.ask("GET", f"/blobs/{blob}")
    assert answer.json()["code"] == "corrupt"
    assert answer.status_code == 500


def test_uploads_resume_for_their_owner_only(place: Place) -> None:
    one, two = place.key("dataset:write", name="one"), place.key("dataset:write", name="two")
    blob = place.upload(b"part", one)
    asked = {"digests": [hashlib.sha256(b"part").hexdigest(), "0" * 64]}
    assert place.ask("POST", "/blobs/known", one, json=asked).json()["known"] == {asked["digests"][0]: blob}
    assert place.ask("POST", "/blobs/known", two, json=asked).json()["known"] == {}
    assert place.ask("POST", "/blobs/known", one, json={"digests": ["../x"]}).status_code == 422


def test_a_key_reads_what_it_stored_and_what_its_permission_names(place: Place) -> None:
    imported, trained = run(stage="import"), run(stage="train")
    place.context.catalog.add(imported, trained)
    of_import = place.context.sealed(imported.id).write([b"rows"]).id
    of_train = place.context.sealed(trained.id).write([b"weights"]).id
    tokens = {
        p: place.key(p, name=p.replace(":", "-")) for p in ("dataset:read", "run:read", "model:read", "dataset:write")
    }
    own = place.upload(b"mine", tokens["dataset:write"])
    may = {
        (of_import, "dataset:read"), (of_import, "dataset:write"), (of_train, "run:read"), (own, "dataset:write"),
    }  # fmt: skip
    for blob in (of_import, of_train, own):
        for permission, token in tokens.items():
            expected = 200 if (blob, permission) in may else 403
            for tail in ("", "/key", "/raw"):
                answer = place.ask("GET", f"/blobs/{blob}{tail}", token)
                assert answer.status_code == expected, (permission, tail, answer.text)


def test_nobody_reads_by_a_run_what_he_may_not_read_himself(place: Place) -> None:
    victim, thief = place.key("dataset:write", name="victim"), place.key("dataset:write", name="thief")
    blob = place.upload(b"a,b\n1,2\n", victim)
    spec = {"name": "loot", "files": [{"name": "a.csv", "size": 8, "parts": [blob]}]}
    answer = place.ask("POST", "/runs", thief, json={"stage": "import", "spec": spec})
    assert answer.status_code == 403
    assert place.ask("POST", "/runs", victim, json={"stage": "import", "spec": spec}).status_code == 201


def test_the_token_of_a_run_opens_only_what_the_run_names(place: Place) -> None:
    made = place.submit()
    named, secret = made["opens"][0], place.upload(b"something else")
    claim = place.claim()
    token, id = claim["token"], made["id"]
    other = run(stage="train")
    place.context.catalog.add(other, dataset(manifest=secret))
    assert place.ask("GET", f"/blobs/{named}", token).status_code == 200
    assert place.ask("GET", f"/runs/{id}", token).status_code == 200
    for path in (
        f"/blobs/{secret}",
        f"/blobs/{secret}/key",
        f"/blobs/{secret}/raw",
        f"/runs/{other.id}",
        "/datasets/things",
    ):
        answer = place.ask("GET", path, token)
        assert (path, answer.status_code) == (path, 403)
    for path in ("events", "checkpoint", "finish"):
        body = {"epoch": 1, "events": [], "files": {}, "state": "failed"}
        wanted = {"events": ("epoch", "events"), "checkpoint": ("epoch", "files"), "finish": ("epoch", "state")}[path]
        answer = place.ask("POST", f"/runs/{other.id}/{path}", token, json={k: body[k] for k in wanted})
        assert (path, answer.status_code) == (path, 403)
    mine = place.upload(b"made by the run", token)
    assert place.ask("GET", f"/blobs/{mine}", token).content == b"made by the run"
    sealed = secrets.token_bytes(100)
    raw = place.upload(sealed, token, "/blobs/raw")
    key = {"uid": "uid_1", "secret": base64.b64encode(b"k" * 32).decode(), "size": 5, "plain": "0" * 64}
    assert place.ask("PUT", f"/blobs/{raw}/key", token, json=key).status_code == 204
    assert place.ask("PUT", f"/blobs/{raw}/key", token, json=key).status_code == 204
    assert place.ask("GET", f"/blobs/{raw}/key", token).json() == {"uid": "uid_1", "secret": key["secret"]}
    stolen = place.ask("PUT", f"/blobs/{secret}/key", token, json=key)
    assert stolen.status_code == 409, "a key that exists is never replaced"
    assert place.ask("GET", f"/blobs/{secret}", token).status_code == 403
    place.ask("POST", f"/runs/{id}/cancel")
    place.ask("POST", f"/runs/{id}/finish", "agent", json={"epoch": 1, "state": "cancelled"})
    assert place.ask("GET", f"/blobs/{named}", token).status_code == 403, "nothing is open once the run has ended"


@pytest.mark.parametrize("field", ["uid", "secret", "size", "plain"])
def test_a_key_that_is_none(place: Place, field: str) -> None:
    key = {"uid": "uid_1", "secret": base64.b64encode(b"k" * 32).decode(), "size": 5, "plain": "0" * 64}
    for value in ("../x", -1, None, "AAAA"):
        answer = place.ask("PUT", f"/blobs/{'0' * 64}/key", json={**key, field: value})
        assert answer.status_code == 422
        assert field in answer.json()["detail"]


def test_an_agent_reads_what_its_site_serves(place: Place) -> None:
    blob, other = place.upload(b"onnx"), place.upload(b"other")
    published = model(files={"model.onnx": blob})
    place.context.catalog.add(published, service(published))
    assert place.ask("GET", f"/blobs/{blob}/key", "agent").status_code == 200
    assert place.ask("GET", f"/blobs/{other}/key", "agent").status_code == 403
    edge = place.key("site:agent:edge", name="edge")
    assert place.ask("GET", f"/blobs/{blob}/key", edge).status_code == 403


def test_the_token_of_a_run_follows_what_its_spec_names_to_where_that_came_from(place: Place) -> None:
    trained = run(stage="train", spec={"data": "datasets:/x@v1"})
    exported = run(stage="export", spec={"run": trained.id})
    stranger = run(stage="train", spec={})
    place.context.catalog.add(trained, exported, stranger)
    made = run(stage="evaluate", spec={"deep": [{"run": exported.id}]}, state="running", token=hash_of("secret"))
    place.context.catalog.add(made)
    token = f"lrt_{made.id}~secret"
    found = {
        one.id: place.ask("GET", f"/runs/{one.id}", token).status_code for one in (exported, trained, stranger, made)
    }
    assert found == {exported.id: 200, trained.id: 200, stranger.id: 403, made.id: 200}


def hash_of(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
