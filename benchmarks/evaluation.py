"""What the evaluation stage promises, measured: subgroups that are found, none that are made up, and a report of a million predictions.

slice_found_of_20 · a subgroup of 1,000 of 6,000 rows whose errors are 30 % beside 10 %, in six columns: in how many of 20 seeds the worst one
reported is it, or a level of it. slice_false_of_20 · the same rows with errors that no column tells: in how many seeds any is
reported. report_1m_seconds, report_1m_gib · a report (metrics, intervals, curves, subgroups of eight columns, the page) of a million predictions of two
classes, in a process of its own: its seconds without imports, and the most memory that the process ever held.
auto_wins_of_6, auto_losses_beyond_interval · `auto` beside HistGradientBoosting as it comes, on four tables, texts and pictures: see
`evaluation/race.py`. `--budget` seconds for each; `--sets credit,bikes` races on some and writes nothing.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np
from _common import publish
from evaluation.race import race

from leptonai.core.nouns import Column
from leptonai.core.signature import FeatureType
from leptonai.evaluation import measuring
from leptonai.evaluation.spec import Evaluate
from leptonai.evaluation.subgroups import Watch

_KINDS = {"f": "number", "i": "integer", "O": "category", "b": "boolean"}


def watched(data: dict[str, np.ndarray], step: int = 4096) -> Watch:
    """Hand the rows to the finder as a Run does, batch by batch."""
    watch = Watch(tuple(Column(name=n, type=FeatureType(_KINDS[v.dtype.kind])) for n, v in data.items()), "y")
    for at in range(0, len(next(iter(data.values()))), step):
        watch.add({name: values[at : at + step] for name, values in data.items()})
    return watch


def people(rows: int, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        "age": random.normal(40, 12, rows), "income": random.lognormal(10, 0.5, rows), "visits": random.integers(0, 6, rows),
        "plan": np.array(["basic", "pro", "team"], object)[random.integers(0, 3, rows)], "north": random.random(rows) < 0.5,
        "noise": random.normal(size=rows),
    }  # fmt: skip


def searched(wrong: np.ndarray, data: dict[str, np.ndarray]) -> list[dict[str, str]]:
    notes: list[str] = []
    scores = np.stack([1 - wrong, wrong * 1.0], 1)
    answers = measuring.Answers(
        "classification", ("a", "b"), "y", np.zeros(len(wrong), int), scores, watched(data).levels(notes)
    )
    details = measuring.report(Evaluate(run="r", data="d", resamples=0), answers)[1]
    return [line["where"] for line in details.slices]


def slices(rows: int = 6000) -> tuple[int, int]:
    """Return in how many of 20 seeds the planted subgroup is the worst found, and in how many any is found where there is none."""
    found = false = 0
    for seed in range(20):
        data, random = people(rows, seed), np.random.default_rng(1000 + seed)
        bad = (data["plan"] == "pro") & data["north"]
        first = searched(random.random(rows) < np.where(bad, 0.3, 0.1), data)[:1]
        found += bool(first) and first[0].items() <= {"plan": "pro", "north": "True"}.items()
        false += bool(searched(random.random(rows) < 0.1, data))
    return found, false


def million(rows: int) -> dict[str, float]:
    """Make a report of many predictions; return its seconds and this process's peak memory."""
    import scipy.stats  # noqa: F401
    import sklearn.metrics  # noqa: F401

    from leptonai.sdk.report_page import page

    data = people(rows, 0)
    data |= {"seen": np.random.default_rng(1).random(rows), "shop": np.random.default_rng(2).integers(0, 50, rows)}
    random = np.random.default_rng(3)
    truth = random.integers(0, 2, rows)
    second = (1 / (1 + np.exp(-(random.normal(size=rows) + 2 * truth - 1)))).astype(np.float32)
    scores = np.stack([1 - second, second], 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began, busy = time.perf_counter(), time.process_time()
    answers = measuring.Answers("classification", ("no", "yes"), "y", truth, scores, watched(data).levels([]))
    report, details = measuring.report(Evaluate(run="r", data="d", costs={"fp": 1, "fn": 5}), answers)
    text = page(report, details)
    return {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - busy,
        "gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "gib_before": before / 2**20,
        "page_kib": len(text) / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the large report")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--budget", type=float, default=300.0, help="seconds that auto has for each set of rows")
    parser.add_argument("--sets", default="", help="race auto on these only, and write nothing")
    given = parser.parse_args()
    if given.sets:
        print(json.dumps(race(given.budget, only=tuple(given.sets.split(",")))))
        return
    if given.child:
        print(json.dumps(million(given.rows)))
        return
    command = [sys.executable, __file__, "--child", "--rows", str(given.rows)]
    large = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(f"evaluation: {large}", file=sys.stderr, flush=True)
    found, false = slices()
    ratios = {
        "slice_found_of_20": found, "slice_false_of_20": false, "report_1m_seconds": large["seconds"], "report_1m_gib": large["gib"]
    }  # fmt: skip
    won, figures = race(given.budget)
    publish(
        "evaluation",
        ratios | won,
        figures | {f"report of {given.rows:,} rows, {k}": v for k, v in large.items()},
        ("numpy", "scipy", "scikit-learn", "lightgbm", "torch"),
    )


if __name__ == "__main__":
    main()
