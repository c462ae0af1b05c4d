"""ALS for implicit feedback: every pair counts, those observed as 1 and all others as 0, with less weight.

Minimised over all users u and items i (Hu, Koren and Volinsky 2008; in the notation, and with the penalties, of Rendle,
Krichene, Zhang and Koren 2022, "Revisiting the performance of iALS on item recommendation benchmarks"):

    sum over observed (u, i) of g_ui (1 - x_u . y_i)^2 + alpha0 sum over all (u, i) of (x_u . y_i)^2
      + reg (sum_u (n_u + alpha0 I) |x_u|^2 + sum_i (n_i + alpha0 U) |y_i|^2)

The weights g_ui of observed pairs are 1, or come with the ratings (``weight`` of :func:`fastmf.fit`). n_u and n_i are
their sums over a user's and an item's pairs; U and I are the users and items that have any. The sum over all pairs
costs little: with B = alpha0 sum_i y_i y_i', computed once, a user's equations are those of its observed pairs plus B.
A row costs what it costs in :mod:`fastmf.solvers.als`.

Each epoch solves the items, then the users. So the users' factors are what :meth:`fastmf.Model.fold_in` finds, except
for what steps of conjugate gradients leave unsolved. These leave more, the more the weights differ.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fastmf import kernels
from fastmf.kernels.types import Side
from fastmf.model.equations import RowEquations
from fastmf.model.history import NDCG, Measure
from fastmf.runtime.device import Device
from fastmf.solvers.base import Factors, SolvesRows, draw
from fastmf.solvers.settings import MAX_WEIGHT, setting, with_settings

if TYPE_CHECKING:
    from fastmf.data.ratings import Ratings

INIT_SIGMA = 0.1  # of the length of a user's starting factors, as in the paper


@with_settings
class ImplicitALS(SolvesRows):
    """Alternating least squares for implicit feedback; the objective is in :mod:`fastmf.solvers.implicit`.

    What a user has rated, bought or seen is a sign of interest, as strong as the pair's weight. A score says how
    likely there is more interest, and is no rating. The same data, settings and seed give the same bits for any number
    of threads. Solve exactly if weights differ by orders of magnitude.

    Examples
    --------
    >>> ImplicitALS(k=8).epochs
    12
    """

    name: ClassVar[str] = "implicit"
    implicit: ClassVar[bool] = True
    tuned: ClassVar[tuple[str, ...]] = ("reg", "alpha0")
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"implicit": {}}

    k: int = 64
    epochs: int = setting(12, "Passes over all pairs.", low=1)
    alpha0: float = setting(
        0.3, "Weight of a pair that was not observed, of which there are many more.", low=0, high=MAX_WEIGHT
    )
    reg: float = setting(
        0.01, "Weight of a row's squared factors, per observed pair, and per other pair times alpha0.", low=0,
        high=MAX_WEIGHT,
    )  # fmt: skip
    steps: int = 3
    positive_from: float | None = setting(
        None, "The lowest rating that is a sign of interest; all rows are, if left out.", low=-MAX_WEIGHT
    )

    @property
    def measure(self) -> Measure:
        """The quality of lists."""
        return NDCG

    @property
    def remedy(self) -> str:
        """What to change if training diverges."""
        return f"raise reg (it is {self.reg:g})"

    def start(self, ratings: "Ratings") -> Factors:
        """Draw the users' factors; the items' start at zero, and are the first to be solved."""
        rng = np.random.default_rng(self.seed)
        users = draw(ratings.user_counts, self.k, INIT_SIGMA / np.sqrt(self.k), rng)
        items = Side(kernels.vectors.aligned(ratings.n_items, self.k), np.zeros(ratings.n_items, np.float32))
        return Factors(users, items)

    def run(self, ratings: "Ratings", factors: Factors, device: Device, done: int = 0) -> Iterator[int]:
        """Solve items, then users, once an epoch; yield how many rows' equations were singular."""
        users, items = factors.users, factors.items
        halves = [
            (self.tasks(entries.indptr), device.put(entries), own, other, self._equations(counts))
            for entries, own, other, counts in (
                (ratings.by_item, items, users, ratings.user_counts),
                (ratings.by_user, users, items, ratings.item_counts),
            )
        ]
        for _ in range(done, self.epochs):
            singular = 0
            for tasks, entries, own, other, equations in halves:
                others = kernels.vectors.padded(other)
                known = equations.known(others.factors, self.k, device)
                singular += self.solve(device, tasks, entries, own, others, equations.penalty, known)
            yield singular

    def row_equations(self, ratings: "Ratings") -> RowEquations:
        """Return a user's equations."""
        return self._equations(ratings.item_counts)

    def _equations(self, counts: np.ndarray) -> RowEquations:
        """Return the equations of the rows of one side; ``counts`` are the observed pairs of the other side's rows."""
        everything = self.reg * self.alpha0 * int(np.count_nonzero(counts))
        return RowEquations(reg=self.reg, reg0=everything, all_pairs=self.alpha0)
