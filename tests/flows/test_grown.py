"""Records on PostgreSQL and blobs on S3, by two URLs: the same story, two servers, and nothing readable in the bucket."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from tests.support.lepton import Lepton
from tests.support.postgres import Postgres, postgres
from tests.support.s3 import S3, s3_server
from tests.support.site import until

import leptonai
from leptonai.sdk import client

SECRET_WORD = "Petiolata-Zyxomma"
AMOUNT = 8675309.125  # a number of one row: its bytes as float64 must not be found either


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with postgres(tmp_path_factory.mktemp("postgres") / "data") as server:
        yield server


@pytest.fixture
def database(databases: Postgres) -> str:
    return databases.database()


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[S3, Path]]:
    folder = tmp_path_factory.mktemp("s3")
    with s3_server(folder) as server:
        yield server, folder / "data"


def patients(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    path = folder / "patients.csv"
    lines = ["name,amount,age,label"]
    for i in range(400):
        age = rng.integers(20, 90)
        amount = AMOUNT if i == 17 else round(float(rng.normal(100, 10)), 3)
        lines.append(f"{SECRET_WORD} {i},{amount},{age},{'ill' if age > 55 else 'well'}")
    path.write_text("\n".join(lines) + "\n")
    return path


def found_in(folder: Path, *needles: bytes) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if any(needle in path.read_bytes() for needle in needles)]


def post(url: str, row: dict[str, Any], key: str) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return httpx.post(url, json={"rows": [row]}, headers=headers, trust_env=False, timeout=30)


@pytest.mark.timeout(400)
def test_the_same_story_on_a_real_database_and_a_real_bucket(
    database: str, s3: tuple[S3, Path], tmp_path: Path
) -> None:
    server, bucket = s3
    where = {"LEPTONAI_DATABASE_URL": database, "LEPTONAI_STORE_URL": server.url("grown")}
    first, second = Lepton(tmp_path / "first", **where), Lepton(tmp_path / "second", **where)

    with first.up() as up:
        client.connect(host=up.url, api_key=up.key)
        try:
            data = leptonai.create_dataset("patients", files=patients(tmp_path), types={"name": "text"})
            assert data.rows == 400
            train, test = data.split(0.75, seed=0)
            model = leptonai.Model(RandomForestClassifier(n_estimators=20, random_state=0))
            model.fit(train, features=["amount", "age"])
            assert model.evaluate(test).metrics["accuracy"] > 0.9
            version = model.publish("patients", aliases=["champion"])
            service = version.deploy("patients")
            assert service.predict({"amount": 100.0, "age": 80})["label"] == "ill"
            row = {"amount": 100.0, "age": 25}
            answer = post(service.url, row, up.key)
            assert answer.status_code == 200, answer.text
            assert post(service.url, row, "").status_code == 401
            assert answer.json()["predictions"][0]["label"] == "well"

            # A second server on the same database, with the same key file, knows all of it.
            second.home.mkdir(mode=0o700)
            (second.home / "kek.key").write_bytes((first.home / "kek.key").read_bytes())
            (second.home / "kek.key").chmod(0o600)
            with second.up("--no-agent") as other:
                assert other.key == "", "the first admin key is there already"
                theirs = leptonai.Client(host=other.url, api_key=up.key)
                try:
                    assert theirs.http.call("GET", "/datasets/patients")["digest"] == data.digest
                    assert theirs.http.call("GET", "/models/patients@champion")["id"] == version.record.id
                    assert len(theirs.http.call("GET", "/datasets/patients/preview")["rows"]) > 0
                    # A key that the second one makes opens the first one's plane, and that it revokes fails within a second.
                    asked = {"name": "caller", "scopes": ["service:predict:patients"]}
                    secret = theirs.http.call("POST", "/keys", json=asked)["secret"]
                    until(lambda: post(service.url, row, secret).status_code == 200, 10)
                    theirs.http.call("DELETE", "/keys/caller")
                    until(lambda: post(service.url, row, secret).status_code == 401, 1)
                finally:
                    theirs.close()

            # What lies in the bucket and in the home folders says nothing.
            needles = (SECRET_WORD.encode(), np.float64(AMOUNT).tobytes(), np.float32(AMOUNT).tobytes(), b"8675309.125")
            assert sum(path.stat().st_size for path in bucket.rglob("*.dat")) > 10_000
            assert found_in(bucket, *needles) == []
            assert found_in(first.home, *needles) == []
            assert found_in(second.home, *needles) == []
        finally:
            client.disconnect()

    # It all stays when the server has gone, and comes back with another.
    with first.up() as again:
        client.connect(host=again.url, api_key=up.key)
        try:
            assert leptonai.get_dataset("patients").digest == data.digest
            asked = leptonai.get_service("patients")
            until(lambda: asked.refresh().status.state == "ready", 60)
            assert asked.predict({"amount": 100.0, "age": 80})["label"] == "ill"
        finally:
            client.disconnect()


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"LEPTONAI_DATABASE_URL": "postgresql://nobody:secretword@127.0.0.1:1/none"}, ["database", "127.0.0.1"]),
        ({"LEPTONAI_DATABASE_URL": "oracle://x"}, ["oracle", "postgresql"]),
        ({"LEPTONAI_STORE_URL": "s3://"}, ["s3://", "bucket"]),
        ({"LEPTONAI_STORE_URL": "ftp://a/b"}, ["ftp", "s3"]),
    ],
)
def test_a_url_that_leads_nowhere_is_one_sentence(variables: dict[str, str], says: list[str], tmp_path: Path) -> None:
    said = Lepton(tmp_path / "user", **variables)("up", "--port", "0", code=1)
    assert said.startswith("lepton: ")
    assert [word for word in says if word not in said] == [], said
    assert "secretword" not in said


def test_without_the_key_file_it_says_what_is_missing(database: str, s3: tuple[S3, Path], tmp_path: Path) -> None:
    where = {"LEPTONAI_DATABASE_URL": database, "LEPTONAI_STORE_URL": s3[0].url("other")}
    home = Lepton(tmp_path / "first", **where)
    (home.folder / "t.csv").write_text("a,label\n1,x\n2,y\n")
    with home.up():
        home("dataset", "create", "t", "t.csv")
    said = Lepton(tmp_path / "stranger", **where)("up", "--port", "0", code=1)
    assert str(tmp_path / "stranger" / "home" / "kek.key") in said
    assert not (tmp_path / "stranger" / "home" / "kek.key").exists(), "a fresh key would open nothing"
