"""Batches that are changed on their way, on a real server: what a dataset declares, what a loader is told, and what a training takes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars  # noqa: F401  # it sets a variable when it is first imported
import pytest
from tests.support.home import data_home
from tests.support.imports import picture
from tests.support.warm import keras_here, libraries

from leptonai import augment as ways
from leptonai.core.errors import Invalid
from leptonai.sdk.datasets import Dataset, create_dataset, get_dataset

ROWS = 300


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    libraries()
    with data_home(tmp_path_factory.mktemp("augmenting") / "home") as folder:
        yield folder


@pytest.fixture(scope="module")
def digits(home: Path) -> Dataset:
    from sklearn.datasets import load_digits

    found = load_digits()
    images = (found.images * 15.9).astype(np.uint8)[:ROWS, :, :, None]
    columns = {"image": images, "label": found.target[:ROWS]}
    return create_dataset(
        "digits", columns, target="label", types={"label": "category"}, augment=["flip", "rotate:degrees=10"]
    )


@pytest.fixture(scope="module")
def people(home: Path) -> Dataset:
    rng = np.random.default_rng(0)
    columns = {
        "age": rng.normal(40, 10, ROWS), "rooms": rng.integers(1, 9, ROWS), "town": np.array(["a", "b", "c"])[rng.integers(0, 3, ROWS)],
        "day": np.datetime64("2026-01-01") + rng.integers(0, 300, ROWS).astype("timedelta64[D]"),
        "note": np.array(["the quick brown fox"] * ROWS), "ill": np.arange(ROWS) % 3 == 0,
    }  # fmt: skip
    return create_dataset("people", columns, target="ill", types={"note": "text"})


@pytest.fixture(scope="module")
def cars(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("cars")
    for number in range(12):
        (folder / f"{number}.png").write_bytes(picture(np.full((20, 30, 3), number * 20)))
        (folder / f"{number}.txt").write_text(f"{number % 2} 0.3 0.5 0.2 0.4\n" if number else "")
    (folder / "classes.txt").write_text("car\nbus\n")
    return create_dataset("cars", files=folder, target="", augment=["flip:p=1"])


def test_what_a_dataset_declares_holds_for_loaders_but_not_for_test_parts(digits: Dataset) -> None:
    assert [step.op for step in digits.augmentation] == ["flip", "rotate"] and "flip, rotate" in repr(digits)
    train, test = get_dataset("digits").split(0.8)
    assert train.augmentation == digits.augmentation and test.augmentation == ()
    changed, plain = (np.concatenate([b["image"].numpy() for b in train.torch(64, augment=a)]) for a in (None, ()))
    assert changed.dtype == np.uint8 and changed.shape == plain.shape and not np.array_equal(changed, plain)
    own = train.augment(ways.Noise(std=0.2))
    assert [step.op for step in own.augmentation] == ["noise"] and own.augment().augmentation == ()
    assert own.split(0.5)[0].augmentation == own.augmentation and own.split(0.5)[1].augmentation == ()


def test_the_same_rows_may_be_declared_anew(digits: Dataset) -> None:
    again = create_dataset("digits", digits.polars().to_dict(as_series=False) and _columns(digits), target="label", types={"label": "category"}, augment=["crop"])  # fmt: skip
    assert again.version == digits.version and [step.op for step in again.augmentation] == ["crop"]
    back = create_dataset(
        "digits", _columns(digits), target="label", types={"label": "category"}, augment=digits.augmentation
    )
    assert back.augmentation == digits.augmentation
    kept = create_dataset("digits", _columns(digits), target="label", types={"label": "category"})
    assert kept.augmentation == digits.augmentation  # nothing said of it: nothing changes
    for wrong, words in (
        ("rotte", "'rotte' is not known: use one of 'flip'"),
        ("rotate:degrees=900", "180"),
        ("gain", "gain needs columns of type tensor, audio"),
    ):
        with pytest.raises(Invalid, match=words):
            create_dataset("digits", _columns(digits), target="label", augment=[wrong])


def _columns(data: Dataset) -> dict[str, Any]:
    found = data.arrow()
    return {"image": found["image"].combine_chunks().to_numpy_ndarray(), "label": found["label"].to_numpy()}


@pytest.mark.parametrize("memory", [None, 0])
@pytest.mark.parametrize("world", [1, 2])
def test_changed_batches_go_on_bit_equal_from_any_place(digits: Dataset, memory: int | None, world: int) -> None:
    steps = ["shift", "rotate", "mixup", "noise"]

    def told() -> Any:
        return digits.torch(32, shuffle=True, seed=5, memory=memory, augment=steps, rank=world - 1, world=world)

    first = told()
    batches = iter(first)
    for _ in range(2):
        next(batches)
    state = json.loads(json.dumps(first.state_dict()))
    rest = list(batches)
    other = told()
    other.load_state_dict(state)
    again = list(other)
    assert len(rest) == len(again) > 2
    for one, two in zip(rest, again, strict=True):
        assert (one["image"] == two["image"]).all() and (one["label"] == two["label"]).all()
        assert one["label"].shape[1] == 10 and np.allclose(one["label"].sum(axis=1), 1, atol=1e-5)
    assert state["row"] == 64  # what is made ahead is not counted
    batches = iter(first)
    assert not (next(batches)["image"] == again[0]["image"]).all()  # another epoch
    batches.close()


def test_what_is_kept_in_memory_is_never_touched(digits: Dataset, people: Dataset) -> None:
    for data, steps in ((digits, ["rotate", "colour", "cutmix"]), (people, ["noise", "drop_words"])):
        loader = data.torch(64, augment=steps)
        before = list(loader)
        for batch in before:
            for values in batch.values():
                if not isinstance(values, list):
                    values.zero_()
        loader.load_state_dict({"epoch": 0, "row": 0, "window": 0})
        after = list(loader)
        assert after[0][data.target].any()
        fresh = next(iter(data.torch(64, augment=())))
        assert all(
            (fresh[c.name] == after[0][c.name]).all()
            for c in data.columns
            if c.type == "category" and c.name != data.target
        )


def test_tables_are_changed_as_their_columns_are(people: Dataset) -> None:
    plain, noisy = (next(iter(people.torch(ROWS, augment=a))) for a in ((), ["noise:std=0.1"]))
    assert 0.5 < float((noisy["age"] - plain["age"]).std()) < 2 and noisy["rooms"].dtype == plain["rooms"].dtype
    assert (
        (noisy["town"] == plain["town"]).all()
        and (noisy["ill"] == plain["ill"]).all()
        and noisy["note"] == plain["note"]
    )
    days = (noisy["day"] - plain["day"]).numpy() / 86_400e6
    assert 3 < days.std() < 20
    features = ["age", "rooms", "town", "day", "ill"]
    mixed = next(iter(people.torch(ROWS, columns=features, augment=["mixup:alpha=1"])))
    assert (
        set(mixed["town"].tolist()) == {0, 1, 2}
        and mixed["ill"].shape == (ROWS, 2)
        and not (mixed["age"] == plain["age"]).all()
    )
    words = next(iter(people.torch(ROWS, augment=[ways.DropWords(share=0.5)])))["note"]
    assert len({len(text.split()) for text in words}) > 2
    with pytest.raises(Invalid, match="mixup takes only columns of type"):
        people.torch(64, augment=["mixup"])
    with pytest.raises(Invalid, match=r"smote needs all rows in memory, and these take about 0\.0 GiB of the"):
        people.torch(64, columns=["age", "ill"], augment=["smote"], memory=10)
    with pytest.raises(Invalid, match="rotate needs columns of type image"):
        people.torch(64, augment=["rotate"])


def test_a_loader_evens_out_the_classes(people: Dataset) -> None:
    features = ["age", "rooms", "town", "ill"]
    loader = people.torch(64, columns=features, shuffle=True, seed=2, augment=["smote", 'noise:columns=["age"]'])
    batches = list(loader)
    ill = np.concatenate([batch["ill"] for batch in batches])
    assert np.bincount(ill).tolist() == [200, 200] and len(loader) == 7
    assert set(np.concatenate([batch["town"] for batch in batches])) == {0, 1, 2}
    rooms = np.concatenate([batch["rooms"] for batch in batches])
    assert rooms.dtype == np.int64 and rooms.min() >= 1 and rooms.max() <= 8
    again = people.torch(64, columns=features, shuffle=True, seed=2, augment=["smote", 'noise:columns=["age"]'])
    again.load_state_dict({"epoch": 0, "row": 128, "window": 0})
    assert all((one["age"] == two["age"]).all() for one, two in zip(batches[2:], again, strict=True))
    keras_here()
    given = people.keras(400, columns=features, augment=["smote"])
    x, y = given[0]
    assert x.shape == (400, 3) and np.bincount(y.astype(int)).tolist() == [200, 200]
    plain = next(iter(people.torch(ROWS, columns=features)))
    assert np.allclose(x[:ROWS, 0], plain["age"]) and x[ROWS:, 0].min() >= x[:, 0].min()


def test_boxes_follow_in_a_loader(cars: Dataset) -> None:
    plain, turned = (list(cars.torch(5, augment=a)) for a in ((), None))
    for one, two in zip(plain, turned, strict=True):
        for before, after in zip(one["boxes"], two["boxes"], strict=True):
            assert before.shape == after.shape
            np.testing.assert_allclose(after[:, [3, 1]], 1 - before[:, [1, 3]], atol=1e-6)
    with pytest.raises(Invalid, match="cutmix takes only columns of type image"):
        cars.torch(5, augment=["cutmix"])


@pytest.mark.parametrize("memory", [None, 0])
def test_keras_gets_changed_pairs(digits: Dataset, people: Dataset, memory: int | None) -> None:
    keras = keras_here()
    given = digits.keras(64, shuffle=True, seed=1, memory=memory, augment=["rotate", "mixup"])
    x, y = given[0]
    assert x.dtype == np.uint8 and y.shape == (64, 10) and y.dtype == np.float32
    model = keras.Sequential(
        [keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")]
    )
    model.compile("adam", "categorical_crossentropy")
    model.fit(given, epochs=1, verbose=0, shuffle=False)
    columns = ["age", "rooms", "town", "ill"]
    x, y = people.keras(64, columns=columns, memory=memory, augment=["noise", "mixup"])[1]
    assert x.shape == (64, 3) and y.shape == (64, 2) and set(np.unique(x[:, 2])) <= {0.0, 1.0, 2.0}


def test_a_training_is_told_what_to_do_only_where_it_differs(digits: Dataset) -> None:
    from leptonai.sdk.augmenting import steps_to_send

    train, test = digits.split(0.7)

    def told(data: Any, augment: Any = None) -> list[str] | None:
        steps = steps_to_send(data, augment)
        return None if steps is None else [step["op"] for step in steps]

    assert told(train) is None and told(train.ref) is None and told(test) is None  # the server knows
    assert told(train, ()) == told(train.augment()) == told(test.augment("flip")) == []
    assert told(train.augment("noise"), ["crop"]) == ["crop"] and told(train.augment("noise")) == ["noise"]


def test_what_is_declared_stays_when_rows_are_mended(people: Dataset) -> None:
    from sklearn.datasets import load_iris

    found = load_iris()
    columns = {**{f"x{n}": found.data[:, n] for n in range(4)}, "kind": found.target}
    data = create_dataset("iris", columns, target="kind", augment=["noise:columns=[\"x0\"]", "mixup"], checks=["range:x1=0..10", "not_missing:x2"])  # fmt: skip
    mended = data.clean("drop_duplicates", "drop:x0")
    assert [rule["rule"] for rule in mended.rules] == ["range", "not_missing"] and mended.check()
    assert [step.op for step in mended.augmentation] == ["mixup"]  # there is no x0 any more
