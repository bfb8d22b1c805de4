"""What is asked next follows from history and seed; what is given up follows from the others; spaces that contradict are told."""

import itertools
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonai.core.errors import Corrupt, Invalid
from leptonai.tuning import journal, space, words
from leptonai.tuning.front import Front
from leptonai.tuning.opening import opening, value_at
from leptonai.tuning.spec import Dimension, Goal, Trial, Tune
from leptonai.tuning.study import DEAR, Study

SPACE = {
    "x": {"kind": "float", "low": -5.0, "high": 5.0},
    "n": {"kind": "int", "low": 1, "high": 64, "log": True},
    "kind": {"kind": "choice", "choices": ["a", "b", [1, 2]]},
    "y": {"kind": "float", "low": 0.1, "high": 1.0, "when": {"kind": ["b"]}},
}


def spec(**fields: Any) -> Tune:
    return Tune.model_validate({"data": "d", "space": SPACE, "trials": 30, **fields})


def value(params: dict[str, Any]) -> float:
    return float((params["x"] - 1) ** 2 + math.log2(params["n"]) / 10 + (params["kind"] != "b") + params.get("y", 0))


def study(asked: Tune, **more: Any) -> Study:
    return Study(asked, space.check(asked.space), **{"epochs": 27, **more})


def go_on(asked: Tune, entries: list[dict[str, Any]], count: int, seconds: float = 0.0) -> list[dict[str, Any]]:
    """Read a journal and go on until so many trials, of so many seconds each, were asked for, with curves where trials are given up."""
    found = study(asked)
    course = journal.read(entries)
    found.replay(course)
    entries = list(entries)
    waiting = list(course.open)
    while waiting or found.count < count:
        if not waiting:
            entries.append(found.ask())
            waiting = [entries[-1]["number"]]
        number = waiting.pop()
        params = next(e["params"] for e in entries if e["kind"] == "asked" and e["number"] == number)
        goals = [value(params), -params["x"]][: len(asked.goals)]
        curve: list[float] = []
        pruned = False
        for epoch in range(1, 28 if asked.pruner != "none" else 1):
            curve.append(value(params) + 10 / epoch)
            if pruned := found.report(number, epoch, curve[-1]):
                break
        state, values = ("pruned", curve[-1:]) if pruned else ("done", curve[-1:] or goals)
        trial = Trial.model_validate(
            {
                "number": number, "state": state, "params": params, "values": values, "curve": curve, "epochs": len(curve),
                "seconds": seconds,
            }
        )  # fmt: skip
        entries.append(journal.told(trial, found.tell(trial), None, 0.0))
    return entries


def seen(entries: list[dict[str, Any]]) -> list[Any]:
    """All but what the engine noted for itself: a pickle of equal things need not be equal."""
    return [(entry["kind"], entry.get("trial") or (entry["number"], entry["params"])) for entry in entries]


@pytest.mark.parametrize(
    "more",
    [
        {}, {"sampler": "random"}, {"sampler": "cmaes"}, {"pruner": "asha"}, {"pruner": "hyperband"}, {"pruner": "median"},
        {"goals": [{"metric": "a"}, {"metric": "b"}]}, {"goals": [{"metric": "a"}, {"metric": "b"}], "sampler": "nsga2"},
    ],
    ids=str,
)  # fmt: skip
def test_a_journal_cut_anywhere_is_gone_on_with_as_if_it_had_not_been(more: dict[str, Any]) -> None:
    asked = spec(**more)
    whole = go_on(asked, [], 30)
    for cut in (1, 2, 11, 24, 43, 59):
        assert seen(go_on(asked, whole[:cut], 30)) == seen(whole), cut
    trials = [entry["trial"] for entry in whole if entry["kind"] == "told"]
    assert all(("y" in trial["params"]) == (trial["params"]["kind"] == "b") for trial in trials)
    pruned = sum(trial["state"] == "pruned" for trial in trials)
    assert pruned > 5 if "pruner" in more else pruned == 0


