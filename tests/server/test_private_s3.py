"""Rotation, sweeping and shredding with the blobs on S3 (SeaweedFS)."""

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.server.conftest import dataset
from tests.support.s3 import S3, s3_server

from leptonai.core.errors import NotFound
from leptonai.server import rotation, shredding, sweeping
from leptonai.server.context import open_context


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


def test_on_s3(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "GRACE_SECONDS", 0.0)
    with contextlib.closing(open_context(tmp_path / "home", None, s3.url(), 30.0)) as here:
        sealed = here.sealed("ann")
        manifest, orphan = sealed.write([b"manifest"]).id, sealed.write([b"orphan"]).id
        shard, cut = here.raw.write([b"shard"]).id, here.raw.write([b"cut"]).id
        here.catalog.add(dataset(name="gone", manifest=manifest, shards=(shard,)))
        rotation.begin(here.catalog, here.keyfile, "ann")
        while not here.rotator.go_on(5.0).done:
            pass
        with sealed.open(manifest) as file:
            assert file.read() == b"manifest"
        monkeypatch.setattr(sweeping, "SKEW", timedelta(seconds=-5))  # S3's times are whole seconds
        swept = sweeping.sweep(here.catalog, here.raw, "ann", lease=timedelta(0))
        assert swept.blobs == 2
        assert {blob.id for blob in here.raw.list()} == {manifest, shard}
        for blob in (orphan, cut):
            with pytest.raises(NotFound):
                here.raw.open(blob)
        made = shredding.shred(here, "gone", "ann")
        assert (made["tried"], made["readable"], list(here.raw.list())) == (2, 0, [])
