"""Personal data on a server: who reads it by which key, from import to training."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars  # noqa: F401  # it sets a variable when it is first imported
import pytest

import leptonai
from leptonai.core.errors import Denied, Invalid, NotFound
from leptonai.sdk import client, runs

ROWS = "name,email,salary,age,label\n" + "".join(
    f"Person Number{n},p{n}@example.org,{1000 + n},{20 + n % 50},{'yes' if n % 50 > 24 else 'no'}\n" for n in range(400)
)


@contextmanager
def as_key(home: Path, *scopes: str) -> Iterator[None]:
    """Work with a key that has these scopes, at the same server."""
    http = client.current().http
    name = f"key-{len(list(http.pages('/keys', limit=100)))}"
    secret = http.call("POST", "/keys", json={"name": name, "scopes": list(scopes)})["secret"]
    url = json.loads((home / "server.json").read_text())["url"]
    kept = client._current
    client._current = None
    try:
        client.connect(host=url, api_key=secret)
        yield
    finally:
        client.disconnect()
        client._current = kept


def test_personal_columns_from_import_to_training(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text(ROWS)
    plain = leptonai.create_dataset("plain", files=path, target="label")
    found = plain.find_pii()
    assert {one.column: one.kind for one in found} == {"name": "name", "email": "email"}
    assert found.columns == ("name", "email")
    assert "@example" not in repr(found) + str(found.to_dict())
    made = leptonai.create_dataset("people", files=path, target="label", pii=["name", "email", "salary"])
    assert "name: text, personal" in repr(made)
    assert made.find_pii().report.marked == ("name", "email", "salary")
    assert [row["email"] for row in made.head(2)] == ["<pii>", "<pii>"]
    assert made.describe()["email"] == {"type": "text", "count": 400, "missing": 0}
    assert leptonai.create_dataset("people", files=path, target="label", pii=["name", "email", "salary"]).version == 1
    record = made.record
    with as_key(home, "dataset:write", "run:write"):
        http = client.current().http
        assert leptonai.get_dataset("people").head(1)[0]["name"] == "<pii>"
        for blob in record.pii:
            for what in ("", "/key", "/raw"):
                with pytest.raises(Denied, match="dataset:pii"):
                    http.call("GET", f"/blobs/{blob}{what}")
        run = runs.submit(http, "train", {"data": "datasets:/people@v1", "epochs": 2})
        ended = runs.follow(http, run.id, title="train")
        assert ended.result is not None
        assert [f["column"] for f in ended.result["encoding"]["features"]] == ["age"]
        assert not set(record.pii) & set(ended.opens)
        with pytest.raises(Denied, match=r"column 'salary' of dataset people@v1 is personal.*dataset:pii") as caught:
            runs.submit(http, "train", {"data": "datasets:/people@v1", "features": ["age", "salary"]})
        assert caught.value.about["permission"] == "dataset:pii"
        with pytest.raises(Invalid, match="is not a blob"):
            http.call("GET", "/blobs/pepper%20of%20people/key")
        with pytest.raises(Denied):
            http.call("POST", "/datasets/people/pepper")
    with as_key(home, "dataset:pii", "run:write"):
        http = client.current().http
        for blob in record.pii:
            assert http.call("GET", f"/blobs/{blob}/key")["uid"]
        run = runs.submit(http, "train", {"data": "datasets:/people@v1", "features": ["age", "salary"], "epochs": 1})
        assert set(record.pii) <= set(run.opens)
        http.call("POST", f"/runs/{run.id}/cancel")


def test_what_a_run_leaves_for_its_next_attempt_shows_no_personal_key(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text(ROWS)
    made = leptonai.create_dataset("people", files=path, target="label", pii=["name", "email", "salary"])
    run = client.current().http.call("GET", f"/runs/{made.record.run}")
    words = json.dumps([run["result"], run["checkpoint"], run["spec"]])
    with as_key(home, "dataset:read", "run:read"):
        http = client.current().http
        for blob in (run["checkpoint"] or {}).values():
            words += http.download(f"/blobs/{blob}").decode()
        words += http.download(f"/blobs/{made.record.manifest}").decode()
    keys = json.loads(client.current().http.download(f"/blobs/{made.record.pii[0]}"))["keys"]
    assert len(keys) == 3
    assert not any(key in words for key in keys.values())
    assert "@example.org" not in words


def test_a_dataset_is_shredded(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text(ROWS)
    made = leptonai.create_dataset("people", files=path, target="label", pii=["name", "email", "salary"])
    labelled = made.relabel({0: "yes"})
    assert labelled.polars(["email", "label"]).row(0) == ("p0@example.org", "yes"), "personal columns come along"
    assert [column.name for column in labelled.columns if column.pii] == ["name", "email", "salary"]
    blobs = home / "blobs"
    held = {one.name for one in blobs.rglob("*") if one.is_file()}
    receipt = made.shred()
    assert receipt["readable"] == 0
    assert receipt["tried"] == len(receipt["destroyed"])
    assert receipt["tried"] >= len(made.record.shards) + len(labelled.record.shards) + 2
    left = {one.name for one in blobs.rglob("*") if one.is_file()}
    assert len(held) - len(left) >= len(made.record.shards) + 2, "the file that was uploaded is gone as well"
    with pytest.raises(NotFound):
        leptonai.get_dataset("people")
    (listed,) = client.current().http.call("GET", "/audit/receipts")["items"]
    assert listed["valid"]
    path.write_text(ROWS.replace("Person", "Human"))
    assert leptonai.create_dataset("people", files=path, target="label", pii=["name"]).version == 1