def wanted(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [entry["params"] for entry in entries if entry["kind"] == "asked"]


PLAIN = {name: SPACE[name] for name in ("x", "n", "kind")}


def test_dear_trials_are_chosen_by_a_gaussian_process_which_the_journal_remembers() -> None:
    asked = spec(space=PLAIN)
    whole = go_on(asked, [], 16, DEAR)
    noted = [entry["study"] for entry in whole if entry["kind"] == "asked"]
    decided = [number for number, study in enumerate(noted) if study.get("leptonai:dear") is True]
    assert decided == [5]  # after five of the opening
    for cut in (4, 10, 11, 12, 25):
        again = go_on(
            asked, whole[:cut], 16, DEAR if cut < 10 else 0.0
        )  # a faster machine that goes on changes nothing
        assert seen(again)[:cut] == seen(whole)[:cut]
        assert wanted(again) == wanted(whole)
    quick = go_on(asked, [], 12, DEAR / 2)
    assert seen(quick)[:10] == [
        (kind, {**what, "seconds": DEAR / 2} if kind == "told" else what) for kind, what in seen(whole)[:10]
    ]
    assert seen(quick)[10] != seen(whole)[10]


@pytest.mark.parametrize(
    "more",
    [
        {"space": SPACE}, {"pruner": "asha"}, {"sampler": "tpe"}, {"goals": [{"metric": "a"}, {"metric": "b"}]},
        {"space": {f"x{at}": SPACE["x"] for at in range(11)} | PLAIN},
    ],
    ids=["a setting of one choice", "trials are given up", "named", "two goals", "many settings"],
)  # fmt: skip
def test_for_what_a_gaussian_process_does_not_suit_nothing_is_decided(more: dict[str, Any]) -> None:
    entries = go_on(spec(**{"space": PLAIN, **more}), [], 8, DEAR)
    assert all("leptonai:dear" not in entry["study"] for entry in entries if entry["kind"] == "asked")


def test_what_is_found_is_better_than_chance() -> None:
    def best(sampler: str) -> float:
        found = []
        for seed in range(8):
            entries = go_on(spec(sampler=sampler, seed=seed), [], 30)
            found.append(min(e["trial"]["values"][0] for e in entries if e["kind"] == "told"))
        return sum(found)

    assert best("tpe") < best("random")


def test_a_grid_has_each_point_once_and_the_first_settings_come_first() -> None:
    small = {"n": {"kind": "int", "low": 1, "high": 3}, "kind": SPACE["kind"], "y": {**SPACE["y"], "step": 0.45}}
    asked = Tune.model_validate({"data": "d", "space": small, "sampler": "grid", "first": [{"n": 2, "kind": "a"}]})
    found = study(asked)
    assert found.points == 3 * (2 + 3)
    points = [found.ask()["params"] for _ in range(found.points)]
    assert points[0] == {"n": 2, "kind": "a"}
    assert len({str(sorted(point.items(), key=str)) for point in points}) == 15
    assert {"n": 1, "kind": "b", "y": pytest.approx(0.55)} in points and {"n": 3, "kind": [1, 2]} in points


def test_trials_of_an_earlier_study_are_known() -> None:
    earlier = [Trial.model_validate(e["trial"]) for e in go_on(spec(), [], 30) if e["kind"] == "told"]
    means = []
    for known in (earlier, []):
        found = study(spec(seed=7), earlier=known)
        entries = [found.ask() for _ in range(8)]
        assert [entry["number"] for entry in entries] == list(range(8))
        means.append(sum(value(entry["params"]) for entry in entries) / 8)
    assert means[0] < means[1]  # it begins where the other was


@pytest.mark.parametrize(
    ("changed", "words_"),
    [
        ({}, "it is empty"),
        ({"a": {"kind": "choice", "choices": [1], "when": {"b": [1]}}}, "no other setting 'b'"),
        ({"a": {"kind": "choice", "choices": [1], "when": {"a": [1]}}}, "no other setting 'a'"),
        ({"y": {**SPACE["y"], "when": {"kind": ["c"]}}, "kind": SPACE["kind"]}, "never 'c'"),
        ({"y": {**SPACE["y"], "when": {"x": [1]}}, "x": SPACE["x"]}, "is a range"),
        (
            {a: {"kind": "choice", "choices": [1], "when": {b: [1]}} for a, b in (("a", "b"), ("b", "a"))},
            "lead back to itself",
        ),
    ],
)
def test_a_space_that_contradicts_is_told(changed: dict[str, Any], words_: str) -> None:
    with pytest.raises(Invalid, match=words_):
        space.check({name: Dimension.model_validate(one) for name, one in changed.items()})


@pytest.mark.parametrize(
    ("given_", "wrong"),
    [
        ({"kind": "int", "low": 3, "high": 1}, "empty"), ({"kind": "float", "low": 0, "high": 1, "log": True}, "above 0"),
        ({"kind": "choice", "choices": []}, "at least one"), ({"kind": "choice", "choices": [1, 1]}, "twice"),
        ({"kind": "int", "low": 0.5, "high": 3}, "whole"), ({"kind": "float", "low": 1}, "low and high"),
    ],
)  # fmt: skip
def test_a_dimension_that_holds_nothing_is_told(given_: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        Dimension.model_validate(given_)


def test_few_words_are_enough() -> None:
    assert words.setting("rate=1e-4..0.1:log") == ("rate", {"kind": "float", "low": 1e-4, "high": 0.1, "log": True})
    assert words.setting("n=8..64:step=8") == ("n", {"kind": "int", "low": 8, "high": 64, "step": 8})
    assert words.setting("m=0..0.9@optimizer=sgd|rmsprop")[1]["when"] == {"optimizer": ["sgd", "rmsprop"]}
    assert words.setting("c=None|1|gini")[1] == {"kind": "choice", "choices": [None, 1, "gini"]}
    assert words.dimension("a", (1, 9)) == {"kind": "int", "low": 1, "high": 9}
    assert words.dimension("a", {"low": 0.0, "high": 1.0, "when": {"b": "x"}})["when"] == {"b": ["x"]}
    assert words.budget("10min") == {"seconds": 600.0} and words.budget([50, "1h"]) == {"trials": 50, "seconds": 3600.0}
    assert words.goals(["val_loss", "max:mine"]) == [{"metric": "val_loss"}, {"metric": "mine", "direction": "max"}]
    for wrong in (lambda: words.budget("soon"), lambda: words.budget(0), lambda: words.setting("a"), lambda: words.goals(3),
                  lambda: words.dimension("a", (1, 2, "linear")), lambda: words.dimension("a", 3)):  # fmt: skip
        with pytest.raises(Invalid):
            wrong()


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40))
def test_any_words_are_read_or_told(text: str) -> None:
    for read in (words.setting, words.budget, words.goals):
        try:
            read(text)
        except Invalid as error:
            assert error.message


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=20))
def test_the_front_is_what_none_beats(points: list[tuple[int, int]]) -> None:
    goals = (Goal(metric="val_accuracy"), Goal(metric="seconds"))
    trials = [Trial(number=at, state="done", params={}, values=point) for at, point in enumerate(points)]
    front = Front(goals, trials).numbers
    for at, (a, b) in enumerate(points):
        beaten = any((c >= a and d <= b and (c, d) != (a, b)) for c, d in points)
        first = points.index((a, b)) == at
        assert (at in front) == (not beaten and first)
    assert points[front[0]][0] == max(a for a, _ in points)


