"""Draws of one side in Gibbs sampling: hyper-parameters, links, features and rows; see :mod:`fastmf.solvers.gibbs`."""

import math
from typing import Any, NamedTuple

import numpy as np

from fastmf import kernels
from fastmf.kernels.tasks import even
from fastmf.kernels.types import Compressed, Side
from fastmf.model.learned import product
from fastmf.runtime.device import Device, resolve
from fastmf.runtime.launch import launch
from fastmf.solvers.features import Centred, Design
from fastmf.solvers.links import Linked
from fastmf.solvers.ridge import ROWS_PER_TASK

LINK_STEPS = 4  # steps of conjugate gradients per draw of the links
FEATURE_STEPS = 4  # the same for the weights of features
KAPPA_RATE = 1e-4  # of the prior of their precisions; with 1, 3,000 random tags made the RMSE .048 worse
BETA, WISHART, SHAPE, RATE = 2.0, 1.0, 1.0, 0.1  # parameters of the priors


class Rows:
    """Users or items: their last draw, their entries, and their links and features, if any.

    present (n,) float32 is above 0 for rows with ratings or features.
    """

    def __init__(
        self,
        side: Side,
        entries: Compressed,
        precisions: np.ndarray,
        links: Linked | None,
        features: "Drawn | None",
        device: Device,
    ) -> None:
        self.side, self.entries, self.precisions, self.device = side, entries, precisions, device
        self.links, self.features = links, features
        n, k = side.factors.shape
        counts = np.diff(entries.indptr)
        self.warm, self.counts = counts > 0, counts.astype(np.float32)
        self.present = self.counts if features is None else self.counts + features.cold
        self.rows, self.tasks = even(n, ROWS_PER_TASK), kernels.als.half_sweep_tasks(entries.indptr, k)
        self._weighted = kernels.gibbs.Weighted(
            kernels.vectors.aligned(n, kernels.vectors.whole(k)), np.zeros(n, np.float32), np.ones(n, np.float32)
        )

    def weighted(self) -> Any:
        """Return the rows weighted by their precisions, for draws of the other side."""
        launch(kernels.gibbs.WEIGH, self.device, self.rows, self.side, self.precisions, self._weighted)
        return self._weighted

    @property
    def unexplained(self) -> Side:
        """The last draw, without what features explain of it."""
        if self.features is None:
            return self.side
        k = self.side.factors.shape[1]
        return Side(self.side.factors - self.features.expected[:, :k], self.side.bias - self.features.expected[:, k])

    def draw_hyper(self, biases: bool, rng: "np.random.Generator") -> "Hyper":
        """Draw the hyper-parameters of the rows' factors and biases."""
        (factors, bias), n, k = self.unexplained, int(np.count_nonzero(self.warm)), self.side.factors.shape[1]
        if self.links is not None:
            factors = factors - self.links.expected[:, :k]
        total = launch(kernels.links.TOTAL, self.device, self.rows, np.ones(len(factors), np.float32), factors)
        squares = launch(kernels.gram.GRAM, self.device, self.rows, kernels.vectors.filled_up(factors), k)
        mean, precision = draw_normal_wishart(n, total, squares, rng)
        if not biases:
            return Hyper(mean, precision, math.inf, 0.0)
        b = bias[self.warm].astype(np.float64)
        spread = np.sum((b - b.mean()) ** 2) + BETA * n / (BETA + n) * b.mean() ** 2
        p = rng.gamma(SHAPE + n / 2) / (RATE + spread / 2)
        pull = p * (b.sum() / (BETA + n)) + math.sqrt(p / (BETA + n)) * rng.standard_normal()
        return Hyper(mean, precision, p, pull)

    def draw_links(self, links: Linked, hyper: "Hyper", rng: "np.random.Generator") -> tuple[float, np.ndarray]:
        """Draw kappa and the links in the basis of L's eigenvectors; return kappa and the links' predictions (n, k)."""
        factors, k = self.unexplained.factors, self.side.factors.shape[1]
        eigenvalues, basis = hyper.principal
        back, device = np.ascontiguousarray(basis.T), self.device
        table, expected, gap = (array[:, :k] for array in (links.table, links.expected, links.gap))
        old, warm = table.astype(np.float64), links.squares > 0  # cold columns stay zero
        kappa = rng.gamma(1 + np.count_nonzero(warm) * k / 2) / (1 + np.sum(old**2) / 2)
        links.set_ridge(kappa / eigenvalues)
        table[:], expected[:] = product(old, basis, device), product(expected, basis, device)
        gap[:] = product(factors - hyper.mean, basis, device) - expected
        gap += rng.standard_normal(factors.shape) / np.sqrt(eigenvalues)  # E1
        penalised = links.table.copy()
        penalised[:, :k] -= rng.standard_normal(old.shape) * warm[:, None] / math.sqrt(kappa)  # E2
        links.approach(LINK_STEPS, penalised)
        table[:], expected[:] = product(table, back, device), product(expected, back, device)
        return kappa, expected


