"""Buckets that deny, databases that are not there, key files that are not the right ones: one sentence each, and no secret stays anywhere."""

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import obstore
import pytest
from obstore.store import from_url
from tests.support.s3 import ACCESS, BUCKET, S3, SECRET, s3_server

import leptonai
from leptonai.core.errors import Corrupt, Invalid, LeptonError, NotFound
from leptonai.server.context import open_context

CSV = b"a,y\n" + b"".join(b"%d,%d\n" % (n, n % 2) for n in range(40))


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


def put(s3: S3, prefix: str) -> None:
    config = {"endpoint": s3.endpoint, "region": "us-east-1", "access_key_id": ACCESS, "secret_access_key": SECRET}
    store = from_url(f"s3://{BUCKET}", config=config, client_options={"allow_http": True})  # type: ignore[call-overload]
    obstore.put(store, f"{prefix}/t.csv", CSV)


def everything(home: Path) -> Iterator[tuple[Path, bytes]]:
    """Yield all files of a home folder, the database and its journal among them."""
    for path in home.rglob("*"):
        if path.is_file():
            yield path, path.read_bytes()


def test_a_bucket_that_denies(s3: S3, home: Path) -> None:
    put(s3, "some")
    for url in (s3.url("some", secret="a-wrong-secret"), s3.url("some", bucket="another-bucket"), s3.url("nothing")):
        with pytest.raises(LeptonError) as caught:
            leptonai.create_dataset("bad", files=url)
        assert caught.value.message.startswith(url.partition("?")[0])
        assert "\n" not in caught.value.message
        assert not any(word in caught.value.message for word in (SECRET, "a-wrong-secret"))
    with pytest.raises(NotFound):
        leptonai.get_dataset("bad")


def test_no_secret_of_a_bucket_or_a_database_stays(s3: S3, home: Path, tmp_path: Path) -> None:
    put(s3, "good")
    made = leptonai.create_dataset("bucket", files=s3.url("good"), target="y")
    assert made.rows == 40
    database = tmp_path / "of-secret-name.db"
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("create table t (a integer, y integer)")
        connection.executemany("insert into t values (?, ?)", [(n, n % 2) for n in range(40)])
    assert leptonai.create_dataset("asked", sql="select a, y from t", url=f"sqlite:///{database}").rows == 40
    secrets = [word.encode() for word in (SECRET, ACCESS, "of-secret-name", "secret_access_key")]
    bad = [path for path, data in everything(home) if any(secret in data for secret in secrets)]
    assert bad == []


@pytest.mark.parametrize(
    ("url", "secret"),
    [
        ("postgresql://somebody:pass-word@127.0.0.1:1/x", "pass-word"),
        ("postgresql://somebody:p%40ss-word@127.0.0.1:port/x", "ss-word"),
        ("nothing://somebody:pass-word@host/x", "pass-word"),
        ("no url with pass-word", "pass-word@"),
    ],
)
def test_a_database_that_is_not_there(url: str, secret: str) -> None:
    with pytest.raises(Invalid) as caught:
        leptonai.create_dataset("bad", sql="select 1", url=url)
    assert secret not in caught.value.message
    assert "\n" not in caught.value.message


def test_key_files_that_are_not_the_right_ones(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with contextlib.closing(open_context(tmp_path / name, None, None, 30.0)) as here:
            here.sealed("ann").write([b"rows of " + name.encode()])
    right, other = ((tmp_path / name / "kek.key").read_bytes() for name in ("one", "two"))
    path = tmp_path / "one" / "kek.key"
    shutil.copy(path, tmp_path / "kept")
    bad = []
    for what, data in (("of another home", other), ("cut", right[:-20]), ("empty", b""), ("text", b"this is no key\n")):
        path.write_bytes(data)
        try:
            with contextlib.closing(open_context(tmp_path / "one", None, None, 30.0)) as here:
                blob = next(iter(here.raw.list())).id
                with here.sealed("ann").open(blob) as file:
                    bad.append(f"{what}: read {file.read()!r}")
        except (Corrupt, NotFound) as error:
            if "key" not in error.message or "\n" in error.message:
                bad.append(f"{what}: {error.message}")
    assert bad == []
    path.write_bytes(right)
    with (
        contextlib.closing(open_context(tmp_path / "one", None, None, 30.0)) as here,
        here.sealed("ann").open(next(iter(here.raw.list())).id) as file,
    ):
        assert file.read() == b"rows of one"
