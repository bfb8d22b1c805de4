"""Garbage collection never takes what a record names, whatever it is cut at; and shredding leaves nothing that opens."""

import contextlib
import os
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.server.conftest import Place, dataset, model

from leptonai.core.errors import LeptonError, NotFound
from leptonai.core.nouns import Audit, Blob, Dataset, Run
from leptonai.core.states import RunState
from leptonai.server import holding, peppers, shredding, sweeping
from leptonai.server.context import Context, open_context

NONE = timedelta(0)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Context]:
    with contextlib.closing(open_context(tmp_path / "home", None, None, 30.0)) as context:
        yield context


def sealed(here: Context, text: str, owner: str = "ann") -> str:
    return here.sealed(owner).write([text.encode()]).id


def raw(here: Context, text: str) -> str:
    return here.raw.write([text.encode()]).id


def readable(here: Context, blob: str) -> bool:
    try:
        with here.raw.open(blob) as file:
            return bool(file.read())
    except LeptonError:
        return False


@pytest.fixture(autouse=True)
def one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "SKEW", timedelta(seconds=0.03))  # the kernel's, of which files have their times


class World:
    """A home with everything that names blobs, and with blobs that nothing names."""

    def __init__(self, here: Context):
        self.named = {
            word: sealed(here, word) for word in ("manifest", "pii", "weights", "onnx", "part", "state", "report")
        }
        self.named |= {word: raw(here, word) for word in ("shard", "shared")}
        self.orphans = [sealed(here, f"orphan {n}") for n in range(3)] + [raw(here, f"cut {n}") for n in range(3)]
        self.used = sealed(here, "a file whose import is over")
        n = self.named
        here.catalog.add(
            dataset(name="one", manifest=n["manifest"], pii=(n["pii"],), shards=(n["shard"], n["shared"])),
            dataset(name="two", manifest=n["manifest"], shards=(n["shared"],)),
            model(files={"model.onnx": n["onnx"]}),
            Run.new(
                stage="train", spec={}, state=RunState.SUCCEEDED, result={"weights": n["weights"], "deep": [{"x": 1}]}
            ),
            Run.new(stage="clean", spec={}, state=RunState.SUCCEEDED, result={"report": n["report"]}),
            Run.new(
                stage="import", spec={"files": [{"parts": [self.used]}]}, state=RunState.SUCCEEDED, opens=(self.used,)
            ),
        )
        time.sleep(0.06)
        self.run = Run.new(stage="import", spec={"files": [{"parts": [n["part"]]}]}, checkpoint={"shards": n["state"]})
        here.catalog.add(self.run)
        self.late = [sealed(here, "of a Run that goes on"), raw(here, "its shard")]

    def bad(self, here: Context) -> list[str]:
        """Return what is named and cannot be read."""
        found = [word for word, blob in self.named.items() if not readable(here, blob)]
        for word in ("manifest", "pii", "weights", "onnx", "part", "state", "report"):
            try:
                here.sealed("x").open(self.named[word]).close()
            except LeptonError:
                found.append(word)
        return found + [blob for blob in self.late if not readable(here, blob)]

    def left(self, here: Context) -> int:
        return sum(readable(here, blob) for blob in (*self.orphans, self.used))


def test_what_nothing_names_goes_after_the_lease(here: Context) -> None:
    world = World(here)
    assert sweeping.sweep(here.catalog, here.raw, "ann").blobs == 0, "all of it is younger than a day"
    time.sleep(0.05)
    told = sweeping.sweep(here.catalog, here.raw, "ann", lease=NONE, dry_run=True)
    assert (told.blobs, told.kept, world.left(here)) == (7, 2, 7)
    assert sweeping.sweep(here.catalog, here.raw, "ann", lease=NONE) == told
    assert (world.left(here), world.bad(here)) == (0, [])
    (row,) = here.catalog.find(Audit, {"name": "blobs.sweep"})
    assert (row.by, row.facts["blobs"]) == ("ann", 7)
    assert sweeping.sweep(here.catalog, here.raw, "ann", lease=NONE).blobs == 0


class Cut(BaseException):
    """The power is gone."""


class Cutting:
    """A catalog or a store that ends at the n-th change: before it has an effect, or just after."""

    def __init__(self, inner: Any, count: list[int], at: int, after: bool):
        self._inner, self._count, self._at, self._after = inner, count, at, after

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if name not in ("change", "add", "delete"):
            return method

        def step(*given: Any, **more: Any) -> Any:
            self._count[0] += 1
            if self._count[0] == self._at and not self._after:
                raise Cut
            found = method(*given, **more)
            if self._count[0] == self._at:
                raise Cut
            return found

        return step


@pytest.mark.parametrize("after", [False, True])
def test_a_sweep_that_is_cut_anywhere(tmp_path: Path, after: bool) -> None:
    bad = left = trials = at = 0
    cut = True
    with contextlib.closing(open_context(tmp_path / "home", None, None, 30.0)) as here:
        while cut:
            at, cut = at + 1, False
            world = World(here)
            count = [0]
            catalog, store = Cutting(here.catalog, count, at, after), Cutting(here.raw, count, at, after)
            try:
                sweeping.sweep(catalog, store, "ann", lease=NONE)
            except Cut:
                cut = True
            bad += len(world.bad(here))
            sweeping.sweep(here.catalog, here.raw, "ann", lease=NONE)
            bad, left, trials = bad + len(world.bad(here)), left + world.left(here), trials + 1
            here.catalog.change(drop=(*holding.every(here.catalog, Run), *holding.every(here.catalog, Dataset)))
            for kind in (type(model()),):
                here.catalog.change(drop=tuple(holding.every(here.catalog, kind)))
    print(f"sweep: lost {bad}/{trials}, orphans left {left}/{trials}")
    assert trials > 10
    assert (bad, left) == (0, 0)


