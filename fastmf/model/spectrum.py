"""The spectrum of a model: the singular values of X Y', the products of all users' and all items' factors.

They do not depend on how the factors share their scale, nor on a rotation of both sides.
"""

import numpy as np

from fastmf import kernels
from fastmf.kernels.tasks import even
from fastmf.model.fold_in_rule import ROWS_PER_TASK
from fastmf.model.state import State
from fastmf.runtime.device import resolve
from fastmf.runtime.launch import launch

FAINT = 0.01  # of the largest singular value: factors below that are as good as lost
NOTHING = 1e-6  # if no singular value is larger, all factors are lost


def singular_values(state: State) -> np.ndarray:
    """Return the singular values of X Y', (k,) float64, falling; X'X Y'Y has their squares as eigenvalues."""
    grams = []
    for side in (state.user_side, state.item_side):
        table = kernels.vectors.padded(side).factors
        grams.append(launch(kernels.gram.GRAM, resolve("cpu"), even(len(table), ROWS_PER_TASK), table, state.k))
    squares = np.linalg.eigvals(grams[0] @ grams[1]).real
    return np.sort(np.sqrt(np.maximum(squares, 0)))[::-1]


def factors_in_use(state: State) -> int:
    """Count the singular values above FAINT of the largest, and above NOTHING."""
    values = singular_values(state)
    return int(np.count_nonzero(values > max(FAINT * values.max(initial=0), NOTHING)))
