"""Tuning: what a trial costs beside what it learns, and how long a target takes; ours beside Optuna, and Ray Tune where it installs.

Overhead: trees of a few milliseconds. Ours is what a study of the platform takes a trial, durable after each; Optuna's is the same
objective with its SQLite storage, which is what our records are kept in. From both is taken what the bare trials take.
Target: an SVM on pictures of clothes, seconds from asking for the study until a trial meets the accuracy, the median of the seeds: a trial
takes some tenths of a second, and the middle of the ranges, where ours begins, does not meet it. The same on digits (`_quick`), of which a trial
takes some hundredths and a Run's own start, which Optuna has not, is most of what ours takes: there the middle meets it, so there are also ranges whose middle
is a poor place (`_far`). Ray Tune, which takes half a minute for it, has the digits. All try as many settings at once as there are cores. There are
`--seeds` of what takes half a minute, twice as many of what takes seconds, and four times as many of the digits, whose time is luck.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import optuna
from _common import interleaved, median_ratio, peer_python, publish
from data.sets import images
from sklearn.datasets import load_digits
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

import leptonai
from leptonai.sdk import client
from tuning import problem

RAY_SECONDS = 240
TWICE, MORE = 2, 4  # seeds of what takes seconds, and of what takes less, for each of what takes half a minute
HERE = Path(__file__).parent / "tuning"
TREES = {"max_depth": problem.DEPTH, "min_samples_leaf": (*problem.LEAF, "log")}
CORES = len(os.sched_getaffinity(0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        client.connect(home=Path(folder) / "home")
        try:
            measure(Path(folder), asked.trials, asked.rounds, asked.seeds)
        finally:
            client.disconnect()


def measure(folder: Path, trials: int, rounds: int, seeds: int) -> None:
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    x, y = x[order], y[order]
    deviation = x[:1200].std(axis=0)
    x = ((x - x[:1200].mean(axis=0)) / np.where(deviation == 0, 1, deviation)).astype(np.float32)
    parts = [x[:1200], y[:1200], x[1200:], y[1200:]]
    np.savez(folder / "parts.npz", **dict(zip(("x", "y", "vx", "vy"), parts, strict=True)))
    whole = [dataset(folder, name, a, b) for name, (a, b) in {"digits": parts[:2], "held": parts[2:]}.items()]
    small = [dataset(folder, f"small-{n}", a[:300, :8] if n == "train" else a[:, :8], b[:300] if n == "train" else b)
             for n, (a, b) in {"train": parts[:2], "held": parts[2:]}.items()]  # fmt: skip
    took = interleaved(
        rounds,
        ours=lambda: ours_a_trial(small, trials),
        optuna=lambda: optuna_a_trial(parts, trials, folder),
        bare=lambda: bare(parts, trials),
    )
    ours = [a - c for a, c in zip(took["ours"], took["bare"], strict=True)]
    theirs = [b - c for b, c in zip(took["optuna"], took["bare"], strict=True)]
    to_target: dict[str, list[float]] = defaultdict(list)
    clothes, rows, source = pictures(folder)
    for seed in range(TWICE * seeds):
        to_target["ours"].append(ours_to_target(clothes, seed, problem.GAMMA, problem.CLOTHES_TARGET))
        theirs_took = problem.optuna_to_target(rows, seed, CORES, problem.GAMMA, problem.CLOTHES_TARGET)
        to_target["optuna"].append(theirs_took)
    for seed in range(MORE * seeds):
        for name, gammas in {"quick": problem.GAMMA, "far": problem.FAR}.items():
            to_target[f"ours_{name}"].append(ours_to_target(whole, seed, gammas, problem.TARGET))
            to_target[f"optuna_{name}"].append(problem.optuna_to_target(parts, seed, CORES, gammas))
    ratios = {"trial_overhead_vs_optuna": median_ratio(ours, theirs)}
    medians = {name: statistics.median(times) for name, times in to_target.items()}
    ratios["time_to_target_vs_optuna"] = medians["ours"] / medians["optuna"]
    for name in ("quick", "far"):
        ratios[f"time_to_{name}_target_vs_optuna"] = medians[f"ours_{name}"] / medians[f"optuna_{name}"]
    if (ray := ray_to_target(folder, seeds)) is not None:
        to_target["ray_tune"], medians["ray_tune"] = ray, statistics.median(ray)
        ratios["time_to_target_vs_ray_tune"] = medians["ours_quick"] / medians["ray_tune"]
    figures = {
        **{f"{name}_ms_a_trial": statistics.median(times) * 1000 for name, times in took.items()},
        "trials": trials,
        "at_once": CORES,
        "pictures": source,
        "target": problem.CLOTHES_TARGET,
        "target_of_digits": problem.TARGET,
        **{f"{name}_seconds_to_target": medians[name] for name in medians},
        "seconds_to_target": {name: [round(t, 3) for t in times] for name, times in to_target.items()},
    }
    publish("tuning", ratios, figures, ("optuna", "scikit-learn", "numpy"))


def pictures(folder: Path) -> tuple[list[leptonai.Dataset], list[np.ndarray], str]:
    """Pictures of clothes to learn from and to be measured by: two datasets, the same as rows of pixels, and whose they are."""
    x, y, source = images()
    order = np.random.default_rng(0).permutation(len(y))
    learnt, held = problem.CLOTHES
    made: list[leptonai.Dataset] = []
    rows: list[np.ndarray] = []
    for name, which in {"clothes": order[:learnt], "clothes-held": order[learnt : learnt + held]}.items():
        pixels = (x[which].reshape(-1, 1, 28, 28) / 255).astype(np.float32)
        np.savez(folder / f"{name}.npz", image=pixels, label=y[which])
        made.append(
            leptonai.create_dataset(name, files=folder / f"{name}.npz", target="label", types={"label": "category"})
        )
        rows += [pixels.reshape(len(pixels), -1), y[which]]
    return made, rows, source


def dataset(folder: Path, name: str, x: np.ndarray, y: np.ndarray) -> leptonai.Dataset:
    np.savez(folder / f"{name}.npz", **{f"c{at:02}": x[:, at] for at in range(x.shape[1])}, digit=y)
    return leptonai.create_dataset(name, files=folder / f"{name}.npz", target="digit", types={"digit": "category"})


def ours_a_trial(parts: list[leptonai.Dataset], trials: int) -> float:
    """Seconds a trial, from the first to the last: what a study takes to begin is told by the time to a target."""
    model = leptonai.Model(DecisionTreeClassifier(random_state=0))
    found = model.tune(
        TREES, data=parts[0], validation_data=parts[1], goal="val_accuracy", budget=trials, scale=False, verbose=0
    )
    return found.record.seconds / trials


def optuna_a_trial(parts: list[np.ndarray], trials: int, folder: Path) -> float:
    path = folder / f"study-{time.monotonic_ns()}.db"
    study = optuna.create_study(direction="maximize", storage=f"sqlite:///{path}")

    def objective(trial: optuna.Trial) -> float:
        depth, leaf = trial.suggest_int("max_depth", *problem.DEPTH), trial.suggest_int("leaf", *problem.LEAF, log=True)
        return problem.quick(parts, depth, leaf)

    began = time.perf_counter()
    study.optimize(objective, n_trials=trials)
    return (time.perf_counter() - began) / trials


def bare(parts: list[np.ndarray], trials: int) -> float:
    rng = np.random.default_rng(0)
    began = time.perf_counter()
    for _ in range(trials):
        problem.quick(parts, int(rng.integers(1, 13)), int(rng.integers(1, 101)))
    return (time.perf_counter() - began) / trials


def ours_to_target(parts: list[leptonai.Dataset], seed: int, gammas: tuple[float, float], target: float) -> float:
    """Seconds from asking until the study has ended with the first trial that meets the target, and its model is here."""
    model = leptonai.Model(SVC())
    space = {"C": (*problem.C, "log"), "gamma": (*gammas, "log")}
    began = time.perf_counter()
    found = model.tune(
        space, data=parts[0], validation_data=parts[1], goal="val_accuracy", budget=problem.MOST, scale=False, seed=seed,
        stop_at=target, verbose=0,
    )  # fmt: skip
    assert found.best_value >= target or len(found.trials) == problem.MOST
    return time.perf_counter() - began


def ray_to_target(folder: Path, seeds: int) -> list[float] | None:
    python = peer_python("tuning")
    if python is None:
        return None
    asked = [python, str(HERE / "problem.py"), str(folder), str(seeds)]
    # In a session of its own: what Ray starts ends with it, however long it takes.
    with subprocess.Popen(
        asked, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as started:
        try:
            out, err = started.communicate(timeout=RAY_SECONDS * seeds)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGTERM)
            print(f"Ray Tune is left out: it took more than {RAY_SECONDS} s a seed")
            return None
    if started.returncode:
        print(f"Ray Tune is left out: {err.strip().splitlines()[-1:]}")
        return None
    found: list[float] = json.loads(out.strip().splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
