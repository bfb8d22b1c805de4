"""What becomes of a rollout: its moves, and the decisions that lead to them, without any process."""

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptonai.core.errors import Conflict
from leptonai.core.nouns import Guard, Rollout, Service, Variant, utcnow
from leptonai.core.states import RolloutPhase, ServiceState
from leptonai.serving import rollout, steering
from leptonai.serving.judging import judge
from leptonai.serving.rollout import Move
from leptonai.serving.tally import Tally


def begun(strategy: str = "guarded", **guard: object) -> Service:
    service = Service.new(name="s", variants=(Variant(model="old"),))
    others = (Variant(name="canary", model="new", percent=0),)
    return rollout.begin(service, "new", strategy, Guard(**guard), "ann", "ann deployed new", others)


def going(service: Service) -> Rollout:
    assert service.rollout is not None
    return service.rollout


def tally(asked: int, failed: int = 0, seconds: float = 0.001, agreed: float = 1.0) -> Tally:
    made = Tally()
    for i in range(asked):
        made.count(seconds, failed=i < failed)
        made.compare(agreed)
    return made


def move(service: Service, what: str, **more: object) -> Service:
    now = going(service)
    return rollout.settled(service, Move(rollout=now.id, phase=now.phase, step=now.step, what=what, text=what, **more))  # type: ignore[arg-type]


@given(st.lists(st.sampled_from(["loaded", "replayed", "step", "promote", "rollback", "note"]), max_size=12))
def test_whatever_is_asked_the_shares_sum_to_a_hundred_and_the_end_is_one(words: list[str]) -> None:
    service = begun(steps=(1, 5, 25, 50))
    for word in words:
        if not going(service).going:
            with pytest.raises(Conflict):
                move(service, word)
            continue
        if word == "step" and going(service).step + 1 >= 4:
            continue
        service = move(service, word)
        rollout.check(service.variants)
    assert {v.model for v in service.variants} <= {"old", "new"}
    if going(service).phase is RolloutPhase.ROLLED_BACK:
        assert [v.model for v in service.variants] == ["old"]
        assert rollout.state_of(service)[0] is ServiceState.FAILED
    if going(service).phase is RolloutPhase.PROMOTED:
        assert [v.model for v in service.variants] == ["new"]
        assert service.history == ("old",)


def test_what_was_decided_elsewhere_or_before_moves_nothing() -> None:
    service = begun()
    late = Move(rollout=going(service).id, phase=RolloutPhase.LOADING, what="loaded", text="x")
    moved = rollout.settled(service, late)
    for wrong in (late, late.model_copy(update={"rollout": "another"})):
        with pytest.raises(Conflict):
            rollout.settled(moved, wrong)


def test_a_story_keeps_its_beginning_and_its_end() -> None:
    service = begun()
    for i in range(200):
        service = rollout.settled(
            service, Move(rollout=going(service).id, phase=RolloutPhase.LOADING, what="note", text=str(i))
        )
    story = going(service).story
    assert (len(story), story[0].what, story[-1].text) == (rollout.FIRST + rollout.LAST, "began", "199")


@pytest.mark.parametrize(
    ("rate", "steps"), [(1000.0, (1, 5, 25, 50)), (10.0, (5, 25, 50)), (2.0, (25, 50)), (0.1, (50,))]
)
def test_small_steps_are_left_out_where_they_would_show_nothing(rate: float, steps: tuple[int, ...]) -> None:
    assert steering.paced((1, 5, 25, 50), rate, 60.0) == steps


def test_the_replay_decides() -> None:
    now = going(move(begun(), "loaded"))
    good = steering.replayed(now, "m/2", tally(50), tally(50), 100.0, 6000)
    assert (good.what, good.steps) == ("replayed", (1, 5, 25, 50))
    assert steering.replayed(now, "m/2", tally(50), tally(50, agreed=0.1), 100.0, 6000).what == "rollback"
    assert steering.replayed(now, "m/2", tally(3), tally(3, failed=3), 100.0, 6000).what == "rollback"
    silent = steering.replayed(now, "m/2", Tally(), Tally(), 0.0, 0)
    assert silent.what == "promote"
    assert "no traffic" in silent.text


def at_canary(**guard: object) -> Rollout:
    return going(move(move(begun(**guard), "loaded"), "replayed"))


def test_a_look_goes_on_waits_or_turns_back() -> None:
    now = at_canary(steps=(5, 50))
    soon, late = now.since + timedelta(seconds=3), now.since + timedelta(seconds=61)
    assert steering.look(now, "m/2", tally(100), tally(5), soon) is None
    fine = steering.look(now, "m/2", tally(20000), tally(1000), soon)
    assert fine is not None
    assert (fine.what, "held" in fine.text) == ("step", True)
    by_time = steering.look(now, "m/2", tally(100), tally(5), late)
    assert by_time is not None
    assert (by_time.what, "not enough was seen" in by_time.text) == ("step", True)
    for bad in (tally(100, failed=8), tally(60, seconds=0.5), tally(100, agreed=0.5)):
        found = steering.look(now, "m/2", tally(2000), bad, soon)
        assert found is not None
        assert found.what == "rollback"
    dead = steering.look(now, "m/2", tally(10), tally(1), soon, deaths=2)
    assert dead is not None
    assert dead.what == "rollback"
    last = now.model_copy(update={"step": 1})
    found = steering.look(last, "m/2", tally(1000), tally(1000), soon)
    assert found is not None
    assert found.what == "promote"


def test_a_version_that_is_no_worse_is_turned_back_no_more_often_than_stated() -> None:
    """A whole step, looked at again and again, of a version that is the same: errors, times and answers as noisy as they come."""
    random, guard, runs, wrong = np.random.default_rng(0), Guard(alpha=0.2, agree=0.8), 120, 0
    for _ in range(runs):
        stable, other, harm = Tally(), Tally(), False
        for _ in range(12):
            for each, many in ((stable, 60), (other, 20)):
                for seconds, failed in zip(
                    0.01 * random.lognormal(0, 0.8, many), random.random(many) < 0.1, strict=True
                ):
                    each.count(float(seconds), failed=bool(failed))
            for share in random.random(10) < 0.8:
                other.compare(float(share))
            harm |= bool(judge(guard, stable, other).harm)
        wrong += harm
    allowed = guard.alpha / (len(guard.steps) + 1)
    assert wrong / runs <= allowed + 4 * (allowed * (1 - allowed) / runs) ** 0.5


def test_a_test_of_two_versions_ends_for_a_reason() -> None:
    now = going(move(begun("test", alpha=0.05, horizon=0.05, step_seconds=3600.0), "loaded"))

    def told(count: int, mean: float) -> Tally:
        made = Tally()
        made.told, made.liked = count, count * mean
        return made

    at = utcnow()
    assert steering.compared(now, "m/2", told(50, 0.5), told(50, 0.55), at) is None
    for mean, what, why in (
        (0.7, "promote", "better"),
        (0.3, "rollback", "worse"),
        (0.5, "rollback", "differ by less"),
    ):
        found = steering.compared(now, "m/2", told(20000, 0.5), told(20000, mean), at)
        assert found is not None
        assert (found.what, why in found.text) == (what, True)
    found = steering.compared(now, "m/2", told(5, 0.5), told(5, 0.5), now.since + timedelta(hours=2))
    assert found is not None
    assert "no difference was shown" in found.text
