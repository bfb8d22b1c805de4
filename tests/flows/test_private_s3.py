"""A dataset with personal columns in a real bucket, from its import to the moment when nothing of it is left."""

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import obstore
import polars  # noqa: F401  # it sets a variable when it is first imported
import pytest
from obstore.store import from_url
from tests.support.home import data_home
from tests.support.s3 import ACCESS, BUCKET, S3, SECRET, s3_server

import leptonai
from leptonai.core.errors import LeptonError, NotFound
from leptonai.core.nouns import Blob, Dataset
from leptonai.sdk import client
from leptonai.server import rotation, sweeping
from leptonai.server.context import open_context

WORD = "Zyxomma-Petiolata"
ROWS = "name,email,age,city,label\n" + "".join(
    f"{WORD} {n},p{n}@example.org,{20 + n % 50},{['Paris ', 'Lyon'][n % 2]},{'yes' if n % 50 > 24 else 'no'}\n"
    for n in range(300)
)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[S3, Path]]:
    folder = tmp_path_factory.mktemp("s3")
    with s3_server(folder) as server:
        yield server, folder / "data"


@pytest.fixture
def home(s3: tuple[S3, Path], tmp_path: Path) -> Iterator[Path]:
    """A server whose blobs lie in the bucket."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEPTONAI_STORE_URL", s3[0].url("private"))
        with data_home(tmp_path / "home") as folder:
            yield folder


def stored(s3: S3) -> dict[str, bytes]:
    """Return what lies in the bucket."""
    config = {"endpoint": s3.endpoint, "region": "us-east-1", "access_key_id": ACCESS, "secret_access_key": SECRET}
    store = from_url(f"s3://{BUCKET}/private", config=config, client_options={"allow_http": True})  # type: ignore[call-overload]
    names = [one["path"] for page in obstore.list(store) for one in page]
    return {name: bytes(obstore.get(store, name).bytes()) for name in names}


def rotate() -> None:
    begin = True
    while not client.current().http.call("POST", "/keys/rotation", json={"begin": begin})["done"]:
        begin = False


@pytest.mark.slow
def test_from_import_to_nothing(
    s3: tuple[S3, Path], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leptonai.get_dataset("first").delete()
    path = tmp_path / "people.csv"
    path.write_text(ROWS)
    made = leptonai.create_dataset("people", files=path, target="label", pii=["name", "email"])
    keys = (home / "kek.key").read_bytes()
    rotate()
    assert (home / "kek.key").read_bytes() != keys
    frame = made.polars()
    assert frame["name"].to_list() == [f"{WORD} {n}" for n in range(300)], "a rotation leaves all readable"

    clean = made.clean("text:city")
    assert clean.polars()["city"][0] == "Paris"
    labelled = clean.relabel({0: "yes", 1: "yes"})
    more = tmp_path / "more.csv"
    more.write_text(ROWS[: ROWS.index("\n") + 1] + f"{WORD} more,m@example.org,33,Lyon,no\n")
    grown = labelled.append(more)
    task = grown.label_task(rows=[0, 1, 2])
    task.answer({0: "yes"})
    grown.profile()
    rotate()
    assert (grown.version, grown.rows) == (4, 301)
    assert [set(one.polars(["name"])["name"].head(1)) for one in (made, clean, labelled, grown)] == [{f"{WORD} 0"}] * 4

    before = stored(s3[0])
    assert len(before) >= len(grown.record.shards) + 4
    needles = (WORD.encode(), b"@example.org")
    assert [name for name, data in before.items() if any(needle in data for needle in needles)] == []

    receipt = grown.shred()
    assert (len(receipt["versions"]), receipt["readable"], receipt["tried"]) == (4, 0, len(receipt["destroyed"]))
    with pytest.raises(NotFound):
        leptonai.get_dataset("people@v1")
    (listed,) = client.current().http.call("GET", "/audit/receipts")["items"]
    assert listed["valid"]
    rotate()
    client.disconnect()

    monkeypatch.setattr(sweeping, "SKEW", timedelta(seconds=-5))  # S3's times are whole seconds
    monkeypatch.setattr(rotation, "GRACE_SECONDS", 0.0)
    with contextlib.closing(open_context(home, None, s3[0].url("private"), 30.0)) as here:
        sweeping.sweep(here.catalog, here.raw, "ann", lease=timedelta(0))
        assert list(here.raw.list()) == []
        assert stored(s3[0]) == {}
        assert [key.id for key in here.catalog.find(Blob, limit=10)] == ["kek"], "the key of the keys, and no other"
        assert here.catalog.find(Dataset, limit=10) == []
        opened = []
        for name, data in before.items():  # somebody kept a copy of each blob, and puts it back
            assert here.raw.write([data]).id == name.replace("/", "")
            with contextlib.suppress(LeptonError), here.sealed("ann").open(name.replace("/", "")) as file:
                opened.append((name, file.read(1)))
        assert opened == []
        found = [one for one in home.rglob("*") if one.is_file() and any(n in one.read_bytes() for n in needles)]
        assert found == [], "nothing of the values lies in the home folder either"
