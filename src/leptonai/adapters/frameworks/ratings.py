"""Who rates what how: biases of users and items, and factors of both (Koren, Bell, Volinsky 2009), as an estimator of scikit-learn."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

Array = NDArray[Any]
_SOLVED = 2**22  # numbers of normal equations that are held at once


class Ratings(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A rating is the mean, what its user and its item add to it, and the product of their factors; within the range that was seen.

    Rows are (rows, 2): the places of a user and of an item, from 1; 0 is one that is not known, who adds nothing. Found by alternating
    least squares. `rank`: how many factors; 0: biases only. `strength`: how much factors are held back, for each rating of a user
    (Zhou et al. 2008). `shrink`: so many ratings of the mean are added to those of each user and item when their bias is found.
    """

    columns = "names"  # of rows: whatever they hold are names, and no amounts

    def __init__(
        self, rank: int = 8, strength: float = 0.1, shrink: float = 5.0, sweeps: int = 12, random_state: int = 0
    ):
        self.rank = rank
        self.strength = strength
        self.shrink = shrink
        self.sweeps = sweeps
        self.random_state = random_state

    def fit(self, x: Array, y: Array) -> Self:
        """Learn from rows (rows, 2) and their ratings (rows,). Raises `ValueError` for another number of columns."""
        if x.ndim != 2 or x.shape[1] != 2:
            raise ValueError(f"ratings have two columns, of users and of items, and these have {x.shape[-1]}")
        places = x.astype(np.int64)
        given = np.asarray(y, np.float64)
        users, items = places.max(axis=0) + 1
        self.mean_ = float(given.mean())
        self.range_ = np.array([given.min(), given.max()])
        seen = sparse.csr_array((np.ones(len(given)), (places[:, 0], places[:, 1])), shape=(users, items))
        rest = sparse.csr_array((given - self.mean_, (places[:, 0], places[:, 1])), shape=(users, items))
        draw = np.random.default_rng(self.random_state)
        # The last column is the bias, which multiplies a 1 of the other side.
        of_users, of_items = np.zeros((users, self.rank + 1)), np.zeros((items, self.rank + 1))
        of_items[1:, :-1] = draw.normal(scale=0.1, size=(items - 1, self.rank))
        for _ in range(self.sweeps):
            of_users = self._side(seen, rest, of_items)
            of_items = self._side(seen.T.tocsr(), rest.T.tocsr(), of_users)
        one_u, one_i = np.ones((users, 1)), np.ones((items, 1))
        self.users_ = np.hstack([of_users, one_u]).astype(np.float32)
        self.items_ = np.hstack([of_items[:, :-1], one_i, of_items[:, -1:]]).astype(np.float32)
        return self

    def _side(self, seen: Any, rest: Any, other: Array) -> Array:
        """Return factors and biases of one side, given those of the other one: least squares for each row."""
        design = other.copy()
        design[:, -1] = 1.0
        width = design.shape[1]
        wanted = rest @ design - (seen.multiply(other[:, -1])).tocsr() @ design
        counts = np.asarray(seen.sum(axis=1)).reshape(-1)
        products = (design[:, :, None] * design[:, None, :]).reshape(len(design), -1)
        found = np.zeros((seen.shape[0], width))
        size = max(1, _SOLVED // width**2)
        place = np.arange(width)
        for at in range(0, len(found), size):
            part = slice(at, at + size)
            normal = (seen[part] @ products).reshape(-1, width, width)
            held = np.full((len(normal), width), float(self.shrink))
            held[:, :-1] = self.strength * np.maximum(counts[part], 1.0)[:, None]
            normal[:, place, place] += held
            found[part] = np.linalg.solve(normal, wanted[part][:, :, None])[:, :, 0]
        found[0] = 0.0  # who is not known
        return found

    def predict(self, x: Array) -> Array:
        """Return ratings (rows,), float32."""
        check_is_fitted(self)
        places = np.asarray(x).astype(np.int64)
        users, items = (
            table[np.where(of < len(table), of, 0)]
            for table, of in zip((self.users_, self.items_), places.T, strict=True)
        )
        found: Array = np.clip(np.float32(self.mean_) + (users * items).sum(axis=1), *self.range_).astype(np.float32)
        return found
