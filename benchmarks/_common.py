"""What every benchmark shares: medians over interleaved rounds, and one result file with where it came from."""

import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from _host import calm

ROOT = Path(__file__).resolve().parents[1]


def interleaved(rounds: int, **variants: Callable[[], float]) -> dict[str, list[float]]:
    """Run each variant once a round, in turn, so that a machine whose speed drifts slows them all alike."""
    took: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        calm()
        for name, variant in variants.items():
            took[name].append(variant())
    return took


def median_ratio(ours: list[float], theirs: list[float]) -> float:
    """Return the median over rounds of ours / theirs. A time that is NaN was disturbed, and its round does not count."""
    pairs = [pair for pair in zip(ours, theirs, strict=True) if not math.isnan(sum(pair))]
    return statistics.median(a / b for a, b in pairs) if pairs else median(ours) / median(theirs)


def median(seconds: list[float]) -> float:
    """Return the median of what was not disturbed."""
    return statistics.median(one for one in seconds if not math.isnan(one))


def process_seconds(*arguments: str, python: str = sys.executable, **environment: str) -> float:
    """Return how long a whole Python process takes."""
    start = time.perf_counter()
    subprocess.run([python, *arguments], check=True, capture_output=True, env={**os.environ, **environment})
    return time.perf_counter() - start


def peer_python(bench: str) -> str | None:
    """Return the interpreter that has the benchmark's peers installed, see scripts/bench."""
    path = ROOT / f".venv-peers-{bench}" / "bin" / "python"
    return str(path) if path.exists() else None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def publish(
    bench: str, ratios: Mapping[str, float], figures: Mapping[str, Any], libraries: tuple[str, ...] = ()
) -> None:
    """Write benchmarks/results/NAME.json and print the one line."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    line = {
        "bench": bench,
        "ratios": {k: round(v, 4) for k, v in ratios.items()},
        "figures": {k: round(v, 5) if isinstance(v, float) else v for k, v in figures.items()},
    }
    where = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip(),
        "machine": {"cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()},
        "versions": {name: _version(name) for name in ("lepton-ai-sdk", *libraries)},
    }
    out = ROOT / "benchmarks" / "results" / f"{bench}.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps({**line, **where}, indent=2) + "\n")
    print(json.dumps(line))
