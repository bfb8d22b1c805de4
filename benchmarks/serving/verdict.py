"""From what was seen to the ratios that are promised: medians over rounds, each product against the best of the others."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from serving.measure import Seen

BY_HAND = "fastapi"  # no product: what a good engineer writes by himself; it has a key of its own


@dataclass(frozen=True)
class Promise:
    """A key, and what it has to be. `least`: at least that; else at most."""

    target: float
    least: bool = True

    def kept(self, value: float) -> bool:
        """Whether a figure is good enough."""
        return value >= self.target if self.least else value <= self.target

    def __str__(self) -> str:
        return f"{'at least' if self.least else 'at most'} {self.target:g}"


PROMISES: Mapping[str, Promise] = {
    "json_c64_vs_best_peer": Promise(6),
    "json_c64_vs_fastapi_ort": Promise(4),
    "p99_c64_vs_best_peer": Promise(0.2, least=False),
    "json_c16_vs_best_peer": Promise(5),
    "p50_c1_vs_best_peer": Promise(0.25, least=False),
    "binary_c64_vs_best_peer": Promise(12),
    "json_c64_race_vs_best_peer": Promise(10),
    "limit_json": Promise(0.60),
    "limit_binary": Promise(0.75),
    "deploy_vs_quickest_peer_start": Promise(0.2, least=False),
    "idle_rss_vs_smallest_peer": Promise(1, least=False),
    "cache_300_over_100_p50": Promise(1.2, least=False),
}

Figure = Callable[[Seen], float | None]


def per_second(kind: str) -> Figure:
    """Return requests a second of one kind of load."""
    return lambda seen: seen.loads[kind].per_second if kind in seen.loads else None


def p50(kind: str) -> Figure:
    """Return the median latency of one kind of load, in ms."""
    return lambda seen: seen.loads[kind].p50_ms if kind in seen.loads else None


def p99(kind: str) -> Figure:
    """Return the 99th percentile of one kind of load, in ms."""
    return lambda seen: seen.loads[kind].p99_ms if kind in seen.loads else None


def values(rounds: Sequence[Seen], figure: Figure) -> list[float]:
    """Return a figure in each round in which it was seen."""
    return [value for seen in rounds if (value := figure(seen)) is not None]


def best(
    products: Mapping[str, Sequence[Seen]], figure: Figure, *, most: bool = True
) -> tuple[str, list[float]] | None:
    """Return the product whose median is the best, and its figures; None where nobody has any."""
    found = {name: values(rounds, figure) for name, rounds in products.items()}
    medians = {name: statistics.median(v) for name, v in found.items() if v}
    if not medians:
        return None
    name = (max if most else min)(medians, key=lambda name: medians[name])
    return name, found[name]


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """Return the median over rounds of ours / theirs."""
    pairs = [a / b for a, b in zip(ours, theirs, strict=False) if b]
    return statistics.median(pairs) if pairs else None


def against(
    ours: Sequence[Seen], peers: Mapping[str, Sequence[Seen]], figure: Figure, *, most: bool = True
) -> tuple[float | None, str]:
    """Return the ratio to the best of the peers, and which it is."""
    found = best(peers, figure, most=most)
    return (None, "") if found is None else (ratio(values(ours, figure), found[1]), found[0])


def products(peers: Mapping[str, Sequence[Seen]]) -> dict[str, Sequence[Seen]]:
    """Return the peers without what is written by hand."""
    return {name: rounds for name, rounds in peers.items() if name != BY_HAND}


def row(rounds: Sequence[Seen]) -> dict[str, float]:
    """Return what the table says of a product: medians."""
    found = {"start_s": statistics.median(s.start_s for s in rounds)}
    found |= {
        "rss_mb": statistics.median(s.rss_mb for s in rounds),
        "pss_mb": statistics.median(s.pss_mb for s in rounds),
    }
    for kind in rounds[0].loads:
        for word, figure in (("per_s", per_second(kind)), ("p50_ms", p50(kind)), ("p99_ms", p99(kind))):
            if seen := values(rounds, figure):
                found[f"{kind}_{word}"] = statistics.median(seen)
        found[f"{kind}_failed"] = sum(s.loads[kind].failed for s in rounds if kind in s.loads)
    return {name: round(value, 3) for name, value in found.items()}
