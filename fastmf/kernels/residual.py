"""Predictions of given pairs, and the sums of their errors: e_n = r_n - (mean + b_u + c_i + x_u . y_i).

A user or item of index -1 is unknown. It has no factors and no bias, so the mean and the other side's bias remain.
"""

from itertools import pairwise

import numpy as np

from fastmf.kernels.compile import jit, lazy
from fastmf.kernels.vectors import WIDTH

if WIDTH:
    from fastmf.kernels.residual_simd import predict
else:
    from fastmf.kernels.residual_plain import predict

PAIRS_PER_TASK = 1 << 15
AT_ONCE = 1 << 10  # pairs whose predictions are kept to sum their errors


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


@jit
def estimate_cpu(tasks, pairs, user_side, item_side, scale, out):
    """Write the predictions; see :func:`estimate_numpy`."""
    predict(tasks[0], tasks[-1], pairs, user_side, item_side, scale, out[tasks[0] : tasks[-1]])


@jit
def errors_cpu(tasks, pairs, values, user_side, item_side, scale):
    """Sum the errors; see :func:`errors_numpy`."""
    sums, estimates = np.empty((tasks.shape[0] - 1, 2), np.float64), np.empty(AT_ONCE, np.float32)
    for task in range(tasks.shape[0] - 1):
        squared, absolute = np.float64(0), np.float64(0)
        for start in range(tasks[task], tasks[task + 1], AT_ONCE):
            stop = min(start + AT_ONCE, tasks[task + 1])
            predict(start, stop, pairs, user_side, item_side, scale, estimates)
            for n in range(start, stop):
                e = np.float64(values[n] - estimates[n - start])
                squared += e * e
                absolute += abs(e)
        sums[task, 0], sums[task, 1] = squared, absolute
    return sums


ESTIMATE = {"numpy": estimate_numpy, "cpu": estimate_cpu, "cuda": lazy("residual_cuda", "estimate_cuda")}
ERRORS = {"numpy": errors_numpy, "cpu": errors_cpu, "cuda": lazy("residual_cuda", "errors_cuda")}
