"""What a serving plane's metrics say of each service: rates and times between two looks, as a live view shows them."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from leptonai.core.errors import Corrupt

STAGES = ("parse", "queue", "model", "encode", "total")

_LINE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_Labels = tuple[tuple[str, str], ...]


class Sample(NamedTuple):
    """One line of Prometheus' text."""

    name: str
    labels: Mapping[str, str]
    value: float


class Row(NamedTuple):
    """One variant of a service, between two looks. Times in seconds; None where nothing was answered."""

    service: str
    variant: str
    version: str
    model: str
    rate: float  # answers a second
    errors: float  # of them, those with a status from 400 on
    p50: Mapping[str, float | None]  # by stage
    p99: Mapping[str, float | None]
    queue: float  # requests that wait or are being computed now
    batch: float | None  # rows that were computed together, on average
    replicas: int | None = None  # workers that can compute it; None where it is computed in the serving processes
    wanted: int | None = None  # how many there are to be


class Process(NamedTuple):
    """One serving process."""

    process: str
    memory: float  # bytes
    cpu: float  # share of one core
    connections: float


def parse(text: str) -> list[Sample]:
    """Return the samples of Prometheus' text. Raises `Corrupt` for what is none."""
    found = []
    for line in text.splitlines():
        if line and not line.startswith("#"):
            match = _LINE.fullmatch(line)
            if match is None:
                raise Corrupt(f"the metrics hold a line that is none: {line[:100]!r}")
            found.append(Sample(match[1], dict(_LABEL.findall(match[2] or "")), float(match[3])))
    return found


class Look:
    """The numbers of one moment."""

    def __init__(self, samples: Iterable[Sample], time: float):
        """`time`: in seconds, of any clock that only grows."""
        self.time = time
        self.values: dict[tuple[str, _Labels], float] = defaultdict(float)
        for sample in samples:
            self.values[sample.name, tuple(sorted(sample.labels.items()))] += sample.value


def rows(before: Look, now: Look) -> list[Row]:
    """Return what each variant did between two looks, by service."""
    seconds = max(1e-9, now.time - before.time)
    found: dict[_Labels, _Counts] = defaultdict(_Counts)
    for (name, labels), value in now.values.items():
        known = dict(labels)
        if "model" not in known or not known["model"]:
            continue
        key = tuple((k, known.get(k, "")) for k in ("service", "variant", "version", "model"))
        grown = max(0.0, value - before.values.get((name, labels), 0.0))
        found[key].add(name, known, value, grown)
    return [counts.row(dict(key), seconds) for key, counts in sorted(found.items())]


def processes(before: Look, now: Look) -> list[Process]:
    """Return what each serving process takes."""
    seconds = max(1e-9, now.time - before.time)
    of: dict[str, dict[str, float]] = defaultdict(dict)
    for (name, labels), value in now.values.items():
        if (process := dict(labels).get("process")) is not None:
            grown = value - before.values.get((name, labels), 0.0)
            of[process][name] = max(0.0, grown) / seconds if name.endswith("_total") else value
    return [
        Process(
            process,
            found.get("leptonai_plane_resident_memory_bytes", 0.0),
            found.get("leptonai_plane_cpu_seconds_total", 0.0),
            found.get("leptonai_plane_connections", 0.0),
        )
        for process, found in sorted(of.items())
    ]


def quantile(buckets: Sequence[tuple[float, float]], share: float) -> float | None:
    """Return a quantile of cumulative (upper bound, count), between bounds by a line, as Prometheus' `histogram_quantile` does."""
    ordered = sorted(buckets)
    total = ordered[-1][1] if ordered else 0.0
    if total <= 0:
        return None
    low, below = 0.0, 0.0
    for bound, count in ordered:
        if count >= share * total:
            if math.isinf(bound):
                return low
            return low + (bound - low) * (share * total - below) / max(1e-12, count - below)
        low, below = bound, count
    return low


class _Counts:
    """What was found of one variant."""

    def __init__(self) -> None:
        self.answers = self.errors = self.queue = self.rows = self.batches = 0.0
        self.replicas: dict[str, int] = {}
        self.buckets: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def add(self, name: str, labels: Mapping[str, str], value: float, grown: float) -> None:
        if name == "leptonai_inference_requests_total":
            self.answers += grown
            self.errors += grown if int(labels["code"]) >= 400 else 0.0
        elif name == "leptonai_inference_duration_seconds_bucket":
            self.buckets[labels["stage"]].append((float(labels["le"]), grown))
        elif name == "leptonai_queue_depth":
            self.queue += value
        elif name == "leptonai_service_replicas":
            self.replicas[labels["state"]] = int(value)
        elif name == "leptonai_batch_size_sum":
            self.rows += grown
        elif name == "leptonai_batch_size_count":
            self.batches += grown

    def row(self, about: Mapping[str, str], seconds: float) -> Row:
        p50, p99 = ({s: quantile(self.buckets[s], share) for s in STAGES} for share in (0.5, 0.99))
        return Row(
            about["service"] or about["model"],
            about["variant"],
            about["version"],
            about["model"],
            self.answers / seconds,
            self.errors / seconds,
            p50,
            p99,
            self.queue,
            self.rows / self.batches if self.batches else None,
            self.replicas.get("ready"),
            self.replicas.get("wanted"),
        )
