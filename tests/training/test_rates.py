"""The learning rate of each batch: pure functions of the place, and a plateau that looks at what was measured."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonai.core.errors import Invalid
from leptonai.core.learning import Learning, Schedule
from leptonai.training.checkpoint import Course
from leptonai.training.rates import Rates, share

KINDS = ("constant", "cosine", "linear", "onecycle", "plateau", "step")
schedules = st.builds(
    Schedule,
    kind=st.sampled_from([kind for kind in KINDS if kind != "onecycle"]),
    warmup=st.floats(0, 4),
    floor=st.floats(0, 1),
    factor=st.floats(0.05, 0.95),
    every=st.integers(1, 5),
) | st.builds(Schedule, kind=st.just("onecycle"), floor=st.floats(0, 1))


class Told:
    """A learner that notes the rates it is given."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def rate(self, share: float) -> None:
        self.rates.append(share)


@settings(max_examples=200, deadline=None)
@given(schedules, st.integers(1, 12), st.integers(1, 9))
def test_a_rate_is_a_share_and_ends_where_it_is_to_end(schedule: Schedule, epochs: int, batches: int) -> None:
    total = epochs * batches
    rates = [share(schedule, place, total, batches) for place in range(total)]
    assert all(0 <= rate <= 1 for rate in rates)
    rising = min(total, math.ceil(schedule.warmup * batches))
    assert rates[:rising] == sorted(rates[:rising])
    if schedule.kind in ("cosine", "linear", "step"):
        assert rates[rising:] == sorted(rates[rising:], reverse=True)
    if schedule.kind in ("cosine", "linear") and total - rising > 1:
        assert rates[rising] == pytest.approx(1)
        assert rates[-1] == pytest.approx(schedule.floor)


def test_the_well_known_shapes() -> None:
    cosine = [share(Schedule(kind="cosine"), place, 5, 1) for place in range(5)]
    assert cosine == pytest.approx([1, 0.853553, 0.5, 0.146447, 0], abs=1e-6)
    cycle = [share(Schedule(kind="onecycle"), place, 101, 1) for place in range(101)]
    assert cycle[0] == pytest.approx(1 / 25)
    assert cycle.index(max(cycle)) == 30
    assert cycle[-1] == pytest.approx(0)
    step = Schedule(kind="step", factor=0.1, every=2)
    assert [share(step, place, 6, 1) for place in range(6)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert [share(Schedule(kind="constant", warmup=2), place, 8, 2) for place in range(5)] == pytest.approx(
        [0.2, 0.4, 0.6, 0.8, 1]
    )


def test_the_same_as_pytorch_has_them() -> None:
    import torch

    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=50, cycle_momentum=False)
    found = []
    for _ in range(50):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(found) < 50:
            theirs.step()
    # Theirs turns at place 14 of 50, ours at 0.3 x 49 = 14.7: the waves are the same, their ends half a batch apart.
    ours = [share(Schedule(kind="onecycle"), place, 50, 1) for place in range(50)]
    assert max(abs(a - b) for a, b in zip(ours, found, strict=True)) < 0.06


def test_a_learner_is_told_only_what_is_new() -> None:
    course, told = Course(), Told()
    rates = Rates(Schedule(kind="step", every=1, factor=0.5), course, 3, 2)
    for course.epoch in range(3):
        for course.batch in range(2):
            rates.set(told)  # type: ignore[arg-type]
    assert told.rates == [1.0, 0.5, 0.25]
    Rates(None, course, 3, 2).set(told)  # type: ignore[arg-type]
    assert len(told.rates) == 3


def test_a_plateau_cuts_the_rate_and_goes_on_from_its_course() -> None:
    rule = Schedule(kind="plateau", factor=0.1, patience=2, floor=0.005)
    values = [1.0, 0.5, 0.6, 0.6, 0.4, math.nan, 0.5, 0.45, 0.41, 0.42]
    whole, cuts = Course(), []
    for value in values:
        cuts.append(Rates(rule, whole, 20, 1).look({"loss": 9.0, "val_loss": value}))  # anew each time, as after a kill
    assert [cut is not None for cut in cuts] == [False, False, False, True, False, False, True, False, True, False]
    assert whole.rate_cut == pytest.approx(0.005)
    assert "val_loss has not got better for 2 epochs" in str(cuts[3])
    told = Told()
    Rates(rule, whole, 20, 1).set(told)  # type: ignore[arg-type]
    assert told.rates == [pytest.approx(0.005)]
    with pytest.raises(Invalid, match="no metric 'f1' to watch; measured are loss"):
        Rates(rule.model_copy(update={"monitor": "f1"}), Course(), 2, 1).look({"loss": 1.0})


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("cosin", "constant"),
        ("cosine:warmup", "NAME=VALUE"),
        ("cosine:warm=1", "warm"),
        ("onecycle:warmup=1", "rises by itself"),
        ("plateau:factor=1.5", "less than 1"),
    ],
)
def test_words_that_are_no_schedule(given: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Learning(schedule=given)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", ["cosine:warmup=2,floor=0.1", {"kind": "cosine", "warmup": 2, "floor": 0.1}])
def test_words_and_values_say_the_same(given: Any) -> None:
    found = Learning(schedule=given)
    assert found.schedule == Schedule(kind="cosine", warmup=2, floor=0.1)
    assert found.asked == ("schedule",)
    assert Learning.model_validate(found.model_dump(mode="json")) == found
