"""The arrays that belong together and travel from kernel to kernel as one argument."""

from typing import NamedTuple

import numpy as np


class Compressed(NamedTuple):
    """Entries grouped by row: row r has columns ``indices[indptr[r]:indptr[r + 1]]`` and ``values`` at the same places.

    indptr (n_rows + 1,) int64; indices (n,) int32; values (n,) float32; weights (n,) float32, or None if all entries
    count the same.
    """

    indptr: np.ndarray
    indices: np.ndarray
    values: np.ndarray
    weights: np.ndarray | None = None


class Triples(NamedTuple):
    """Ratings as columns: users (n,) int32, items (n,) int32, values (n,) float32.

    weights (n,) float32, or None if all ratings count the same.
    """

    users: np.ndarray
    items: np.ndarray
    values: np.ndarray
    weights: np.ndarray | None = None


class Grid(NamedTuple):
    """Users and items dealt to ``bins`` bins each, so that the rows of a bin lie together.

    user_bins (n_users,) and item_bins (n_items,) int32: the bin of each. user_rows and item_rows, likewise: the row
    of each in the learner's arrays.
    """

    user_bins: np.ndarray
    item_bins: np.ndarray
    user_rows: np.ndarray
    item_rows: np.ndarray
    bins: int


class Pairs(NamedTuple):
    """Pairs to predict: users (n,) int32 and items (n,) int32; -1 is an unknown user or item."""

    users: np.ndarray
    items: np.ndarray


class Side(NamedTuple):
    """Users or items: factors (n, k) float32 and bias (n,) float32."""

    factors: np.ndarray
    bias: np.ndarray


class Scale(NamedTuple):
    """The mean that predictions add to a dot product, and the range they are clipped to (infinite: not clipped)."""

    mean: float
    low: float
    high: float


class Penalty(NamedTuple):
    """The weights of the objective: reg per rating, reg0 per row, bias_reg per bias (inf: no biases).

    root_reg counts per square root of a row's ratings: a row of n ratings has rho = reg n + reg0 + root_reg sqrt(n).
    """

    reg: float
    reg0: float
    bias_reg: float
    root_reg: float = 0.0

    def rho(self, n):
        """Return the weight of the squared factors of rows with n ratings, a number or an array."""
        return self.reg * n + (self.reg0 + self.root_reg * np.sqrt(n))


class Known(NamedTuple):
    """The prior of rows, float32.

    pull is (n_rows, k or more), what each row is pulled towards, or (0, k) for zeros. base is (k, k), the matrix B that
    all rows' equations share, or (0, k) for zeros. bias is (n_rows,), what each row's bias is pulled towards, or (0,)
    for zeros.
    """

    pull: np.ndarray
    base: np.ndarray
    bias: np.ndarray


def nothing_known(k):
    """Return an empty Known for rows of k factors: no pull, no base."""
    return Known(np.empty((0, k), np.float32), np.empty((0, k), np.float32), np.empty(0, np.float32))
