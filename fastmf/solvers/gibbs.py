"""Bayesian matrix factorization by Gibbs sampling (Salakhutdinov and Mnih 2008), with biases and a precision a row.

Ratings are normal around b_u + c_i + x_u . y_i, with precision alpha tau_u g_i: some users, and some items, are rated
less predictably than others. Factors are normal around a mean, with a precision matrix, that are drawn themselves:

    x_u ~ N(m, L^-1),  (m, L) ~ Normal-Wishart(0, 2, I, k)     b_u ~ N(m_b, 1/p),  (m_b, p) ~ Normal-Gamma(0, 2, 1, .1)
    tau_u ~ Gamma(5, 5)       alpha ~ Gamma(1, 1)              (shape, rate), and the same for the items

With links x_u ~ N(m + z_u, L^-1), z_u = f_u n_u^(-1/2) sum over u's items of w_j, f_u as in
:mod:`fastmf.solvers.links`, w_j ~ N(0, 1/kappa I) and kappa ~ Gamma(1, 1). In the basis of L's eigenvectors, l being
the eigenvalues, W is drawn by solving a ridge regression a column with noise on both sides (as in Macau, Simm et al.
2017),

    (D'D + kappa/l I) W = D'(X - m + E1) + kappa^(1/2)/l E2,    E1 ~ N(0, 1/l), E2 ~ N(0, 1)

by some steps of conjugate gradients from where it is. Macau's prior of the links, (kappa L)^-1, would let them take
part in drawing L, in which the many links of rare items leave too little room to the rows (.840 in place of .812 on a
fold of ml-latest-small); and drawn as if they took no part, L and kappa run away from each other.

A sweep draws, of all that depends on it, users, their precisions, items and theirs, and alpha. The factors of the model
are means over the sweeps after the first ``burn``. Random numbers are a function of (seed, sweep, row).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np

from fastmf import kernels
from fastmf.errors import DivergenceError, ParameterError
from fastmf.kernels.tasks import even
from fastmf.kernels.types import Compressed, Side
from fastmf.model.equations import RowEquations
from fastmf.model.learned import Links, Prior, Samples
from fastmf.runtime.device import Device
from fastmf.runtime.launch import launch
from fastmf.solvers.als import ALS, ROWS_PER_TASK
from fastmf.solvers.base import Biased, Factors, equation_bytes, solve_operations, solve_traffic
from fastmf.solvers.links import Fading, Linked, LinkedALS
from fastmf.solvers.settings import setting, with_settings

if TYPE_CHECKING:
    from fastmf.data.ratings import Ratings

WARM_UP = 6  # epochs of ALS that the first sweep begins with
STEADY = 3  # sweeps before precisions are drawn
LINK_STEPS = 4  # of conjugate gradients towards a draw of the links
BETA, WISHART, SHAPE, RATE = 2.0, 1.0, 1.0, 0.1  # of the priors above


@with_settings
class Gibbs(Fading, Biased):
    """Bayesian matrix factorization by Gibbs sampling; the model is in :mod:`fastmf.solvers.gibbs`.

    It has no weights to tune: it learns them, and how sure it is. An epoch is a sweep. The samples that are kept serve
    ``predict(..., std=True)`` and the intervals of ``evaluate``. Each takes as much memory, and room in the model file
    and in checkpoints, as the model has without them; less than four make the intervals too narrow. The same data,
    settings and seed give the same bits for any number of threads. It does not run on a GPU.

    Examples
    --------
    >>> Gibbs(k=8).epochs
    100
    """

    name: ClassVar[str] = "gibbs"
    on_gpu: ClassVar[bool] = False
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"gibbs": {"kept": 0}}

    burn: int = setting(16, "Sweeps that are thrown away.", low=0)
    samples: int = setting(84, "Sweeps after these, of which the factors are the mean.", low=1)
    kept: int = setting(16, "Samples that the model keeps whole, to know how sure it is.", low=0)
    links: bool = setting(False, "Let what is rated pull the factors, too.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.links and self.fade != Gibbs.fade:
            raise ParameterError(f"fade is {self.fade:g}, but without links nothing fades: leave it out, or give links")

    @property
    def epochs(self) -> int:
        """The number of sweeps."""
        return int(self.burn) + int(self.samples)

    @property
    def bytes_per_row(self) -> int:
        """The factors; the same as drawn, weighted and averaged; the samples; and all that links take."""
        return (5 + min(int(self.kept), int(self.samples)) + (8 if self.links else 0)) * 4 * self.k

    @property
    def bytes_per_thread(self) -> int:
        """The equations of some rows."""
        return equation_bytes(self.k)

    def operations(self, n_ratings: int, n_rows: int) -> float:
        """Count those of solving rows."""
        return solve_operations(self.k, n_ratings, n_rows)

    def traffic(self, n_ratings: int) -> float:
        """Count the bytes of solving rows."""
        return solve_traffic(self.k, n_ratings)

    def with_epochs(self, epochs: int) -> Self:
        """Return the same solver with so many sweeps, none of them thrown away."""
        return replace(self, burn=0, samples=epochs)

    @property
    def remedy(self) -> str:
        """What to change if training diverges."""
        return f"use fewer factors (k is {self.k})"

    def start(self, ratings: "Ratings") -> Factors:
        """Make room; the first sweep begins with some epochs of ALS."""
        n_users, n_items, k, kp = ratings.n_users, ratings.n_items, self.k, kernels.vectors.whole(self.k)
        users, items = (Side(kernels.vectors.aligned(n, k), np.zeros(n, np.float32)) for n in (n_users, n_items))
        state = _State(
            *(array.copy() for array in (*users, *items)),
            *(np.ones(n, np.float32) for n in (n_users, n_items)),
            np.ones(3),
            *(kernels.vectors.aligned(n if self.links else 0, kp) for n in (n_items, n_users, n_users, n_items)),
            users.factors.copy(),
            items.bias.copy(),
            *(
                np.zeros((min(self.kept, self.samples), n, *more), np.float32)
                for n in (n_users, n_items)
                for more in ((k,), (), ())
            ),  # type: ignore[call-arg]
        )
        of_items = np.zeros((n_items if self.links else 0, kp))
        prior = np.zeros((k, k)), np.zeros(k), np.ones(n_items), np.zeros(3), np.zeros(k), of_items
        return Factors(users, items, state, kept=tuple(array.astype(np.float32) for array in prior))

    def run(self, ratings: "Ratings", factors: Factors, device: Device, done: int = 0) -> Iterator[int]:
        """Draw users, their precisions, items, theirs, and alpha, once a sweep; no row is singular."""
        sampler = _Sampler(self, ratings, _State(*factors.memory), device)
        if not done:
            sampler.warm_up(ratings)
        for sweep in range(done, self.epochs):
            try:
                drawn = sampler.sweep(sweep)
            except np.linalg.LinAlgError:
                raise DivergenceError(f"sweep {sweep + 1}: the factors ran away; {self.remedy}") from None
            sampler.publish(sweep, factors, drawn)
            yield 0

    def row_equations(self, ratings: "Ratings") -> RowEquations:
        """Return how links fade, and the seed: new users are drawn around the prior."""
        return RowEquations(fade=self.fade, seed=int(self.seed))

    def learned(self, factors: Factors) -> dict[str, Any]:
        """Keep the users' prior, for fold-in, and some of the samples."""
        *prior_arrays, links = (array.copy() for array in factors.kept)
        prior: dict[str, Any] = {"prior": Prior(*prior_arrays)}
        if self.links:
            prior["links"] = Links(np.ascontiguousarray(links[:, : self.k]), np.zeros(self.k, np.float32))
        samples = Samples(*factors.memory[SAMPLES:])
        filled = int(np.count_nonzero(samples.user_precisions.any(axis=1)))  # patience may have ended it early
        return prior | ({"samples": Samples(*(array[:filled] for array in samples))} if filled else {})


