"""What columns mean, what is known of them, the digest, and what the server adds."""

import gzip
import json
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_iris, load_wine
from tests.support.imports import Importer, npz

from leptonai.core.errors import Invalid
from leptonai.core.nouns import Blob, Dataset
from leptonai.core.signature import FeatureType
from leptonai.data import columns, describe, verbs
from leptonai.data.spec import Import


@pytest.mark.parametrize(
    ("header", "target"),
    [("a,b,c", "c"), ("a,LABEL,c", "LABEL"), ("y,target,c", "target"), ("Y,b,c", "Y"), ("a", None), ("label", "label")],
)
def test_the_target_that_is_chosen(header: str, target: str | None) -> None:
    assert columns.choose_target(header.split(","), None) == target


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([0, 1, 0, 1], "category"), ([0, 1, 2, 2], "category"), ([1, 2, 3, 3], "category"), ([-1, 1, 1, 1], "category"),
        (range(20), "category"), (range(21), "integer"), ([0, 2, 4, 4], "integer"), ([5, 6, 7, 8], "integer"),
        ([0, 0, 0, 0], "integer"), ([0.0, 1.0, 0.0, 1.0], "number"), (["a", "b", "a", "b"], "category"),
        ([str(i) + "x" for i in range(500)], "category"), (["true", "False", "TRUE", "false"], "boolean"), (["yes", "no", "no", "yes"], "category"),
    ],
)  # fmt: skip
def test_the_type_of_a_target(values: Any, kind: str, files: Importer) -> None:
    text = "a,y\n" + "".join(f"{i},{value}\n" for i, value in enumerate(values))
    assert files.made({"t.csv": text}).columns[1].type == kind


def test_text_and_categories(files: Importer) -> None:
    def kind(distinct: int, rows: int) -> str:
        text = "a,y\n" + "".join(f"w{i % distinct},{i / 2}\n" for i in range(rows))
        return files.made({"t.csv": text}, name=f"n{distinct}-{rows}").columns[0].type.value

    assert kind(20, 100) == "category"
    assert kind(21, 100) == "text"
    assert kind(50, 2500) == "category"
    assert kind(51, 2500) == "text"


