"""ALS for implicit feedback: observed pairs count as 1, all other pairs as 0 with less weight.

The objective is that of Hu, Koren and Volinsky (2008), with the notation and penalties of Rendle, Krichene, Zhang
and Koren (2022, "Revisiting the performance of iALS on item recommendation benchmarks"):

    sum over observed (u, i) of g_ui (p_ui - x_u . y_i)^2 + alpha0 sum over all (u, i) of (x_u . y_i)^2
      + reg (sum_u n_u^(1/2) |x_u|^2 + sum_i n_i^(1/2) |y_i|^2)

p_ui is 1 for a sign of interest, a rating of at least ``positive_from``. It is 0 for a dislike, a rating of at most
``negative_to``: like an unobserved pair, but with full weight. Ratings in between are not observed. The weights g_ui of
observed pairs are 1, or come with the ratings (``weight`` and ``half_life`` of :func:`fastmf.fit`); those of a column
are scaled first (:mod:`fastmf.data.weights`). n_u and n_i are the sums of g over a user's and an item's observed pairs,
dislikes included; U and I count the users and items that have such pairs. Users and items without a sign of interest
would be zero: they are cold, and their dislikes are left out. The sum over all pairs costs little: with B = alpha0
sum_i y_i y_i', computed once, a user's equations are those of its observed pairs plus B. A row costs as much as in
:mod:`fastmf.solvers.als`.

alpha0 is ``zeros`` times the density of the observed pairs, at most 1. All pairs together then weigh ``zeros`` times as
much as observed pairs of weight 1, in a large catalogue and in a small one. With ``penalty="frequency"``, that of
Rendle et al., the penalties are reg (n_u + alpha0 I) and reg (n_i + alpha0 U). They grow with the catalogue: on sparse
data, no constant leaves more than a few factors alive. The square root does well with one constant on films, plays and
purchases of densities from .001 to .05 (benchmarks/README.md, "ranking.py").

With side features (:mod:`fastmf.solvers.features`), the penalties are those of |x_u - z_u|^2 and |y_i - z_i|^2. Rows
without pairs take z, and are not among all pairs: they are hidden while the other side is solved.

Each epoch solves the items, then the users. The users' factors are therefore those that :meth:`fastmf.Model.fold_in`
finds, up to the error of conjugate gradients; that error grows the more the weights differ.
"""

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fastmf import kernels
from fastmf.errors import ParameterError
from fastmf.kernels.tasks import sections
from fastmf.model.fold_in_rule import FoldInRule
from fastmf.model.history import NDCG, Measure
from fastmf.runtime.device import Device
from fastmf.solvers import features
from fastmf.solvers.base import ExactOrCG, FollowsFeatures, draw, zeros
from fastmf.solvers.declare import setting, with_settings
from fastmf.solvers.factors import Factors
from fastmf.solvers.settings import MAX_WEIGHT

if TYPE_CHECKING:
    from fastmf.data.ratings import Ratings

REG = {"root": 1.0, "frequency": 0.01}  # the default by penalty
LEAST = 1e-6  # of reg, added for each row: where weights have faded to nothing, their root is no penalty any more