def test_a_journal_with_a_hole_is_told() -> None:
    whole = go_on(spec(), [], 3)
    with pytest.raises(Corrupt, match="lacks the beginning of trial 0"):
        journal.read(whole[2:])


@given(st.integers(0, 2**31 - 1))
def test_the_first_trials_are_the_middle_and_points_far_from_each_other(seed: int) -> None:
    asked = spec(seed=seed)
    points = opening(asked.space, space.check(asked.space), seed)
    assert points[0] == {"x": 0.0, "n": 6, "kind": "b", "y": pytest.approx(0.55)}
    assert all(space.placed(asked.space, point) for point in points) and len(points) >= 9
    places = sorted(point["x"] for point in points[1:])
    assert max(b - a for a, b in itertools.pairwise(places)) < 3.5  # of 10: no part is left out
    assert len({str(point["kind"]) for point in points}) == 3
    assert points == opening(asked.space, space.check(asked.space), seed)


@given(st.floats(0, 1, exclude_max=True), st.integers(-50, 50), st.integers(0, 60), st.sampled_from([None, 1, 3]))
def test_a_point_of_a_range_is_in_it(share: float, low: int, width: int, step: int | None) -> None:
    for kind in ("int", "float"):
        one = Dimension.model_validate({"kind": kind, "low": low, "high": low + width, "step": step})
        value = value_at(one, share)
        assert space.fit(one, value) == value
        assert step is None or (value - low) % step == 0
    one = Dimension(kind="int", low=1, high=1 + width, log=True)
    assert space.fit(one, value_at(one, share)) == value_at(one, share)
