"""Counts and times in Prometheus' text form. A request adds to plain numbers; the text is only made when it is asked for.

The processes of a plane share their numbers over a board, so each of them can answer for all. They outlive a process: what it
had counted by half a second before it died, the next one in its place goes on from.
"""

import json
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import orjson

from leptonai import __version__
from leptonai.serving.build import build
from leptonai.serving.plane.board import Board
from leptonai.serving.tally import Tallies

SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
AT_ONCE = 1024  # requests whose times are counted together; before that whenever the numbers are asked for
MANY = 48  # requests from which on NumPy counts their times sooner
STAGES = ("parse", "queue", "model", "encode", "total")


class Labels(NamedTuple):
    """What a series is about. All are empty for a request that no model was found for."""

    model: str = ""
    version: str = ""
    variant: str = ""
    service: str = ""


class Histogram:
    """Counts by upper bound, and the sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]):
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Add one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def observe_all(self, values: Any) -> None:
        """Add an array of values."""
        found = np.bincount(np.searchsorted(self.bounds, values), minlength=len(self.counts))
        self.add(found.tolist(), float(values.sum()))

    def add(self, counts: Sequence[int], sum: float) -> None:
        """Add what another one counted."""
        self.counts = [mine + more for mine, more in zip(self.counts, counts, strict=True)]
        self.sum += sum

    def lines(self, name: str, labels: Mapping[str, str]) -> Iterable[str]:
        """Yield the cumulative buckets, the sum and the count."""
        total = 0
        for bound, count in zip((*self.bounds, None), self.counts, strict=True):
            total += count
            yield _line(f"{name}_bucket", {**labels, "le": "+Inf" if bound is None else f"{bound:g}"}, total)
        yield _line(f"{name}_sum", labels, self.sum)
        yield _line(f"{name}_count", labels, total)


class Timed(Protocol):
    """When a request was queued, taken by its model, and computed, of `time.perf_counter`; `taken` 0: it was not."""

    queued: float
    taken: float
    done: float
    batch: int  # rows it was computed with
    first: bool  # of its batch, so that a batch is counted once


class Series:
    """The numbers of one version."""

    def __init__(self) -> None:
        self.codes: dict[int, int] = {}
        self.stages = {stage: Histogram(SECONDS) for stage in STAGES}
        self.batch = Histogram(ROWS)
        self.load_seconds: float | None = None
        self.hits = self.misses = 0  # of the remembered answers
        self._times: list[tuple[float, float, float, float, float]] = []  # seconds in each stage, not yet counted
        self._noted: tuple[tuple[object, ...], str] = ((), "")

    def count(self, status: int) -> None:
        """Count one answer."""
        self.codes[status] = self.codes.get(status, 0) + 1

    def refused(self, status: int, seconds: float) -> None:
        """Count an answer that no model computed."""
        self.count(status)
        self.stages["total"].observe(seconds)

    def answered(self, status: int, start: float, parsed: float, item: Timed, encoded: float) -> None:
        """Count an answer now that it is sent. `start`, `parsed`, `encoded`: when the request had arrived, was read, and its
        answer was ready to be sent.
        """
        if status != 200:
            self.refused(status, time.perf_counter() - start)
        else:
            self.answered_together((start,), parsed, item, encoded)

    def answered_together(self, starts: Sequence[float], parsed: float, item: Timed, encoded: float) -> None:
        """Count the answers to requests that were read, computed and answered as one; see `answered`."""
        now = time.perf_counter()
        queue, model, encode = item.taken - item.queued, item.done - item.taken, encoded - item.done
        self.codes[200] = self.codes.get(200, 0) + len(starts)
        # Here a request only notes its times: to find their buckets for many at once costs a tenth.
        self._times += [(parsed - start, queue, model, encode, now - start) for start in starts]
        if item.first:
            self.batch.observe(item.batch)
            if len(self._times) >= AT_ONCE:
                self._count_times()

    def _count_times(self) -> None:
        if not self._times:
            return
        times, self._times = self._times, []
        if len(times) < MANY:
            for one in times:
                for stage, seconds in zip(STAGES, one, strict=True):
                    self.stages[stage].observe(seconds)
            return
        for stage, values in zip(STAGES, np.array(times).T, strict=True):
            self.stages[stage].observe_all(values)

    def note(self) -> dict[str, Any]:
        """Return all of it as JSON data."""
        self._count_times()
        return {
            "codes": list(self.codes.items()),
            "stages": {stage: (found.counts, found.sum) for stage, found in self.stages.items() if any(found.counts)},
            "batch": (self.batch.counts, self.batch.sum),
            "load_seconds": self.load_seconds,
            "cache": (self.hits, self.misses),
        }

    def noted(self) -> str:
        """Return the note as JSON text, which is made anew only when there was a request since."""
        now = (sum(self.codes.values()), self.load_seconds)
        if self._noted[0] != now:
            self._noted = (now, orjson.dumps(self.note()).decode())
        return self._noted[1]

    def add(self, note: Mapping[str, Any]) -> None:
        """Add what another one noted."""
        for code, count in note["codes"]:
            self.codes[code] = self.codes.get(code, 0) + count
        for stage, (counts, sum) in note["stages"].items():
            self.stages[stage].add(counts, sum)
        self.batch.add(*note["batch"])
        self.hits, self.misses = (
            mine + more for mine, more in zip((self.hits, self.misses), note["cache"], strict=True)
        )
        if note["load_seconds"] is not None:
            self.load_seconds = max(self.load_seconds or 0.0, note["load_seconds"])


Depths = Callable[[], Mapping[Labels, int]]


class Metrics:
    """All series of the plane. `depths` says how many requests each version has at hand now, in this process, and `busy` the
    same of those that have some.
    """

    def __init__(self, depths: Depths, board: Board | None = None, busy: Depths | None = None):
        self._depths = depths
        self._busy = busy or depths
        self._board = board or Board()
        self._series: dict[Labels, Series] = {}
        self._names: dict[Labels, str] = {}
        self.tallies = Tallies()
        self.workers: Callable[[], Mapping[Labels, tuple[int, int]]] = (
            dict  # how many there are to be, and are, by version
        )
        self.queues: Callable[[], Mapping[str, Any]] = dict  # of versions that workers compute, for `agent.scaler`
        self.process: Callable[[], Mapping[str, Any]] = (
            dict  # what this process says of itself, see `serving.plane.facts`
        )
        if (before := self._board.own()) is not None:
            _add(self._series, before)
            self.tallies.add(before["tallies"])

    def of(self, labels: Labels) -> Series:
        """Return the series of a version; it goes on where it was when the version comes back."""
        return self._series.setdefault(labels, Series())

    def every(self) -> dict[Labels, Series]:
        """Return the series of all processes together."""
        found: dict[Labels, Series] = {}
        for note in (self._note(), *self._board.others()):
            _add(found, note)
        return found

    def text(self) -> str:
        """Return everything, as ``text/plain; version=0.0.4``."""
        every: dict[Labels, Series] = {}
        depths: dict[Labels, int] = {}
        notes = [self._note(), *self._board.others()]
        for note in notes:
            _add(every, note)
            for found, depth in note["depths"]:
                depths[Labels(*found)] = depths.get(Labels(*found), 0) + depth
        known = [(labels._asdict(), series) for labels, series in sorted(every.items())]
        lines = _head("leptonai_inference_requests_total", "counter", "Answers by HTTP status.")
        for labels, series in known:
            for code, count in sorted(series.codes.items()):
                lines.append(_line("leptonai_inference_requests_total", {**labels, "code": str(code)}, count))
        name = "leptonai_inference_duration_seconds"
        lines += _head(
            name, "histogram", "Where the time of a request goes: parse, queue, model, encode; and in total."
        )
        for labels, series in known:
            for stage, histogram in series.stages.items():
                if any(histogram.counts):
                    lines += histogram.lines(name, {**labels, "stage": stage})
        lines += _head("leptonai_queue_depth", "gauge", "Requests that wait or are being computed.")
        for labels_, depth in sorted(depths.items()):
            lines.append(_line("leptonai_queue_depth", labels_._asdict(), depth))
        lines += _of_workers(notes)
        lines += _head("leptonai_batch_size", "histogram", "Rows that were computed together.")
        for labels, series in known:
            if any(series.batch.counts):
                lines += series.batch.lines("leptonai_batch_size", labels)
        lines += _head("leptonai_model_load_seconds", "gauge", "How long a version took to load and warm up.")
        for labels, series in known:
            if series.load_seconds is not None:
                lines.append(_line("leptonai_model_load_seconds", labels, series.load_seconds))
        for name, kind, word in (("hits", "remembered", "hits"), ("misses", "computed", "misses")):
            lines += _head(
                f"leptonai_response_cache_{name}_total",
                "counter",
                f"Requests whose answer was {kind}, of services that remember.",
            )
            lines += [
                _line(f"leptonai_response_cache_{name}_total", labels, getattr(series, word))
                for labels, series in known
                if series.hits or series.misses
            ]
        lines += _head("leptonai_plane_info", "gauge", "The version, and whether it is compiled or pure Python.")
        lines.append(_line("leptonai_plane_info", {"version": __version__, "build": build()}, 1))
        lines += _of_processes([note["process"] for note in notes if note["process"]])
        return "\n".join(lines) + "\n"

    def post(self) -> None:
        """Let the other processes see the numbers of this one."""
        some = {
            "depths": list(self._busy().items()),
            "tallies": self.tallies.note(),
            "queues": self.queues(),
            "workers": list(self.workers().items()),
            "process": self.process(),
        }
        series = ",".join([f"[{name},{series.noted()}]" for name, series in self._named()])
        self._board.write(f'{{"series":[{series}],{json.dumps(some, separators=(",", ":"))[1:]}')

    def _named(self) -> Iterable[tuple[str, Series]]:
        """Yield the labels of each series as JSON text, and the series."""
        for labels, series in self._series.items():
            name = self._names.get(labels)
            if name is None:
                name = self._names[labels] = json.dumps(labels)
            yield name, series

    def _note(self) -> dict[str, Any]:
        return {
            "series": [(labels, series.note()) for labels, series in self._series.items()],
            "depths": list(self._depths().items()),
            "tallies": self.tallies.note(),
            "workers": list(self.workers().items()),
            "process": self.process(),
        }


def _add(every: dict[Labels, Series], note: Mapping[str, Any]) -> None:
    for labels, more in note["series"]:
        every.setdefault(Labels(*labels), Series()).add(more)


def _of_workers(notes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return how many workers there are to be and are: all processes know the same, one that just began a little later."""
    name = "leptonai_service_replicas"
    lines = _head(name, "gauge", "Workers of a version that computes in processes of its own: wanted, and ready.")
    most: dict[Labels, tuple[int, int]] = {}
    for note in notes:
        for labels, (wanted, ready) in note.get("workers", ()):
            known = most.get(Labels(*labels), (0, 0))
            most[Labels(*labels)] = (max(known[0], wanted), max(known[1], ready))
    for found, both in sorted(most.items()):
        for state, count in zip(("wanted", "ready"), both, strict=True):
            lines.append(_line(name, {**found._asdict(), "state": state}, count))
    return lines


