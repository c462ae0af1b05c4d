"""Gibbs sampling: draw every row's factors, bias and precision from their conditional distribution.

A row has the prior x ~ N(mu, L^-1), b ~ N(m, 1/p) and ratings r_j ~ N(b + c_j + x . y_j, 1 / (alpha tau g_j)), g_j
being the columns' own precisions (Salakhutdinov and Mnih 2008, plus biases and a precision per row). A rating of weight
h counts as h equal ones: its density is taken to the power h, which makes its g_j h times the column's precision, and
n = sum h. The conditional of (x, b) is normal. With q = 1 / (alpha tau), weights g_j, t_j = r_j - c_j and the sums of
:mod:`fastmf.kernels.als`

    d = sum g + q p,   s = sum g y,   T = sum g t + q p m,   M = sum g y y' - s s'/d + q L,   M = U'U
    x = U^-1 (U'^-1 (sum g t y - s T/d + q L mu) + sqrt(q) e),   b = (T - s . x) / d + sqrt(q / d) e'

for independent standard normal e and e'. With S the weighted sum of the squared errors that remain,

    tau ~ Gamma(SHAPE + n/2, rate SHAPE + alpha S / 2)

S needs no pass of its own: it follows from U x and U'^-1 (...). Random numbers are a function of (seed, stream, row).
Rows without entries are left as they are.
"""

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from fastmf.kernels.gibbs_plain import SHAPE
from fastmf.kernels.random import U1, gamma, key_of, normal
from fastmf.kernels.region import region, taken
from fastmf.kernels.vectors import WIDTH, widened

if WIDTH:
    from fastmf.kernels.gibbs_simd import draw
else:
    from fastmf.kernels.gibbs_plain import draw


class Weighted(NamedTuple):
    """The other side, float32: factors (n, kp) times the roots, bias (n,), and roots (n,), the square roots of g."""

    factors: np.ndarray
    bias: np.ndarray
    roots: np.ndarray


class Prior(NamedTuple):
    """The prior of rows: precision L (k, k) float32, and ``pull`` = L mu, (n_rows or 1, k or more) float32.

    bias_precision is p. bias_pull is p m, (n_rows or 1,) float64, or one number. Without biases they are inf and 0.
    """

    precision: np.ndarray
    pull: np.ndarray
    bias_precision: float
    bias_pull: np.ndarray | float


class Chance(NamedTuple):
    """Seed and stream, uint64; alpha; whether precisions are drawn (learn); whether noise is added at all (draw)."""

    seed: np.uint64
    stream: np.uint64
    alpha: float
    learn: bool
    draw: bool


def draw_numpy(tasks, entries, side, precisions, other, prior, chance):
    """Draw the rows of ``side`` and their ``precisions`` tau (n_rows,) float32, in place.

    entries is Compressed with one row per row of ``side``, other :class:`Weighted`. Returns (n_tasks,) float64: each
    task's sum of tau S, with the new tau.
    """
    given = entries, side, precisions, other, prior, chance
    return np.array([sum(_draw_row_numpy(row, *given) for row in range(*bounds)) for bounds in pairwise(tasks)], float)


def _draw_row_numpy(row, entries, side, precisions, other, prior, chance):
    rated = slice(entries.indptr[row], entries.indptr[row + 1])
    if rated.start == rated.stop:
        return 0
    columns, k = entries.indices[rated], side.factors.shape[1]
    q = 1 / (chance.alpha * float(precisions[row]))
    times = np.ones(len(columns)) if entries.weights is None else entries.weights[rated].astype(np.float64)
    roots = np.sqrt(times) * other.roots[columns]
    w = np.sqrt(times)[:, None] * other.factors[columns, :k]
    t = roots * (entries.values[rated] - other.bias[columns])
    bias_pulls = np.atleast_1d(prior.bias_pull)
    bias_pull = bias_pulls[min(row, len(bias_pulls) - 1)]
    s, d, total = roots @ w, roots @ roots + q * prior.bias_precision, roots @ t + q * bias_pull
    upper = np.linalg.cholesky(w.T @ w - np.outer(s, s / d) + q * prior.precision).T
    pull = prior.pull[min(row, len(prior.pull) - 1), :k]
    key = np.uint64(key_of(chance.seed, chance.stream, np.uint64(row)))  # compiled, it returns an int
    noise = np.array([normal(key, np.uint64(f)) for f in range(k + 1)]) * chance.draw
    h = np.linalg.solve(upper.T, w.T @ t - s * (total / d) + q * pull) + math.sqrt(q) * noise[:k]
    x = np.linalg.solve(upper, h)
    b = (total - s @ x) / d + math.sqrt(q / d) * noise[k]
    side.factors[row], side.bias[row] = x, b
    errors = np.sum((t - roots * b - w @ x) ** 2)
    if chance.learn:
        drawn = gamma(key, np.uint64(k) + U1, SHAPE + 0.5 * times.sum())
        precisions[row] = drawn / (SHAPE + 0.5 * chance.alpha * errors)
    return errors * float(precisions[row])


def weigh_numpy(tasks, side, precisions, out):
    """Write a side (n, k) and its precisions (n,) into ``out`` Weighted, from which the other side is drawn."""
    rows, k = slice(tasks[0], tasks[-1]), side.factors.shape[1]
    np.sqrt(precisions[rows], out=out.roots[rows])
    np.multiply(side.factors[rows], out.roots[rows, None], out=out.factors[rows, :k])
    out.bias[rows] = side.bias[rows]


def average_numpy(tasks, share, now, mean):
    """Move the rows of ``mean``, (n,) or (n, columns), a share of the way to those of ``now``."""
    rows = slice(tasks[0], tasks[-1])
    mean[rows] += np.float32(share) * (now[rows] - mean[rows])


def draw_cpu(tasks, entries, side, precisions, other, prior, chance):
    """Draw the rows of ``side``; see :func:`draw_numpy`."""
    kp = other.factors.shape[1]
    bias_pull = np.atleast_1d(np.asarray(prior.bias_pull, np.float64))
    prior = prior._replace(precision=widened(prior.precision, kp, kp), bias_pull=bias_pull)
    given = entries, side, precisions, other, prior, chance
    return draw(tasks, *given, found=np.zeros(len(tasks) - 1))


@region
def weigh_cpu(share, side, precisions, out):
    """Weigh a side's rows; see :func:`weigh_numpy`."""
    for task in taken(share):
        for row in range(share.tasks[task], share.tasks[task + 1]):
            root = np.sqrt(precisions[row])
            out.roots[row], out.bias[row] = root, side.bias[row]
            for f in range(side.factors.shape[1]):
                out.factors[row, f] = side.factors[row, f] * root


def average_cpu(tasks, share, now, mean):
    """Move the means; see :func:`average_numpy`."""
    wide = len(now), -1
    return _average(tasks, np.float32(share), now.reshape(wide), mean.reshape(wide))


@region(fused=False)
def _average(share, part, now, mean):
    for task in taken(share):
        for row in range(share.tasks[task], share.tasks[task + 1]):
            for f in range(mean.shape[1]):
                mean[row, f] += part * (now[row, f] - mean[row, f])


DRAW = {"numpy": draw_numpy, "cpu": draw_cpu}
WEIGH = {"numpy": weigh_numpy, "cpu": weigh_cpu}
AVERAGE = {"numpy": average_numpy, "cpu": average_cpu}
