"""What the tests of the local executor have a job do with the libraries of its flavour."""

from typing import Any


def train_torch(payload: dict[str, Any]) -> None:
    """A few steps of PyTorch with its threads."""
    import torch

    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8 * 26 * 26, 10)
    )
    optimizer = torch.optim.Adam(model.parameters())
    x, y = torch.randn(64, 1, 28, 28), torch.randint(0, 10, (64,))
    first = last = None
    for _ in range(5):
        loss = torch.nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        first, last = first or loss.item(), loss.item()
    assert last is not None and first is not None and last < first
    print("trained on", torch.get_num_threads(), "threads, seed", torch.initial_seed())


def train_keras(payload: dict[str, Any]) -> None:
    """A small Keras fit on whatever back end the flavour has."""
    import keras
    import numpy as np

    model = keras.Sequential([keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1)])
    model.compile(optimizer="adam", loss="mse")
    history = model.fit(np.ones((64, 4), "float32"), np.ones((64, 1), "float32"), epochs=2, verbose=0)
    print("trained with", keras.backend.backend(), history.history["loss"][-1])


def use_polars(payload: dict[str, Any]) -> None:
    """Let the libraries of the data flavour use their threads."""
    import polars as pl
    import pyarrow.parquet as pq

    frame = pl.DataFrame({"a": list(range(100_000)), "b": ["x", "y"] * 50_000})
    total = frame.lazy().group_by("b").agg(pl.col("a").sum()).collect()
    frame.write_parquet("t.parquet")
    print(total.height, pq.read_table("t.parquet").num_rows)
