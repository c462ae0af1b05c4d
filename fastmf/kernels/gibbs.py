"""A draw of every row's factors, bias and precision from what the other side and the ratings leave open.

For a row with the prior x ~ N(mu, L^-1), b ~ N(m, 1/p) and ratings r_j ~ N(b + c_j + x . y_j, 1 / (alpha tau g_j)), g_j
being the columns' own precisions (Salakhutdinov and Mnih 2008, with biases, and precisions by row), the conditional of
(x, b) is normal. With q = 1 / (alpha tau), weights g_j, t_j = r_j - c_j and the sums of :mod:`fastmf.kernels.als`

    d = sum g + q p,   s = sum g y,   T = sum g t + q p m,   M = sum g y y' - s s'/d + q L,   M = U'U
    x = U^-1 (U'^-1 (sum g t y - s T/d + q L mu) + sqrt(q) e),   b = (T - s . x) / d + sqrt(q / d) e'

for independent standard normal e and e'. With S the weighted sum of the squared errors left then,

    tau ~ Gamma(SHAPE + n/2, rate SHAPE + alpha S / 2)

S needs no pass of its own: U x and U'^-1 (...) are at hand, and of them it is made. Random numbers are a function of
(seed, stream, row). Rows without entries are left as they are.
"""

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from fastmf.kernels.gibbs_plain import SHAPE
from fastmf.kernels.random import U1, gamma, key_of, normal
from fastmf.kernels.vectors import WIDTH

if WIDTH:
    from fastmf.kernels.gibbs_simd import draw
else:
    from fastmf.kernels.gibbs_plain import draw


class Weighted(NamedTuple):
    """The other side: factors (n, kp) times the roots, bias (n,), and roots (n,) of the weights g; float32."""

    factors: np.ndarray
    bias: np.ndarray
    roots: np.ndarray


class Prior(NamedTuple):
    """What rows are drawn around: precision L (k, k) float32, and ``pull`` = L mu, (n_rows or 1, k or more) float32.

    bias_precision p, inf without biases, and bias_pull = p m, which is then 0.
    """

    precision: np.ndarray
    pull: np.ndarray
    bias_precision: float
    bias_pull: float


class Chance(NamedTuple):
    """What is random: seed and stream, uint64; alpha; whether precisions are drawn (learn), and anything is (draw)."""

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
    found = np.zeros(len(tasks) - 1)
    for task, (start, stop) in enumerate(pairwise(tasks)):
        for row in range(start, stop):
            if entries.indptr[row] < entries.indptr[row + 1]:
                found[task] += _draw_row_numpy(row, entries, side, precisions, other, prior, chance)
    return found


def _draw_row_numpy(row, entries, side, precisions, other, prior, chance):
    rated = slice(entries.indptr[row], entries.indptr[row + 1])
    columns, k = entries.indices[rated], side.factors.shape[1]
    q = 1 / (chance.alpha * float(precisions[row]))
    roots = other.roots[columns].astype(np.float64)
    w, t = other.factors[columns, :k].astype(np.float64), roots * (entries.values[rated] - other.bias[columns])
    s, d, total = roots @ w, roots @ roots + q * prior.bias_precision, roots @ t + q * prior.bias_pull
    upper = np.linalg.cholesky(w.T @ w - np.outer(s, s / d) + q * prior.precision).T
    pull = prior.pull[min(row, len(prior.pull) - 1), :k]
    with np.errstate(over="ignore"):
        key = np.uint64(key_of(chance.seed, chance.stream, np.uint64(row)))  # compiled, it returns an int
        noise = np.array([normal(key, np.uint64(f)) for f in range(k + 1)]) * chance.draw
    h = np.linalg.solve(upper.T, w.T @ t - s * (total / d) + q * pull) + math.sqrt(q) * noise[:k]
    x = np.linalg.solve(upper, h)
    b = (total - s @ x) / d + math.sqrt(q / d) * noise[k]
    side.factors[row], side.bias[row] = x, b
    errors = np.sum((t - roots * b - w @ x) ** 2)
    if chance.learn:
        with np.errstate(over="ignore"):
            drawn = gamma(key, np.uint64(k) + U1, SHAPE + 0.5 * len(columns))
        precisions[row] = drawn / (SHAPE + 0.5 * chance.alpha * errors)
    return errors * float(precisions[row])


def draw_cpu(tasks, entries, side, precisions, other, prior, chance):
    """Draw the rows in parallel; see :func:`draw_numpy`."""
    prior = prior._replace(bias_precision=float(prior.bias_precision), bias_pull=float(prior.bias_pull))
    chance = chance._replace(alpha=float(chance.alpha))
    with np.errstate(over="ignore"):
        return draw(tasks, entries, side, precisions, other, prior, chance)


def weigh_numpy(tasks, side, precisions, out):
    """Make what the other side is drawn from: ``out`` Weighted, of a side's factors (n, k) and precisions (n,).

    Returns (n_tasks,) int64, the rows of each task.
    """
    rows, k = slice(tasks[0], tasks[-1]), side.factors.shape[1]
    np.sqrt(precisions[rows], out=out.roots[rows])
    np.multiply(side.factors[rows], out.roots[rows, None], out=out.factors[rows, :k])
    out.bias[rows] = side.bias[rows]
    return np.diff(tasks)


def average_numpy(tasks, share, now, mean):
    """Move each array of ``mean`` a share of the way to that of ``now``; both are nested alike.

    Returns (n_tasks,) int64, the rows of each task.
    """
    rows = slice(tasks[0], tasks[-1])
    for new, old in zip(now, mean, strict=True):
        old[rows] += np.float32(share) * (new[rows] - old[rows])
    return np.diff(tasks)


DRAW = {"numpy": draw_numpy, "cpu": draw_cpu}
WEIGH = {"numpy": weigh_numpy, "cpu": weigh_numpy}
AVERAGE = {"numpy": average_numpy, "cpu": average_numpy}
