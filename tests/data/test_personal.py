"""Personal columns: what is stored where, who reads it, and that nothing tells of their values."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.cleaning import cleaned
from tests.support.imports import Importer

from leptonai.core.errors import Corrupt, Denied, Invalid
from leptonai.core.nouns import Dataset
from leptonai.core.signature import FeatureType
from leptonai.data.personal import PersonalReader
from leptonai.data.reader import DatasetReader
from leptonai.data.spec import Import, SourceFile

NAMES = ["Ada Lovelace", "Alan Turing", "Grace Hopper", "Edsger Dijkstra", "Barbara Liskov", "Tony Hoare"]
CSV = "name,born,vip,age,label\n" + "".join(
    f"{name},19{20 + n}-01-0{n + 1},{'true' if n % 2 else 'false'},{30 + n},{n % 2}\n" for n, name in enumerate(NAMES)
)
PII = ("name", "born", "vip")


def everything(files: Importer, dataset: Dataset) -> str:
    """Return all that is known of a version without the permission: the record, and the manifest."""
    return dataset.model_dump_json() + files.handle.read(dataset.manifest).decode()


class Refusing:
    """The blobs of a caller who may not open the keys of personal columns."""

    def __init__(self, inner: Any, refused: tuple[str, ...]):
        self._inner, self._refused = inner, refused

    def open(self, id: str) -> Any:
        if id in self._refused:
            raise Denied("no")
        return self._inner.open(id)

    def write(self, chunks: Any) -> Any:
        return self._inner.write(chunks)


def without(files: Importer, dataset: Dataset, mask: bool = False, memory: int = 1 << 30) -> DatasetReader:
    """Open a version as a Run does that may not read personal columns."""
    refusing: Any = Refusing(files.handle.pii, dataset.pii)
    return opened(files, dataset, PersonalReader(dataset, refusing, mask=mask), memory)


def opened(files: Importer, dataset: Dataset, personal: PersonalReader, memory: int = 1 << 30) -> DatasetReader:
    return DatasetReader(dataset, (), files.shards(dataset), files.handle.raw, memory, personal)


def test_a_personal_column_is_read_by_who_may(files: Importer) -> None:
    dataset = files.made({"people.csv": CSV}, pii=PII, shard_rows=4)
    found = files.open(dataset).read()
    assert found["name"].tolist() == NAMES
    assert found["vip"].tolist() == [False, True] * 3
    assert str(found["born"].astype("datetime64[us]")[1])[:10] == "1921-01-02"
    assert found["age"].tolist() == [30, 31, 32, 33, 34, 35]
    assert [c.name for c in dataset.columns if c.pii] == list(PII)
    batches = list(files.open(dataset, memory=1).batches(4))
    assert batches[0]["name"].tolist() == NAMES[:4]


def test_who_may_not_reads_the_rest(files: Importer) -> None:
    dataset = files.made({"people.csv": CSV}, pii=PII, shard_rows=4)
    reader = without(files, dataset)
    assert reader.read(("age", "label"))["age"].tolist() == [30, 31, 32, 33, 34, 35]
    for asked in (("name",), ("age", "name"), None):
        with pytest.raises(Denied, match=r"column 'name' of dataset made@v1 .* dataset:pii.*mask=True") as caught:
            reader.read(asked)
        assert caught.value.about == {"permission": "dataset:pii"}
    with pytest.raises(Denied, match="column 'born'"):
        next(without(files, dataset, memory=1).batches(2, columns=("born",)))


@pytest.mark.parametrize("memory", [1 << 30, 1])
def test_a_mask_holds_no_value(files: Importer, memory: int) -> None:
    dataset = files.made({"people.csv": CSV.replace(",age,", ",pin,")}, pii=(*PII, "pin"), shard_rows=4)
    reader = without(files, dataset, mask=True, memory=memory)
    found = [reader.read(), next(reader.batches(6))]
    for batch in found:
        assert batch["name"].tolist() == [None] * 6
        assert batch["vip"].tolist() == [None] * 6
        assert (batch["born"] == np.iinfo(np.int64).min).all()
        assert np.isnan(batch["pin"]).all()
        assert batch["label"].tolist() == [0, 1] * 3
    # Who may read it masks as well where he asks for that.
    assert (
        opened(files, dataset, PersonalReader(dataset, files.handle.blobs, mask=True)).read()["name"].tolist()
        == [None] * 6
    )


def test_nothing_tells_of_the_values(files: Importer) -> None:
    dataset = files.made({"people.csv": CSV}, pii=PII)
    words = everything(files, dataset)
    assert not any(part in words for name in NAMES for part in name.split())
    assert "1920" not in words
    preview = json.loads(files.handle.read(dataset.manifest))["preview"]
    assert [row["name"] for row in preview] == ["<pii>"] * 6
    stats = {column.name: column.stats for column in dataset.columns}
    assert stats["name"] == stats["vip"] == {"count": 6, "missing": 0}
    name = dataset.columns[0]
    assert (name.type, name.categories) == (FeatureType.TEXT, ())
    for path in files.handle.folder.rglob("*"):
        if path.is_file() and "blobs" in path.parts:
            assert b"Lovelace" not in path.read_bytes()


def test_the_digest_cannot_be_guessed_and_still_knows_equal_content(files: Importer, tmp_path: Path) -> None:
    dataset = files.made({"people.csv": CSV}, pii=PII)
    again = files.result({"people.csv": CSV}, pii=PII)
    assert again["digest"] == dataset.digest
    assert files.settle(again) is None, "the same content is the version that is there"
    other = Importer(tmp_path / "other")
    assert other.result({"people.csv": CSV}, pii=PII, name="elsewhere")["digest"] != dataset.digest
    changed = files.result({"people.csv": CSV.replace("Ada", "Eda")}, pii=PII)
    assert changed["digest"] != dataset.digest


def test_no_two_files_share_a_key(files: Importer) -> None:
    dataset = files.made({"people.csv": CSV}, pii=PII, shard_rows=2)
    manifest = json.loads(files.handle.read(dataset.manifest))
    parts = [part for shard in manifest["shards"] for part in shard["pii"].values()]
    assert len({part["salt"] for part in parts}) == len(parts) == 9
    assert len({part["key"] for part in parts}) == 3, "one key for each column"
    assert {part["blob"] for part in parts} < set(dataset.shards)
    keys = json.loads(files.handle.read(dataset.pii[0]))["keys"]
    assert not any(key in json.dumps(manifest) for key in keys.values())


def test_columns_that_are_exchanged_or_altered_are_found(files: Importer) -> None:
    dataset = files.made({"people.csv": CSV}, pii=PII)
    manifest = json.loads(files.handle.read(dataset.manifest))
    parts = manifest["shards"][0]["pii"]
    parts["name"], parts["born"] = parts["born"], parts["name"]
    forged = dataset.model_copy(update={"manifest": files.handle.write(json.dumps(manifest).encode())})
    with pytest.raises(Corrupt):
        files.open(forged).read(("name",))
    for path in files.folder_of(parts["vip"]["blob"]):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    with pytest.raises(Corrupt):
        files.open(dataset).read(("vip",))


def test_an_attempt_goes_on_with_the_keys_of_the_one_before(files: Importer, monkeypatch: pytest.MonkeyPatch) -> None:
    from leptonai.data import version

    monkeypatch.setattr(version, "_SAVED_EVERY", 1)
    rows = "name,label\n" + "".join(f"person {n},{n % 2}\n" for n in range(600))
    source = [files.source("a.csv", rows.encode()), files.source("b.csv", rows.encode())]
    first = files.result(source, pii=("name",), shard_rows=100)
    assert files.handle.restore() is not None
    again = files.result(source, pii=("name",), shard_rows=100)
    kept = set(first["shards"]) & set(again["shards"])
    assert kept, "shards of the attempt before are used again"
    assert first["pii"] == again["pii"]
    dataset = files.settle(again)
    assert dataset is not None
    assert files.open(dataset).read(("name",))["name"][[0, 599, 600]].tolist() == ["person 0", "person 599", "person 0"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pii": ("nobody",)}, "names a column 'nobody', which is not there"),
        ({"pii": ("label",)}, "the target 'label' cannot be personal"),
        ({"pii": ("name", "born", "vip", "age", "label"), "target": ""}, "names every column"),
    ],
)
def test_what_cannot_be_personal(files: Importer, options: dict[str, Any], words: str) -> None:
    with pytest.raises(Invalid, match=words):
        files.result({"people.csv": CSV}, **options)


def test_a_personal_category_would_show_its_values() -> None:
    with pytest.raises(ValueError, match="name cannot be a category"):
        Import.model_validate(
            {
                "name": "x",
                "files": [{"name": "a", "size": 0, "parts": []}],
                "types": {"name": "category"},
                "pii": ["name"],
            }
        )


SECRET = "4929-SECRET"


@pytest.mark.parametrize(
    ("data", "options"),
    [
        (f"card,label\n1,0\n{SECRET},1\n", {"types": {"card": "integer"}}),
        ("card,label\n" + "1,0\n" * 200_000 + f"{SECRET},1\n", {}),
        (f"card,label\n1,0\n{SECRET},1,2\n", {}),
        (f"card,label\n1,0\n{SECRET}\udce9,1\n".encode("utf-8", "surrogateescape"), {}),
        (f"card,label\n1,0\n'{SECRET},1\n\"{SECRET},1\n", {}),
    ],
    ids=["type", "late", "ragged", "bytes", "quote"],
)
def test_errors_name_the_place_and_not_the_value(files: Importer, data: str | bytes, options: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as plain:
        files.result({"cards.csv": data}, **options)
    with pytest.raises(Invalid) as caught:
        files.result({"cards.csv": data}, pii=("card",), **options)
    assert "cards.csv" in caught.value.message
    assert SECRET[:4] not in json.dumps(caught.value.to_dict()), plain.value.message


def test_errors_of_other_columns_stay_as_they_are(files: Importer) -> None:
    data = "name,age,label\nAda,36,0\nAlan,old,1\n"
    with pytest.raises(Invalid, match="'age' holds 'old'"):
        files.result({"people.csv": data}, pii=("name",), types={"age": "integer"})


def test_what_is_cleaned_stays_personal(files: Importer) -> None:
    dataset = files.made({"people.csv": CSV.replace(",born,", ",born at,")}, pii=("name", "age"))
    made, _ = cleaned(files, dataset, "rename:name=who", {"step": "outliers", "columns": ["age"], "do": "flag"})
    assert made is not None
    assert {c.name for c in made.columns if c.pii} == {"who", "age", "age_outlier"}
    assert files.open(made).read()["who"].tolist() == NAMES
    words = everything(files, made)
    assert not any(part in words for name in NAMES for part in name.split())


def test_rows_are_appended_without_reading_the_personal_ones_before(files: Importer) -> None:
    first = files.made({"people.csv": CSV.replace("Ada Lovelace", "")}, pii=PII, types={"age": "number"})
    ref = f"datasets:/made@v{first.version}"
    files.handle.datasets[ref] = opened(files, first, PersonalReader(first, files.handle.blobs))  # type: ignore[assignment]
    plain = files.handle.blobs
    files.handle.blobs = Refusing(plain, first.pii)  # type: ignore[assignment]
    source = [files.handle.pii.write([CSV.encode()]).id]
    more = [SourceFile(name="more.csv", size=len(CSV.encode()), parts=tuple(source))]
    try:
        result = files.result(more, base=ref)
    finally:
        files.handle.blobs = plain
    second = files.settle(result)
    assert second is not None
    assert set(first.shards) < set(second.shards)
    assert second.pii[:1] == first.pii
    assert len(second.pii) == 2
    stats = {column.name: (column.stats, column.nullable) for column in second.columns}
    assert stats["name"] == ({"count": 12, "missing": 1}, True)
    assert stats["born"] == ({"count": 12, "missing": 0}, False)
    found = files.open(second).read()
    assert found["name"].tolist()[6:] == NAMES
    assert found["name"].tolist()[1:6] == NAMES[1:]
    assert found["vip"].tolist() == [False, True] * 6
    assert [row["name"] for row in json.loads(files.handle.read(second.manifest))["preview"]] == ["<pii>"] * 6
