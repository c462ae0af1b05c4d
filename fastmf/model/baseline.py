"""The baseline that factors have to beat: biases fitted without factors."""

import numpy as np

from fastmf.kernels.bias import BIAS, bias_tasks
from fastmf.kernels.types import Compressed, Side
from fastmf.model.learned import Baseline
from fastmf.runtime.device import resolve
from fastmf.runtime.launch import launch

REG = 3.0  # weight of the squared biases, the default of all solvers
SWEEPS = 5  # over both sides; further sweeps change the baseline's RMSE by less than .0001


def fit_baseline(by_user: Compressed, by_item: Compressed, scale: float) -> Baseline:
    """Fit biases alone to standardised ratings, with their weights; return them on the rating scale."""
    users, items = (np.zeros(len(entries.indptr) - 1, np.float32) for entries in (by_user, by_item))
    for _ in range(SWEEPS):
        _solve(by_user, items, users)
        _solve(by_item, users, items)
    return Baseline(users * np.float32(scale), items * np.float32(scale))


def fold_bias(other: np.ndarray, entries: Compressed, scale: float) -> np.ndarray:
    """Fit new rows' biases to their standardised ratings, with the other side's fixed; both on the rating scale."""
    found = np.empty(len(entries.indptr) - 1, np.float32)
    _solve(entries, other / np.float32(scale), found)
    return found * np.float32(scale)


def baseline_sides(baseline: Baseline) -> tuple[Side, Side]:
    """Return the baseline as the sides of a model whose factors are zero."""
    users, items = (Side(np.zeros((len(bias), 1), np.float32), bias) for bias in baseline)
    return users, items


def _solve(entries: Compressed, other: np.ndarray, out: np.ndarray) -> None:
    launch(BIAS, resolve("cpu"), bias_tasks(entries.indptr), entries, other, REG, out)