class _State(NamedTuple):
    """What a sweep goes on from; then the mean of the users' factors and the items' biases; then the samples kept."""

    users: np.ndarray
    user_bias: np.ndarray
    items: np.ndarray
    item_bias: np.ndarray
    user_precisions: np.ndarray
    item_precisions: np.ndarray
    numbers: np.ndarray  # alpha, and kappa of both sides
    item_links: np.ndarray
    expected_users: np.ndarray
    user_links: np.ndarray
    expected_items: np.ndarray
    mean_users: np.ndarray
    mean_item_bias: np.ndarray
    user_factor_samples: np.ndarray
    user_bias_samples: np.ndarray
    user_precision_samples: np.ndarray
    item_factor_samples: np.ndarray
    item_bias_samples: np.ndarray
    item_precision_samples: np.ndarray


SAMPLES = _State._fields.index("user_factor_samples")


class _Sampler:
    """The draws of a sweep, over the arrays of a state."""

    def __init__(self, solver: Gibbs, ratings: "Ratings", state: _State, device: Device) -> None:
        self.solver, self.state, self.device = solver, state, device
        self.users, self.items = Side(*state[:2]), Side(*state[2:4])
        self.n_ratings, both = len(ratings), (ratings.by_user, ratings.by_item)
        self.sides = (
            _Rows(self.users, ratings.by_user, state.user_precisions),
            _Rows(self.items, ratings.by_item, state.item_precisions),
        )
        if solver.links:
            twice = [(entries, entries) for entries in both]
            tables = (state.item_links, state.expected_users), (state.user_links, state.expected_items)
            orders, given = (twice, twice[::-1]), zip((solver.fade, 0.0), map(float, state.numbers[1:]), strict=True)
            for rows, (own, other), found, (fade, kappa) in zip(self.sides, orders, tables, given, strict=True):
                rows.links = Linked(solver.k, kappa, own, other, *found, device, fade)

    def warm_up(self, ratings: "Ratings") -> None:
        """Begin with some epochs of ALS, with links where these are to be drawn."""
        same: dict[str, Any] = {
            "k": self.solver.k,
            "epochs": WARM_UP,
            "biases": self.solver.biases,
            "seed": self.solver.seed,
        }
        solver = LinkedALS(**same, fade=self.solver.fade) if self.solver.links else ALS(**same)
        found = solver.start(ratings)
        for _ in solver.run(ratings, found, self.device):
            pass
        starts = [*found.users, *found.items]
        if isinstance(solver, LinkedALS):
            (starts[0], starts[3], *_, expected, of_users, expected_items), (of_items, _) = found.memory, found.kept
            starts += [of_items, expected, of_users, expected_items]
        for array, start in zip((*self.users, *self.items, *self.state[7:11]), starts, strict=False):
            array[:] = start

    def sweep(self, sweep: int) -> "_Hyper":
        """Draw everything once; return what users were drawn around."""
        around_users, _ = self._draw_side(0, sweep)
        _, left = self._draw_side(1, sweep)
        rng = np.random.default_rng([self.solver.seed, sweep, 2])
        self.state.numbers[0] = rng.gamma(1 + self.n_ratings / 2) / (1 + left / 2)
        return around_users

    def _draw_side(self, turn: int, sweep: int) -> "tuple[_Hyper, float]":
        """Draw users (turn 0) or items; return what around, and the sum of the weighted squared errors left."""
        own, other, solver = self.sides[turn], self.sides[1 - turn], self.solver
        rng = np.random.default_rng([solver.seed, sweep, turn])
        hyper = _draw_hyper(own, solver.biases, rng, self.device)
        pull = self._draw_links(own, hyper, turn, rng) if own.links else None
        numbers = np.uint64(solver.seed), np.uint64(2 * sweep + turn)
        chance = kernels.gibbs.Chance(*numbers, float(self.state.numbers[0]), sweep >= STEADY, True)
        given = own.entries, own.side, own.precisions, other.weighted(self.device), hyper.prior(pull)
        return hyper, float(launch(kernels.gibbs.DRAW, self.device, own.tasks, *given, chance))

    def _draw_links(self, rows: "_Rows", hyper: "_Hyper", turn: int, rng: np.random.Generator) -> np.ndarray:
        """Draw kappa and the links of a side; return what these pull its rows to."""
        links, k = rows.links, self.solver.k
        assert links is not None
        precisions, basis = np.linalg.eigh(hyper.precision)
        table, warm = links.table[:, :k].astype(np.float64), links.squares > 0  # cold columns stay zero
        kappa = rng.gamma(1 + np.count_nonzero(warm) * k / 2) / (1 + np.sum(table**2) / 2)
        self.state.numbers[1 + turn] = kappa
        links.weigh(kappa / precisions)
        links.table[:, :k], links.expected[:, :k] = table @ basis, links.expected[:, :k] @ basis
        links.gap[:, :k] = (rows.side.factors - hyper.mean) @ basis - links.expected[:, :k]
        links.gap[:, :k] += rng.standard_normal(rows.side.factors.shape) / np.sqrt(precisions)
        around = links.table.copy()
        around[:, :k] -= rng.standard_normal(table.shape) * warm[:, None] / math.sqrt(kappa)
        links.approach(LINK_STEPS, around)
        links.table[:, :k], links.expected[:, :k] = links.table[:, :k] @ basis.T, links.expected[:, :k] @ basis.T
        return links.expected[:, :k]

    def publish(self, sweep: int, factors: Factors, hyper: "_Hyper") -> None:
        """Average what is drawn into the factors, with the mean user in the items' biases, and keep some samples."""
        state, solver, device, (users, items) = self.state, self.solver, self.device, self.sides
        share = 1 / max(sweep - solver.burn + 1, 1)
        precision, mean, item_precisions, numbers, origin, mean_links = factors.kept
        means = state.mean_users, factors.users.bias
        launch(kernels.gibbs.AVERAGE, device, users.rows, share, (state.users, state.user_bias), means)
        drawn, means = (state.items, state.item_bias), (factors.items.factors, state.mean_item_bias)
        launch(
            kernels.gibbs.AVERAGE, device, items.rows, share, (*drawn, state.item_precisions), (*means, item_precisions)
        )
        if solver.links:
            launch(kernels.gibbs.AVERAGE, device, items.rows, share, (state.item_links,), (mean_links,))
        user_mean = launch(kernels.links.TOTAL, device, users.rows, users.counts, state.mean_users) / self.n_ratings
        origin[:] = user_mean.astype(np.float32) * solver.biases
        launch(kernels.links.CENTRE, device, users.rows, users.counts, state.mean_users, origin, factors.users.factors)
        solved = Side(factors.items.factors, state.mean_item_bias)
        launch(kernels.links.ABSORB, device, items.rows, solved, origin, factors.items.bias)
        facts = np.array([state.numbers[0], hyper.bias_precision if solver.biases else 0.0, hyper.bias_pull])
        for average, new in ((precision, hyper.precision), (mean, hyper.mean), (numbers, facts)):
            average += np.float32(share) * (new - average).astype(np.float32)
        self._keep(sweep - solver.burn)

    def _keep(self, place: int) -> None:
        """Keep a sample where its turn has come."""
        kept, samples, state = len(self.state.user_bias_samples), self.solver.samples, self.state
        slot = place * kept // samples
        if place < 0 or (place + 1) * kept // samples == slot:
            return
        drawn = (
            (*self.users, state.user_precisions * np.float32(state.numbers[0])),
            (*self.items, state.item_precisions),
        )
        for array, now in zip(state[SAMPLES:], (*drawn[0], *drawn[1]), strict=True):
            array[slot] = now


