"""Tests that may be looked at after every request: their stated error holds however often one looks, and whenever one stops.

All of them are made of one piece. Of a stream of values in [0, 1] it is enough to know how many there were and their sum;
against a hypothetical mean *p* they give the mixture likelihood ratio

    M(p) = B(a + sum, b + n - sum) / B(a, b) / (p^sum (1 - p)^(n - sum))

which is a martingale that starts at 1 if the mean is p (a supermartingale for values between 0 and 1, as the likelihood ratio
is convex in the value). By Ville's inequality it ever reaches 1/alpha with a chance of at most alpha. From that follow

- a confidence sequence for the mean: all p with M(p) < 1/alpha  (Robbins, Annals of Mathematical Statistics 41, 1970);
- the mixture sequential probability ratio test and its always-valid p-value, 1/M  (Johari, Koomen, Pekelis, Walsh, "Always
  Valid Inference: Continuous Monitoring of A/B Tests", Operations Research 70, 2022);
- a test of two streams: the product of their martingales at a common mean, the least over all means that the hypothesis
  allows  (universal inference: Wasserman, Ramdas, Balakrishnan, PNAS 117, 2020; betting: Waudby-Smith, Ramdas, JRSS B 86, 2024);
- a confidence sequence for a quantile: a value x is the q-quantile only if the share of values up to x has the mean q
  (Howard, Ramdas, "Sequential estimation of quantiles", Bernoulli 28, 2022).

Evidence is returned as its natural logarithm. Pure functions of counts; no state, no clock.
"""

from collections.abc import Sequence
from math import exp, inf, lgamma, log
from typing import NamedTuple

PRIOR = 0.5  # a and b: the prior of Jeffreys, which costs about half of log n
_TINY = 1e-12


class Stream(NamedTuple):
    """What was seen of values in [0, 1]: how many, and their sum."""

    n: float = 0.0
    total: float = 0.0

    @property
    def mean(self) -> float:
        """Their mean; 0 of none."""
        return self.total / self.n if self.n else 0.0

    def __add__(self, other: object) -> "Stream":  # of two streams, not of two tuples
        if not isinstance(other, Stream):
            return NotImplemented
        return Stream(self.n + other.n, self.total + other.total)


def against(mean: float, seen: Stream) -> float:
    """Return the log of the evidence that the mean is another one than `mean`."""
    return _mixture(seen) - _likelihood(mean, seen)


def below(mean: float, seen: Stream) -> float:
    """Return the log of the evidence that the mean is less than `mean`; at most 0 while what was seen is not."""
    return against(mean, seen) if seen.mean < mean else min(0.0, against(seen.mean, seen))


def interval(seen: Stream, alpha: float) -> tuple[float, float]:
    """Return a confidence sequence for the mean: at all times together it misses it with a chance of at most `alpha`."""
    limit = log(1 / alpha)
    if against(_inside(seen.mean), seen) >= limit:  # numerically: a mean at 0 or 1 of very many
        return seen.mean, seen.mean
    low = _crossing(0.0, seen.mean, seen, limit)
    high = _crossing(1.0, seen.mean, seen, limit)
    return low, high


def more(one: Stream, other: Stream, margin: float = 0.0) -> float:
    """Return the log of the evidence that the mean of `one` is greater than that of `other` plus `margin`."""
    if one.mean <= other.mean + margin:
        return min(0.0, against(_inside(one.mean), one) + against(_inside(other.mean), other))
    return _least(one, other, margin)


def less(one: Stream, other: Stream, margin: float = 0.0) -> float:
    """Return the log of the evidence that the mean of `one` is less than that of `other` plus `margin` (non-inferiority)."""
    if one.mean >= other.mean + margin:
        return min(0.0, against(_inside(one.mean), one) + against(_inside(other.mean), other))
    return _least(one, other, margin)


def differ(one: Stream, other: Stream) -> float:
    """Return the log of the evidence that two streams have different means."""
    return _least(one, other, 0.0)


def p_value(evidence: float) -> float:
    """Return the p-value of the log of an evidence. The least that was ever seen is valid at any time."""
    return min(1.0, exp(-evidence)) if evidence > 0 else 1.0


def quantile(counts: Sequence[int], bounds: Sequence[float], q: float, alpha: float) -> tuple[float, float]:
    """Return a confidence sequence for the q-quantile of values counted in buckets.

    `counts[i]` values are at most `bounds[i]` and greater than the bound before; the last count is of those beyond all bounds.
    The ends are bounds, 0, or infinity.
    """
    total, limit = sum(counts), log(1 / alpha)
    low, high, up_to = 0.0, inf, 0
    for bound, count in zip(bounds, counts, strict=False):
        up_to += count
        seen = Stream(total, up_to)
        if against(q, seen) < limit:
            continue
        if seen.mean < q:
            low = bound
        else:
            high = bound
            break
    return low, high


# ------------------------------------------------------------------------------------------------------ inside


def _inside(p: float) -> float:
    return min(max(p, _TINY), 1 - _TINY)


def _mixture(seen: Stream) -> float:
    hit, miss = seen.total, seen.n - seen.total
    return _log_beta(PRIOR + hit, PRIOR + miss) - _log_beta(PRIOR, PRIOR)


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)


def _likelihood(p: float, seen: Stream) -> float:
    hit, miss = seen.total, seen.n - seen.total
    p = _inside(p)
    return (hit * log(p) if hit > 0 else 0.0) + (miss * log(1 - p) if miss > 0 else 0.0)


def _crossing(far: float, near: float, seen: Stream, limit: float) -> float:
    """Return where between a mean that is refused and one that is not the evidence is `limit`."""
    if against(far, seen) < limit:
        return far
    for _ in range(60):
        middle = (far + near) / 2
        far, near = (middle, near) if against(middle, seen) >= limit else (far, middle)
    return far


def _least(one: Stream, other: Stream, margin: float) -> float:
    """Return the least evidence against means that lie `margin` apart. The sum of likelihoods is concave in the mean."""

    def likelihood(mean: float) -> float:
        return _likelihood(mean + margin, one) + _likelihood(mean, other)

    both = one + other
    if margin == 0.0:
        best = likelihood(both.mean)
    else:
        low, high = max(0.0, -margin), min(1.0, 1 - margin)
        for _ in range(80):  # golden section would save half of them; it is microseconds
            a, b = low + (high - low) / 3, high - (high - low) / 3
            low, high = (a, high) if likelihood(a) < likelihood(b) else (low, b)
        best = likelihood((low + high) / 2)
    return _mixture(one) + _mixture(other) - best
