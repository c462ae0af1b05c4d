"""The axes of a model: its factors turned and scaled so that each means something by itself.

Predictions determine the products x_u . y_i alone. Any invertible matrix may go between x and y, so single factors mean
nothing. With each row counted once for each of its training ratings, let x0 and y0 be the mean rows, Sx and Sy the
covariances of the rows, and U S V' the singular value decomposition of Sx^(1/2) Sy^(1/2). Then

    x_u . y_i = x0 . y_i + x_u . y0 - x0 . y0 + sum_a p_ua q_ia
    q = (y - y0) Sx^(1/2) U,    p = (x - x0) Sy^(1/2) V / S

The first three terms belong to the biases and the mean. The coordinates p and q of an axis are uncorrelated with those
of any other, p has variance 1 and q variance S_a^2. So q_ia is what a user one standard deviation along the axis adds
to the rating of item i, and S_a^2 is the variance of ratings that axis a explains, users and items being drawn
independently. p, q and S do not change if x and y are multiplied by a matrix and its inverse. (These are the canonical
axes of the product, as in the biplot of Gabriel 1971.)
"""

from typing import NamedTuple

import numpy as np

from fastmf import kernels
from fastmf.kernels.tasks import even
from fastmf.model.fold_in_rule import ROWS_PER_TASK
from fastmf.model.learned import ROWS_IN_CACHE, mean_row, product
from fastmf.model.state import State
from fastmf.runtime.device import resolve
from fastmf.runtime.launch import launch

NOTHING = 1e-5  # of the largest singular value, and of the ratings' deviation: below that, axes are rounding errors


class Axes(NamedTuple):
    """A model in its own axes, by falling share.

    prediction(u, i) = mean + user_bias[u] + item_bias[i] + users[u] . items[i]

    users (n_users, n_axes), items (n_items, n_axes) : float64 coordinates, from the mean row.
    user_bias (n_users,), item_bias (n_items,) : float64, of mean 0 over training ratings.
    mean : what the average user gives the average item.
    share (n_axes,) : the share of the variance of training ratings that each axis explains; for implicit feedback, of
        the variance of the scores that the axes explain together.
    bias_shares : the same for the biases of users, and of items; zeros for implicit feedback.
    """

    users: np.ndarray
    items: np.ndarray
    user_bias: np.ndarray
    item_bias: np.ndarray
    mean: float
    share: np.ndarray
    bias_shares: tuple[float, ...]


def axes_of(state: State) -> Axes:
    """Turn a model's factors to its axes; the module describes them. Rows without training ratings do not count."""
    cpu, counts = resolve("cpu"), (state.user_counts, state.item_counts)
    factors = state.user_factors, state.item_factors
    x0, y0 = (mean_row(table, count) for table, count in zip(factors, counts, strict=True))
    of_users, of_items = (
        _root(_covariance(table, count, row)) for table, count, row in zip(factors, counts, (x0, y0), strict=True)
    )
    left, strengths, right = np.linalg.svd(of_users @ of_items)
    least = max(NOTHING * strengths.max(initial=0), 0.0 if state.implicit else NOTHING * state.scale)
    n_axes = int(np.count_nonzero(strengths > least))
    strengths = strengths[:n_axes]
    items = product(state.item_factors - y0, of_users @ left[:, :n_axes], cpu)
    users = product(state.user_factors - x0, of_items @ right[:n_axes].T / strengths, cpu)
    signs = _signs(items, state.item_counts)
    user_bias, user_mean = _centred(state.user_bias + product(state.user_factors, y0[:, None], cpu)[:, 0], counts[0])
    item_bias, item_mean = _centred(state.item_bias + product(state.item_factors, x0[:, None], cpu)[:, 0], counts[1])
    squares = strengths**2
    every = max(squares.sum() if state.implicit else state.scale**2, np.finfo(float).tiny)
    of_biases = (_variance(bias, count) / every for bias, count in zip((user_bias, item_bias), counts, strict=True))
    return Axes(
        users=users * signs,
        items=items * signs,
        user_bias=user_bias,
        item_bias=item_bias,
        mean=state.mean - float(np.einsum("k,k->", x0, y0)) + user_mean + item_mean,
        share=squares / every,
        bias_shares=(0.0, 0.0) if state.implicit else tuple(of_biases),
    )


def _covariance(factors: np.ndarray, counts: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return the covariance (k, k) of rows around their mean, each counted so many times."""
    n, k = factors.shape
    weights = np.sqrt(counts / max(int(counts.sum(dtype=np.int64)), 1))
    rows = (factors - mean) * weights[:, None]
    size = float(np.abs(rows).max(initial=0)) or 1.0  # squares of large numbers overflow in float32
    table = kernels.vectors.filled_up((rows / size).astype(np.float32))
    return np.asarray(launch(kernels.gram.GRAM, resolve("cpu"), even(n, ROWS_PER_TASK), table, k)) * size**2


def _root(matrix: np.ndarray) -> np.ndarray:
    """Return the symmetric square root of a matrix (k, k) without negative eigenvalues but for rounding."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def _signs(items: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return signs (n_axes,) that give each axis its longer tail at the high end: a positive third moment."""
    moments = np.zeros(items.shape[1])
    for start in range(0, len(items), ROWS_IN_CACHE):
        rows = slice(start, start + ROWS_IN_CACHE)
        moments += np.einsum("n,na->a", counts[rows].astype(np.float64), items[rows] ** 3)
    return np.where(moments < 0, -1.0, 1.0)


def _centred(bias: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, float]:
    """Return a bias (n,) from its mean over all ratings, and that mean."""
    mean = float(mean_row(bias[:, None], counts)[0])
    return bias - mean, mean


def _variance(bias: np.ndarray, counts: np.ndarray) -> float:
    """Return the variance over all ratings of a bias (n,) of mean 0."""
    return float(mean_row(bias[:, None] ** 2, counts)[0])
