"""Differences: rows that were added, removed and changed are those that a join finds, however they lie in shards."""

from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.cleaning import Desk
from tests.support.imports import Importer, npz

from leptonai.core.errors import Invalid
from leptonai.data.diff_work import diff
from leptonai.data.look_verbs import prepare_diff
from leptonai.data.spec_diff import Diff, DiffReport
from leptonai.sdk.diffs import Difference


def differ(files: Importer, before: str, after: str, **options: Any) -> DiffReport:
    desk: Any = Desk(files)
    for known in files.desk.datasets:
        files.handle.datasets[f"datasets:/{known.name}@v{known.version}"] = files.open(known)  # type: ignore[assignment]
    plan = prepare_diff(Diff.model_validate({"before": before, "after": after, **options}), desk)
    result = diff(Diff.model_validate(plan.spec), files.handle)
    return DiffReport.model_validate_json(files.handle.read(result["report"]))


def csv(rows: list[tuple[Any, ...]], head: str = "id,age,name") -> str:
    return head + "\n" + "\n".join(",".join("" if v is None else str(v) for v in row) for row in rows) + "\n"


def test_rows_by_key_and_without(files: Importer) -> None:
    old = [(i, 20 + i % 30, f"n{i % 5}") for i in range(300)]
    new = [(i, 99 if i in (7, 250) else age, None if i == 9 else name) for i, age, name in old if i not in (3, 4)]
    new = [*new[100:], *new[:100], (900, 1, "x")]  # in another order
    files.made({"t.csv": csv(old)}, name="t", target="", shard_rows=64)
    files.made({"t.csv": csv(new)}, name="t", target="", shard_rows=50)
    found = differ(files, "t@v1", "t@v2", key=("id",))
    assert found.rows == {
        "before": 300, "after": 299, "added": 1, "removed": 2, "changed": 3, "same": 295, "repeated_keys": 0,
    }  # fmt: skip
    assert found.changed == {"age": 2, "name": 1}
    seven = next(one for one in found.examples["changed"] if one["key"] == {"id": 7})
    assert (seven["rows"][0], seven["values"]) == (8, {"age": [27, 99]})
    assert [one["values"]["id"] for one in found.examples["removed"]] == [3, 4]
    assert found.examples["added"][0] == {"row": 299, "values": {"id": 900, "age": 1, "name": "x"}}
    assert {("age", "max"), ("name", "missing")} <= {(one["column"], one["statistic"]) for one in found.statistics}
    whole = differ(files, "t@v1", "t@v2")
    assert (whole.rows["added"], whole.rows["removed"], whole.rows["changed"]) == (4, 5, 0)
    same = differ(files, "t@v1", "t@v1", key=("id",))
    assert same.same
    for report in (found, whole, same):
        shown = Difference(report)
        assert "From datasets:/t@v1" in repr(shown)
        assert "<table>" in shown._repr_html_()
        assert shown.to_dict()["schema"]["added"] == {}


def test_columns_that_come_go_and_change(files: Importer) -> None:
    files.made({"t.csv": "a,b,c,y\n" + "".join(f"{i},{i},w{i % 3},1\n" for i in range(40))}, name="t")
    files.made({"t.csv": "a,c,d,y\n" + "".join(f"{i}.0,{i % 2},5,1\n" for i in range(40))}, name="t")
    found = differ(files, "t@v1", "t@v2", key=("a",))
    assert found.schema_["added"] == {"d": "integer"}
    assert found.schema_["removed"] == {"b": "integer"}
    assert set(found.schema_["retyped"]) == {"a", "c"}
    assert found.rows["same"] == 40  # whole numbers that became numbers are equal
    assert not found.same
    assert found.notes == ("rows are compared without c, d, which the other version has not, or with another type",)
    with pytest.raises(Invalid, match="key: datasets:/t@v2 has no column 'b'"):
        differ(files, "t@v1", "t@v2", key=("b",))


def test_images_and_personal_columns(files: Importer) -> None:
    import numpy as np

    images = np.random.default_rng(0).integers(0, 256, (20, 4, 4), dtype=np.uint8)
    files.made({"i.npz": npz(x=images, y=np.arange(20))}, name="i", target="", shard_rows=6)
    images[3] += 1
    files.made({"i.npz": npz(x=images, y=np.arange(20))}, name="i", target="", shard_rows=6)
    assert differ(files, "i@v1", "i@v2", key=("y",)).changed == {"x": 1}
    for name in ("Ann", "Bob"):
        files.made({"t.csv": f"name,y\n{name},1\nC,0\n"}, name="p", pii=("name",))
    found = differ(files, "p@v1", "p@v2")
    assert found.notes == ("personal columns are not compared: name",)
    assert "Ann" not in found.model_dump_json()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    old=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), min_size=1, max_size=40),
    new=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), min_size=1, max_size=40),
    size=st.integers(1, 20),
)  # fmt: skip
def test_counts_are_those_of_a_join(files: Importer, old: Any, new: Any, size: int) -> None:
    files.desk.datasets.clear()
    for name, rows in (("old", old), ("new", new)):
        files.made({"t.csv": csv([(*row, 1.5) for row in rows])}, name=name, target="", shard_rows=size)
    whole = differ(files, "old", "new").rows
    one, other = (pd.Series(rows).value_counts() for rows in (old, new))
    kept = int(one.combine(other, min, fill_value=0).sum())
    assert (whole["same"], whole["added"], whole["removed"]) == (kept, len(new) - kept, len(old) - kept)
    keyed = differ(files, "old", "new", key=("id",)).rows
    ones, others = (pd.Series([row[0] for row in rows]).value_counts() for rows in (old, new))
    met = int(ones.combine(others, min, fill_value=0).sum())
    assert keyed["same"] + keyed["changed"] == met
    assert (keyed["added"], keyed["removed"]) == (len(new) - met, len(old) - met)
