"""ALS for implicit feedback: every pair counts, those observed as 1 and all others as 0, with less weight.

Minimised over all users u and items i (Hu, Koren and Volinsky 2008; written, and with the penalties, as Rendle,
Krichene, Zhang and Koren 2022, "Revisiting the performance of iALS on item recommendation benchmarks"):

    sum over observed (u, i) of g_ui (1 - x_u . y_i)^2 + alpha0 sum over all (u, i) of (x_u . y_i)^2
      + reg (sum_u (n_u + alpha0 I) |x_u|^2 + sum_i (n_i + alpha0 U) |y_i|^2)

The weights g_ui of the observed pairs are 1, or what the ratings bring with them (``weight`` of :func:`fastmf.fit`);
n_u and n_i are their sums over a user's and an item's pairs, U and I how many users and items have any. The sum over
all pairs needs none of them: with B = alpha0 sum_i y_i y_i', made once, a user's equations are those of the pairs
observed plus B. A row costs what it costs in :mod:`fastmf.solvers.als`.

Each epoch solves the items, then the users, whose factors therefore are what :meth:`fastmf.Model.fold_in` finds, but
for what steps of conjugate gradients have left; these leave the more, the more the weights differ.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fastmf.data.ratings import Ratings
from fastmf.kernels.types import Side
from fastmf.kernels.vectors import aligned, padded
from fastmf.model.fold_in import equations
from fastmf.runtime.device import Device
from fastmf.solvers.als import BySolving
from fastmf.solvers.base import MAX_WEIGHT, Factors, draw, require_integer, require_number

INIT_SIGMA = 0.1  # of the length of a user's starting factors, as in the paper


@dataclass(frozen=True, kw_only=True)
class ImplicitALS(BySolving):
    """Alternating least squares for implicit feedback; the objective is in :mod:`fastmf.solvers.implicit`.

    What a user has rated, bought or seen is taken for a sign of interest, as strong as the pair's weight; a score says
    how much more there may be, and is no rating. The same data, settings and seed give the same bits for any number of
    threads.

    Parameters
    ----------
    k : number of factors.
    epochs : passes over all pairs, each solving both sides once.
    alpha0 : weight of a pair that was not observed, of which there are many more.
    reg : weight of a row's squared factors, per observed pair, and per pair that was not, times alpha0.
    method : "exact" or "cg", as for :class:`ALS`; "exact" where weights differ by orders of magnitude.
    steps : of conjugate gradients in each half-sweep.
    positive_from : ratings from here on are observed, all others are not; without it, all rows are. What users have
        rated less is still not recommended to them.
    seed : of the users' starting factors.

    Raises
    ------
    ParameterError
        If a setting is out of range.

    Examples
    --------
    >>> ImplicitALS(k=8).epochs
    12
    """

    name: ClassVar[str] = "implicit"
    implicit: ClassVar[bool] = True
    burn: ClassVar[int] = 0
    tuned: ClassVar[tuple[str, ...]] = ("reg", "alpha0")

    k: int = 64
    epochs: int = 12
    alpha0: float = 0.3
    reg: float = 0.01
    method: str = "exact"
    steps: int = 3
    positive_from: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_integer("epochs", self.epochs, 1)
        for name in ("alpha0", "reg"):
            require_number(name, getattr(self, name), low=0, high=MAX_WEIGHT)
        if self.positive_from is not None:
            require_number("positive_from", self.positive_from, low=-MAX_WEIGHT)

    @property
    def remedy(self) -> str:
        """What to change when training diverges."""
        return f"raise reg (it is {self.reg:g})"

    def start(self, ratings: Ratings) -> Factors:
        """Draw the users' factors; the items' start at zero, and are the first to be solved."""
        rng = np.random.default_rng(self.seed)
        users = draw(ratings.user_counts, self.k, INIT_SIGMA / np.sqrt(self.k), rng)
        return Factors(users, Side(aligned(ratings.n_items, self.k), np.zeros(ratings.n_items, np.float32)))

    def run(self, ratings: Ratings, factors: Factors, device: Device, done: int = 0) -> Iterator[int]:
        """Solve items, then users, once an epoch; yield how many rows' equations were singular."""
        users, items = factors.users, factors.items
        halves = [
            (self.tasks(entries.indptr), device.put(entries), own, other, int(np.count_nonzero(counts)))
            for entries, own, other, counts in (
                (ratings.by_item, items, users, ratings.user_counts),
                (ratings.by_user, users, items, ratings.item_counts),
            )
        ]
        for _ in range(done, self.epochs):
            singular = 0
            for tasks, entries, own, other, n_others in halves:
                wide = padded(other)
                rules = equations(wide.factors, self.k, n_others, self.settings, device)
                singular += self.solve(device, tasks, entries, own, wide, *rules)
            yield singular
