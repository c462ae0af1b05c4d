"""choice: how likely a user is to choose an item, learned from who has rated what.

A model of ratings predicts what people would rate highly, which is seldom what they choose next. A second pair of
vectors ranks its lists: v_u . w_i, which minimise (Hu, Koren and Volinsky 2008)

    sum over chosen (u, i) of g_ui (1 - v_u . w_i)^2 + all_pairs sum over all (u, i) of (v_u . w_i)^2
      + sum_u (reg n_u + reg0) |v_u|^2 + sum_i (reg n_i + reg0) |w_i|^2

A pair is chosen if its rating is at least the mean of all training ratings. Of a user without such ratings, all pairs
are. The weights g_ui are 1, or those of the ratings; n_u and n_i are their sums over a row's chosen pairs. Rows without
chosen pairs are zero. :mod:`fastmf.training.choice` fits both sides.
"""

import numpy as np

from fastmf import kernels
from fastmf.data import csr
from fastmf.kernels.types import Compressed, Side
from fastmf.model.fold_in_rule import FoldInRule
from fastmf.model.frozen import thawed
from fastmf.model.learned import Choice
from fastmf.runtime.device import Device
from fastmf.runtime.launch import launch


def choosing(choice: Choice, side: str, entries: Compressed, device: Device) -> np.ndarray:
    """Solve the vectors (n_rows, k) of "user" or "item" rows with the other side's fixed.

    ``entries`` holds the standardised ratings of the rows, one row each.
    """
    others = thawed(choice.items if side == "user" else choice.users)
    return solved(chosen(entries, side), others, rule_of(choice.numbers), device)


def chosen(entries: Compressed, side: str) -> Compressed:
    """Return the chosen among standardised ratings by "user" or by "item"; their values are 1.

    An item's rows do not tell which of its users have no rating of at least the mean: these are not among its choosers.
    """
    good = entries.values >= 0
    if side == "user":
        good |= np.repeat(csr.count_chosen(entries.indptr, good) == 0, np.diff(entries.indptr))
    indptr = np.append(0, np.cumsum(csr.count_chosen(entries.indptr, good)))
    weights = None if entries.weights is None else entries.weights[good]
    return Compressed(indptr, entries.indices[good], np.ones(indptr[-1], np.float32), weights)


def rule_of(numbers: np.ndarray) -> FoldInRule:
    """Return how rows are solved for, by the numbers of :class:`fastmf.model.learned.Choice`."""
    reg, reg0, all_pairs = map(float, numbers)
    return FoldInRule(reg=reg, reg0=reg0, all_pairs=all_pairs)


def solved(entries: Compressed, others: np.ndarray, rule: FoldInRule, device: Device) -> np.ndarray:
    """Return the vectors (n_rows, k) of rows of chosen pairs, with the other side's vectors (n_columns, k) fixed."""
    n, k = len(entries.indptr) - 1, others.shape[1]
    rows = Side(kernels.vectors.aligned(n, k), np.zeros(n, np.float32))
    columns = kernels.vectors.padded(Side(others, np.zeros(len(others), np.float32)))
    given = device.put((entries, rows, columns))
    known = rule.known(given[2].factors, k, device)
    tasks = kernels.als.half_sweep_tasks(entries.indptr, k)
    launch(kernels.als.HALF_SWEEP, device, tasks, *given, rule.penalty, known)
    return np.asarray(device.get(given[1]).factors)