class Hyper(NamedTuple):
    """Hyper-parameters of a side: mean m and precision L of the factors; precision p and pull p m_b of the biases."""

    mean: np.ndarray
    precision: np.ndarray
    bias_precision: float
    bias_pull: float

    @property
    def centre(self) -> np.ndarray:
        """The means m and m_b: (k + 1,)."""
        return np.append(self.mean, self.bias_pull / self.bias_precision)

    @property
    def principal(self) -> tuple[np.ndarray, np.ndarray]:
        """The eigenvalues (k,) of L, and its eigenvectors (k, k), one a column."""
        found: tuple[np.ndarray, np.ndarray] = kernels.dense.principal(factor_of(self.precision))
        return found

    def prior(self, expected: np.ndarray | None, device: Device, bias_expected: np.ndarray | None = None) -> Any:
        """Return the prior of each row as kernels take it.

        ``expected`` (n, k) and ``bias_expected`` (n,) are what links and features add to the means.
        """
        centre = self.mean[None] if expected is None else self.mean + expected
        pull = product(centre, self.precision, device).astype(np.float32)
        bias_pull: float | np.ndarray = self.bias_pull
        if bias_expected is not None and math.isfinite(self.bias_precision):
            bias_pull = bias_pull + self.bias_precision * bias_expected.astype(np.float64)
        return kernels.gibbs.Prior(self.precision.astype(np.float32), pull, self.bias_precision, bias_pull)


