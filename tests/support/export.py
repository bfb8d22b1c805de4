"""A model trained for a moment by its own framework, and its export; tables, images, series and tokens to train on."""

from pathlib import Path
from typing import Any

import numpy as np
from tests.support.handle import ArrayReader, FileHandle, column_of

from leptonai.core import plugins
from leptonai.core.nouns import Run
from leptonai.training import encoder
from leptonai.training.export import export
from leptonai.training.spec import Export, Fitted

DATA = "datasets:/table@v1?part=train&train_size=0.8"


def learn(
    model: Any, table: ArrayReader, folder: Path, steps: int = 3, compiled: dict[str, Any] | None = None, **options: Any
) -> FileHandle:
    """Train `model` a little on `table`, as the training stage does, and keep what it leaves."""
    framework = plugins.framework_of(model)
    packed = framework.pack(model, compiled or {})
    learner = framework.load(packed.code)
    images = {"channels_first": "channels_first", "flat": "flat"}.get(learner.layout, "channels_last")
    how = encoder.Options(images=images, dtype=learner.input_dtype, **options)
    encoding = encoder.fit(table, None, None, how)
    rows = table.read()
    x, y = encoder.encode(encoding, rows), encoder.targets(encoding, rows)
    learner.begin(x[:8], y[:8], encoding.task, len(encoding.classes), 0)
    for _ in range(steps if learner.incremental else 1):
        learner.step(x, y)
    handle = FileHandle(folder, "export", {DATA: table})
    fitted = Fitted(
        framework=framework.name,
        flavour=packed.flavour,
        code=handle.write(packed.code),
        weights=handle.write(learner.weights()),
        encoding=encoding,
        activation=learner.activation,
        history={"loss": [2.0, 1.0], "val_loss": [float("nan")]},
        epochs=2,
        data=DATA,
        dataset=table.dataset.id,
        parameters=10,
        seed=0,
        versions={"python": "3.11"},
        events=handle.write(b"events"),
    )
    run = Run.new(name="train", stage="train", spec={"data": DATA}, result=fitted.model_dump(mode="json"))
    handle.runs["trained"] = run
    return handle


def publish(handle: FileHandle, **given: Any) -> dict[str, Any]:
    """Export what was learnt."""
    return export(Export(run="trained", name="model", **given), handle)


# ------------------------------------------------------------------------------------------------------ tables


def mixed(task: str, rows: int = 60) -> ArrayReader:
    """Numbers with holes, whole numbers, words with quotes and umlauts and none, codes, truth, times; and a target."""
    rng = np.random.default_rng(0)
    words = np.array(["it's", 'a "quote"', "größe", "", None], object)
    data: dict[str, tuple[str, np.ndarray]] = {
        "länge / mm": ("number", np.where(rng.random(rows) < 0.2, np.nan, rng.normal(50, 9, rows))),
        "label": ("integer", rng.integers(0, 100, rows)),
        "holes": ("integer", np.where(rng.random(rows) < 0.3, np.nan, rng.integers(0, 9, rows)).astype(np.float64)),
        'wo"rt': ("category", words[rng.integers(0, 5, rows)]),
        "code": ("category", rng.integers(0, 4, rows) * 7),
        "yes": ("boolean", rng.random(rows) < 0.5),
        "when": ("datetime", rng.integers(1_500_000_000, 1_700_000_000, rows) * 1_000_000),
    }
    hidden = np.nan_to_num(data["länge / mm"][1]) / 50 + data["code"][1] / 10 + data["yes"][1]
    if task == "regression":
        data["t"] = ("number", hidden * 10 + rng.normal(size=rows))
    elif task == "binary":
        data["t"] = ("boolean", hidden > np.median(hidden))
    else:
        data["t"] = (
            "category",
            np.array(["no", "mäßig", "ye's"], object)[np.digitize(hidden, np.quantile(hidden, [0.3, 0.7]))],
        )
    columns = [column_of(name, values, kind) for name, (kind, values) in data.items()]
    return ArrayReader(columns, {name: values for name, (_, values) in data.items()}, "t")


def single(name: str, kind: str, values: np.ndarray, target: np.ndarray) -> ArrayReader:
    """One column of arrays, and a target: words are classes."""
    columns = [column_of(name, values, kind), column_of("t", target)]
    return ArrayReader(columns, {name: values, "t": target}, "t")


def series(task: str = "classification", rows: int = 40) -> ArrayReader:
    """Sequences of 7 steps of 4 numbers."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=(rows, 7, 4)).astype(np.float32)
    return single("series", "tensor", values, _target(values.sum((1, 2)), task))


def pictures(task: str = "classification", rows: int = 40) -> ArrayReader:
    """Images of 8 by 8, one channel."""
    rng = np.random.default_rng(2)
    values = rng.integers(0, 256, (rows, 8, 8, 1)).astype(np.uint8)
    return single("image", "image", values, _target(values[:, :4].mean((1, 2, 3)), task))


def tokens(task: str = "classification", rows: int = 40) -> ArrayReader:
    """Five columns of whole numbers below 50, for an embedding."""
    rng = np.random.default_rng(3)
    values = rng.integers(0, 50, (rows, 5))
    data = {f"token {i}": values[:, i] for i in range(5)}
    target = _target(values.sum(1).astype(float), task)
    columns = [column_of(name, found) for name, found in data.items()]
    return ArrayReader([*columns, column_of("t", target)], {**data, "t": target}, "t")


def _target(values: np.ndarray, task: str) -> np.ndarray:
    if task == "regression":
        return values.astype(np.float64)
    return np.array(["low", "mid", "high"], object)[np.digitize(values, np.quantile(values, [0.3, 0.7]))]
