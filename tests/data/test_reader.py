"""Rows read again: all at once, in batches, in any order, of parts; within memory and beyond it."""

import io
import json
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.imports import Importer, npz

from leptonai.core.errors import Corrupt, Invalid
from leptonai.core.nouns import Dataset, Limits
from leptonai.core.refs import Split
from leptonai.core.stages import Shuffle
from leptonai.data import stored
from leptonai.data.loader_order import Piece
from leptonai.data.loader_pack import Packed
from leptonai.data.reader import open_dataset
from leptonai.data.shards import read_blocks, read_shard

ROWS = 1000
TRAIN, TEST = Split(part="train", train_size=0.8), Split(part="test", train_size=0.8)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Importer, Dataset, Dataset]:
    """A table of all types, and images, both in several shards."""
    files = Importer(tmp_path_factory.mktemp("data") / "run")
    lines = ["number,whole,gap,word,code,flag,day,text,label"]
    lines += [
        f"{i / 7},{i},{'' if i % 5 == 0 else i},{'' if i % 11 == 0 else 'ab'[i % 2]},{'' if i % 13 == 0 else i % 3},"
        f"{'' if i % 17 == 0 else i % 2 == 0},{'' if i % 19 == 0 else f'2026-01-{i % 28 + 1:02}'},t{i},{i % 4}"
        for i in range(ROWS)
    ]
    types = {"code": "category"}
    table = files.made({"t.csv": "\n".join(lines)}, types=types, name="table", shard_rows=128)
    x = np.random.default_rng(0).integers(0, 256, (ROWS, 6, 5), dtype=np.uint8)
    images = files.made(
        {"i.npz": npz(x=x, v=x.reshape(ROWS, -1) / 3, y=np.arange(ROWS) % 10)}, name="images", shard_rows=300
    )
    return files, table, images


def same(left: dict[str, Any], right: dict[str, Any]) -> None:
    assert list(left) == list(right)
    for name, values in left.items():
        np.testing.assert_array_equal(values, right[name], strict=True, err_msg=name)


@pytest.mark.parametrize("kilobytes", [0, 1, 1024])
@pytest.mark.parametrize("which", ["table", "images"])
@pytest.mark.parametrize("splits", [(), (TRAIN,), (TEST,)], ids=["all", "train", "test"])
def test_blocks_are_a_piece_cut_in_order(
    made: tuple[Importer, Dataset, Dataset],
    which: str,
    splits: tuple[Split, ...],
    kilobytes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stored, "_BLOCK_BYTES", kilobytes << 10)
    part = made[0].open(made[1] if which == "table" else made[2], *splits).part()
    for source in (part, Packed(part, "label" if which == "table" else "y")):
        for shard, count in enumerate(part.counts):
            for piece in (Piece(shard, 0, count), Piece(shard, 3, count - 5)):
                blocks = list(source.blocks(piece))
                assert len(blocks) > 1 or kilobytes == 1024
                whole = source.load(piece)
                same(whole, {name: np.concatenate([block[name] for block in blocks]) for name in whole})


def test_columns_come_as_the_reader_promises(made: tuple[Importer, Dataset, Dataset]) -> None:
    files, table, images = made
    rows = files.open(table).read()
    kinds = {name: values.dtype.kind for name, values in rows.items()}
    assert kinds == {
        "number": "f", "whole": "i", "gap": "f", "word": "O", "code": "O", "flag": "O", "day": "i", "text": "O", "label": "i",
    }  # fmt: skip
    assert np.isnan(rows["gap"][::5]).all()
    assert rows["word"][:4].tolist() == [None, "b", "a", "b"]
    assert rows["code"][:4].tolist() == [None, 1, 2, 0]
    assert rows["flag"][:4].tolist() == [None, False, True, False]
    assert rows["day"][0] == np.iinfo(np.int64).min
    pictures = files.open(images).read()
    assert (pictures["x"].dtype, pictures["x"].shape) == (np.uint8, (ROWS, 6, 5, 1))
    assert (pictures["v"].dtype, pictures["v"].shape) == (np.float32, (ROWS, 30))


