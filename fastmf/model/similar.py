"""Similar users or items: the nearest rows of a factor matrix by cosine."""

from typing import TYPE_CHECKING, Any

import numpy as np

from fastmf.data import ids
from fastmf.kernels.types import Compressed, Side
from fastmf.model.recommend import list_frame
from fastmf.model.state import State
from fastmf.model.topn import top_n

if TYPE_CHECKING:
    import pandas as pd

# Added to the cosine of rows of zeros, so that they rank after all other rows.
_LAST = np.float32(-4)


def similar_rows(state: State, side: str, row_ids: Any, n: int) -> "pd.DataFrame":
    """Return the frame of :meth:`fastmf.Model.similar_items`, for "user" or "item" rows."""
    known = state.arrow_ids(side)
    wanted = ids.require(known, ids.many(row_ids), side)
    found, scores = nearest(getattr(state, f"{side}_factors"), state.present(side), wanted, n)
    return list_frame((f"{side}_id", known, wanted), (f"similar_{side}_id", known, found), scores)


def nearest(factors: np.ndarray, present: np.ndarray, wanted: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Rank the n rows nearest to each wanted row by cosine; leave out the row itself and rows that are not present.

    Rows of zeros have cosine 0 to everything and come last. Returns what :func:`fastmf.model.topn.top_n` returns.
    """
    unit, norms = unit_rows(factors)
    bias = np.where(present, np.where(norms > 0, np.float32(0), _LAST), np.float32(-np.inf))
    queries = Side(unit[wanted], np.zeros(len(wanted), np.float32))
    itself = Compressed(np.arange(len(wanted) + 1), wanted.astype(np.int32, copy=False), np.empty(0, np.float32))
    rows, cosines = top_n(queries, Side(unit, bias), itself, n)
    cosines[(rows >= 0) & (cosines < _LAST / 2)] = 0
    return rows, np.where(rows >= 0, np.clip(cosines, -1, 1), cosines)


def unit_rows(factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rows (n, k) scaled to length 1, float32, and their lengths, float64; rows of zeros stay as they are."""
    norms = np.linalg.norm(factors.astype(np.float64), axis=1)  # the squares of large factors overflow in float32
    return (factors / np.where(norms > 0, norms, 1)[:, None]).astype(np.float32), norms
