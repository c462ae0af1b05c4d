"""Bayesian matrix factorization by Gibbs sampling (Salakhutdinov and Mnih 2008), with biases and row precisions.

Ratings are normal around b_u + c_i + x_u . y_i with precision alpha tau_u g_i, because some users and items are less
predictable than others. Factors are normal, and their hyper-parameters are drawn, too:

    x_u ~ N(m, L^-1),  (m, L) ~ Normal-Wishart(0, 2, I, k)     b_u ~ N(m_b, 1/p),  (m_b, p) ~ Normal-Gamma(0, 2, 1, .1)
    tau_u ~ Gamma(5, 5)       alpha ~ Gamma(1, 1)              (shape, rate), and the same for the items

A rating of weight w counts as w equal ratings: its density is taken to the power w.

With links, x_u ~ N(m + z_u, L^-1), z_u = f_u n_u^(-1/2) sum over u's items of w_j with f_u as in
:mod:`fastmf.solvers.links`, w_j ~ N(0, I / kappa) and kappa ~ Gamma(1, 1). A draw of W solves a ridge regression with
noise on both sides (as in Macau, Simm et al. 2017). In the basis of L's eigenvectors, with eigenvalues l, it splits
into one regression per column,

    (D'D + kappa/l I) W = D'(X - m + E1) + kappa^(1/2)/l E2,    E1 ~ N(0, 1/l), E2 ~ N(0, 1)

solved by a few steps of conjugate gradients from the last draw of W. Macau's own prior of the links, (kappa L)^-1, puts
the links into the draw of L, where the many links of rare items outweigh the rows (RMSE .840 instead of .812 on a fold
of ml-latest-small). With that prior, but without links in the draw of L, L and kappa diverge.

Side features add to the mean, as in Macau, and to that of biases: m + z_u + (F_u - f) B and m_b + (F_u - f) b, with f
the mean features of the rows with ratings. Rows that have no features stay at m and m_b. Each feature g has its own
precisions, B_g ~ N(0, I / kappa_g), b_g ~ N(0, 1 / kappa'_g), both Gamma(1, 1e-4), so that useless features are shrunk
(automatic relevance determination, MacKay 1994). B and b are drawn together like W, from rows with ratings alone. Rows
that have features but no ratings are no part of a sweep: the model predicts them by the means over sweeps of B and b.

A sweep draws users and their precisions, items and theirs, then alpha, each given everything else. The model's factors
are means over the sweeps after the first ``burn``. Random numbers depend only on (seed, sweep, row).

The chain starts at a few epochs of ALS. Biases of ALS are shrunk and have no noise. Where most rows have few ratings,
they vary so little that the p drawn from them is two to three times too high. Each p keeps the next biases small, so p
needs 60 sweeps to fall. Until then a row far from the others is pulled to the mean, and tau takes its ratings for
noise. So the first sweep draws biases with the prior that the penalty of ALS stands for: m_b = 0, p = bias_reg. This
prior is weak, so the ratings soon correct p: it needs 16 sweeps.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np

from fastmf import kernels
from fastmf.errors import DivergenceError, ParameterError
from fastmf.kernels.types import Side
from fastmf.model.fold_in_rule import FoldInRule
from fastmf.model.learned import Links, Prior, Samples, predict_by_links
from fastmf.runtime.device import Device
from fastmf.runtime.launch import launch
from fastmf.solvers import features
from fastmf.solvers.als import ALS
from fastmf.solvers.base import SolvesRows, zeros
from fastmf.solvers.declare import setting, with_settings
from fastmf.solvers.draws import Drawn, Hyper, Rows
from fastmf.solvers.factors import Factors, Start
from fastmf.solvers.links import N_MEMORY, Linked, LinkedALS, Memory
from fastmf.solvers.settings import Biases, Fading

if TYPE_CHECKING:
    from fastmf.data.ratings import Ratings

WARM_UP = 6  # epochs of ALS before the first sweep
STEADY = 3  # sweeps before precisions are drawn


@with_settings
class Gibbs(Fading, Biases, SolvesRows):
    """Bayesian matrix factorization by Gibbs sampling; the model is in :mod:`fastmf.solvers.gibbs`.

    It has no penalty weights to tune: it learns them, and how uncertain it is. An epoch is a sweep. Kept samples are
    used by ``predict(..., std=True)`` and by the intervals of ``evaluate``. Each sample takes as much space, in memory,
    model files and checkpoints, as a model without samples; fewer than four make the intervals too narrow. The same
    data, settings and seed give the same bits for any number of threads. It does not run on a GPU.

    Examples
    --------
    >>> Gibbs(k=8).epochs
    100
    """

    name: ClassVar[str] = "gibbs"
    remedy: ClassVar[str] = "use fewer factors (k is {k})"
    on_gpu: ClassVar[bool] = False
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"gibbs": {"kept": 0}}

    burn: int = setting("Number of initial sweeps to discard.", default=16, low=0)
    samples: int = setting("Number of sweeps after burn-in; the factors are means over them.", default=84, low=1)
    kept: int = setting("Number of samples to keep in the model, to estimate its uncertainty.", default=16, low=0)
    links: bool = setting("Also pull factors to what links (who rated which items) predict.", default=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.links and self.fade != Gibbs.fade:
            raise ParameterError(f"fade is {self.fade:g}, but there are no links to fade: leave it out, or give links")

    @property
    def epochs(self) -> int:
        """The number of sweeps."""
        return self.burn + self.samples

    @property
    def bytes_per_row(self) -> int:
        """Bytes per row of the factors' draws, weighted draws and means, of the samples, and of the arrays of links."""
        return (5 + min(self.kept, self.samples) + (8 if self.links else 0)) * 4 * self.k

    def with_epochs(self, epochs: int) -> Self:
        """Return the same solver with this number of sweeps, none of them discarded."""
        return replace(self, burn=0, samples=epochs)

    def start(self, ratings: "Ratings") -> Factors:
        """Allocate all arrays; a few epochs of ALS fill them before the first sweep."""
        n_users, n_items, k, width = ratings.n_users, ratings.n_items, self.k, kernels.vectors.whole(self.k)
        users, items, n_samples = zeros(n_users, k), zeros(n_items, k), min(self.kept, self.samples)

        def table(n_rows: int) -> np.ndarray:
            return kernels.vectors.aligned(n_rows if self.links else 0, width)

        state = State(
            users=users.factors.copy(),
            user_bias=users.bias.copy(),
            items=items.factors.copy(),
            item_bias=items.bias.copy(),
            user_precisions=np.ones(n_users, np.float32),
            item_precisions=np.ones(n_items, np.float32),
            numbers=np.ones(3),
            item_links=table(n_items),
            expected_users=table(n_users),
            user_links=table(n_users),
            expected_items=table(n_items),
            mean_users=users.factors.copy(),
            mean_item_bias=items.bias.copy(),
            user_factor_samples=np.zeros((n_samples, n_users, k), np.float32),
            user_bias_samples=np.zeros((n_samples, n_users), np.float32),
            user_precision_samples=np.zeros((n_samples, n_users), np.float32),
            item_factor_samples=np.zeros((n_samples, n_items, k), np.float32),
            item_bias_samples=np.zeros((n_samples, n_items), np.float32),
            item_precision_samples=np.zeros((n_samples, n_items), np.float32),
        )
        of_features, kept = FeatureState.zeros(ratings, k)
        return Factors(users, items, (*state, *of_features), (*Kept.zeros(n_users, n_items, k, self.links).flat, *kept))

    def start_from(self, ratings: "Ratings", start: Start) -> Factors:
        """Start the chain at an earlier model."""
        factors, trained = super().start_from(ratings, start), super().start_from(ratings, start.trained)
        state = State(*factors.memory[:N_STATE])
        (users, user_bias), (items, item_bias) = trained.users, trained.items
        starts = {"users": users, "user_bias": user_bias, "items": items, "item_bias": item_bias}
        starts |= {"mean_users": users, "mean_item_bias": item_bias}
        for name, given in starts.items():
            getattr(state, name)[:] = given
        if self.links and start.links is not None:
            state.item_links[:, : self.k], state.user_links[:, : self.k] = start.links.items, start.links.users
            predict_by_links(ratings.by_user, state.item_links, state.expected_users, self.k, self.fade)
            predict_by_links(ratings.by_item, state.user_links, state.expected_items, self.k)
        return factors

    def run(self, ratings: "Ratings", factors: Factors, device: Device, done: int = 0) -> Iterator[int]:
        """Draw everything once per sweep; no row is singular, because its prior is proper."""
        sampler = Sampler(self, ratings, factors.memory, device)
        if not done and not sampler.started:
            sampler.warm_up(ratings)
        elif not done:
            sampler.warm_up_links()
        if not done:
            sampler.clear_cold()
        for sweep in range(done, self.epochs):
            try:
                hypers = sampler.sweep(sweep)
            except np.linalg.LinAlgError:
                raise DivergenceError(f"sweep {sweep + 1}: the factors diverged; {self.advise()}") from None
            sampler.average(sweep, factors, hypers)
            yield 0

    def user_rule(self, ratings: "Ratings") -> FoldInRule:
        """Return how links fade, and the seed with which new users are drawn."""
        return FoldInRule(fade=self.fade, seed=self.seed)

    def item_rule(self, ratings: "Ratings") -> FoldInRule:
        """Return the seed with which new items are drawn."""
        return FoldInRule(seed=self.seed)

    def learned(self, factors: Factors) -> dict[str, Any]:
        """Keep both sides' priors, for fold-in, and the samples drawn."""
        kept = Kept.of(tuple(array.copy() for array in factors.kept))
        learned: dict[str, Any] = {"user_prior": kept.user_prior, "item_prior": kept.item_prior}
        if self.links:
            items, users = (np.ascontiguousarray(table[:, : self.k]) for table in (kept.item_links, kept.user_links))
            learned["links"] = Links(items, users, origin=np.zeros(self.k, np.float32))
        samples = Samples(*factors.memory[FIRST_SAMPLE:N_STATE])
        drawn = int(np.count_nonzero(samples.user_precisions.any(axis=1)))  # fewer than kept if patience ended it early
        if drawn:
            learned["samples"] = Samples(*(array[:drawn] for array in samples))
        return learned


