"""Similar users or items: the nearest rows of a factor matrix by cosine."""

import numpy as np

from fastmf.kernels.types import Compressed, Side
from fastmf.model.topn import top_n

# Added to the cosine of rows of zeros, so that they rank after all other rows.
_LAST = np.float32(-4)


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
