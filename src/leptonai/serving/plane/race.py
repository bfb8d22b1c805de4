"""Which runtime, precision and number of threads computes a model best here: measured when it is loaded, for a second.

The reference is ONNX Runtime in fp32 with one thread. Whatever does not answer as it does takes no part; among the rest
throughput in batches decides, as long as a single row does not wait for it; and what is quicker alone must be so too when all
serving processes compute at once (`crowd`).
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

import numpy as np

from leptonai.core import plugins
from leptonai.core.errors import Invalid, LeptonError, MissingExtra
from leptonai.core.runtimes import LoadedModel, Variant
from leptonai.core.signature import Signature
from leptonai.serving.plane import crowd
from leptonai.serving.plane.agreement import Agreement, Tolerance
from leptonai.serving.plane.samples import Sample, odd, plain, usual

SIZES = (1, 16, 32, 64)  # rows of the batches that are timed; all but the first count for throughput
BATCH = 64  # rows in which answers are compared
BATCHES = 4
LATENCY = 1.5  # times the best latency of a single row that the winner may have
GAIN = 1.1  # times the throughput of the reference that another must reach: less is noise
LATEST = 4.0  # times `seconds` after which no further entrant is tried
COPIES = 512 * 2**20  # bytes that the copies of a model may have with which it is tried in company
_BURST = 0.002  # seconds of calls between two looks at the clock

Load = Callable[[Variant], LoadedModel]


@dataclass
class Entrant:
    """What one variant reached. Without measures it was `refused`, or nobody was left to race against."""

    variant: Variant
    seconds: dict[int, float] = field(default_factory=dict)  # of one call, by rows in the batch
    company: float | None = None  # times the rows a second of the reference, when all processes compute at once
    difference: float = 0.0  # the largest to the reference, in any number of the outputs
    refused: str = ""

    @property
    def latency(self) -> float:
        """Seconds for a single row."""
        return self.seconds[1]

    @property
    def throughput(self) -> float:
        """Rows a second in batches, the mean over their sizes."""
        return fmean(rows / seconds for rows, seconds in self.seconds.items() if rows > 1)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON data for people."""
        return {
            "name": self.variant.name,
            "ms_of_one_row": round(self.latency * 1e3, 4) if self.seconds else None,
            "rows_per_second": {rows: round(rows / seconds) for rows, seconds in self.seconds.items()},
            "in_company": None if self.company is None else round(self.company, 2),
            "difference": self.difference if math.isfinite(self.difference) else None,
            "refused": self.refused or None,
        }


@dataclass(frozen=True)
class Outcome:
    """The model that won, loaded, and what each entrant reached, the reference first. The caller closes the model."""

    model: LoadedModel
    chosen: Variant
    table: tuple[Entrant, ...]


