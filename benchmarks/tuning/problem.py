"""Cheap real problems, the same for all: an SVM on digits or on clothes, told from two numbers. Also run by the peers' own Python."""

import random
import sys
import time
from pathlib import Path

import numpy as np
from sklearn.metrics import accuracy_score
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

C, GAMMA = (1e-2, 1e3), (1e-5, 1e1)
FAR = (1e-5, 1e3)  # of gamma: the middle of the ranges is a poor place to begin
DEPTH, LEAF = (1, 12), (1, 100)
TARGET = 0.988  # of digits, which a trial learns in hundredths of a second
CLOTHES, CLOTHES_TARGET = (1500, 1000), 0.86  # rows to learn and to be measured by, which takes tenths of a second
MOST = 120  # trials, where the target is not met


def rows(folder: str) -> list[np.ndarray]:
    """The parts that everybody learns from and is measured on."""
    found = np.load(Path(folder) / "parts.npz")
    return [found[name] for name in ("x", "y", "vx", "vy")]


def score(parts: list[np.ndarray], c: float, gamma: float) -> float:
    """Accuracy on the validation part."""
    x, y, vx, vy = parts
    return float(accuracy_score(vy, SVC(C=c, gamma=gamma).fit(x, y).predict(vx)))


def quick(parts: list[np.ndarray], depth: int, leaf: int) -> float:
    """A trial of a few milliseconds."""
    x, y, vx, vy = parts
    tree = DecisionTreeClassifier(max_depth=depth, min_samples_leaf=leaf, random_state=0).fit(x[:300, :8], y[:300])
    return float(accuracy_score(vy, tree.predict(vx[:, :8])))


def optuna_to_target(
    parts: list[np.ndarray], seed: int, jobs: int, gammas: tuple[float, float] = GAMMA, target: float = TARGET
) -> float:
    """Seconds until Optuna's default, in memory, meets the target; `jobs`: trials at once."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    began = time.perf_counter()
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))

    def objective(trial: optuna.Trial) -> float:
        return score(parts, trial.suggest_float("C", *C, log=True), trial.suggest_float("gamma", *gammas, log=True))

    def stop(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        if (trial.value or 0.0) >= target:
            study.stop()

    study.optimize(objective, n_trials=MOST, n_jobs=jobs, callbacks=[stop])
    return time.perf_counter() - began


def ray_to_target(folder: str, seed: int) -> float:
    """Seconds until Ray Tune, with its default search and one trial for each core, meets the target; Ray is up already."""
    from ray import tune

    random.seed(seed)
    np.random.seed(seed)
    parts = rows(folder)

    def objective(config: dict[str, float]) -> dict[str, float]:
        return {"accuracy": score(parts, config["C"], config["gamma"])}

    began = time.perf_counter()
    tune.run(
        objective, config={"C": tune.loguniform(*C), "gamma": tune.loguniform(*GAMMA)}, metric="accuracy", mode="max",
        num_samples=MOST, verbose=0, stop=_met(),
    )  # fmt: skip
    return time.perf_counter() - began


def _met() -> object:
    from ray.tune import Stopper

    class Met(Stopper):
        """Stops all once one meets the target."""

        def __init__(self) -> None:
            self.met = False

        def __call__(self, _: str, result: dict[str, float]) -> bool:
            self.met = self.met or result.get("accuracy", 0) >= TARGET
            return self.met

        def stop_all(self) -> bool:
            return self.met

    return Met()


if __name__ == "__main__":
    import json
    import logging

    import ray

    ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    print(json.dumps([ray_to_target(sys.argv[1], seed) for seed in range(int(sys.argv[2]))]))
