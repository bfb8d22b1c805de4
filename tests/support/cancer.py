"""A real table of few columns: what was measured of tumours, and whether they were malign (scikit-learn's copy of it)."""

from pathlib import Path
from typing import Any

import numpy as np

import leptonai


def table(rows: slice, columns: int = 6) -> dict[str, Any]:
    """Return rows of it as columns c0, c1, … and diagnosis."""
    from sklearn.datasets import load_breast_cancer

    found = load_breast_cancer()
    data: dict[str, Any] = {f"c{i}": found.data[rows, i] for i in range(columns)}
    data["diagnosis"] = np.array([str(found.target_names[i]) for i in found.target[rows]], dtype=object)
    return data


def dataset(folder: Path) -> leptonai.Dataset:
    """Make it a dataset, by way of a CSV file in a folder."""
    data = table(slice(None))
    lines = [",".join(data)]
    rows = zip(*data.values(), strict=True)
    lines += [",".join(value if isinstance(value, str) else f"{value:g}" for value in row) for row in rows]
    (folder / "cancer.csv").write_text("\n".join(lines) + "\n")
    return leptonai.create_dataset("cancer", files=folder / "cancer.csv", target="diagnosis")
