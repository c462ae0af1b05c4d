"""Draws of one side in Gibbs sampling: hyper-parameters, links and rows; see :mod:`fastmf.solvers.gibbs`."""

import math
from typing import Any, NamedTuple

import numpy as np

from fastmf import kernels
from fastmf.kernels.tasks import even
from fastmf.kernels.types import Compressed, Side
from fastmf.runtime.device import Device
from fastmf.runtime.launch import launch
from fastmf.solvers.links import Linked
from fastmf.solvers.ridge import ROWS_PER_TASK

LINK_STEPS = 4  # steps of conjugate gradients per draw of the links
BETA, WISHART, SHAPE, RATE = 2.0, 1.0, 1.0, 0.1  # parameters of the priors


class Rows:
    """Users or items: their last draw, their entries, and their links, if any."""

    def __init__(
        self, side: Side, entries: Compressed, precisions: np.ndarray, links: Linked | None, device: Device
    ) -> None:
        self.side, self.entries, self.precisions, self.links, self.device = side, entries, precisions, links, device
        n, k = side.factors.shape
        counts = np.diff(entries.indptr)
        self.warm, self.counts = counts > 0, counts.astype(np.float32)
        self.rows, self.tasks = even(n, ROWS_PER_TASK), kernels.als.half_sweep_tasks(entries.indptr, k)
        self._weighted = kernels.gibbs.Weighted(
            kernels.vectors.aligned(n, kernels.vectors.whole(k)), np.zeros(n, np.float32), np.ones(n, np.float32)
        )

    def weighted(self) -> Any:
        """Return the rows weighted by their precisions, for draws of the other side."""
        launch(kernels.gibbs.WEIGH, self.device, self.rows, self.side, self.precisions, self._weighted)
        return self._weighted

    def draw_hyper(self, biases: bool, rng: "np.random.Generator") -> "Hyper":
        """Draw the hyper-parameters of the rows' factors and biases."""
        factors, n, k = self.side.factors, int(np.count_nonzero(self.warm)), self.side.factors.shape[1]
        if self.links is not None:
            factors = factors - self.links.expected[:, :k]
        total = launch(kernels.links.TOTAL, self.device, self.rows, np.ones(len(factors), np.float32), factors)
        squares = launch(kernels.gram.GRAM, self.device, self.rows, kernels.vectors.filled_up(factors), k)
        mean, precision = draw_normal_wishart(n, total, squares, rng)
        if not biases:
            return Hyper(mean, precision, math.inf, 0.0)
        b = self.side.bias[self.warm].astype(np.float64)
        spread = np.sum((b - b.mean()) ** 2) + BETA * n / (BETA + n) * b.mean() ** 2
        p = rng.gamma(SHAPE + n / 2) / (RATE + spread / 2)
        pull = p * (b.sum() / (BETA + n)) + math.sqrt(p / (BETA + n)) * rng.standard_normal()
        return Hyper(mean, precision, p, pull)

    def draw_links(self, links: Linked, hyper: "Hyper", rng: "np.random.Generator") -> tuple[float, np.ndarray]:
        """Draw kappa and the links in the basis of L's eigenvectors; return kappa and the links' predictions (n, k)."""
        factors, k = self.side.factors, self.side.factors.shape[1]
        eigenvalues, basis = np.linalg.eigh(hyper.precision)
        table, expected, gap = (array[:, :k] for array in (links.table, links.expected, links.gap))
        old, warm = table.astype(np.float64), links.squares > 0  # cold columns stay zero
        kappa = rng.gamma(1 + np.count_nonzero(warm) * k / 2) / (1 + np.sum(old**2) / 2)
        links.set_ridge(kappa / eigenvalues)
        table[:], expected[:] = old @ basis, expected @ basis
        gap[:] = (factors - hyper.mean) @ basis - expected
        gap += rng.standard_normal(factors.shape) / np.sqrt(eigenvalues)  # E1
        penalised = links.table.copy()
        penalised[:, :k] -= rng.standard_normal(old.shape) * warm[:, None] / math.sqrt(kappa)  # E2
        links.approach(LINK_STEPS, penalised)
        table[:], expected[:] = table @ basis.T, expected @ basis.T
        return kappa, expected


class Hyper(NamedTuple):
    """Hyper-parameters of a side: mean m and precision L of the factors; precision p and pull p m_b of the biases."""

    mean: np.ndarray
    precision: np.ndarray
    bias_precision: float
    bias_pull: float

    def prior(self, expected: np.ndarray | None) -> Any:
        """Return the prior of each row as kernels take it; ``expected`` (n, k) are the links' predictions."""
        centre = self.mean[None] if expected is None else self.mean + expected
        pull = np.ascontiguousarray((centre @ self.precision).astype(np.float32))
        return kernels.gibbs.Prior(self.precision.astype(np.float32), pull, self.bias_precision, self.bias_pull)


def draw_normal_wishart(
    n: int, total: np.ndarray, squares: np.ndarray, rng: "np.random.Generator"
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the mean (k,) and precision (k, k) of n normal rows x, given sum x and sum x x'.

    The prior is in the module's docstring. The Wishart is drawn by its Bartlett decomposition (Bartlett 1933).
    """
    k = len(total)
    spread = squares - np.outer(total, total) / (BETA + n) + np.eye(k) / WISHART
    root = np.linalg.cholesky(np.linalg.inv((spread + spread.T) / 2))
    a = np.tril(rng.standard_normal((k, k)), -1)
    a[np.diag_indices(k)] = np.sqrt(rng.chisquare(k + n - np.arange(k)))
    factor = root @ a
    precision = factor @ factor.T
    noise = np.linalg.solve(np.linalg.cholesky(precision).T, rng.standard_normal(k))
    return total / (BETA + n) + noise / math.sqrt(BETA + n), precision
