"""Serving one small CNN: leptonai beside other model servers, each in its best configuration, and beside the machine's limits.

One image a request, JSON and binary bodies, a closed loop of 1, 16 and 64 connections on the same cores. The best number of
workers of each product is found in the run; then the products take turns, a round each, and ratios are medians over the rounds.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime
from _common import publish
from serving.measure import Plan, Seen
from serving.peers_list import PEERS, Peer, Variant

from leptonai.serving.build import build
from serving import bodies, cache, cnn, limit, load, measure, ours, verdict


@dataclass
class Bench:
    """One run: what takes part, and what was seen of it."""

    only: list[str]
    seconds: float
    rounds: int
    folder: Path
    ours: list[Seen] = field(default_factory=list)
    raced: list[Seen] = field(default_factory=list)
    peers: dict[str, list[Seen]] = field(default_factory=dict)
    variants: dict[str, list[tuple[Variant, Seen]]] = field(default_factory=dict)
    way: tuple[int, int, int] | None = None  # how the bare runtime computes best
    bare: list[float] = field(default_factory=list)  # images a second of the bare runtime
    protocol: list[float] = field(default_factory=list)  # requests a second of a server that only does its work
    cached: cache.Found | None = None  # 300 services with room for 100
    costs: dict[str, list[float]] = field(default_factory=lambda: {"json": [], "binary": []})  # of the load, seconds
    notes: list[str] = field(default_factory=list)
    figures: dict[str, object] = field(default_factory=dict)

    def say(self, note: str) -> None:
        """Tell, and keep it beside the figures."""
        print(f"serving: {note}", file=sys.stderr, flush=True)
        if note not in self.notes:
            self.notes.append(note)

    def run(self) -> None:
        """Measure everything that takes part."""
        self.us = ours.Ours(self.folder)
        self.figures["images"] = self.us.train()
        images, _, _ = cnn.images(bodies.TURNS)
        self.images = np.ascontiguousarray(images)
        session = onnxruntime.InferenceSession(str(self.us.model), providers=["CPUExecutionProvider"])
        self.expected = session.run(None, {"image": self.images})[0]
        if self.takes("cache"):
            self.cached = cache.measure(self.us.home, self.us.model, self.images, self.seconds, self.folder)
            self.figures |= self.cached.figures()
        chosen = [(it, found) for it in PEERS if self.takes(it.name) and (found := self.choose(it)) is not None]
        for number in range(self.rounds):
            if self.takes("ours"):
                self.our_round(number)
            for it, variant in chosen:
                self.peer_round(it, variant)
            if self.takes("limit"):
                self.limits()

    def takes(self, name: str) -> bool:
        """Whether somebody takes part."""
        return not self.only or name in self.only

    def choose(self, it: Peer) -> Variant | None:
        """Try the ways to run a peer, and return the one that answers the most requests at 64 connections."""
        plan = Plan(min(2.0, self.seconds), 1.0, connections=(64,), binary=False)
        found = self.variants.setdefault(it.name, [])
        for variant in it.variants:
            if (seen := self.peer(it, variant, plan)) is not None:
                found.append((variant, seen))
                rate = seen.loads["json_c64"].per_second
                print(f"serving: {it.title}, {variant.name}: {rate:.0f}/s, {seen}", file=sys.stderr, flush=True)
        if not found:
            self.say(f"{it.title} takes no part, since none of its configurations answered")
            return None
        best = max(found, key=lambda pair: pair[1].loads["json_c64"].per_second)[0]
        self.figures[f"{it.name}_configuration"] = best.name
        return best

    def peer(self, it: Peer, variant: Variant, plan: Plan) -> Seen | None:
        """Measure a peer once; tell why where that cannot be."""
        try:
            return measure.peer(it, variant, plan, self.us.model, self.images, self.expected, self.folder, self.say)
        except Exception as error:  # whatever it does, the others are measured
            self.say(f"{it.title} ({variant.name}): {type(error).__name__}: {str(error)[:500]}")
            return None

    def peer_round(self, it: Peer, variant: Variant) -> None:
        if (seen := self.peer(it, variant, Plan(self.seconds, 1.0))) is not None:
            self.peers.setdefault(it.name, []).append(seen)
            print(f"serving: {it.title}, {variant.name}: {verdict.row([seen])}", file=sys.stderr, flush=True)

    def our_round(self, number: int) -> None:
        """Measure ourselves, first as it comes, then with every runtime and precision allowed."""
        seen, plane = self.us.round(Plan(self.seconds, 1.0), self.images, self.expected, {}, 2 * number)
        self.ours.append(seen)
        if failed := sum(it.failed for it in seen.loads.values()):
            self.say(f"leptonai: {failed} requests failed in round {number + 1}")
        print(f"serving: leptonai: {verdict.row([seen])}", file=sys.stderr, flush=True)
        if plane.binary is None:
            self.say("leptonai: binary_c64_vs_best_peer and limit_binary cannot be measured: no binary tensors yet")
        if not plane.guarded:
            self.say("leptonai: a request without a key was answered: authentication was not on")
        self.json, self.binary = plane.json, plane.binary
        settings = ours.race()
        if settings is None:
            self.say(
                "leptonai: json_c64_race_vs_best_peer cannot be measured: no setting frees the race of runtimes yet"
            )
            return
        plan = Plan(self.seconds, 1.0, connections=(64,), binary=False)
        raced, _ = self.us.round(plan, self.images, self.expected, settings, 2 * number + 1)
        self.raced.append(raced)
        self.figures["raced"] = self.us.won()
        print(f"serving: leptonai, free race: {verdict.row([raced])}", file=sys.stderr, flush=True)

    def limits(self) -> None:
        """Measure the bare runtime, and what the load generator costs."""
        if self.way is None:  # it is found once, and measured anew in each round: the best of many would flatter it
            self.way = limit.best(self.us.model, min(1.0, self.seconds), self.folder)
            self.figures["bare_runtime"] = "{} processes x {} threads, batches of {}".format(*self.way)
        self.bare.append(limit.images_per_second(self.us.model, *self.way, self.seconds, self.folder))
        plain = bodies.v2("/v2/models/cnn/infer", "image", self.images)
        raw = bodies.v2_binary("/v2/models/cnn/infer", "image", "scores", self.images)
        for name, request in (("json", plain), ("binary", raw)):
            seen = limit.echo(request, min(2.0, self.seconds), self.folder)
            self.costs[name].append(seen.cpu / seen.requests)
            self.figures[f"echo_{name}_c64_per_s"] = seen.per_second
        self.protocol.append(limit.bare_protocol(self.us.model, plain, self.seconds, self.folder).per_second)

    # ---------------------------------------------------------------------------------------------- what it says

    def ratios(self) -> dict[str, float]:
        """Return the keys that could be measured."""
        peers, found = verdict.products(self.peers), dict[str, float | None]()

        def against(key: str, seen: list[Seen], figure: verdict.Figure, *, most: bool = True) -> None:
            found[key], best = verdict.against(seen, peers, figure, most=most)
            self.figures[f"{key}_best"] = best

        if self.ours:
            against("json_c64_vs_best_peer", self.ours, verdict.per_second("json_c64"))
            against("p99_c64_vs_best_peer", self.ours, verdict.p99("json_c64"), most=False)
            against("json_c16_vs_best_peer", self.ours, verdict.per_second("json_c16"))
            against("p50_c1_vs_best_peer", self.ours, verdict.p50("json_c1"), most=False)
            against("binary_c64_vs_best_peer", self.ours, verdict.per_second("binary_c64"))
            by_hand = verdict.values(self.peers.get(verdict.BY_HAND, []), verdict.per_second("json_c64"))
            ours_c64 = verdict.values(self.ours, verdict.per_second("json_c64"))
            found["json_c64_vs_fastapi_ort"] = verdict.ratio(ours_c64, by_hand)
            found |= self._start_and_memory()
        if self.raced:
            against("json_c64_race_vs_best_peer", self.raced, verdict.per_second("json_c64"))
        if self.ours and self.bare:
            found |= self._limits()
        if self.cached is not None:
            found["cache_300_over_100_p50"] = self.cached.ratio
        return {name: found[name] for name in verdict.PROMISES if found.get(name) is not None}  # type: ignore[misc]

    def _start_and_memory(self) -> dict[str, float | None]:
        """Compare with the quickest and the smallest configuration that a peer has, whichever is its best under load."""
        tried = {
            f"{name}, {variant.name}": seen
            for name, pairs in self.variants.items()
            if name != verdict.BY_HAND
            for variant, seen in pairs
        }
        if not tried:
            return {}
        quickest = min(tried, key=lambda name: tried[name].start_s)
        smallest = min(tried, key=lambda name: tried[name].rss_mb)
        self.figures |= {"quickest_peer": quickest, "quickest_peer_start_s": tried[quickest].start_s}
        self.figures |= {"smallest_peer": smallest, "smallest_peer_rss_mb": tried[smallest].rss_mb}
        return {
            "deploy_vs_quickest_peer_start": statistics.median(s.start_s for s in self.ours) / tried[quickest].start_s,
            "idle_rss_vs_smallest_peer": statistics.median(s.rss_mb for s in self.ours) / tried[smallest].rss_mb,
        }

    def _limits(self) -> dict[str, float | None]:
        found: dict[str, float | None] = {}
        for name in ("json", "binary"):
            rates = verdict.values(self.ours, verdict.per_second(f"{name}_c64"))
            left = [limit.beside(rate, cost) for rate, cost in zip(self.bare, self.costs[name], strict=True)]
            found[f"limit_{name}"] = verdict.ratio(rates, left)
            self.figures |= {f"limit_{name}_per_s": statistics.median(left)}
            self.figures |= {f"limit_{name}_without_load_generator": verdict.ratio(rates, self.bare)}
            self.figures |= {f"load_generator_{name}_us": statistics.median(self.costs[name]) * 1e6}
        self.figures["bare_protocol_json_c64_per_s"] = statistics.median(self.protocol)
        self.figures["json_c64_vs_bare_protocol"] = verdict.ratio(
            verdict.values(self.ours, verdict.per_second("json_c64")), self.protocol
        )
        self.figures["bare_runtime_per_s"] = statistics.median(self.bare)
        return found

    def table(self) -> None:
        """Print what each product reached, and what was promised."""
        for name, rounds in {"leptonai": self.ours, "leptonai, free race": self.raced, **self.peers}.items():
            if rounds:
                self.figures[name] = verdict.row(rounds)
        found = self.ratios()
        for key, promise in verdict.PROMISES.items():
            value = found.get(key)
            word = "not measured" if value is None else f"{value:.3g}, {'kept' if promise.kept(value) else 'NOT KEPT'}"
            print(f"serving: {key}: {word} ({promise})", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = ["ours", "cache", "limit", *(it.name for it in PEERS)]
    parser.add_argument(
        "--only", default="", help=f"a comma-separated choice of {', '.join(known)}; nothing is written then"
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="how long each load lasts")
    parser.add_argument("--rounds", type=int, default=3, help="how often the products take turns")
    parser.add_argument(
        "--pure", action="store_true", help="measure the sources, not what the wheel has compiled of them"
    )
    given = parser.parse_args()
    only = [name for name in given.only.split(",") if name]
    if wrong := [name for name in only if name not in known]:
        parser.error(f"there is no {wrong[0]!r}; known are {', '.join(known)}")
    if (why := load.missing()) is not None:
        parser.error(why)
    if given.pure != (build() == "pure"):
        parser.error(
            f"the build that is found is {build()}: start it with scripts/bench serving, which makes the compiled one"
        )
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="leptonai-bench-") as folder:
        bench = Bench(only, given.seconds, given.rounds, Path(folder))
        bench.run()
    bench.table()
    bench.figures |= {"build": build(), "notes": bench.notes, "seconds": given.seconds, "rounds": given.rounds}
    bench.figures["took_s"] = time.perf_counter() - start
    if only:
        print(json.dumps({"bench": "serving", "ratios": bench.ratios(), "figures": bench.figures}))
    else:
        publish(
            "serving",
            bench.ratios(),
            bench.figures,
            ("onnxruntime", "openvino", "torch", "uvloop", "httptools", "numpy"),
        )


if __name__ == "__main__":
    main()
