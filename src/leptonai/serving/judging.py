"""Whether a new version is as good as the one that answers: what was counted of both, judged by sequential tests.

Three things are held against the stable version, at the same time and on the same kind of requests: how many requests it could
not answer, how long it takes (the median and the 95th percentile), and whether it says the same. For each there are two
questions. *Is it worse?* A version that is not gets that verdict, over a whole rollout and however often one looks, with a
chance of at most `Guard.alpha`: it is shared out equally to the steps, of which the replay is one, and in each to the four
tests. *Is it shown to be fine?* Called so although it is worse by the guard's limits, a version is with a chance of at most
FINE in each test of a step; one that is not shown to be fine yet stays longer in its step, until its time is over.
"""

from collections.abc import Iterator
from math import inf, log
from typing import Any, NamedTuple

from leptonai.core.nouns import Guard
from leptonai.serving import sequential
from leptonai.serving.sequential import Stream
from leptonai.serving.tally import BOUNDS, Tally

FINE = 0.05
QUANTILES = ((0.5, "median"), (0.95, "95th percentile"))
TESTS = 2 + len(QUANTILES)
SLACK_SECONDS = 0.002  # a difference of time that is none, whatever the ratio


class Finding(NamedTuple):
    """What one test found: True for worse, False for fine, None for neither yet."""

    about: str  # "errors", "median", "95th percentile", "agreement"
    worse: bool | None
    text: str


class Verdict(NamedTuple):
    """What all tests found."""

    findings: tuple[Finding, ...]

    @property
    def harm(self) -> list[Finding]:
        """Where it is worse."""
        return [found for found in self.findings if found.worse is True]

    @property
    def unsure(self) -> list[Finding]:
        """Where nothing is shown yet."""
        return [found for found in self.findings if found.worse is None]

    @property
    def fine(self) -> bool:
        """Whether everything is shown to be."""
        return all(found.worse is False for found in self.findings)


def judge(guard: Guard, stable: Tally, other: Tally) -> Verdict:
    """Judge what was counted in one step. Pure."""
    alpha = guard.alpha / (len(guard.steps) + 1) / TESTS
    return Verdict(
        (_errors(guard, stable, other, alpha), *_times(guard, stable, other, alpha), _same(guard, other, alpha))
    )


def figures(stable: Tally, other: Tally) -> dict[str, Any]:
    """Return what was counted, as a record of a decision holds it."""
    return {"stable": _figures(stable), "new": _figures(other)}


def _figures(tally: Tally) -> dict[str, Any]:
    found: dict[str, Any] = {"requests": tally.asked, "failed": tally.failed}
    low, high = sequential.interval(Stream(tally.asked, tally.failed), FINE)
    found["failed_share_between"] = [round(low, 5), round(high, 5)]
    for q, name in QUANTILES:
        if sum(tally.counts):
            found[f"{name.replace(' ', '_')}_ms"] = round(_point(tally, q) * 1000, 3)
    if tally.compared:
        found |= {"compared": tally.compared, "agreed": round(tally.agreed, 2)}
    if tally.told:
        found |= {"told": tally.told, "mean": round(tally.liked / tally.told, 4)}
    return found


def _errors(guard: Guard, stable: Tally, other: Tally, alpha: float) -> Finding:
    one, base = Stream(other.asked, other.failed), Stream(stable.asked, stable.failed)
    worse: bool | None = None
    if sequential.more(one, base) >= log(1 / alpha):
        worse = True
    elif sequential.less(one, base, guard.errors) >= log(1 / FINE):
        worse = False
    text = f"it could not answer {_share(other)}, the stable version {_share(stable)}"
    return Finding("errors", worse, text)


def _share(tally: Tally) -> str:
    if not tally.asked:
        return "none of 0 requests"
    return f"{tally.failed:,} of {tally.asked:,} requests ({tally.failed / tally.asked:.2%})"


def _times(guard: Guard, stable: Tally, other: Tally, alpha: float) -> Iterator[Finding]:
    for q, name in QUANTILES:
        worse: bool | None = None
        low, high = _range(other, q, alpha), _range(stable, q, alpha)
        if low[0] > guard.slower * high[1] + SLACK_SECONDS:
            worse = True
        else:
            low, high = _range(other, q, FINE), _range(stable, q, FINE)
            if low[1] <= guard.slower * high[0] + SLACK_SECONDS:
                worse = False
        text = f"the {name} of its times is {_span(other, q)}, that of the stable version {_span(stable, q)}"
        yield Finding(name, worse, text)


def _range(tally: Tally, q: float, alpha: float) -> tuple[float, float]:
    """Return between what the quantile lies: both versions' ranges together are wrong with a chance of at most alpha."""
    return sequential.quantile(tally.counts, BOUNDS, q, alpha / 2)


def _span(tally: Tally, q: float) -> str:
    seconds = _point(tally, q)
    return "unknown" if not sum(tally.counts) else f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _point(tally: Tally, q: float) -> float:
    """Return about where a quantile lies: the upper bound of its bucket."""
    up_to, total = 0, sum(tally.counts)
    for bound, count in zip((*BOUNDS, inf), tally.counts, strict=True):
        up_to += count
        if up_to >= q * total:
            return min(bound, BOUNDS[-1])
    return BOUNDS[-1]


def _same(guard: Guard, other: Tally, alpha: float) -> Finding:
    seen = Stream(other.compared, other.agreed)
    worse: bool | None = None
    if guard.agree == 0.0:
        worse = False
    elif sequential.below(guard.agree, seen) >= log(1 / alpha):
        worse = True
    elif seen.mean > guard.agree and sequential.against(guard.agree, seen) >= log(1 / FINE):
        worse = False
    text = f"{seen.mean:.1%} of {other.compared:,} answers agree with the stable version's, {guard.agree:.0%} must"
    return Finding("agreement", worse, text if other.compared else "no answers were compared")
