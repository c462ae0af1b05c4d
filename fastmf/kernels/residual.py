"""Predictions of given pairs, and the sums of their errors: e_n = r_n - (mean + b_u + c_i + x_u . y_i).

A user or item of index -1 is unknown: it has no factors and no bias, so the mean and the other side's bias remain.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from fastmf.kernels.jit import jit


class Pairs(NamedTuple):
    """Pairs to predict: users (n,) int32 and items (n,) int32, with -1 for unknown."""

    users: np.ndarray
    items: np.ndarray


class Scale(NamedTuple):
    """What turns a dot product into a rating: the mean, and the range a prediction is clipped to (inf: not at all)."""

    mean: float
    low: float
    high: float


def estimate_numpy(tasks, pairs, user_side, item_side, scale, out):
    """Write the predictions into ``out`` (n,) float32. Returns (n_tasks,) int64: the pairs of each task."""
    for start, stop in pairwise(tasks):
        out[start:stop] = _predict_numpy(slice(start, stop), pairs, user_side, item_side, scale)
    return np.diff(tasks)


def errors_numpy(tasks, pairs, values, user_side, item_side, scale):
    """Sum the errors of the predictions. Returns (n_tasks, 2) float64: squared and absolute errors of each task."""
    sums = np.empty((len(tasks) - 1, 2))
    for task, (start, stop) in enumerate(pairwise(tasks)):
        chunk = slice(start, stop)
        e = (values[chunk] - _predict_numpy(chunk, pairs, user_side, item_side, scale)).astype(np.float64)
        sums[task] = np.sum(e**2), np.sum(np.abs(e))
    return sums


def _predict_numpy(chunk, pairs, user_side, item_side, scale):
    users, items = pairs.users[chunk], pairs.items[chunk]
    nothing = np.float32(0)
    known_user, known_item = users >= 0, items >= 0
    dot = np.sum(user_side.factors[users] * item_side.factors[items], axis=1)
    estimate = np.float32(scale.mean) + np.where(known_user & known_item, dot, nothing)
    estimate += np.where(known_user, user_side.bias[users], nothing)
    estimate += np.where(known_item, item_side.bias[items], nothing)
    return np.clip(estimate, np.float32(scale.low), np.float32(scale.high))


@jit
def _predict(u, i, x, b, y, c, mean, low, high):
    estimate = mean
    if u >= 0:
        estimate += b[u]
    if i >= 0:
        estimate += c[i]
    if u >= 0 and i >= 0:
        dot = np.float32(0)
        for f in range(x.shape[1]):
            dot += x[u, f] * y[i, f]
        estimate += dot
    # written so that NaN passes through both comparisons
    if estimate < low:
        estimate = low
    if estimate > high:
        estimate = high
    return estimate


@jit
def _estimate(tasks, users, items, x, b, y, c, mean, low, high, out):
    for task in range(tasks.shape[0] - 1):
        for n in range(tasks[task], tasks[task + 1]):
            out[n] = _predict(users[n], items[n], x, b, y, c, mean, low, high)


@jit
def _errors(tasks, users, items, values, x, b, y, c, mean, low, high):
    sums = np.empty((tasks.shape[0] - 1, 2), np.float64)
    for task in range(tasks.shape[0] - 1):
        squared = np.float64(0)
        absolute = np.float64(0)
        for n in range(tasks[task], tasks[task + 1]):
            e = np.float64(values[n] - _predict(users[n], items[n], x, b, y, c, mean, low, high))
            squared += e * e
            absolute += abs(e)
        sums[task, 0] = squared
        sums[task, 1] = absolute
    return sums


def estimate_cpu(tasks, pairs, user_side, item_side, scale, out):
    """Write the predictions in parallel; see :func:`estimate_numpy`."""
    _estimate(tasks, *pairs, *user_side, *item_side, *map(np.float32, scale), out)
    return np.diff(tasks)


def errors_cpu(tasks, pairs, values, user_side, item_side, scale):
    """Sum the errors in parallel; see :func:`errors_numpy`."""
    return _errors(tasks, *pairs, values, *user_side, *item_side, *map(np.float32, scale))


ESTIMATE = {"numpy": estimate_numpy, "cpu": estimate_cpu}
ERRORS = {"numpy": errors_numpy, "cpu": errors_cpu}