def pick(
    files: Mapping[str, bytes],
    signature: Signature,
    *,
    cores: int,
    processes: int = 1,
    precision: str = "fp32",
    seconds: float = 1.0,
) -> Outcome:
    """Load a model in the best way there is here; `precision` "auto" lets rounder ones take part. See `race`, `offered`."""

    def load(variant: Variant) -> LoadedModel:
        runtime = plugins.runtime(variant.runtime)
        return runtime.load(files, variant.threads, precision=variant.precision, device=variant.device)

    variants = offered(signature, cores=cores, processes=processes, precision=precision)
    size = max(1, sum(map(len, files.values())))
    together = max(1, min(processes, cores, COPIES // size))
    tolerance = Tolerance(reduced=precision == "auto")
    return race(variants, load, signature, seconds=seconds, tolerance=tolerance, processes=together)


def offered(signature: Signature, *, cores: int, processes: int = 1, precision: str = "fp32") -> list[Variant]:
    """Return what can be tried for a model here, the reference first.

    `processes` of the plane each compute the model on `cores` together. Raises `Invalid` for a setting or a precision
    that is not known.
    """
    if precision not in ("fp32", "auto"):
        raise Invalid(f"precision is {precision[:40]!r}; it must be 'fp32' or 'auto'")
    free = max(1, cores // processes)
    # Few numbers of threads: each costs time. The root of all is near the best for models too small for all of them.
    threads = sorted({1, math.isqrt(free), free})
    found = []
    for name in sorted(plugins.names("runtimes"), key=lambda name: (name != "onnx", name)):
        with suppress(MissingExtra):
            for variant in plugins.runtime(name).variants(signature):
                if precision == "auto" or variant.precision == "fp32":
                    found += [replace(variant, threads=n) for n in (threads if variant.device == "cpu" else [1])]
    return found


def race(
    variants: Sequence[Variant],
    load: Load,
    signature: Signature,
    *,
    seconds: float = 1.0,
    tolerance: Tolerance | None = None,
    processes: int = 1,
) -> Outcome:
    """Load all variants, check the answers of each against the first one's, time those that agree, and keep the best.

    `processes`: how many compute at once. Blocks; timing takes `seconds` (a model whose one round takes longer gets that round), and what is not checked
    after four times as long takes no part. Raises what the first raises when it cannot be loaded or cannot compute.
    """
    tolerance = tolerance or Tolerance()
    latest = time.perf_counter() + LATEST * seconds
    models: dict[Variant, LoadedModel] = {variants[0]: load(variants[0])}
    try:
        table = [Entrant(variants[0])]
        rule = _Rule(models[variants[0]], signature)
        for variant in variants[1:]:
            table.append(entrant := Entrant(variant))
            if variant.precision != "fp32" and not tolerance.reduced:
                entrant.refused = "a rounder precision is not allowed here"
            elif time.perf_counter() > latest:
                entrant.refused = "there was no time left to try it"
            else:
                _try(entrant, load, rule, tolerance, models)
        running = [entrant for entrant in table if not entrant.refused]
        if len(running) > 1:
            _time([(entrant, models[entrant.variant]) for entrant in running], rule.usual, seconds)
        chosen = _in_company(running, models, load, rule.usual, seconds, processes).variant
    except BaseException:
        _close(models)
        raise
    winner = models.pop(chosen)
    _close(models)
    return Outcome(winner, chosen, tuple(table))


def choose(table: Sequence[Entrant]) -> Entrant:
    """Return the winner. The first is the reference: it stays unless another is clearly better."""
    if len(table) == 1:
        return table[0]
    most = LATENCY * min(entrant.latency for entrant in table)
    quick = [entrant for entrant in table if entrant.latency <= most]
    best = max(quick, key=lambda entrant: entrant.throughput)
    reference = table[0]
    if reference in quick and best.throughput < GAIN * reference.throughput:
        return reference
    return best


class _Rule:
    """What the reference answers to many batches, and what it refuses."""

    def __init__(self, model: LoadedModel, signature: Signature):
        self.signature = signature
        self.usual = usual(signature, BATCH * BATCHES)
        self.answers: list[tuple[Sample, dict[str, Any] | None]] = []
        try:
            model.predict(_rows(self.usual, 1).inputs)
        except LeptonError:  # values it does not know, such as numbers of words beyond its vocabulary
            self.usual = plain(signature, BATCH * BATCHES)
        self.wanted = _whole(model, self.usual)
        for sample in odd(signature, BATCH):
            try:
                self.answers.append((sample, model.predict(sample.inputs)))
            except LeptonError:
                self.answers.append((sample, None))

    def refusal(self, model: LoadedModel, agreement: Agreement) -> str | None:
        """Return why a model does not do as the reference does, or None."""
        if why := agreement.refusal(self.wanted, _whole(model, self.usual)):
            return why
        for rows in (1, 3):  # a row gets the same answer in a batch of any size
            part = {name: value[:rows] for name, value in self.wanted.items()}
            if why := agreement.refusal(part, model.predict(_rows(self.usual, rows).inputs)):
                return f"in a batch of {rows}, {why}"
        for sample, wanted in self.answers:
            try:
                found = model.predict(sample.inputs)
            except LeptonError as error:
                if wanted is not None:
                    return f"for {sample.kind} values: {error.message}"
                continue
            if wanted is None:
                return f"it computes {sample.kind} values, which the reference refuses"
            if why := agreement.refusal(wanted, found):
                return f"for {sample.kind} values, {why}"
        return None


def _try(entrant: Entrant, load: Load, rule: _Rule, tolerance: Tolerance, models: dict[Variant, LoadedModel]) -> None:
    """Load one variant and check it; in `models` it stays only when it agrees."""
    agreement = Agreement(rule.signature, tolerance, entrant.variant.precision)
    model = None
    try:
        model = models[entrant.variant] = load(entrant.variant)
        entrant.refused = rule.refusal(model, agreement) or ""
    except LeptonError as error:
        entrant.refused = error.message
    except Exception as error:  # noqa: BLE001  whatever a library raises: the reference serves without it
        entrant.refused = f"{type(error).__name__}: {error}"[:300]
    entrant.difference = agreement.difference
    if entrant.refused and model is not None:
        models.pop(entrant.variant).close()


def _time(running: Sequence[tuple[Entrant, LoadedModel]], sample: Sample, seconds: float) -> None:
    """Time all in turns, so that what else this machine does hits all alike.

    Of each one's times the lower quartile counts: a busy neighbour moves it less than the median.
    """
    start = time.perf_counter()
    calls: dict[int, list[int]] = {}
    batches = {rows: _rows(sample, rows).inputs for rows in SIZES}
    for rows in SIZES:
        if len(calls) > 1 and time.perf_counter() - start > seconds / 2:
            break  # a heavy model is judged by smaller batches
        calls[rows] = []
        for _, model in running:
            _burst(model, batches[rows], 1)  # the first batch of a size may be compiled for
            calls[rows].append(max(1, int(_BURST / _burst(model, batches[rows], 1))))
    found: dict[tuple[int, int], list[float]] = {(rows, i): [] for rows in calls for i in range(len(running))}
    turn, until = 0, start + seconds
    while turn == 0 or time.perf_counter() < until:
        for rows in calls:
            for i in range(len(running)):
                who = (i + turn) % len(running)
                found[rows, who].append(_burst(running[who][1], batches[rows], calls[rows][who]))
        turn += 1
    for (rows, who), times in found.items():
        running[who][0].seconds[rows] = sorted(times)[len(times) // 4]


def _in_company(
    running: list[Entrant],
    models: Mapping[Variant, LoadedModel],
    load: Load,
    sample: Sample,
    seconds: float,
    processes: int,
) -> Entrant:
    """Return the best that is quicker than the reference also when so many compute at once; else the reference."""
    reference = running[0]
    while (best := choose(running)) is not reference and processes > 1:
        copies: list[tuple[LoadedModel, LoadedModel]] = []
        try:
            for _ in range(processes - 1):
                copies.append((load(reference.variant), load(best.variant)))
            batches = {rows: _rows(sample, rows).inputs for rows in best.seconds if rows > 1}
            plain = [models[reference.variant], *(copy for copy, _ in copies)]
            other = [models[best.variant], *(copy for _, copy in copies)]
            best.company = crowd.gain(plain, other, batches, seconds / 2)
        finally:
            for copy in (model for pair in copies for model in pair):
                copy.close()
        if best.company >= GAIN:
            return best
        best.refused = (
            f"{processes} at once are {best.company:.2f} times as quick as the reference, which is not enough"
        )
        running.remove(best)
    return best


def _burst(model: LoadedModel, batch: Mapping[str, Any], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        model.predict(batch)
    return (time.perf_counter() - start) / calls


def _rows(sample: Sample, rows: int, first: int = 0) -> Sample:
    return Sample(sample.kind, {name: value[first : first + rows] for name, value in sample.inputs.items()})


def _whole(model: LoadedModel, sample: Sample) -> dict[str, Any]:
    parts = [model.predict(_rows(sample, BATCH, first * BATCH).inputs) for first in range(BATCHES)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _close(models: Mapping[Variant, LoadedModel]) -> None:
    for model in models.values():
        model.close()