class _Rows:
    """One side of what is drawn, and what stays the same of it."""

    links: Linked | None = None

    def __init__(self, side: Side, entries: Compressed, precisions: np.ndarray) -> None:
        self.side, self.entries, self.precisions = side, entries, precisions
        n, k = side.factors.shape
        counts = np.diff(entries.indptr)
        self.warm, self.counts = counts > 0, counts.astype(np.float32)
        self.rows, self.tasks = even(n, ROWS_PER_TASK), kernels.als.half_sweep_tasks(entries.indptr, k)
        self._weighted = kernels.gibbs.Weighted(
            kernels.vectors.aligned(n, kernels.vectors.whole(k)), np.zeros(n, np.float32), np.ones(n, np.float32)
        )

    def departed(self) -> np.ndarray:
        """Say how far factors are from what links say of them."""
        factors = self.side.factors
        return factors if self.links is None else factors - self.links.expected[:, : factors.shape[1]]

    def weighted(self, device: Device) -> Any:
        """Say what the other side is drawn from."""
        launch(kernels.gibbs.WEIGH, device, self.rows, self.side, self.precisions, self._weighted)
        return self._weighted


class _Hyper(NamedTuple):
    """What a side's rows are drawn around: mean and precision of the factors; of the biases precision and p m."""

    mean: np.ndarray
    precision: np.ndarray
    bias_precision: float
    bias_pull: float

    def prior(self, expected: np.ndarray | None) -> Any:
        """Put it as the kernels take it, with what links say of each row, if there are any."""
        around = self.mean[None] if expected is None else self.mean + expected
        pull = np.ascontiguousarray((around @ self.precision).astype(np.float32))
        return kernels.gibbs.Prior(self.precision.astype(np.float32), pull, self.bias_precision, self.bias_pull)


