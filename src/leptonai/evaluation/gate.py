"""Rules that a model version must keep before an alias may point at it, and whether a report keeps them. Pure.

A rule is a line: ``f1 >= 0.9``, ``worst slice >= 0.8``, ``latency_p99 <= 5 ms``, ``odds_difference <= 0.1``, ``not worse than champion (p < 0.05)``. A rule
that cannot be judged (a metric that was not measured, a comparison that was not made) fails: what is not known does not pass.
"""

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from leptonai.core.errors import FieldError, Invalid

_SIGNS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt
}  # fmt: skip
_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_LIMIT = re.compile(rf"([A-Za-z][A-Za-z0-9_ ]{{0,60}}?)\s*(>=|<=|≥|≤|>|<)\s*({_NUMBER})\s*(ms|s|%)?")
_PAIRED = re.compile(
    r"not worse than ([a-z0-9][a-z0-9._-]{0,99})(?:\s*\(\s*p\s*<\s*(0?\.\d{1,6})\s*\))?", re.IGNORECASE
)
WORST, LATENCY = ("worst slice", "worst spoilt"), "latency_"
_RIGHT = "such as 'f1 >= 0.9', 'worst slice >= 0.8', 'latency_p99 <= 5 ms' or 'not worse than champion (p < 0.05)'"


class Rule(NamedTuple):
    """One rule: a figure and its limit (latencies in milliseconds), or the alias whose holder it is compared with, and a p-value."""

    text: str
    figure: str = ""
    sign: str = ""
    limit: float = 0.0
    alias: str = ""


class Evidence(NamedTuple):
    """What is known of a version, from one report."""

    source: str  # which evaluation says so; "": there is none
    figures: Mapping[str, float]  # metrics, "worst slice", latencies in milliseconds
    compared: Mapping[str, Any]  # a paired test: with, metric, own, other, p (of being worse)
    left_out: int = 0
    holders: Mapping[str, str] = {}  # alias -> the reference of the version that has it
    own: str = ""  # the reference of the version itself


class Verdict(NamedTuple):
    """Whether a rule is kept, in one sentence with the figures."""

    rule: str
    passed: bool
    text: str


def parse(text: str) -> Rule:
    """Read a rule. Raises `Invalid` that says what one looks like."""
    line = " ".join(text.split())
    if paired := _PAIRED.fullmatch(line):
        return Rule(line, limit=float(paired[2] or 0.05), alias=paired[1].lower())
    found = _LIMIT.fullmatch(line)
    if found is None:
        raise Invalid(
            f"rule {line[:100]!r} is not understood: write one {_RIGHT}", errors=[FieldError("rules", _RIGHT)]
        )
    name, sign, number, unit = " ".join(found[1].lower().split()), found[2], float(found[3]), found[4]
    sign = {"≥": ">=", "≤": "<="}.get(sign, sign)
    if not math.isfinite(number):
        raise Invalid(f"rule {line[:100]!r}: the limit is not a finite number", errors=[FieldError("rules", _RIGHT)])
    if name.startswith(LATENCY):
        number *= 1000 if unit == "s" else 1
        if unit in (None, "%"):
            raise Invalid(
                f"rule {line[:100]!r}: say the unit of the time, ms or s", errors=[FieldError("rules", "ms or s")]
            )
    elif unit in ("ms", "s"):
        raise Invalid(f"rule {line[:100]!r}: {name} is no time, and has no unit", errors=[FieldError("rules", _RIGHT)])
    elif unit == "%":
        number /= 100
    if " " in name and name not in WORST:
        raise Invalid(
            f"rule {line[:100]!r} is not understood: write one {_RIGHT}", errors=[FieldError("rules", _RIGHT)]
        )
    return Rule(line, name, sign, number)


def judge(rules: Sequence[Rule], evidence: Evidence) -> list[Verdict]:
    """Return a verdict on each rule, in their order."""
    return [_judged(rule, evidence) for rule in rules]


def _judged(rule: Rule, evidence: Evidence) -> Verdict:
    if not evidence.source and not rule.alias:
        return Verdict(rule.text, False, f"{rule.text}: no evaluation of it is known; evaluate it first")
    return _paired(rule, evidence) if rule.alias else _limited(rule, evidence)


def _limited(rule: Rule, evidence: Evidence) -> Verdict:
    value = evidence.figures.get(rule.figure)
    if value is None or not math.isfinite(value):
        known = ", ".join(sorted(evidence.figures))
        return Verdict(rule.text, False, f"{rule.text}: {evidence.source} did not measure {rule.figure}, only {known}")
    passed = _SIGNS[rule.sign](value, rule.limit)
    unit = " ms" if rule.figure.startswith(LATENCY) else ""
    said = f"{rule.text}: {rule.figure} is {value:.6g}{unit} in {evidence.source}"
    if passed and evidence.left_out and not unit:
        return Verdict(rule.text, False, f"{said}, which leaves out {evidence.left_out:,} rows without a finite score")
    return Verdict(rule.text, passed, said)


def _paired(rule: Rule, evidence: Evidence) -> Verdict:
    other = evidence.holders.get(rule.alias)
    if other is None:
        return Verdict(rule.text, True, f"{rule.text}: no version has the alias {rule.alias} yet")
    if other == evidence.own:
        return Verdict(rule.text, True, f"{rule.text}: it is the {rule.alias} itself")
    found = evidence.compared
    if not found or found.get("with") != other:
        return Verdict(
            rule.text,
            False,
            f"{rule.text}: no evaluation compares it with {other}; evaluate it with against='{other}'",
        )
    worse = found["p"] < rule.limit
    said = (
        f"{rule.text}: {found['metric']} is {found['own']:.6g}, that of {other} is {found['other']:.6g} on the same "
        f"{found['rows']:,} rows (p of being worse {found['p']:.3g}, {found['test']})"
    )
    return Verdict(rule.text, not worse, said)


def verdicts(texts: Sequence[str], evidence: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return, as JSON data, a verdict on each rule that is kept as text. `evidence`: the fields of `Evidence`."""
    return [one._asdict() for one in judge([parse(text) for text in texts], Evidence(**evidence))]
