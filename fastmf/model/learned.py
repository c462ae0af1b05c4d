"""Groups of float32 arrays that only some solvers learn, besides factors and biases, and what they predict."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from fastmf import kernels
from fastmf.data import csr
from fastmf.kernels.tasks import even
from fastmf.kernels.types import Compressed, Side
from fastmf.runtime.device import Device, resolve
from fastmf.runtime.launch import launch

ROWS_PER_TASK = 1 << 9  # of a product
ROWS_IN_CACHE = 1 << 12  # for loops in NumPy


class Baseline(NamedTuple):
    """Biases fitted without factors, on the rating scale: user_bias (n_users,) and item_bias (n_items,)."""

    user_bias: np.ndarray
    item_bias: np.ndarray


class Links(NamedTuple):
    """Vectors that predict a row's factors from who has rated what; see :mod:`fastmf.solvers.links`.

    items (n_items, k): one vector per item, which predict users. users (n_users, k): one per user, which predict items.
    origin (k,): the mean user; in a model with biases, user factors are measured from it. All are for standardised
    ratings.
    """

    items: np.ndarray
    users: np.ndarray
    origin: np.ndarray


class Prior(NamedTuple):
    """The prior over users, or over items, in a Bayesian model: means over the sweeps of :mod:`fastmf.solvers.gibbs`.

    precision (k, k) and mean (k,): of the factors. others: the precisions of the other side's rows. numbers (3,):
    alpha, then for biases p and p m_b, both 0 without biases. origin (k,): the mean row, from which the model's factors
    are measured.
    """

    precision: np.ndarray
    mean: np.ndarray
    others: np.ndarray
    numbers: np.ndarray
    origin: np.ndarray


class Samples(NamedTuple):
    """Draws from the posterior of all parameters, for standardised ratings; the first axis is the draw.

    user_factors (n, n_users, k), user_bias and user_precisions (n, n_users); items likewise. The precision of a rating
    is the product of its user's and its item's precisions.
    """

    user_factors: np.ndarray
    user_bias: np.ndarray
    user_precisions: np.ndarray
    item_factors: np.ndarray
    item_bias: np.ndarray
    item_precisions: np.ndarray


class Choice(NamedTuple):
    """Vectors whose products say how likely users are to choose items; see :mod:`fastmf.model.choice`.

    users (n_users, k) and items (n_items, k). numbers (3,): reg, reg0 and all_pairs of the rule for new rows
    (:mod:`fastmf.model.fold_in_rule`).
    """

    users: np.ndarray
    items: np.ndarray
    numbers: np.ndarray


class Expected(NamedTuple):
    """What side features say of rows; see :mod:`fastmf.solvers.features`.

    A row with the features F is expected to have the factors F weights + intercept, and the bias F bias_weights +
    bias_intercept, on the standardised scale. weights (n_features, k), intercept (k,), bias_weights (n_features,),
    bias_intercept (1,).
    """

    weights: np.ndarray
    intercept: np.ndarray
    bias_weights: np.ndarray
    bias_intercept: np.ndarray


# Each group by the name of the model's attribute, and the shapes of its arrays in the order of its fields.
KINDS: dict[str, Any] = {
    "baseline": Baseline,
    "links": Links,
    "user_prior": Prior,
    "item_prior": Prior,
    "samples": Samples,
    "choice": Choice,
    "user_expected": Expected,
    "item_expected": Expected,
    "user_choice_expected": Expected,
    "item_choice_expected": Expected,
}
SHAPES: dict[str, tuple[tuple[str, ...], ...]] = {
    "baseline": (("users",), ("items",)),
    "links": (("items", "k"), ("users", "k"), ("k",)),
    "user_prior": (("k", "k"), ("k",), ("items",), ("numbers",), ("k",)),
    "item_prior": (("k", "k"), ("k",), ("users",), ("numbers",), ("k",)),
    "samples": tuple(("samples", side, *more) for side in ("users", "items") for more in (("k",), (), ())),
    "choice": (("users", "k"), ("items", "k"), ("numbers",)),
    **{
        f"{side}_{group}": ((f"{side}_features", "k"), ("k",), (f"{side}_features",), ("one",))
        for group in ("expected", "choice_expected")
        for side in ("user", "item")
    },
}


def is_precision(name: str) -> bool:
    """Check whether a field of a group holds precisions of rows: they are 1 for rows of which nothing is known yet."""
    return name == "others" or name.endswith("_precisions")


def flat(groups: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Name each array of the groups that are not None: "<group>_<field>"."""
    there = {name: group for name, group in groups.items() if group is not None}
    return {f"{name}_{part}": array for name, group in there.items() for part, array in group._asdict().items()}


def predict_by_links(entries: Compressed, table: np.ndarray, expected: np.ndarray, k: int, fade: float = 0.0) -> None:
    """Write what links, (n_columns, kp) on the host, predict for each row into ``expected`` (n_rows, kp)."""
    weights, _ = kernels.links.link_weights(np.diff(entries.indptr), fade, csr.masses(entries))
    tasks, linked = kernels.links.gather_tasks(entries.indptr, k), entries._replace(weights=None)  # who rated what
    launch(kernels.links.GATHER, resolve("cpu"), tasks, linked, weights, table, expected)


def predicted_by_features(expected: Expected, rows: Compressed) -> Side:
    """Return the standardised factors (n_rows, k) and biases that features expect of rows; zeros for empty rows."""
    k = expected.weights.shape[1]
    table = kernels.vectors.filled_up(np.column_stack([expected.weights, expected.bias_weights]).astype(np.float32))
    found = np.empty((len(rows.indptr) - 1, table.shape[1]), np.float32)
    tasks, ones = kernels.links.gather_tasks(rows.indptr, k), np.ones(len(found), np.float32)
    launch(kernels.links.GATHER, resolve("cpu"), tasks, rows._replace(weights=rows.values), ones, table, found)
    there = (np.diff(rows.indptr) > 0).astype(np.float32)[:, None]
    return Side(found[:, :k] + there * expected.intercept, found[:, k] + there[:, 0] * expected.bias_intercept)


def mean_row(factors: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the mean of factors (n, k), each row counted so many times, (k,) float64; zeros if no row counts."""
    total = np.zeros(factors.shape[1])
    for start in range(0, len(factors), ROWS_IN_CACHE):
        rows = slice(start, start + ROWS_IN_CACHE)  # einsum calls no BLAS: its bits depend on nothing but the numbers
        total += np.einsum("n,nk->k", counts[rows].astype(np.float64), factors[rows].astype(np.float64))
    return total / max(int(counts.sum(dtype=np.int64)), 1)


def product(rows: np.ndarray, matrix: np.ndarray, device: Device) -> np.ndarray:
    """Multiply rows (n, k) by a matrix (k, m), in float64, on the device's threads; see :mod:`fastmf.kernels.dense`."""
    out, tasks = np.empty((len(rows), matrix.shape[1])), even(len(rows), ROWS_PER_TASK)
    given = (np.ascontiguousarray(array, np.float64) for array in (rows, matrix))
    launch(kernels.dense.MULTIPLY, device, tasks, *given, out)
    return out