class State(NamedTuple):
    """The memory of a sweep: the last draw, means over draws, and the samples kept so far."""

    users: np.ndarray
    user_bias: np.ndarray
    items: np.ndarray
    item_bias: np.ndarray
    user_precisions: np.ndarray
    item_precisions: np.ndarray
    numbers: np.ndarray  # alpha, and kappa of the users and of the items
    item_links: np.ndarray  # these tables are as in links.Memory
    expected_users: np.ndarray
    user_links: np.ndarray
    expected_items: np.ndarray
    mean_users: np.ndarray
    mean_item_bias: np.ndarray
    user_factor_samples: np.ndarray  # the samples are those of learned.Samples
    user_bias_samples: np.ndarray
    user_precision_samples: np.ndarray
    item_factor_samples: np.ndarray
    item_bias_samples: np.ndarray
    item_precision_samples: np.ndarray


class Kept(NamedTuple):
    """What the model keeps: means over sweeps of both priors (:class:`fastmf.model.learned.Prior`) and of the links."""

    user_prior: Prior
    item_prior: Prior
    item_links: np.ndarray
    user_links: np.ndarray

    @classmethod
    def zeros(cls, n_users: int, n_items: int, k: int, links: bool) -> "Kept":
        """Allocate the arrays; the precisions of rows are one."""

        def prior(n_others: int) -> Prior:
            precision, mean, numbers, origin = (np.zeros(shape, np.float32) for shape in ((k, k), k, 3, k))
            return Prior(precision, mean, np.ones(n_others, np.float32), numbers, origin)

        tables = (np.zeros((n if links else 0, kernels.vectors.whole(k)), np.float32) for n in (n_items, n_users))
        return cls(prior(n_items), prior(n_users), *tables)

    @classmethod
    def of(cls, arrays: tuple[np.ndarray, ...]) -> "Kept":
        """Name the arrays of :attr:`flat`."""
        return cls(Prior(*arrays[:5]), Prior(*arrays[5:10]), *arrays[10:N_KEPT])

    @property
    def flat(self) -> tuple[np.ndarray, ...]:
        """The arrays, one after another, as Factors hold them."""
        return *self.user_prior, *self.item_prior, self.item_links, self.user_links


