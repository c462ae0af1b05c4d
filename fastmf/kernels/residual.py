"""Predictions of given pairs, and the sums of their errors: e_n = r_n - (mean + b_u + c_i + x_u . y_i).

A user or item of index -1 is unknown. It has no factors and no bias, so the mean and the other side's bias remain.
"""

from itertools import pairwise

import numpy as np

from fastmf.kernels import simd
from fastmf.kernels.compile import inner, lazy
from fastmf.kernels.region import region, taken
from fastmf.kernels.vectors import WIDTH

PAIRS_PER_TASK = 1 << 15
AT_ONCE = 1 << 10  # pairs whose predictions are kept to sum their errors
AHEAD = np.uint64(16)  # pairs between the prefetch of an item's row and its use; users mostly come in order


def estimate_numpy(tasks, pairs, user_side, item_side, scale, out):
    """Write the predictions into ``out`` (n,) float32."""
    chunk = slice(tasks[0], tasks[-1])
    out[chunk] = _predict_numpy(chunk, pairs, user_side, item_side, scale)


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


@inner
def _predict(first, last, pairs, user_side, item_side, scale, out):
    """Write the predictions of the pairs from first to last, the first of them into ``out[0]``."""
    x, y, b, c = user_side.factors, item_side.factors, user_side.bias, item_side.bias
    low, high, mean = np.float32(scale.low), np.float32(scale.high), np.float32(scale.mean)
    k, end, in_vectors = x.shape[1], np.uint64(pairs.items.shape[0] - 1), 0
    if WIDTH:
        x_rows, y_rows, in_vectors = simd.pointer(x, 0), simd.pointer(y, 0), k // WIDTH * WIDTH
    for n in range(np.uint64(first), np.uint64(last)):
        if WIDTH:
            ahead = np.int64(pairs.items[min(n + AHEAD, end)]) * k
            simd.prefetch(2, y_rows, ahead)  # does no harm, even to row -1
        u, i, estimate = np.int64(pairs.users[n]), np.int64(pairs.items[n]), mean
        if u >= 0:
            estimate += b[np.uint64(u)]
        if i >= 0:
            estimate += c[np.uint64(i)]
        if u >= 0 and i >= 0:
            if WIDTH:
                x_at, y_at, sums = simd.pointer(x_rows, u * k), simd.pointer(y_rows, i * k), simd.zeros(1, 1)
                for f in range(0, in_vectors, WIDTH):
                    left, right = simd.load(1, 1, simd.at(x_at, f), 0), simd.load(1, 1, simd.at(y_at, f), 0)
                    sums = simd.multiply_add(sums, left, right)
                estimate += simd.total(sums)
            for f in range(in_vectors, k):
                estimate += x[np.uint64(u), np.uint64(f)] * y[np.uint64(i), np.uint64(f)]
        # written so that NaN passes through both comparisons
        if estimate < low:
            estimate = low
        if estimate > high:
            estimate = high
        out[n - np.uint64(first)] = estimate


@region
def estimate_cpu(share, pairs, user_side, item_side, scale, out):
    """Write the predictions; see :func:`estimate_numpy`."""
    for task in taken(share):
        first, last = share.tasks[task], share.tasks[task + 1]
        _predict(first, last, pairs, user_side, item_side, scale, out[first:last])


@region(allocates=True)
def _errors(share, pairs, values, user_side, item_side, scale):
    estimates = np.empty(AT_ONCE, np.float32)
    for task in taken(share):
        first, last = share.tasks[task], share.tasks[task + 1]
        squared, absolute = _sum_errors(first, last, pairs, values, user_side, item_side, scale, estimates)
        share.found[task, 0], share.found[task, 1] = squared, absolute


@inner
def _sum_errors(first, last, pairs, values, user_side, item_side, scale, estimates):
    """Return the sums of the squared and of the absolute errors of the pairs from first to last."""
    squared, absolute = np.float64(0), np.float64(0)
    for start in range(first, last, AT_ONCE):
        stop = min(start + AT_ONCE, last)
        _predict(start, stop, pairs, user_side, item_side, scale, estimates)
        for n in range(start, stop):
            e = np.float64(values[n] - estimates[n - start])
            squared += e * e
            absolute += abs(e)
    return squared, absolute


def errors_cpu(tasks, pairs, values, user_side, item_side, scale):
    """Sum the errors; see :func:`errors_numpy`."""
    return _errors(tasks, pairs, values, user_side, item_side, scale, found=np.zeros((len(tasks) - 1, 2)))


ESTIMATE = {"numpy": estimate_numpy, "cpu": estimate_cpu, "cuda": lazy("residual_cuda", "estimate_cuda")}
ERRORS = {"numpy": errors_numpy, "cpu": errors_cpu, "cuda": lazy("residual_cuda", "errors_cuda")}
