"""Ratings that are made: what users and items add to a mean, and a product of factors."""

import numpy as np


def planted(users: int, items: int, rank: int, rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return rows (rows, 2), float32, the places of users and items from 1, and ratings (rows,) with a noise of 0.1."""
    draw = np.random.default_rng(seed)
    x = np.stack([draw.integers(1, users + 1, rows), draw.integers(1, items + 1, rows)], axis=1)
    of_users, of_items = draw.normal(size=(users + 1, rank + 1)), draw.normal(size=(items + 1, rank + 1))
    y = 3 + 0.5 * (of_users[x[:, 0], 0] + of_items[x[:, 1], 0])
    y += (of_users[x[:, 0], 1:] * of_items[x[:, 1], 1:]).sum(axis=1) + draw.normal(scale=0.1, size=rows)
    return x.astype(np.float32), y