FIRST_SAMPLE, N_STATE, N_KEPT = State._fields.index("user_factor_samples"), len(State._fields), 12


class FeatureState(NamedTuple):
    """The memory of the weights of features: their last draw (n_features, kp), and their means over draws.

    The means (n_features + 1, kp) end with the intercept's. Columns are those of :class:`features.Kept`.
    """

    users: np.ndarray
    mean_users: np.ndarray
    items: np.ndarray
    mean_items: np.ndarray

    @classmethod
    def zeros(cls, ratings: "Ratings", k: int) -> "tuple[FeatureState | tuple[()], features.Kept | tuple[()]]":
        """Allocate the memory, and what the model keeps; both are empty if the ratings have no features."""
        _, kept = features.start(ratings, k)
        if not kept:
            return (), ()
        tables = ((len(table), table.shape[1]) for table in (kept.users, kept.items))
        shapes = [shape for n, width in tables for shape in ((n, width), (n + 1, width))]
        return cls(*(kernels.vectors.aligned(*shape) for shape in shapes)), kept


class Sampler:
    """The draws of a sweep, in place in the arrays of ``memory``: a State and, with features, a FeatureState."""

    def __init__(self, solver: Gibbs, ratings: "Ratings", memory: tuple[np.ndarray, ...], device: Device) -> None:
        self.solver, self.device, self.n_ratings = solver, device, len(ratings)
        self.state = state = State(*memory[:N_STATE])
        self.of_features = FeatureState(*memory[N_STATE:]) if memory[N_STATE:] else None
        masses = ratings.user_masses
        self.mass = float(masses.sum())
        by_user, by_item, of_users, of_items = ratings.by_user, ratings.by_item, None, None
        if solver.links:
            kappas, tables = map(float, state.numbers[1:]), (state.item_links, state.expected_users)
            of_users = Linked(solver.k, next(kappas), by_user, by_item, *tables, device, solver.fade, masses)
            tables = state.user_links, state.expected_items
            of_items = Linked(solver.k, next(kappas), by_item, by_user, *tables, device)
        users, items = self._features(ratings)
        side = Side(state.users, state.user_bias)
        self.users = Rows(side, by_user, state.user_precisions, of_users, users, device)
        side = Side(state.items, state.item_bias)
        self.items = Rows(side, by_item, state.item_precisions, of_items, items, device)

    def _features(self, ratings: "Ratings") -> "tuple[Drawn | None, Drawn | None]":
        """Return the features of users and of items, None for a side without."""
        k, tables, found = self.solver.k, self.of_features, []
        if tables is None:
            return None, None
        users = ratings.user_features, ratings.user_counts, tables.users
        for own, counts, table in (users, (ratings.item_features, ratings.item_counts, tables.items)):
            found.append(None if own is None else Drawn(k, own.rows, counts > 0, table, self.device))
        return found[0], found[1]

    @property
    def started(self) -> bool:
        """Whether the chain starts at an earlier model."""
        return bool(self.state.users.any())

    def warm_up_links(self) -> None:
        """Fit links that are zero to the factors: the first draw of their precision would keep them near zero."""
        for rows in (self.users, self.items):
            if rows.links is not None and not rows.links.table.any():
                rows.links.set_ridge(np.full(self.solver.k, LinkedALS.link_reg))
                rows.links.follow(rows.side, WARM_UP)

    def warm_up(self, ratings: "Ratings") -> None:
        """Start from a few epochs of ALS, with links if the solver has them."""
        given = self.solver
        same: dict[str, Any] = {"k": given.k, "epochs": WARM_UP, "biases": given.biases, "seed": given.seed}
        solver = LinkedALS(**same, fade=given.fade) if given.links else ALS(**same)
        found = solver.start(ratings)
        for _ in solver.run(ratings, found, self.device):
            pass
        starts = {"users": found.users.factors, "items": found.items.factors}
        starts |= {"user_bias": found.users.bias, "item_bias": found.items.bias}
        if given.links:
            memory = Memory(*found.memory[:N_MEMORY])
            starts |= {"users": memory.users, "item_bias": memory.item_bias, "item_links": found.kept[0]}
            starts |= {"user_links": found.kept[1], "expected_users": memory.expected_users}
            starts["expected_items"] = memory.expected_items
        for name, start in starts.items():
            getattr(self.state, name)[:] = start
        if self.of_features is not None:
            fitted = features.Kept(*found.kept[-4:])
            self.of_features.users[:], self.of_features.items[:] = fitted.users, fitted.items

    def clear_cold(self) -> None:
        """Start the rows that have features but no ratings at zero: they are not part of a sweep."""
        for rows in (self.users, self.items):
            if rows.features is not None:
                rows.side.factors[~rows.warm], rows.side.bias[~rows.warm] = 0, 0
                rows.features.expect()

    def sweep(self, sweep: int) -> tuple[Hyper, Hyper]:
        """Draw everything once; return the users' and the items' hyper-parameters."""
        of_users, _ = self._draw_rows(self.users, self.items, sweep, 0)
        of_items, errors = self._draw_rows(self.items, self.users, sweep, 1)
        rng = np.random.default_rng([self.solver.seed, sweep, 2])
        self.state.numbers[0] = rng.gamma(1 + self.mass / 2) / (1 + errors / 2)
        return of_users, of_items

    def _draw_rows(self, own: Rows, other: Rows, sweep: int, side: int) -> tuple[Hyper, float]:
        """Draw the users (side 0) or items (side 1); return their hyper-parameters and the weighted sum of e^2."""
        rng = np.random.default_rng([self.solver.seed, sweep, side])
        hyper = own.draw_hyper(self.solver.biases, rng)
        if not sweep and self.solver.biases:
            hyper = hyper._replace(bias_precision=ALS.bias_reg, bias_pull=0.0)
        expected = bias_expected = None
        if own.links is not None:
            kappa, expected = own.draw_links(own.links, hyper, rng)
            self.state.numbers[1 + side] = kappa
        if own.features is not None:
            own.features.draw(own.side, hyper, expected, rng)
            found, k = own.features.expected, self.solver.k
            expected, bias_expected = found[:, :k] if expected is None else expected + found[:, :k], found[:, k]
        stream, alpha = np.uint64(2 * sweep + side), float(self.state.numbers[0])
        chance = kernels.gibbs.Chance(np.uint64(self.solver.seed), stream, alpha, sweep >= STEADY, True)
        prior = hyper.prior(expected, self.device, bias_expected)
        given = own.entries, own.side, own.precisions, other.weighted(), prior
        return hyper, float(launch(kernels.gibbs.DRAW, self.device, own.tasks, *given, chance))

    def average(self, sweep: int, factors: Factors, hypers: tuple[Hyper, Hyper]) -> None:
        """Move the means (the model's factors) towards the draw; until burn-in is over, they equal the draw."""
        state, users, items = self.state, self.users, self.items
        share = 1 / max(sweep - self.solver.burn + 1, 1)
        kept = Kept.of(factors.kept)
        averaged = [
            (users.rows, state.users, state.mean_users),
            (users.rows, state.user_bias, factors.users.bias),
            (items.rows, state.items, factors.items.factors),
            (items.rows, state.item_bias, state.mean_item_bias),
            (items.rows, state.item_precisions, kept.user_prior.others),
            (users.rows, state.user_precisions, kept.item_prior.others),
        ]
        if self.solver.links:
            averaged += (items.rows, state.item_links, kept.item_links), (users.rows, state.user_links, kept.user_links)
        for rows, drawn, mean in averaged:
            launch(kernels.gibbs.AVERAGE, self.device, rows, share, drawn, mean)
        for prior, hyper in zip((kept.user_prior, kept.item_prior), hypers, strict=True):
            bias_precision = hyper.bias_precision if self.solver.biases else 0.0
            numbers = np.array([state.numbers[0], bias_precision, hyper.bias_pull])
            for mean, drawn in ((prior.precision, hyper.precision), (prior.mean, hyper.mean), (prior.numbers, numbers)):
                mean += np.float32(share) * (drawn - mean).astype(np.float32)
        if self.of_features is not None:
            self._average_features(self.of_features, share, factors)
        self._centre(factors, kept.user_prior.origin)
        if self.of_features is not None:
            self._keep_features(self.of_features, features.Kept(*factors.kept[N_KEPT:]), kept.user_prior.origin)
        self._keep(sweep, hypers)

    def _average_features(self, tables: FeatureState, share: float, factors: Factors) -> None:
        """Move the weights' means towards the draw, and rows without ratings to what features add up to."""
        state, means = self.state, (tables.mean_users, tables.mean_items)
        users = Side(state.mean_users, factors.users.bias)
        items = Side(factors.items.factors, state.mean_item_bias)
        for rows, mean, side in zip((self.users, self.items), means, (users, items), strict=True):
            if rows.features is not None:
                drawn = np.vstack((rows.features.table, rows.features.intercept))
                mean += np.float32(share) * (drawn - mean)
                rows.features.fill(mean[:-1], mean[-1], side)

    def _keep_features(self, tables: FeatureState, kept: features.Kept, origin: np.ndarray) -> None:
        """Keep the means of the weights and of the intercepts; users are measured from their origin."""
        for mean, table, intercept in zip((tables.mean_users, tables.mean_items), kept[::2], kept[1::2], strict=True):
            table[:], intercept[:] = mean[:-1], mean[-1:]
        if self.users.features is not None:
            kept.user_intercept[0, : len(origin)] -= origin

    def _centre(self, factors: Factors, origin: np.ndarray) -> None:
        """If there are biases, move the mean user from the users' factors into the items' biases and ``origin``."""
        state, users, items, links = self.state, self.users, self.items, kernels.links
        mean = launch(links.TOTAL, self.device, users.rows, users.counts, state.mean_users) / self.n_ratings
        origin[:] = mean.astype(np.float32) * self.solver.biases
        centred, absorbed = factors.users.factors, factors.items.bias
        launch(links.CENTRE, self.device, users.rows, users.present, state.mean_users, origin, centred)
        solved = Side(factors.items.factors, state.mean_item_bias)
        launch(links.ABSORB, self.device, items.rows, solved, origin, absorbed)

    def _keep(self, sweep: int, hypers: tuple[Hyper, Hyper]) -> None:
        """Keep the draw of this sweep if it is one of the evenly spaced sweeps to keep after burn-in."""
        state, samples = self.state, Samples(*self.state[FIRST_SAMPLE:])
        kept, n, place = len(samples.user_bias), self.solver.samples, sweep - self.solver.burn
        slot = place * kept // n
        if place < 0 or (place + 1) * kept // n == slot:
            return
        user_precisions = state.user_precisions * np.float32(state.numbers[0])
        drawn = state.users, state.user_bias, user_precisions, state.items, state.item_bias, state.item_precisions
        for sample, now in zip(samples, drawn, strict=True):
            sample[slot] = now
        sides = (self.users, hypers[0], float(state.numbers[0])), (self.items, hypers[1], 1.0)
        for side, (rows, hyper, alpha) in enumerate(sides):
            if rows.features is not None:
                rng = np.random.default_rng([self.solver.seed, sweep, 3 + side])
                own = tuple(array[slot] for array in samples[3 * side : 3 * side + 3])
                rows.features.draw_cold(hyper, alpha, own, rng)
