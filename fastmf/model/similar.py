"""Similar users or items: rows whose factors differ from the mean row in the same direction, and are well known.

    score(i, j) = w_i w_j cos(y_i - m, y_j - m),    w_i = sqrt(n_i / (n_i + 20))

m is the mean of the side's factors y over all training ratings. With biases, adding a vector to all y changes no
prediction (the other side's biases absorb it), but changes their cosines: only differences mean something. n_i is the
number of training ratings, plus 5 if there are side features of the row.

w_i shrinks rows that rest on little. Without it, the nearest rows of any row have one or two ratings: their directions
are mostly noise, so some of the many point anywhere. If noise is half of the variance of y_i at 20 ratings,
n_i / (n_i + 20) is the reliability of y_i (Spearman 1910, Brown 1910), and its root the correlation of y_i with what it
estimates. Koren (2008, equation 2) shrinks correlations of ratings likewise. benchmarks/similar.py measures neighbours;
with 10 or 50 in place of 20 they are hardly better or worse.

A score is the inner product of one vector for each row, so an index of nearest neighbours can search for it.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from fastmf.data import ids
from fastmf.errors import require_integer
from fastmf.kernels.types import Compressed, Side
from fastmf.model.learned import ROWS_IN_CACHE, mean_row
from fastmf.model.recommend import candidates_of, list_frame
from fastmf.model.state import State
from fastmf.model.topn import top_n

if TYPE_CHECKING:
    import pandas as pd

HALF_KNOWN = 20  # ratings at which half of a row's variance counts as noise
FEATURES = 5  # what side features say of a row is worth as many ratings
SAME = 1e-6  # distance of a row from the mean row, relative to the latter's length, that counts as none


def similar_rows(
    state: State, side: str, row_ids: Any, n: int, *, min_count: int | None, chosen: Any, cold: bool
) -> "pd.DataFrame":
    """Return the frame of :meth:`fastmf.Model.similar_items`, for "user" or "item" rows."""
    known, counts = state.arrow_ids(side), getattr(state, f"{side}_counts")
    wanted = ids.require(known, ids.many(row_ids), side)
    allowed, n_unknown = candidates_of(state, side, chosen, cold, "give --cold (cold=True)")
    if min_count is not None:
        require_integer("min_count", min_count, 0)
        allowed = allowed & (counts >= min_count)
    found, scores = nearest(similar_vectors(state, side), allowed, wanted, n)
    frame = list_frame((f"{side}_id", known, wanted), (f"similar_{side}_id", known, found), scores)
    frame["count"] = counts[found[found >= 0]]
    frame.attrs = {f"unknown_{side}s": n_unknown}
    return frame


def similar_vectors(state: State, side: str, half_known: float = HALF_KNOWN) -> np.ndarray:
    """Return a vector for each "user" or "item", (n, k) float32, whose inner products are the scores.

    Rows of which nothing is known, and rows that equal the mean row, are zero.
    """
    factors, counts = getattr(state, f"{side}_factors"), getattr(state, f"{side}_counts")
    evidence = counts + FEATURES * state.featured(side)
    weights = np.sqrt(evidence / (evidence + half_known))
    mean = mean_row(factors, counts)
    found, least = np.empty(factors.shape, np.float32), SAME * np.sqrt(mean @ mean)
    for start in range(0, len(factors), ROWS_IN_CACHE):
        rows = slice(start, start + ROWS_IN_CACHE)
        apart = factors[rows] - mean  # float64: the squares of large factors overflow in float32
        lengths = np.sqrt(np.einsum("nk,nk->n", apart, apart))
        directed = lengths > least
        scale = np.where(directed, weights[rows], 0) / np.where(directed, lengths, 1)
        np.multiply(apart, scale[:, None], out=found[rows], casting="same_kind")
    return found


def nearest(vectors: np.ndarray, allowed: np.ndarray, wanted: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Rank the n ``allowed`` rows with the largest inner products for each wanted row, without the row itself.

    Returns what :func:`fastmf.model.topn.top_n` returns; scores are within [-1, 1], as those of unit vectors are.
    """
    bias = np.where(allowed, np.float32(0), np.float32(-np.inf))
    queries = Side(vectors[wanted], np.zeros(len(wanted), np.float32))
    itself = Compressed(np.arange(len(wanted) + 1), wanted.astype(np.int32, copy=False), np.empty(0, np.float32))
    rows, scores = top_n(queries, Side(vectors, bias), itself, n)
    return rows, np.where(rows >= 0, np.clip(scores, -1, 1), scores)