_OF_PROCESS = (
    ("leptonai_plane_resident_memory_bytes", "gauge", "rss", "Memory that a serving process holds."),
    ("leptonai_plane_cpu_seconds_total", "counter", "cpu", "Processor time that a serving process used."),
    ("leptonai_plane_connections", "gauge", "connections", "Connections that are open."),
    ("leptonai_access_log_dropped_total", "counter", "access_dropped", "Lines of the access log that were dropped."),
    ("leptonai_predictions_dropped_total", "counter", "predictions_dropped", "Requests that the prediction log was to keep and dropped."),
    ("leptonai_predictions_kept_total", "counter", "predictions_kept", "Requests that were handed to the prediction log."),
    ("leptonai_model_loads_total", "counter", "loads", "Model versions that a serving process loaded."),
    ("leptonai_model_evictions_total", "counter", "evictions", "Services whose model left memory: for others, idle, or as asked."),
    ("leptonai_model_waits_total", "counter", "waits", "Requests that waited for a model to be loaded."),
    ("leptonai_model_wait_seconds_total", "counter", "wait_seconds", "Time that requests waited for models."),
    ("leptonai_model_waiting", "gauge", "waiting", "Requests that wait for a model now."),
    ("leptonai_response_cache_bytes", "gauge", "remembered", "Answers that a serving process remembers."),
)  # fmt: skip


def _of_processes(notes: Sequence[Mapping[str, Any]]) -> list[str]:
    lines: list[str] = []
    for name, kind, key, help in _OF_PROCESS if notes else ():
        lines += _head(name, kind, help)
        for note in sorted((note for note in notes if key in note), key=_slot):
            process, value = {"process": str(note["slot"])}, note[key]
            by = value.items() if isinstance(value, dict) else [("", value)]
            lines += [_line(name, {**process, **({"reason": word} if word else {})}, number) for word, number in by]
    return lines


def _slot(note: Mapping[str, Any]) -> int:
    return int(note["slot"])


def _head(name: str, kind: str, help: str) -> list[str]:
    return [f"# HELP {name} {help}", f"# TYPE {name} {kind}"]


def _line(name: str, labels: Mapping[str, str], value: int | float) -> str:
    # Names of models, versions and variants have no character that would need an escape.
    inside = ",".join(f'{key}="{text}"' for key, text in labels.items())
    return f"{name}{{{inside}}} {value}"
