"""The gate is a pure function: what it lets pass keeps its rules, and what is not known does not pass."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from leptonai.core.errors import Invalid
from leptonai.evaluation import comparing
from leptonai.evaluation.gate import Evidence, Rule, judge, parse, verdicts

numbers = st.floats(-1e6, 1e6).map(lambda value: round(value, 6))
SIGNS = {">=": lambda a, b: a >= b, "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, "<": lambda a, b: a < b}


def evidence(**figures: float) -> Evidence:
    return Evidence("run_1", figures, {})


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["f1", "worst slice", "roc_auc"]), st.sampled_from(list(SIGNS)), numbers, numbers)
def test_a_limit_is_kept_or_not(name: str, sign: str, limit: float, value: float) -> None:
    (verdict,) = judge([parse(f"{name} {sign} {limit!r}")], Evidence("run_1", {name: value}, {}))
    assert verdict.passed is SIGNS[sign](value, limit)
    assert f"{value:.6g}" in verdict.text
    assert "run_1" in verdict.text
    assert not judge([parse(f"{name} {sign} {limit!r}")], evidence(other=1.0))[0].passed
    assert not judge([parse(f"{name} {sign} {limit!r}")], Evidence("run_1", {name: math.nan}, {}))[0].passed
    assert not judge([parse(f"{name} {sign} {limit!r}")], Evidence("", {}, {}))[0].passed


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_in_one_sentence(text: str) -> None:
    try:
        assert isinstance(parse(text), Rule)
    except Invalid as error:
        assert "rule" in error.message
        assert "\n" not in error.message


def test_rules_as_people_write_them() -> None:
    assert parse("  F1 ≥ 0.9 ") == Rule("F1 ≥ 0.9", "f1", ">=", 0.9)
    assert parse("latency_p99 <= 5 ms")[1:4] == ("latency_p99", "<=", 5.0)
    assert parse("latency_p99<=0.005s").limit == 5.0
    assert parse("accuracy > 90 %").limit == 0.9
    assert parse("worst slice>=.8").figure == "worst slice"
    assert parse("not worse than champion (p < 0.01)")[3:] == (0.01, "champion")
    assert parse("Not worse than champion").limit == 0.05
    for wrong in (
        "f1",
        "f1 = 0.9",
        "f1 >= high",
        "latency_p99 <= 5",
        "f1 >= 3 ms",
        "a b >= 1",
        "not worse than",
        "f1 >= 1e999",
        "",
    ):
        with pytest.raises(Invalid, match="rule"):
            parse(wrong)


def test_a_paired_rule() -> None:
    def passed(**more: Any) -> tuple[bool, str]:
        compared = {
            "with": "models:/m/1",
            "metric": "accuracy",
            "own": 0.8,
            "other": 0.9,
            "rows": 100,
            "p": 0.01,
            "test": "McNemar",
        }
        given = Evidence("run_1", {}, compared, holders={"champion": "models:/m/1"}, own="models:/m/2")
        (verdict,) = judge([parse("not worse than champion (p < 0.05)")], given._replace(**more))
        return verdict.passed, verdict.text

    said = passed()
    assert said[0] is False
    assert "accuracy is 0.8, that of models:/m/1 is 0.9 on the same 100 rows" in said[1]
    assert passed(
        compared={
            "with": "models:/m/1",
            "metric": "accuracy",
            "own": 0.9,
            "other": 0.9,
            "rows": 9,
            "p": 0.5,
            "test": "t",
        }
    )[0]
    assert passed(holders={})[0]
    assert passed(own="models:/m/1")[0]
    assert passed(compared={}) == (False, "not worse than champion (p < 0.05): no evaluation compares it with models:/m/1; evaluate it with against='models:/m/1'")  # fmt: skip
    assert not passed(holders={"champion": "models:/m/7"})[0]


def test_rows_that_were_left_out_fail_what_they_would_have_spoilt() -> None:
    given = {"source": "run_1", "figures": {"f1": 1.0, "latency_p99": 1.0}, "compared": {}, "left_out": 3}
    first, second = verdicts(["f1 >= 0.9", "latency_p99 <= 5 ms"], given)
    assert (first["passed"], second["passed"]) == (False, True)
    assert "leaves out 3 rows" in first["text"]


def test_paired_tests_are_those_of_the_books() -> None:
    import numpy as np

    random = np.random.default_rng(0)
    own, other = random.random(500) < 0.8, random.random(500) < 0.9
    found = comparing.classifiers(own, other)
    wanted = stats.binomtest(found["gained"], found["gained"] + found["lost"], alternative="less").pvalue
    assert found["p"] == pytest.approx(wanted)
    assert comparing.classifiers(own, own)["p"] == 1.0
    errors = random.exponential(1, 400)
    assert comparing.regressors(errors + random.normal(0.3, 1, 400), errors, 0)["p"] < 0.01
    assert comparing.regressors(errors, errors, 0)["p"] == 1.0
    level = sum(comparing.regressors(*random.exponential(1, (2, 60)), seed)["p"] < 0.05 for seed in range(200))
    assert level <= 22  # ten are expected where the two are as good
    big = random.exponential(1, (2, 30_000))
    assert comparing.regressors(big[0] + 0.1, big[1], 0)["p"] < 1e-6