def _draw_hyper(rows: _Rows, biases: bool, rng: np.random.Generator, device: Device) -> _Hyper:
    """Draw what a side's rows are drawn around."""
    n, k, departed = int(np.count_nonzero(rows.warm)), rows.side.factors.shape[1], rows.departed()
    total = launch(kernels.links.TOTAL, device, rows.rows, np.ones(len(rows.warm), np.float32), departed)
    squares = launch(kernels.gram.GRAM, device, rows.rows, kernels.vectors.filled_up(departed), k)
    mean, precision = draw_normal_wishart(n, total, squares, rng)
    if not biases:
        return _Hyper(mean, precision, math.inf, 0.0)
    b = rows.side.bias[rows.warm].astype(np.float64)
    spread = np.sum((b - b.mean()) ** 2) + BETA * n / (BETA + n) * b.mean() ** 2
    p = rng.gamma(SHAPE + n / 2) / (RATE + spread / 2)
    return _Hyper(mean, precision, p, p * (b.sum() / (BETA + n)) + math.sqrt(p / (BETA + n)) * rng.standard_normal())


def draw_normal_wishart(
    n: int, total: np.ndarray, squares: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the mean (k,) and precision (k, k) of n normal rows x, given sum x and sum x x'.

    The prior is that of the module; the Wishart is drawn by Bartlett's decomposition (Bartlett 1933).
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