def test_an_upload_that_is_known_waits_for_another_lease(here: Context) -> None:
    import hashlib

    blob = sealed(here, "old")
    record = here.catalog.get(Blob, blob)
    keyring = here.keyring("ann")
    plain = hashlib.sha256(b"old").hexdigest()
    assert keyring.known([plain]) == {plain: blob}
    from leptonai.server import keys

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(keys, "_FRESH", timedelta(0))
        assert keyring.known([plain]) == {plain: blob}
        assert here.catalog.get(Blob, blob).updated > record.updated
        here.catalog.change(drop=(here.catalog.get(Blob, blob),))
        assert keyring.known([plain]) == {}


def test_a_version_that_shares_its_shards_is_deleted_alone(place: Place) -> None:
    here = place.context
    world = World(here)
    assert place.ask("DELETE", "/datasets/two@v1").status_code == 204
    assert world.bad(here) == []
    assert place.ask("DELETE", "/datasets/one@v1").status_code == 204
    assert not readable(here, world.named["shared"])


# ----------------------------------------------------------------------------------------------- shredding


def test_shredding_by_http_leaves_a_receipt_that_is_signed(place: Place) -> None:
    here = place.context
    world = World(here)
    pepper = peppers.of(here, "one")
    here.catalog.change(world.run.model_copy(update={"opens": (world.named["shard"],)}))
    answer = place.ask("POST", "/datasets/one/shred")
    assert answer.status_code == 409
    assert world.run.id in answer.json()["detail"]
    here.catalog.change(drop=(here.catalog.get(Run, world.run.id),))
    first = here.keyfile.current
    made = place.ask("POST", "/datasets/one/shred").json()
    assert made["shared"] == [world.named["manifest"], world.named["shared"]]
    assert set(made["destroyed"]) == {world.named["pii"], world.named["shard"], "pepper of one"}
    assert (made["tried"], made["readable"], made["keys"]) == (3, 0, 2)
    assert not readable(here, world.named["shard"])
    with pytest.raises(NotFound):
        here.sealed("x").open(world.named["pii"])
    assert readable(here, world.named["shared"])
    assert here.keyfile.current != first, "what a backup keeps of the records opens nothing"
    assert peppers.of(here, "one") != pepper
    (receipt,) = place.ask("GET", "/audit/receipts").json()["items"]
    assert (receipt["id"], receipt["subject"], receipt["valid"]) == (made["id"], "one", True)
    assert place.ask("POST", "/datasets/one/shred").status_code == 404
    stored = here.catalog.get(Audit, receipt["id"])
    for change in ({"readable": 1}, {"destroyed": []}, {"signature": "AAAA"}):
        forged = stored.model_copy(update={"facts": {**stored.facts, **change}})
        assert not shredding.valid(here, forged)
    assert not shredding.valid(here, stored.model_copy(update={"subject": "two"}))


@pytest.mark.parametrize("after", [False, True])
def test_shredding_that_is_cut_is_finished_by_shredding_again(here: Context, after: bool) -> None:
    for at in range(1, 9):
        blobs = [sealed(here, f"manifest {at}"), raw(here, f"shard {at}")]
        here.catalog.add(dataset(name="gone", manifest=blobs[0], shards=(blobs[1],)))
        count = [0]
        real = here.catalog, here.raw
        here.catalog, here.raw = Cutting(real[0], count, at, after), Cutting(real[1], count, at, after)  # type: ignore[assignment]
        with contextlib.suppress(Cut):
            shredding.shred(here, "gone", "ann")
        here.catalog, here.raw = real
        with contextlib.suppress(NotFound):  # it was not cut
            shredding.shred(here, "gone", "ann")
        assert not any(readable(here, blob) for blob in blobs)
        with pytest.raises(NotFound):
            here.sealed("x").open(blobs[0])
        assert shredding._unfinished(here, "gone") is None
        receipts = here.catalog.find(Audit, {"name": shredding.DONE, "subject": "gone"})
        assert len(receipts) == at
        assert all(shredding.valid(here, receipt) for receipt in receipts)


def test_what_was_uploaded_goes_with_the_version(here: Context) -> None:
    part, manifest = sealed(here, "the file"), sealed(here, "manifest")
    run = Run.new(
        stage="import", spec={"files": [{"parts": [part]}]}, state=RunState.SUCCEEDED, result={"columns": ["secret"]}
    )
    here.catalog.add(run, dataset(name="gone", manifest=manifest, run=run.id))
    made = shredding.shred(here, "gone", "ann")
    assert part in made["destroyed"]
    with pytest.raises(NotFound):
        here.sealed("ann").open(part)
    with pytest.raises(NotFound):
        here.catalog.get(Run, run.id)


def test_written_is_the_time_of_the_last_write(here: Context) -> None:
    blob = raw(here, "x")
    store: Any = here.raw
    path = store._path(blob)
    os.utime(path, (1_000_000_000, 1_000_000_000))
    assert here.raw.written(blob).year == 2001
    assert raw(here, "x") == blob
    assert here.raw.written(blob).year > 2020
    with pytest.raises(NotFound):
        here.raw.written("0" * 64)
