"""explain: what each of a user's items contributes to a score, where the user's factors solve a linear system.

With w_j = (y_j, 1) for an item and its bias, a user's z = (x, b) solves A z = sum g_j t_j w_j + what is known
beforehand (:mod:`fastmf.kernels.als`), so that for any item i (Hu, Koren and Volinsky 2008, section 5)

    x . y_i + b = sum over the user's items of g_j t_j w_j' A^-1 w_i  +  what is known beforehand, likewise
"""

import numpy as np

from fastmf.kernels.types import Compressed, Known, Penalty, Side


def contributions(
    rated: Side, entries: Compressed, wanted: np.ndarray, penalty: Penalty, known: Known
) -> tuple[np.ndarray, float]:
    """Say what each rated item adds to x . y + b, for standardised ratings.

    Parameters
    ----------
    rated : the side of the user's items, (n, k) and (n,).
    entries : the user's only row, with their ratings.
    wanted : the factors y (k,) of the item to explain.
    penalty, known : of the user's row.

    Returns
    -------
    The contributions (n,) float64, and that of what is known beforehand.
    """
    n, k = rated.factors.shape
    biased = np.isfinite(penalty.bias_reg)
    w = np.column_stack([rated.factors, np.full(n, float(biased))]).astype(np.float64)
    weights = np.ones(n) if entries.weights is None else entries.weights.astype(np.float64)
    rho = penalty.reg * weights.sum() + penalty.reg0
    system = (weights * w.T) @ w + np.diag([rho] * k + [penalty.bias_reg if biased else 1.0])
    if len(known.base):
        system[:k, :k] += known.base
    towards = np.linalg.lstsq(system, np.append(wanted, float(biased)).astype(np.float64), rcond=None)[0]
    beforehand = rho * towards[:k] @ known.pull[0, :k] if len(known.pull) else 0.0
    left = entries.values.astype(np.float64) - rated.bias
    return weights * left * (w @ towards), float(beforehand)
