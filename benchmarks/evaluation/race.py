"""`auto` beside scikit-learn's HistGradientBoosting as it comes, on the same rows: who says more of rows that neither has seen?

A win: better on the test. A loss beyond the interval: worse, and 95 % of 1,000 resamples of the test's rows, paired, say so, too. The
other model gets categories as categories, texts as the thousand words that are most frequent (TF-IDF), pictures as pixels.
On tables AutoGluon's medium preset is asked, too, with the same budget; it is told of among the figures, and not counted.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _common import peer_python
from _host import calm, watched
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import accuracy_score, roc_auc_score

import leptonai
from evaluation.sets import ALL, Set
from leptonai.sdk import client

RESAMPLES = 1000


def race(budget: float, seed: int = 0, only: tuple[str, ...] = ()) -> tuple[dict[str, float], dict[str, Any]]:
    """Return how many of the sets were won, and lost beyond the interval; and the figures of each."""
    figures: dict[str, Any] = {"auto budget, seconds": budget}
    wins = losses = 0
    with tempfile.TemporaryDirectory() as folder:
        client.connect(home=Path(folder) / "home")
        try:
            for make in ALL:
                if only and make.__name__ not in only:
                    continue
                found = one(make(seed), budget, seed, Path(folder))
                print(f"auto: {found}", file=sys.stderr, flush=True)
                wins += found["better"]
                losses += found["worse beyond the interval"]
                figures |= {f"auto on {make.__name__}, {name}": value for name, value in found.items()}
        finally:
            client.disconnect()
    return {"auto_wins_of_6": wins, "auto_losses_beyond_interval": losses}, figures


def one(data: Set, budget: float, seed: int, folder: Path) -> dict[str, Any]:
    """Race on one set of rows."""
    parts = [_dataset(data, name, folder) for name in ("train", "test")]
    calm()
    began = time.perf_counter()
    with watched() as host:
        found = leptonai.auto(parts[0], test=parts[1], target=data.target, budget=budget, seed=seed, verbose=0)
    took = time.perf_counter() - began
    said = found.predict(parts[1])
    result = found.best_run.result or {}
    classes = [str(name) for name in result["encoding"]["classes"]]
    began = time.perf_counter()
    other = rival(data, seed, classes)
    rival_took = time.perf_counter() - began
    truth = data.test[data.target].to_numpy()
    if classes:
        truth = np.array([classes.index(str(value)) for value in truth])
    metric = _auc if len(classes) == 2 else _accuracy if classes else _minus_rmse
    ours, theirs = metric(truth, said), metric(truth, other)
    low, high = interval(metric, truth, said, other, seed)
    peer = autogluon(data, budget, classes, folder) if data.kind == "table" else {}
    if "said" in peer:
        third = peer.pop("said")
        between = interval(metric, truth, said, third, seed)
        peer |= {"AutoGluon": abs(metric(truth, third)), "AutoGluon, difference": between}
    return {
        "metric": found.record.metric,
        "ours": abs(ours),
        "HistGradientBoosting": abs(theirs),
        "difference, low": low,
        "difference, high": high,
        "better": bool(ours > theirs),
        "worse beyond the interval": bool(high < 0),
        "chosen": found.chosen.name,
        "cross-validated": found.chosen.score,
        "candidates": len(found.record.leaderboard),
        "cut off": sum(line.state == "cut" for line in found.record.leaderboard),
        "search, seconds": found.record.seconds,
        "all, seconds": took,
        "HistGradientBoosting, seconds": rival_took,
        "taken by the host, share": host.share,
        **peer,
    }


def interval(metric: Any, truth: Any, ours: Any, theirs: Any, seed: int) -> tuple[float, float]:
    """Return the interval of 95 % of how much better ours is, from paired resamples of the rows."""
    rng, differences = np.random.default_rng(seed), []
    for _ in range(RESAMPLES):
        rows = rng.integers(0, len(truth), len(truth))
        differences.append(metric(truth[rows], ours[rows]) - metric(truth[rows], theirs[rows]))
    low, high = np.percentile(differences, [2.5, 97.5])
    return float(low), float(high)


def autogluon(data: Set, budget: float, classes: list[str], folder: Path) -> dict[str, Any]:
    """Have AutoGluon's medium preset learn and answer; nothing where it is not installed."""
    python = peer_python("evaluation")
    if python is None:
        return {}
    place = folder / f"{data.name}-autogluon"
    place.mkdir()
    for name, part in (("train", data.train), ("test", data.test)):
        part.to_parquet(place / f"{name}.parquet")
    metric = "roc_auc" if len(classes) == 2 else "accuracy" if classes else "rmse"
    command = [python, str(Path(__file__).with_name("medium.py")), str(place), data.target, metric, str(budget)]
    done = subprocess.run([*command, *classes], capture_output=True, text=True, check=False)
    if done.returncode:
        return {"AutoGluon failed": done.stderr.strip()[-300:]}
    told = json.loads(done.stdout.splitlines()[-1])
    about = {f"AutoGluon, {name}": value for name, value in told.items()}
    return {**about, "said": np.load(place / "said.npy")}


def rival(data: Set, seed: int, classes: list[str]) -> Any:
    """Fit HistGradientBoosting as it comes; return what it says of the test: (rows, classes) or values."""
    kind = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    model = kind(random_state=seed)
    y = data.train[data.target]
    y = np.array([classes.index(str(value)) for value in y]) if classes else y.to_numpy()
    train, test = _inputs(data)
    model.fit(train, y)
    return model.predict_proba(test) if classes else model.predict(test)


def _inputs(data: Set) -> tuple[Any, Any]:
    train, test = data.train.drop(columns=data.target), data.test.drop(columns=data.target)
    if data.kind == "image":
        return tuple(np.stack(part["picture"].to_list()).reshape(len(part), -1) for part in (train, test))  # type: ignore[return-value]
    if data.kind == "text":
        from sklearn.feature_extraction.text import TfidfVectorizer

        words = TfidfVectorizer(max_features=1000).fit(train["review"])
        return words.transform(train["review"]).toarray(), words.transform(test["review"]).toarray()
    for name in train.columns:
        if not np.issubdtype(train[name].to_numpy().dtype, np.number):
            train[name] = train[name].astype("category")
            test[name] = test[name].astype("category").cat.set_categories(train[name].cat.categories)
    return train, test


def _dataset(data: Set, part: str, folder: Path) -> leptonai.Dataset:
    frame = data.train if part == "train" else data.test
    path = folder / f"{data.name}-{part}"
    if data.kind == "image":
        path = path.with_suffix(".npz")
        np.savez(path, picture=np.stack(frame["picture"].to_list()), **{data.target: frame[data.target].to_numpy()})
    else:
        path = path.with_suffix(".csv")
        frame.to_csv(path, index=False)
    return leptonai.create_dataset(f"{data.name}-{part}", files=path, target=data.target, types=data.types or None)


def _auc(truth: Any, said: Any) -> float:
    return float(roc_auc_score(truth, said[:, 1]))


def _accuracy(truth: Any, said: Any) -> float:
    return float(accuracy_score(truth, said.argmax(axis=1)))


def _minus_rmse(truth: Any, said: Any) -> float:
    return -float(np.sqrt(np.mean((truth - said.reshape(len(truth))) ** 2)))
