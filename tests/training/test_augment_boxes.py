"""Boxes go where what they hold goes: held against rectangles that are drawn, and looked for in the changed image."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonai import augment as ways
from leptonai.core.errors import Invalid
from leptonai.training.augment.boxes import SEEN

HIGH, WIDE = 96, 128
STEPS = [
    ways.Flip(p=1, vertical=True), ways.Flip(), ways.Shift(by=0.2, fill="zero"), ways.Crop(least=0.6), ways.Rotate(degrees=25, fill="zero"),
]  # fmt: skip


def drawn(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Black images with a white rectangle each, and the box around it."""
    rng = np.random.default_rng(seed)
    images, boxes = np.zeros((rows, HIGH, WIDE, 1), np.uint8), np.empty(rows, object)
    for row in range(rows):
        high, wide = rng.integers(20, 50), rng.integers(20, 60)
        top, left = rng.integers(0, HIGH - high + 1), rng.integers(0, WIDE - wide + 1)
        images[row, top : top + high, left : left + wide] = 255
        place = [row % 3, left / WIDE, top / HIGH, (left + wide) / WIDE, (top + high) / HIGH]
        boxes[row] = np.array([place], np.float32)
    return images, boxes


def seen(image: np.ndarray) -> list[float] | None:
    """Return the edges of what is white: x1, y1, x2, y2 in shares."""
    down, along = (np.flatnonzero((image[..., 0] > 127).any(axis=axis)) for axis in (1, 0))
    if not len(down):
        return None
    return [along[0] / WIDE, down[0] / HIGH, (along[-1] + 1) / WIDE, (down[-1] + 1) / HIGH]


@pytest.mark.parametrize("steps", [*([step] for step in STEPS), STEPS], ids=lambda steps: "-".join(s.op for s in steps))
def test_the_box_of_a_rectangle_is_that_of_the_changed_one(steps: list[Any]) -> None:
    images, boxes = drawn(60)
    found = ways.change({"image": images, "boxes": boxes}, steps, seed=3)
    compared = 0
    slack = 0.06 if len(steps) > 1 else 0.025  # pixels are 0.01 wide; a turned box that is turned again grows
    for row, (image, after) in enumerate(zip(found["image"], found["boxes"], strict=True)):
        edges = seen(image)
        assert after.dtype == np.float32 and after.shape in ((1, 5), (0, 5))
        if edges is None or not len(after):
            continue  # it went out of the image
        assert after[0, 0] == row % 3
        inner = np.array(edges) - after[0, 1:]
        assert (inner[:2] > -slack).all() and (inner[2:] < slack).all(), (
            row,
            edges,
            after,
        )  # all that is seen is in it
        if len(steps) == 1:
            np.testing.assert_allclose(after[0, 1:], edges, atol=slack, err_msg=str(row))
        compared += 1
    assert compared > 50
    assert not np.array_equal(found["boxes"][0], boxes[0]) or not np.array_equal(found["boxes"][1], boxes[1])


def box() -> st.SearchStrategy[list[float]]:
    edge = st.floats(0, 1, width=32)
    pair = st.tuples(edge, edge).filter(lambda two: abs(two[0] - two[1]) > 0.02)
    return st.tuples(pair, pair).map(lambda p: [1, min(p[0]), min(p[1]), max(p[0]), max(p[1])])


def as_column(rows: list[list[list[float]]]) -> np.ndarray:
    column = np.empty(len(rows), object)
    for row, given_ in enumerate(rows):
        column[row] = np.array(given_, np.float32).reshape(-1, 5)
    return column


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.lists(box(), max_size=4), min_size=1, max_size=5), st.integers(0, 2**31 - 1), st.integers(0, 10**6),
    st.lists(st.sampled_from([*STEPS, ways.Cutout(p=1, share=0.8), ways.Noise(), ways.Colour()]), min_size=1, max_size=4),
)  # fmt: skip
def test_boxes_stay_inside_and_keep_their_class(
    rows: list[list[list[float]]], seed: int, start: int, steps: list[Any]
) -> None:
    batch = {"image": np.zeros((len(rows), 12, 20, 3), np.uint8), "boxes": as_column(rows)}
    found = ways.change(batch, steps, seed=seed, start=start)["boxes"]
    for before, after in zip(batch["boxes"], found, strict=True):
        assert len(after) <= len(before) and after.shape[1] == 5 and (after[:, 0] == 1).all()
        assert (after[:, 1:] >= 0).all() and (after[:, 1:] <= 1).all()
        assert (after[:, 3] > after[:, 1]).all() and (after[:, 4] > after[:, 2]).all()
    again = ways.change(batch, steps, seed=seed, start=start)["boxes"]
    assert all(np.array_equal(one, other) for one, other in zip(found, again, strict=True))
    last = {name: values[-1:] for name, values in batch.items()}  # the place tells, not the batch
    alone = ways.change(last, steps, seed=seed, start=start + len(rows) - 1)["boxes"]
    assert np.array_equal(alone[0], found[-1])


@settings(max_examples=60, deadline=None)
@given(box(), st.integers(0, 2**31 - 1))
def test_areas_follow(given_: list[float], seed: int) -> None:
    batch = {"image": np.zeros((1, 30, 30, 1), np.uint8), "boxes": as_column([[given_]])}

    def area(step: Any, boxes: Any = batch["boxes"]) -> float:
        after = ways.change({**batch, "boxes": boxes}, [step], seed=seed)["boxes"][0]
        return float(((after[:, 3] - after[:, 1]) * (after[:, 4] - after[:, 2])).sum())

    whole = (given_[3] - given_[1]) * (given_[4] - given_[2])
    assert area(ways.Flip(p=1)) == pytest.approx(whole, abs=1e-5)
    assert area(ways.Shift(by=0.3)) <= whole + 1e-5
    middle = as_column([[[1, 0.45, 0.45, 0.55, 0.55]]])  # which no crop to 0.9 loses, and no small turn
    assert area(ways.Crop(least=0.9), middle) * (1 + 1e-4) >= 0.01 and area(ways.Crop(least=0.9), middle) < 0.0124
    assert 0.01 - 1e-5 <= area(ways.Rotate(degrees=45), middle) <= 0.02 + 1e-5


def test_what_is_hardly_seen_any_more_is_dropped() -> None:
    boxes = as_column([[[0, 0.0, 0.0, 0.1, 0.1]]] * 200)
    images = np.zeros((200, 40, 40, 1), np.uint8)
    left = ways.change({"image": images, "boxes": boxes}, [ways.Crop(least=0.7)])["boxes"]
    counts = [len(one) for one in left]
    assert 0 < sum(counts) < 200
    cut = ways.change({"image": images + 255, "boxes": boxes}, [ways.Cutout(p=1, share=0.9)])
    for image, one in zip(cut["image"], cut["boxes"], strict=True):
        assert len(one) == (image[:4, :4].mean() / 255 >= SEEN)


def test_boxes_follow_one_image() -> None:
    images, boxes = drawn(4)
    batch = {"left": images, "right": images, "boxes": boxes}
    with pytest.raises(Invalid, match="the boxes 'boxes' follow one"):
        ways.change(batch, [ways.Flip()])
    found = ways.change(batch, [ways.Flip(p=1, columns=("left",)), ways.Noise()], seed=1)
    assert np.allclose([b[0, 1] for b in found["boxes"]], [1 - b[0, 3] for b in boxes], atol=1e-6)