def test_what_is_beyond_memory_is_the_same(made: tuple[Importer, Dataset, Dataset]) -> None:
    files, *datasets = made
    for dataset in datasets:
        for splits in ((), (TRAIN,), (TEST, TRAIN)):
            rich, poor = files.open(dataset, *splits), files.open(dataset, *splits, memory=0)
            assert rich.rows == poor.rows
            same(rich.read(), poor.read())
            for shuffle, start in (
                (None, 0),
                (None, 77),
                (Shuffle(3), 0),
                (Shuffle(3, 200), 0),
                (Shuffle(3, 200), 133),
            ):
                left = list(rich.batches(64, shuffle=shuffle, epoch=1, start=start))
                right = list(poor.batches(64, shuffle=shuffle, epoch=1, start=start))
                assert len(left) == len(right) == -(-(rich.rows - start) // 64)
                for one, other in zip(left, right, strict=True):
                    same(one, other)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_batches_are_rows_of_the_whole(made: tuple[Importer, Dataset, Dataset], data: Any) -> None:
    files, table, _ = made
    names = tuple(data.draw(st.lists(st.sampled_from([c.name for c in table.columns]), min_size=1, unique=True)))
    memory = data.draw(st.sampled_from([0, 20_000, 1 << 30]))
    size = data.draw(st.integers(1, 1500))
    window = data.draw(st.sampled_from([0, 1, 128, 300, 5000]))
    shuffle = data.draw(st.none() | st.builds(Shuffle, seed=st.integers(0, 9), window=st.just(window)))
    start = data.draw(st.integers(0, ROWS))
    whole = files.open(table).read(names)
    reader = files.open(table, memory=memory)
    found = list(reader.batches(size, columns=names, shuffle=shuffle, epoch=2, start=start))
    expected = (np.arange(ROWS) if shuffle is None else reader.order(shuffle, 2))[start:]
    assert sum(len(batch[names[0]]) for batch in found) == len(expected)
    assert all(len(batch[names[0]]) == size for batch in found[:-1])
    for name in names:
        together = np.concatenate([batch[name] for batch in found]) if found else whole[name][:0]
        np.testing.assert_array_equal(together, whole[name][expected], strict=True)


def test_parts_are_read_from_the_rows_that_a_split_chose(made: tuple[Importer, Dataset, Dataset]) -> None:
    files, table, _ = made
    whole = files.open(table).read()
    train, test = files.open(table, TRAIN), files.open(table, TEST)
    assert (train.rows, test.rows) == (800, 200)
    both = np.concatenate([train.read(("whole",))["whole"], test.read(("whole",))["whole"]])
    assert sorted(both.tolist()) == list(range(ROWS))
    for reader in (train, test):
        rows = reader.read()
        same({name: values[rows["whole"]] for name, values in whole.items()}, rows)
        assert np.bincount(rows["label"]).tolist() == [reader.rows // 4] * 4


def test_only_asked_for_columns_are_decoded(
    made: tuple[Importer, Dataset, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    files, _, images = made
    asked: list[tuple[str, ...]] = []

    def spy(shard: Any, store: Any, columns: Any, *more: Any) -> Any:
        asked.append(tuple(columns))
        return read_blocks(shard, store, columns, *more)

    monkeypatch.setattr("leptonai.data.stored.read_blocks", spy)
    reader = files.open(images, TRAIN)
    reader.read(("y",))
    reader.read(("y",))
    assert asked == [("y",)] * 4 * 2  # once to split, once for the part, then kept
    with pytest.raises(Invalid, match=r"dataset images has no column 'z': its columns are x, v, y"):
        reader.read(("z",))


def test_memory_follows_the_limit_of_the_run(made: tuple[Importer, Dataset, Dataset]) -> None:
    files, table, _ = made
    files.handle.run = files.handle.run.model_copy(update={"limits": Limits(memory_mb=10)})
    assert open_dataset(table, (), files.handle).memory == 5 << 20


def test_shards_are_encrypted_and_notice_every_change(made: tuple[Importer, Dataset, Dataset]) -> None:
    files, table, _ = made
    with files.handle.blobs.open(table.manifest) as file:
        shards = json.loads(file.read())["shards"]
    assert len({shard["key"] for shard in shards}) == len(shards) == 8
    assert sum(shard["rows"] for shard in shards) == ROWS
    with files.handle.raw.open(table.shards[0]) as file:
        data = file.read()
    assert data[:4] == data[-4:] == b"PARE"  # an encrypted footer
    assert b"whole" not in data
    with pytest.raises(OSError, match=r"decrypt|encrypted"):
        pq.read_table(io.BytesIO(data))

    class Altered:
        def __init__(self, at: int):
            self.at = at

        def open(self, id: str) -> Any:
            changed = bytearray(data)
            changed[self.at] ^= 1
            return io.BytesIO(bytes(changed))

    names = [column.name for column in table.columns]
    for at in np.random.default_rng(0).integers(4, len(data) - 8, 200).tolist():
        with pytest.raises(Corrupt, match="was altered"):
            read_shard(shards[0], Altered(at), names)  # type: ignore[arg-type]
    with pytest.raises(Corrupt):  # another shard's key
        read_shard({**shards[0], "key": shards[1]["key"]}, files.handle.raw, names)


def test_a_shard_that_is_gone_or_rotten(made: tuple[Importer, Dataset, Dataset], files: Importer) -> None:
    other = files.made({"t.csv": "a,y\n1,0\n2,1\n"})
    path = next(files.folder_of(other.shards[0]))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(Corrupt):
        files.open(other).read()