def test_too_many_categories(files: Importer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(describe, "MAX_DISTINCT", 30)
    text = "a,y\n" + "".join(f"w{i},{i}\n" for i in range(31))
    with pytest.raises(Invalid, match=r"'a' has more than 30 different values.*types=\{'a': 'text'\}"):
        files.result({"t.csv": text}, types={"a": "category"})


def test_statistics_are_those_of_numpy(files: Importer) -> None:
    random = np.random.default_rng(0)
    values = np.round(random.normal(size=1001), 3)
    text = "x,word,long,y\n" + "".join(
        f"{v if i % 10 else ''},{'ab'[i % 3 == 0]},{'x' * i},{i % 3}\n" for i, v in enumerate(values.tolist())
    )
    made = files.made({"t.csv": text}, types={"long": "text"})
    x, word, long, y = (column.stats for column in made.columns)
    kept = values[[i for i in range(1001) if i % 10]]
    assert (x["count"], x["missing"], x["unique"]) == (1001, 101, len(np.unique(kept)))
    for name, value in {
        "mean": kept.mean(), "std": kept.std(), "min": kept.min(), "max": kept.max(),
        "25%": np.quantile(kept, 0.25), "50%": np.median(kept), "75%": np.quantile(kept, 0.75),
    }.items():  # fmt: skip
        assert x[name] == pytest.approx(value, rel=1e-12), name
    assert word["counts"] == [["a", 667], ["b", 334]]
    assert y["counts"] == [[0, 334], [1, 334], [2, 333]]
    assert (long["unique"], long["max_length"], long["mean_length"]) == (1000, 1000, pytest.approx(500.5))
    json.dumps(made.model_dump(mode="json"), allow_nan=False)


def test_statistics_of_what_is_not_finite(files: Importer) -> None:
    made = files.made({"t.csv": "x,z,y\ninf,,1\n1e308,,0\n-1e308,,1\n,,0\n"})
    stats = made.columns[0].stats
    assert (stats["infinite"], stats["missing"], stats["max"]) == (1, 1, 1e308)
    assert made.columns[1].stats == {"count": 4, "missing": 4}
    json.dumps(made.model_dump(mode="json"), allow_nan=False)


def test_the_preview_is_json_as_people_have_it(files: Importer) -> None:
    text = "when,ok,x,word,y\n2026-01-31,true,inf,a,0\n,,,,1\n" + "2026-01-31,true,1,b,0\n" * 40
    made = files.made({"t.csv": text})
    with files.handle.blobs.open(made.manifest) as file:
        shown = verbs.preview(made, json.loads(file.read()))
    assert (shown["name"], shown["version"], len(shown["rows"])) == ("made", 1, 20)
    assert shown["rows"][:2] == [
        {"when": "2026-01-31T00:00:00", "ok": True, "x": None, "word": "a", "y": 0},
        {"when": None, "ok": None, "x": None, "word": None, "y": 1},
    ]
    small = files.made(
        {"t.npz": npz(x=np.zeros((3, 2, 2), np.uint8), v=np.zeros((3, 5000)), y=[0, 1, 2])}, name="small"
    )
    with files.handle.blobs.open(small.manifest) as file:
        row = verbs.preview(small, json.loads(file.read()))["rows"][0]
    assert row == {"x": [[[0], [0]], [[0], [0]]], "v": "<tensor 5000>", "y": 0}


def test_the_digest_is_that_of_the_content(files: Importer) -> None:
    text = "a,b,y\n" + "".join(f"{i},w{i % 3},{i % 2}\n" for i in range(200))
    first = files.made({"t.csv": text}, shard_rows=64)
    assert len(first.shards) == 4
    again = files.result({"renamed.csv.gz": gzip.compress(text.encode())}, shard_rows=64)
    assert again["digest"] == first.digest
    assert not set(again["shards"]) & set(first.shards)  # other keys, other bytes
    assert files.settle(again) is None
    for change in ({"target": "a"}, {"types": {"a": "number"}}):
        assert files.result({"t.csv": text}, shard_rows=64, **change)["digest"] != first.digest
    assert files.result({"t.csv": text.replace("199,w1", "199,w2")}, shard_rows=64)["digest"] != first.digest
    empty, missing = files.result({"t.csv": 'a,y\n1,x\n2,"z"\n'}), files.result({"t.csv": "a,y\n1,x\n,z\n"})
    assert empty["digest"] != missing["digest"]


def test_versions_count_up_and_two_imports_at_once_differ(files: Importer) -> None:
    one = files.made({"t.csv": "a,y\n1,0\n2,1\n"})
    result = files.result({"t.csv": "a,y\n1,0\n3,1\n"})
    raced = verbs.settle_import(files.handle.run, result, files.desk).add[0]  # read before the other was written
    two = files.made({"t.csv": "a,y\n1,0\n4,1\n"})
    assert (one.version, raced.version, two.version) == (1, 2, 2)  # the database lets one of them through
    settled = files.settle(result)
    assert settled is not None
    assert settled.version == 3
    files.desk.datasets.reverse()
    last = files.made({"t.csv": "a,y\n1,0\n5,1\n"})
    assert last.version == 4  # the highest, whatever order a database gives


def test_a_plan_opens_the_parts_and_nothing_else(files: Importer) -> None:
    one, two = files.source("a.csv", b"a,y\n1,2\n"), files.source("b.csv", b"a,y\n1,3\n")
    spec = Import(name="n", files=(one, two, one))

    class Desk:
        by = "ann"

        def find(self, kind: Any, where: Any, *, limit: int) -> list[Any]:
            if kind is Dataset:
                return []
            known = [id for id in where["id"] if id in one.parts]
            return [Blob(id=id, uid="u", wrapped="w", size=1, owner="ann") for id in (*known, *self.more)]

        more: tuple[str, ...] = two.parts

    plan = verbs.prepare_import(spec, Desk())  # type: ignore[arg-type]
    assert plan.opens == (*one.parts, *two.parts)
    assert (plan.flavour, plan.name) == ("data", "n")
    Desk.more = ()
    with pytest.raises(Invalid, match=r"b\.csv: part \w{16} is not on the server"):
        verbs.prepare_import(spec, Desk())  # type: ignore[arg-type]


@pytest.mark.parametrize("load", [load_iris, load_wine, load_breast_cancer])
def test_real_tables(load: Any, files: Importer) -> None:
    bunch = load()
    names = [str(name) for name in bunch.feature_names]
    lines = [",".join([*names, "target"])]
    lines += [
        ",".join([*map(repr, row), str(bunch.target_names[kind])])
        for row, kind in zip(bunch.data.tolist(), bunch.target, strict=True)
    ]
    made = files.made({"t.csv": "\n".join(lines)})
    assert [c.type for c in made.columns[:-1]].count(FeatureType.NUMBER) >= len(names) - 1
    assert made.target == "target"
    assert made.columns[-1].categories == tuple(sorted(str(name) for name in bunch.target_names))
    rows = files.open(made).read()
    for at, name in enumerate(names):
        np.testing.assert_array_equal(rows[name], bunch.data[:, at])
    assert rows["target"].tolist() == [str(bunch.target_names[kind]) for kind in bunch.target]
