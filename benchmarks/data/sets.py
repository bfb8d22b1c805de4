"""The rows that all read: Fashion-MNIST's 60,000 training images (else digits, enlarged), and a table of 1,000,000 x 20 numbers."""

import gzip
from pathlib import Path

import numpy as np

FASHION = Path("/usr/share/datasets/fashion-mnist")
IMAGES, TABLE, COLUMNS = 60_000, 1_000_000, 20


def make(folder: Path) -> str:
    """Write images.npz, labels and table.npy into the folder, and return what the images are."""
    x, y, source = images()
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    np.save(folder / "table.npy", np.random.default_rng(0).normal(size=(TABLE, COLUMNS)).astype("float32"))
    return source


def images() -> tuple[np.ndarray, np.ndarray, str]:
    if FASHION.is_dir():
        x = np.frombuffer(gzip.decompress((FASHION / "train-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
        y = np.frombuffer(gzip.decompress((FASHION / "train-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
        return x.reshape(-1, 28, 28), y.astype("int64"), "Fashion-MNIST"
    from sklearn.datasets import load_digits

    digits = load_digits()
    small = np.kron((digits.images * 15.9).astype("uint8"), np.ones((4, 4), "uint8"))[:, 2:-2, 2:-2]
    times = -(-IMAGES // len(small))
    return np.tile(small, (times, 1, 1))[:IMAGES], np.tile(digits.target, times)[:IMAGES].astype("int64"), "digits"
