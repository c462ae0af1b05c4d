"""choice: how likely a user is to choose an item, learned from who has rated what.

A model of ratings predicts what people would rate highly, which is seldom what they choose next. A second pair of
vectors ranks its lists: v_u . w_i, those of :mod:`fastmf.solvers.implicit` for the chosen pairs. A pair is chosen if
its rating is at least the mean of all training ratings. Of a user without such ratings, all pairs are. Weights are
those of the ratings. With side features, rows without ratings have the vectors that their features say. Items that are
rated, but never chosen, are zero. :mod:`fastmf.training.choice` fits both sides.
"""

import numpy as np

from fastmf import kernels
from fastmf.data import csr
from fastmf.kernels.types import Compressed, Side
from fastmf.model.fold_in_rule import FoldInRule
from fastmf.model.frozen import thawed
from fastmf.model.learned import Choice, Expected, predicted_by_features
from fastmf.model.state import State
from fastmf.runtime.device import Device
from fastmf.runtime.launch import launch
from fastmf.runtime.spill import Spill, filled


def choosing(
    state: State, choice: Choice, side: str, entries: Compressed, features: Compressed | None, device: Device
) -> np.ndarray:
    """Solve the vectors (n_rows, k) of "user" or "item" rows with the other side's, in the model's choice, fixed.

    ``entries`` holds the standardised ratings of the rows, one row each, ``features`` their side features, or None.
    """
    other = "item" if side == "user" else "user"
    warm = getattr(state, f"{other}_counts") > 0  # rows known by their features alone are not among all pairs
    others = thawed(getattr(choice, f"{other}s")) * warm[:, None].astype(np.float32)
    learned: Expected | None = thawed(getattr(state, f"{side}_choice_expected"))
    pull = None if learned is None or features is None else predicted_by_features(learned, features).factors
    return solved(chosen(entries, side), others, rule_of(choice.numbers), device, pull)


def chosen(entries: Compressed, side: str) -> Compressed:
    """Return the chosen among standardised ratings by "user" or by "item"; their values are 1.

    An item's rows do not tell which of its users have no rating of at least the mean: these are not among its choosers.
    """
    good = are_chosen(entries) if side == "user" else entries.values >= 0
    indptr = np.append(0, np.cumsum(csr.count_chosen(entries.indptr, good)))
    weights = None if entries.weights is None else entries.weights[good]
    return Compressed(indptr, entries.indices[good], np.ones(indptr[-1], np.float32), weights)


def are_chosen(by_user: Compressed, spill: Spill | None = None) -> np.ndarray:
    """Return which of the standardised ratings by user are of chosen pairs, (n,) bool."""
    values, indptr = by_user.values, by_user.indptr
    good = filled(spill, len(values), bool, lambda part: values[part] >= 0)
    none = csr.count_chosen(indptr, good) == 0
    for start, stop in csr.row_ranges(indptr) if none.any() else ():
        good[indptr[start] : indptr[stop]] |= np.repeat(none[start:stop], np.diff(indptr[start : stop + 1]))
    return good


def rule_of(numbers: np.ndarray) -> FoldInRule:
    """Return how rows are solved for, by the numbers of :class:`fastmf.model.learned.Choice`."""
    reg, reg0, all_pairs = map(float, numbers)
    return FoldInRule(reg=reg, reg0=reg0, all_pairs=all_pairs)


def solved(
    entries: Compressed, others: np.ndarray, rule: FoldInRule, device: Device, pull: np.ndarray | None = None
) -> np.ndarray:
    """Return the vectors (n_rows, k) of rows of chosen pairs, with the other side's vectors (n_columns, k) fixed.

    Rows are pulled towards ``pull`` (n_rows, k), or to zero; rows without chosen pairs stay there.
    """
    n, k = len(entries.indptr) - 1, others.shape[1]
    rows = Side(kernels.vectors.aligned(n, k), np.zeros(n, np.float32))
    columns = kernels.vectors.padded(Side(others, np.zeros(len(others), np.float32)))
    if pull is not None:
        rows.factors[:] = pull
    given = device.put((entries, rows, columns))
    known = rule.known(given[2].factors, k, device)
    if pull is not None:
        known = known._replace(pull=device.put(np.ascontiguousarray(pull)))
    tasks = kernels.als.half_sweep_tasks(entries.indptr, k)
    launch(kernels.als.HALF_SWEEP, device, tasks, *given, rule.penalty, known)
    return np.asarray(device.get(given[1]).factors)