@with_settings
class ImplicitALS(FollowsFeatures, ExactOrCG):
    """Alternating least squares for implicit feedback; the objective is in :mod:`fastmf.solvers.implicit`.

    Whatever a user has rated, bought or seen is a sign of interest, as strong as the pair's weight. A score ranks items
    by likely interest; it is not a rating. The same data, settings and seed give the same bits for any number of
    threads. Use method="exact" if weights differ by orders of magnitude.

    Examples
    --------
    >>> ImplicitALS(k=8).epochs
    12
    """

    name: ClassVar[str] = "implicit"
    remedy: ClassVar[str] = "raise reg (it is {reg:g})"
    implicit: ClassVar[bool] = True
    spills: ClassVar[bool] = True
    tuned: ClassVar[tuple[str, ...]] = ("reg", "zeros")
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"implicit": {}}
    length: ClassVar[float] = 0.1  # that is expected of a user's starting factors, as in the paper

    k: int = 128
    epochs: int = setting("Passes over all pairs.", default=12, low=1)
    zeros: float | None = setting(
        "Weight of all pairs together, as zeros, relative to the number of observed pairs.", default=30.0, low=0,
        high=MAX_WEIGHT,
    )  # fmt: skip
    alpha0: float | None = setting(
        "Weight of each pair as a zero, instead of zeros; observed ones have 1 or their own.", default=None, low=0,
        high=MAX_WEIGHT,
    )  # fmt: skip
    penalty: str = setting(
        "Weigh squared factors by the root of a row's number of observed pairs, or by the number (frequency; reg is"
        " then .01 if left out).",
        default="root", choices=("root", "frequency"),
    )  # fmt: skip
    reg: float | None = setting("Weight of squared factors.", default=None, usual="1", low=0, high=MAX_WEIGHT)
    weight_scale: str = setting(
        "How a column of weights is scaled: log is log(1 + weight), sqrt its root, both then to a mean of 1.",
        default="log", choices=("log", "sqrt", "none"),
    )  # fmt: skip
    method: str = "cg"
    steps: int = 3
    positive_from: float | None = setting(
        "Lowest rating that counts as a sign of interest; if left out, all rows count.", default=None, low=-MAX_WEIGHT
    )
    negative_to: float | None = setting(
        "Highest rating that counts as a dislike, a 0 of full weight; needs positive_from.", default=None,
        low=-MAX_WEIGHT,
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reg is None:
            object.__setattr__(self, "reg", REG[self.penalty])
        if self.alpha0 is None and self.zeros is None:
            raise ParameterError("neither zeros nor alpha0 is given: give one of them")
        if self.alpha0 is not None:
            if self.zeros not in (None, type(self).zeros):
                raise ParameterError(f"zeros is {self.zeros:g} and alpha0 {self.alpha0:g}: give one of them")
            object.__setattr__(self, "zeros", None)
        if self.negative_to is not None and (self.positive_from is None or self.negative_to >= self.positive_from):
            than = "positive_from is left out"
            if self.positive_from is not None:
                than = f"not below positive_from ({self.positive_from:g})"
            raise ParameterError(f"negative_to is {self.negative_to:g}, but {than}: give a higher positive_from")

    def weight_of_zeros(self, ratings: "Ratings") -> float:
        """Return alpha0 for these observed pairs."""
        if self.zeros is None:
            return float(self.alpha0 or 0)
        sizes = (int(np.count_nonzero(counts)) for counts in (ratings.user_counts, ratings.item_counts))
        return min(self.zeros * len(ratings) / max(math.prod(sizes), 1), 1.0)

    @property
    def measure(self) -> Measure:
        """nDCG, the quality of lists."""
        return NDCG

    def start(self, ratings: "Ratings") -> Factors:
        """Draw the users' factors; the items' start at zero and are solved first."""
        sigma = self.length / np.sqrt(self.k)
        users = draw(ratings.user_counts, self.k, sigma, np.random.default_rng(self.seed))
        memory, kept = features.start(ratings, self.k)
        return Factors(users, zeros(ratings.n_items, self.k), memory, kept)

    def run(self, ratings: "Ratings", factors: Factors, device: Device, done: int = 0) -> Iterator[int]:
        """Solve items, then users."""
        users, items = factors.users, factors.items
        rules = self.user_rule(ratings), self.item_rule(ratings)
        penalties = rules[0].penalty, rules[1].penalty
        pulls = features.Pulls(self.k, features.Shrinkage(self.feature_reg), penalties, ratings, factors, device)
        halves = [
            (self.tasks(entries.indptr), sections(others), device.put(entries), own, other, rule, pulled)
            for entries, others, own, other, rule, pulled in (
                (ratings.by_item, ratings.by_user.indptr, items, users, rules[1], pulls.items),
                (ratings.by_user, ratings.by_item.indptr, users, items, rules[0], pulls.users),
            )
        ]
        for _ in range(done, self.epochs):
            pulls.users.hide_cold(users)
            pulls.items.hide_cold(items)
            singular = 0
            for tasks, summed, entries, own, other, rule, pulled in halves:
                others = kernels.vectors.padded(other)
                known = pulled.known._replace(base=rule.known(others.factors, self.k, device, summed).base)
                singular += self.solve(device, tasks, entries, own, others, rule.penalty, known)
            pulls.items.follow(items, users)
            pulls.users.follow(users, items)
            yield singular

    def user_rule(self, ratings: "Ratings") -> FoldInRule:
        """Return how users are solved for."""
        return self._rule(ratings, ratings.item_counts)

    def item_rule(self, ratings: "Ratings") -> FoldInRule:
        """Return how items are solved for."""
        return self._rule(ratings, ratings.user_counts)

    def _rule(self, ratings: "Ratings", counts: np.ndarray) -> FoldInRule:
        """Return how one side is solved for, given the number of observed pairs of each row of the other side."""
        reg, alpha0 = float(self.reg or 0), self.weight_of_zeros(ratings)
        if self.penalty == "root":
            return FoldInRule(root_reg=reg, reg0=LEAST * reg, all_pairs=alpha0)
        return FoldInRule(reg=reg, reg0=reg * alpha0 * int(np.count_nonzero(counts)), all_pairs=alpha0)
