"""What training rows look like after each way of changing them, and that the changes follow from their places alone."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from leptonai import augment as ways
from leptonai.core.errors import Invalid
from leptonai.core.nouns import Column
from leptonai.core.signature import FeatureType
from leptonai.training.augment.apply import Augmenter
from leptonai.training.augment.check import check_steps
from leptonai.training.augment.draws import Draws
from leptonai.training.augment.smote import smote
from leptonai.training.augment.spec import AnyStep
from leptonai.training.spec import Encoding, FeatureCode

IMAGE = FeatureCode(column="image", op="image", type="image", dtype="uint8", shape=(9, 12, 3))
SIGNAL = FeatureCode(column="sound", op="tensor", type="tensor", dtype="float32", shape=(40, 8))
ALONE = [
    ways.Flip(vertical=True), ways.Shift(by=0.3), ways.Shift(by=0.3, fill="zero"), ways.Rotate(degrees=40),
    ways.Rotate(degrees=40, fill="zero"), ways.Crop(least=0.5), ways.Colour(), ways.Blur(), ways.Noise(), ways.Cutout(),
]  # fmt: skip
ON_SIGNALS = [ways.Gain(), ways.Shift(by=0.2, fill="zero"), ways.Noise(), ways.SpecAugment(time=0.3, frequency=0.3)]


def encoding(*features: FeatureCode, layout: Any = "channels_last", classes: int = 4) -> Encoding:
    return Encoding(features=features, layout=layout, target="y", task="classification", classes=tuple(range(classes)))


def pictures(rows: int, shape: tuple[int, ...] = (9, 12, 3)) -> np.ndarray:
    return np.random.default_rng(1).random((rows, *shape), dtype=np.float32)


def augmenter(*steps: Any, about: Encoding | None = None, soft: bool = False, columns: Any = ()) -> Augmenter:
    return Augmenter(steps, about or encoding(IMAGE), columns, 7, soft=soft)


@pytest.mark.parametrize("step", ALONE, ids=lambda step: f"{step.op}-{getattr(step, 'fill', '')}")
def test_an_image_is_changed_and_stays_one(step: Any) -> None:
    x, y = pictures(40), np.arange(40) % 4
    changed, labels = augmenter(step)(x.copy(), y, 0, 0)
    assert changed.shape == x.shape and changed.dtype == np.float32
    assert changed.min() >= 0 and changed.max() <= 1 + 1e-6
    assert np.array_equal(labels, y)
    assert not np.allclose(changed, x)
    still, _ = augmenter(step.model_copy(update={"p": 0.0}))(x.copy(), y, 0, 0)
    assert np.allclose(still, x, atol=1e-6)


@pytest.mark.parametrize("step", [*ALONE, *ON_SIGNALS], ids=lambda step: f"{step.op}-{getattr(step, 'fill', '')}")
def test_changes_follow_from_the_place_and_not_from_the_batch(step: Any) -> None:
    on_signal = step in ON_SIGNALS
    about = encoding(SIGNAL) if on_signal else encoding(IMAGE)
    x, y = pictures(50, about.features[0].shape), np.zeros(50, np.int64)
    change = augmenter(step, about=about)
    whole, _ = change(x.copy(), y, 3, 0)
    parts = [change(x[at : at + 7].copy(), y[at : at + 7], 3, at)[0] for at in range(0, 50, 7)]
    assert np.array_equal(np.concatenate(parts), whole)
    assert not np.array_equal(change(x.copy(), y, 4, 0)[0], whole)  # another epoch


def test_large_images_are_changed_in_pieces_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    from leptonai.training.augment import apply

    x, y = pictures(30), np.arange(30) % 4
    change = augmenter(*ALONE, ways.Mixup(), ways.Noise())
    whole, _ = change(x.copy(), y, 0, 0)
    monkeypatch.setattr(apply, "_CACHED", 1000)
    assert np.array_equal(change(x.copy(), y, 0, 0)[0], whole)


def test_channels_first_is_the_same_image_turned() -> None:
    x, y = pictures(20), np.zeros(20, np.int64)
    last, _ = augmenter(*ALONE, ways.Cutmix(p=1))(x.copy(), y, 0, 0)
    turned = augmenter(*ALONE, ways.Cutmix(p=1), about=encoding(IMAGE, layout="channels_first"))
    first, _ = turned(x.copy().transpose(0, 3, 1, 2), y, 0, 0)
    assert np.array_equal(first.transpose(0, 2, 3, 1), last)
    flat = augmenter(*ALONE, ways.Cutmix(p=1), about=encoding(IMAGE, layout="flat"))
    beside, _ = flat(x.reshape(20, -1), y, 0, 0)
    assert np.array_equal(beside.reshape(x.shape), last)


def test_known_changes_of_images() -> None:
    x, y = pictures(300), np.zeros(300, np.int64)
    flipped, _ = augmenter(ways.Flip(p=1))(x.copy(), y, 0, 0)
    assert np.array_equal(flipped, x[:, :, ::-1])
    half, _ = augmenter(ways.Flip())(x.copy(), y, 0, 0)
    share = (half != x).any(axis=(1, 2, 3)).mean()
    assert 0.4 < share < 0.6
    noisy, _ = augmenter(ways.Noise(std=0.1))(np.full_like(x, 0.5), y, 0, 0)
    assert abs(float(noisy.std()) - 0.1) < 0.002 and abs(float(noisy.mean()) - 0.5) < 0.002
    plain = np.full((5, 9, 12, 3), 0.25, np.float32)  # what is the same everywhere is not changed by moving it
    for step in (ways.Shift(), ways.Rotate(), ways.Crop(), ways.Blur(p=1)):
        assert np.allclose(augmenter(step)(plain.copy(), y[:5], 0, 0)[0], plain, atol=1e-5)


def test_signals_keep_their_shape_and_are_changed() -> None:
    about = encoding(SIGNAL)
    x, y = pictures(30, (40, 8)), np.zeros(30, np.int64)
    for step in ON_SIGNALS:
        changed, _ = augmenter(step, about=about)(x.copy(), y, 0, 0)
        assert changed.shape == x.shape and not np.allclose(changed, x)
    louder, _ = augmenter(ways.Gain(decibels=20), about=about)(x.copy(), y, 0, 0)
    ratio = (louder / x).reshape(30, -1)
    assert np.allclose(ratio, ratio[:, :1], rtol=1e-4) and ratio.min() >= 0.099 and ratio.max() <= 10.01


def test_blended_labels_are_shares_where_the_loss_takes_them_and_else_drawn() -> None:
    x, y = pictures(64), np.arange(64) % 4
    for step in (ways.Mixup(alpha=1.0), ways.Cutmix(p=1)):
        _, shares = augmenter(step, soft=True)(x.copy(), y, 0, 0)
        assert shares.shape == (64, 4) and shares.dtype == np.float32
        assert np.allclose(shares.sum(axis=1), 1, atol=1e-6) and (shares.max(axis=1) < 1).any()
        _, drawn = augmenter(step)(x.copy(), y, 0, 0)
        assert drawn.dtype == y.dtype and set(drawn) <= {0, 1, 2, 3} and (drawn != y).any()
    about = Encoding(features=(IMAGE,), layout="channels_last", target="y", task="regression")
    _, values = augmenter(ways.Mixup(alpha=1.0), about=about)(x.copy(), y.astype(np.float32), 0, 0)
    assert values.dtype == np.float32 and values.min() >= 0 and values.max() <= 3


def table() -> tuple[Encoding, np.ndarray]:
    code = {"type": "number", "dtype": "float64"}
    features = (
        FeatureCode(column="age", op="scale", mean=40, std=10, **code),
        FeatureCode(column="raw", op="raw", **code),
        FeatureCode(column="plan", op="index", categories=("a", "b", "c"), type="category", dtype="str"),
        FeatureCode(column="town", op="onehot", categories=("x", "y", "z"), type="category", dtype="str"),
        FeatureCode(column="paid", op="flag", type="boolean", dtype="bool"),
    )
    rng = np.random.default_rng(2)
    x = np.zeros((200, 7), np.float32)
    x[:, :2] = rng.normal(size=(200, 2)) * [1, 30]
    x[:, 2] = rng.integers(0, 4, 200)
    x[np.arange(200), 3 + rng.integers(0, 3, 200)] = 1
    x[:, 6] = rng.integers(0, 2, 200)
    return encoding(*features, layout="table", classes=2), x


def test_numbers_of_a_table_get_noise_by_their_own_deviation_and_categories_none() -> None:
    about, x = table()
    stats = [Column(name="raw", type=FeatureType.NUMBER, stats={"std": 30.0})]
    kept = x.copy()
    changed, _ = augmenter(ways.Noise(std=0.1), about=about, columns=stats)(x, np.zeros(200, np.int64), 0, 0)
    assert np.array_equal(x, kept)  # the rows in memory are not touched
    noise = (changed - x).std(axis=0)
    assert abs(noise[0] - 0.1) < 0.02 and abs(noise[1] - 3) < 0.6 and not noise[2:].any()
    one, _ = augmenter(ways.Noise(columns=("age",)), about=about)(x, np.zeros(200, np.int64), 0, 0)
    assert (one[:, 0] != x[:, 0]).all() and np.array_equal(one[:, 1:], x[:, 1:])


def test_blended_rows_of_a_table_keep_whole_categories() -> None:
    about, x = table()
    changed, _ = augmenter(ways.Mixup(alpha=2.0), about=about)(x, np.zeros(200, np.int64), 0, 0)
    assert set(np.unique(changed[:, 2])) <= {0, 1, 2, 3} and set(np.unique(changed[:, 6])) <= {0, 1}
    assert np.array_equal(changed[:, 3:6].sum(axis=1), np.ones(200)) and set(np.unique(changed[:, 3:6])) == {0, 1}
    assert not np.array_equal(changed[:, 0], x[:, 0]) and not np.array_equal(changed[:, 2], x[:, 2])


def test_smote_evens_out_the_classes_and_makes_rows_that_could_be() -> None:
    about, x = table()
    y = (np.arange(200) % 5 == 0).astype(np.int64)
    grown, labels = smote(ways.Smote(), x, y, about, seed=3)
    assert np.bincount(labels).tolist() == [160, 160] and np.array_equal(grown[:200], x)
    made = grown[200:]
    assert (
        made.dtype == np.float32 and set(np.unique(made[:, 2])) <= {0, 1, 2, 3} and set(np.unique(made[:, 6])) <= {0, 1}
    )
    assert np.array_equal(made[:, 3:6].sum(axis=1), np.ones(120))
    assert made[:, 0].min() >= x[y == 1, 0].min() and made[:, 0].max() <= x[y == 1, 0].max()
    again, _ = smote(ways.Smote(), x, y, about, seed=3)
    assert np.array_equal(again, grown)
    with pytest.raises(Invalid, match="class 1 has only as many rows"):
        smote(ways.Smote(neighbours=50), x, y, about, seed=3)
    x[0, 0] = np.nan
    with pytest.raises(Invalid, match="'age' is empty in 1 rows"):
        smote(ways.Smote(), x, y, about, seed=3)


def test_steps_are_checked_against_the_columns() -> None:
    image, number = Column(name="photo", type=FeatureType.IMAGE), Column(name="age", type=FeatureType.NUMBER)
    check_steps([ways.Flip(), ways.Noise(columns=("age",)), ways.Mixup()], [image, number], classes=True)
    with pytest.raises(Invalid, match="flip needs columns of type image, and the model learns from age"):
        check_steps([ways.Flip()], [number], classes=True)
    with pytest.raises(Invalid, match="cutmix takes only columns of type image"):
        check_steps([ways.Cutmix()], [image, number], classes=True)
    with pytest.raises(Invalid, match="rotate cannot change column 'age'"):
        check_steps([ways.Rotate(columns=("age",))], [image, number], classes=True)
    with pytest.raises(Invalid, match="rotate moves what is in an image"):
        check_steps([ways.Rotate()], [image], classes=False, arrays=True)
    with pytest.raises(Invalid, match="evens out classes"):
        check_steps([ways.Smote()], [number], classes=False)


def test_specs_are_read_by_their_word() -> None:
    read = TypeAdapter(AnyStep).validate_python
    assert read("flip") == ways.Flip() and read({"op": "rotate", "degrees": 3}) == ways.Rotate(degrees=3)
    for wrong in ("flop", {"op": "flip", "by": 1}, {"op": "crop", "least": 0}, {"op": "mixup", "columns": ["a"]}):
        with pytest.raises(ValueError):
            read(wrong)


def test_texts_change_word_by_word_and_missing_ones_stay_missing() -> None:
    texts = np.array(["the quick brown fox jumps over it"] * 200 + [None, "", "one"], object)
    table = {"Quick": ("fast", "swift"), "fox": ("vixen",)}
    batch = {"text": texts, "y": np.arange(203)}
    for step in (ways.DropWords(share=0.3), ways.SwapWords(share=0.3), ways.Synonyms(table=table, share=0.5)):
        changed = ways.change(batch, [step], seed=1, epoch=2)
        found = changed["text"]
        assert (found[:200] != texts[:200]).sum() > 100 and found[200] is None and list(found[201:]) == ["", "one"]
        assert np.array_equal(changed["y"], batch["y"])
        parts = [
            ways.change({"text": texts[at : at + 50]}, [step], seed=1, epoch=2, start=at)["text"]
            for at in range(0, 203, 50)
        ]
        assert np.array_equal(np.concatenate(parts), found)
    synonyms = ways.change(batch, [ways.Synonyms(table=table, share=1.0)])["text"]
    assert {text.split()[1] for text in synonyms[:200]} == {"fast", "swift"}
    assert {text.split()[3] for text in synonyms[:200]} == {"vixen"}


def test_columns_of_images_are_changed_outside_a_training() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (8, 6, 6, 3), np.uint8)
    changed = ways.change({"photo": photo}, [ways.Flip(p=1), ways.Colour()])["photo"]
    assert changed.dtype == np.uint8 and changed.shape == photo.shape
    assert np.array_equal(ways.change({"photo": photo}, [ways.Flip(p=1)])["photo"], photo[:, :, ::-1])
    with pytest.raises(Invalid, match="mixup fits none of the columns"):
        ways.change({"photo": photo}, [ways.Mixup()])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(0, 10**6), st.integers(0, 2**40), st.integers(1, 40))
def test_draws_follow_from_seed_epoch_and_place(seed: int, epoch: int, start: int, count: int) -> None:
    whole = Draws(seed, epoch, start, count)
    whole.step(2)
    later = Draws(seed, epoch, start + count - 1, 1)
    later.uniform(shape=(5,))  # what another step drew does not matter
    later.step(2)
    first, last = whole.uniform(-1, 3, (4,)), later.uniform(-1, 3, (4,))
    assert np.array_equal(first[-1:], last)
    assert first.min() >= -1 and first.max() < 3
    assert np.isfinite(whole.normal((3,))).all()


def test_draws_are_as_random_as_they_should_be() -> None:
    draws = Draws(0, 0, 0, 20_000)
    found = draws.uniform(shape=(10,))
    assert abs(found.mean() - 0.5) < 0.002 and abs(found.var() - 1 / 12) < 0.001
    assert abs(np.corrcoef(found[:-1, 0], found[1:, 0])[0, 1]) < 0.02  # neighbours
    assert abs(np.corrcoef(found[:, 0], Draws(1, 0, 0, 20_000).uniform(shape=(10,))[:, 0])[0, 1]) < 0.02  # seeds
    normal = draws.normal((11,))
    assert abs(normal.mean()) < 0.005 and abs(normal.std() - 1) < 0.005 and abs(np.mean(normal**4) - 3) < 0.05
    partners = draws.partners()
    assert sorted(partners) == list(range(20_000)) and (partners != np.arange(20_000)).all()
    assert abs(draws.beta(0.2).mean() - 0.5) < 0.01
