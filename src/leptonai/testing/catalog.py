"""What every Catalog must do. Subclass it, and give a `catalog` fixture that is empty and its own."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from leptonai.core.errors import Conflict, Fenced, Invalid, NotFound, Stale
from leptonai.core.nouns import Alias, Audit, Dataset, Event, Key, Run, Site, utcnow
from leptonai.core.ports import Catalog
from leptonai.core.states import RunState

MINE = ("metric", "log", "progress")  # the streams that only `append` writes
ODD = "O'Hara \"; DROP TABLE run; -- é 漢 🙂"


def run(**fields: object) -> Run:
    return Run.new(**{"stage": "train", "spec": {"data": "d"}, **fields})


def alias(model: str) -> Alias:
    return Alias.new(name="m", alias="champion", model=model)


class CatalogContract:
    """One transaction a method; compare-and-set; unique by the database; leases that only one holds; fenced series."""

    def test_what_is_added_is_there_as_it_was(self, catalog: Catalog) -> None:
        added = run(name=ODD, spec={"deep": [1, {"x": ODD}], "none": None})
        catalog.add(added)
        assert catalog.get(Run, added.id) == added
        assert catalog.find(Run, {"name": ODD}) == [added]
        with pytest.raises(NotFound):
            catalog.get(Run, "nothing' OR 1=1")

    def test_all_are_added_or_none(self, catalog: Catalog) -> None:
        first, second = run(), run()
        catalog.add(first)
        with pytest.raises(Conflict):
            catalog.add(second, first)
        with pytest.raises(NotFound):
            catalog.get(Run, second.id)

    def test_unique_is_held_by_the_database(self, catalog: Catalog) -> None:
        catalog.add(Site.new(name="home"))
        with pytest.raises(Conflict):
            catalog.add(Site.new(name="home"))
        catalog.add(alias("a"))
        with pytest.raises(Conflict):
            catalog.add(alias("b"))

    def test_find_filters_orders_and_pages(self, catalog: Catalog) -> None:
        runs = [run(name=f"n{i % 2}", parent="p" if i < 3 else None) for i in range(9)]
        catalog.add(*runs)
        assert catalog.find(Run) == runs[::-1]
        assert catalog.find(Run, oldest_first=True, limit=2) == runs[:2]
        assert catalog.find(Run, {"name": "n0", "parent": "p"}) == [runs[2], runs[0]]
        assert catalog.find(Run, {"parent": None}, limit=2, after=runs[8].id) == [runs[7], runs[6]]
        assert catalog.find(Run, {"state": ("running", "queued")}, limit=1) == [runs[8]]
        assert catalog.find(Run, {"name": ()}) == []

    def test_a_change_needs_the_revision_that_is_stored(self, catalog: Catalog) -> None:
        first = run()
        catalog.add(first)
        catalog.change(first.model_copy(update={"name": "one"}))
        with pytest.raises(Stale):
            catalog.change(first.model_copy(update={"name": "two"}))
        now = catalog.get(Run, first.id)
        assert (now.name, now.rev) == ("one", 2)
        assert now.updated >= first.updated

    def test_changes_are_all_or_none(self, catalog: Catalog) -> None:
        one, two, key = run(), run(), Key.new(name="k", digest="d", scopes=("*",))
        catalog.add(one, two, key)
        catalog.change(two)
        with pytest.raises(Stale):
            catalog.change(one.model_copy(update={"name": "x"}), two, add=(Audit.new(subject="s"),), drop=(key,))
        assert catalog.get(Run, one.id).name == ""
        assert catalog.find(Audit) == []
        catalog.change(one, add=(Audit.new(subject="s"),), drop=(key,))
        assert catalog.find(Key) == []
        with pytest.raises(Stale):
            catalog.change(drop=(key,))

    def test_one_of_many_at_once_wins(self, catalog: Catalog) -> None:
        record = run()
        catalog.add(record)

        def attempt(number: int) -> bool:
            try:
                catalog.change(record.model_copy(update={"name": str(number)}))
            except Stale:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(attempt, range(24))) == 1

    def test_claims_are_in_order_and_each_run_goes_to_one(self, catalog: Catalog) -> None:
        runs = [run() for _ in range(12)]
        catalog.add(*runs, run(site="elsewhere"))
        now = utcnow()
        with ThreadPoolExecutor(6) as pool:
            claimed = list(pool.map(lambda i: catalog.claim("home", f"a{i}", 30, now, "t"), range(14)))
        given = [r for r in claimed if r is not None]
        assert sorted(r.id for r in given) == [r.id for r in runs]
        assert claimed.count(None) == 2
        first = next(r for r in given if r.id == runs[0].id)
        assert (first.state, first.epoch, first.attempt, first.token, first.rev) == (RunState.RUNNING, 1, 1, "t", 2)
        assert first.lease_until == now + timedelta(seconds=30)

    def test_a_lost_run_is_claimed_again_with_a_higher_epoch(self, catalog: Catalog) -> None:
        record = run(max_attempts=2)
        catalog.add(record)
        now = utcnow()
        catalog.claim("home", "a", 30, now, "t")
        assert catalog.claim("home", "b", 30, now + timedelta(seconds=29), "t") is None
        second = catalog.claim("home", "b", 30, now + timedelta(seconds=31), "u")
        assert second is not None
        assert (second.epoch, second.attempt, second.agent) == (2, 2, "b")
        assert catalog.claim("home", "c", 30, now + timedelta(hours=1), "v") is None, "its attempts are used up"

    def test_a_run_that_was_stopping_is_not_given_again(self, catalog: Catalog) -> None:
        catalog.add(run())
        now = utcnow()
        claimed = catalog.claim("home", "a", 1, now, "t")
        assert claimed is not None
        catalog.change(claimed.model_copy(update={"state": RunState.STOPPING}))
        assert catalog.claim("home", "b", 1, now + timedelta(hours=1), "t") is None

    @pytest.mark.parametrize("end", [RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED])
    def test_a_run_ends_once_whatever_the_revision_says(self, catalog: Catalog, end: RunState) -> None:
        record = run()
        catalog.add(record)
        catalog.change(record.model_copy(update={"state": end}))
        ended = catalog.get(Run, record.id)
        for state in RunState:
            with pytest.raises(Conflict):
                catalog.change(ended.model_copy(update={"state": state}))
        assert catalog.get(Run, record.id) == ended

    def test_series_are_fenced_and_in_order(self, catalog: Catalog) -> None:
        catalog.add(run())
        claimed = catalog.claim("home", "a", 30, utcnow(), "t")
        assert claimed is not None
        lines = [Event(stream="log", body={"line": str(i)}) for i in range(5)]
        last = catalog.append(claimed.id, 1, [*lines, Event(stream="metric", body={"step": 1, "loss": 0.5})])
        found = catalog.series(claimed.id, streams=MINE)
        assert [e.seq for e in found] == sorted({e.seq for e in found})
        assert found[-1].seq == last
        assert found[:5] == [line.model_copy(update={"seq": e.seq}) for line, e in zip(lines, found, strict=False)]
        assert [e.stream for e in catalog.series(claimed.id, after=found[2].seq, streams=("metric",))] == ["metric"]
        assert len(catalog.series(claimed.id, limit=2)) == 2
        for epoch in (0, 2):
            with pytest.raises(Fenced):
                catalog.append(claimed.id, epoch, lines)
        catalog.change(claimed.model_copy(update={"state": RunState.SUCCEEDED}))
        with pytest.raises(Fenced):
            catalog.append(claimed.id, 1, lines)
        assert len(catalog.series(claimed.id, streams=MINE)) == 6

    def test_each_move_of_a_run_is_in_its_series(self, catalog: Catalog) -> None:
        record = run(spec={"odd": f"{ODD}\0"})
        catalog.add(record)
        now = utcnow()
        first = catalog.claim("home", "a", 1, now, "t")
        assert first is not None
        catalog.change(first.model_copy(update={"checkpoint": {"w": "b"}}))
        catalog.append(record.id, 1, [Event(stream="log", body={"line": "\0"})])
        again = catalog.claim("home", "b", 1, now + timedelta(hours=1), "u")
        assert again is not None
        ended = again.model_copy(update={"state": RunState.SUCCEEDED})
        catalog.change(ended)
        with pytest.raises(Conflict):
            catalog.change(ended.model_copy(update={"rev": ended.rev + 1, "state": RunState.FAILED}))
        found = catalog.series(record.id)
        assert [e.stream for e in found] == ["state", "state", "log", "state", "state"]
        moves = [e for e in found if e.stream == "state"]
        assert [(e.body["state"], e.body["epoch"]) for e in moves] == [
            ("queued", 0),
            ("running", 1),
            ("running", 2),
            ("succeeded", 2),
        ]
        assert all(abs(e.time - now) < timedelta(minutes=5) for e in moves)

    def test_a_move_that_was_refused_is_in_no_series(self, catalog: Catalog) -> None:
        one, two = run(), run()
        catalog.add(one, two)
        catalog.change(two)
        with pytest.raises(Stale):
            catalog.change(one.model_copy(update={"state": RunState.CANCELLED}), two)
        assert [e.body["state"] for e in catalog.series(one.id)] == ["queued"]

    @pytest.mark.parametrize("text", ["a\0b", "\ud800", "x" * 5000, "x" * 1_000_000])
    def test_what_no_database_can_hold_is_refused_and_not_found(self, catalog: Catalog, text: str) -> None:
        for fields in ({"name": text}, {"parent": text}, {"id": text}):
            with pytest.raises(Invalid):
                catalog.add(run().model_copy(update=fields))
        with pytest.raises(Invalid):
            catalog.add(run(spec={"x": "\ud800"}))
        catalog.add(run())
        with pytest.raises(NotFound):
            catalog.get(Run, text)
        with pytest.raises(NotFound):
            catalog.append(text, 0, [])
        with pytest.raises(Invalid):
            catalog.find(Run, after=text)
        assert catalog.find(Run, {"name": text}) == []
        assert len(catalog.find(Run, {"state": (text, "queued")})) == 1
        assert catalog.series(text) == []

    @pytest.mark.parametrize("version", [0, 2**31, 2**70, -(2**40), "1", True])
    def test_a_number_that_no_record_has(self, catalog: Catalog, version: object) -> None:
        assert catalog.find(Dataset, {"version": version}) == []