class Drawn(Centred):
    """The features of a side's rows, and the last draw of their weights B and b.

    Parameters
    ----------
    features : one row for each row of the side.
    warm : (n_rows,) bool, the rows with ratings, which alone tell what features are worth.
    table : (n_features, kp), the weights: B, then b in column k; updated in place.

    Attributes
    ----------
    expected : (n_rows, kp), what centred features add to the means of rows; 0 for rows without ratings or features.
    intercept : (kp,), what B and b add to: m and m_b, without the mean features' share.
    cold : (n_rows,) float32, 1 for rows with features but no ratings.
    """

    def __init__(self, k: int, features: Compressed, warm: np.ndarray, table: np.ndarray, device: Device) -> None:
        self.host = Design(features, warm.astype(np.float64), len(table))
        entries, columns, _ = self.host.entries()
        weights = self.host.shares.astype(np.float32)
        diagonal = self.host.spread(self.host.shares).astype(np.float32)
        super().__init__(k + 1, 1.0, entries, columns, weights, diagonal, table, device)
        self.cold = (self.host.inside & ~warm).astype(np.float32)
        self.expected, self.intercept = kernels.vectors.aligned(*self.gap.shape), np.zeros(table.shape[1], np.float32)
        self.expect()

    def expect(self) -> None:
        """Set ``expected`` by the table."""
        launch(kernels.links.GATHER, self.device, self.row_tasks, self.entries, self.weights, self.table, self.expected)
        self.expected -= self.weights[:, None] * self._mean(self.table)

    def draw(self, side: Side, hyper: Hyper, linked: np.ndarray | None, rng: "np.random.Generator") -> None:
        """Draw the weights, in the basis of L's eigenvectors; ``linked`` (n, k) is what links predict."""
        k, table, gap, expected = self.k - 1, self.table, self.gap, self.expected
        (eigenvalues, basis), device = hyper.principal, self.device
        biased = math.isfinite(hyper.bias_precision)
        precisions = np.append(eigenvalues, hyper.bias_precision if biased else 1.0)
        kappas = self._draw_kappas(rng)
        ridges = np.ones(table.shape, np.float32)
        ridges[:, : k + 1] = kappas / precisions
        self.set_ridges(ridges)
        table[:, :k], expected[:, :k] = product(table[:, :k], basis, device), product(expected[:, :k], basis, device)
        factors = side.factors - hyper.mean - (0 if linked is None else linked)
        gap[:, :k], gap[:, k] = product(factors, basis, device), side.bias
        gap[:, : k + 1] += rng.standard_normal((len(gap), k + 1)) / np.sqrt(precisions)  # E1
        mean = launch(kernels.links.TOTAL, self.device, self.rows, self.weights, gap) / self.host.mass
        gap[:] = self.weights[:, None] * (gap - mean.astype(np.float32)) - expected
        penalised = table.copy()
        penalised[:, : k + 1] -= rng.standard_normal(kappas.shape) * (self.squares > 0)[:, None] / np.sqrt(kappas)  # E2
        if not biased:
            gap[:, k] = penalised[:, k] = 0
        self.approach(FEATURE_STEPS, penalised)
        table[:, :k] = product(table[:, :k], np.ascontiguousarray(basis.T), device)
        self.expect()
        self.intercept[: k + 1] = hyper.centre
        self.intercept -= self._mean(table)

    def _mean(self, table: np.ndarray) -> np.ndarray:
        """Return what the mean features add to the means of rows: (kp,)."""
        return product(self.host.mean[None], table, self.device)[0].astype(np.float32)

    def _draw_kappas(self, rng: "np.random.Generator") -> np.ndarray:
        """Draw the precisions of each feature's weights: (n_features, k + 1), the same for all factors."""
        table, sizes = np.square(self.table[:, : self.k], dtype=np.float64), np.array([self.k - 1, 1])
        if not table.any():  # nothing is drawn yet: their precisions would keep the weights near zero
            return np.ones(table.shape)
        sums = np.add.reduceat(table, [0, self.k - 1], axis=1)
        kappas = rng.gamma(1 + sizes / 2, size=sums.shape) / (KAPPA_RATE + sums / 2)
        return np.repeat(kappas, sizes, axis=1)

    def draw_cold(
        self, hyper: Hyper, alpha: float, samples: tuple[np.ndarray, ...], rng: "np.random.Generator"
    ) -> None:
        """Draw the rows that have features but no ratings from their prior, into ``samples``.

        These are factors, biases, and precisions, which are ``alpha`` times tau.
        """
        (factors, bias, precisions), shape = samples, kernels.gibbs.SHAPE
        self.fill(self.table, self.intercept, Side(factors, bias))
        rows, root = np.flatnonzero(self.cold), factor_of(hyper.precision)
        back = kernels.dense.solve_lower(root, np.eye(len(root)))
        factors[rows] += product(rng.standard_normal((len(root), len(rows))).T, back, self.device)
        bias[rows] += rng.standard_normal(len(rows)) / math.sqrt(hyper.bias_precision)
        precisions[rows] = alpha * rng.gamma(shape, size=len(rows)) / shape

    def fill(self, table: np.ndarray, intercept: np.ndarray, side: Side) -> None:
        """Set the rows of a side that have features but no ratings to F B and F b plus the intercept (kp,)."""
        rows, k = np.flatnonzero(self.cold), self.k - 1
        if len(rows):
            launch(kernels.links.GATHER, self.device, self.row_tasks, self.entries, self.cold, table, self.response)
            found = self.response[rows] + intercept
            side.factors[rows], side.bias[rows] = found[:, :k], found[:, k]


def draw_normal_wishart(
    n: int, total: np.ndarray, squares: np.ndarray, rng: "np.random.Generator"
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the mean (k,) and precision (k, k) of n normal rows x, given sum x and sum x x'.

    The prior is in :mod:`fastmf.solvers.gibbs`. The Wishart is drawn by its Bartlett decomposition (Bartlett 1933).
    """
    k = len(total)
    spread = squares - np.outer(total, total) / (BETA + n) + np.eye(k) / WISHART
    a = np.tril(rng.standard_normal((k, k)), -1)
    a[np.diag_indices(k)] = np.sqrt(rng.chisquare(k + n - np.arange(k)))
    upper = factor_of(((spread + spread.T) / 2)[::-1, ::-1])[::-1, ::-1]  # U U' = spread, so U'^-1 U^-1 is its inverse
    factor = kernels.dense.solve_lower(np.ascontiguousarray(upper.T), a)  # lower: L = factor factor'
    noise = kernels.dense.solve_upper(factor, rng.standard_normal(k))
    precision = product(factor, np.ascontiguousarray(factor.T), resolve("cpu", 1))
    return total / (BETA + n) + noise / math.sqrt(BETA + n), precision


def factor_of(matrix: np.ndarray) -> np.ndarray:
    """Return the Cholesky factor (k, k); raise NumPy's LinAlgError if the matrix is not positive definite."""
    found: np.ndarray = kernels.dense.cholesky(np.ascontiguousarray(matrix))
    if not np.isfinite(found).all():
        raise np.linalg.LinAlgError
    return found
