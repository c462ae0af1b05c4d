"""Alternating least squares (Zhou, Wilkinson, Schreiber and Pan 2008), with biases and momentum."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fastmf import kernels
from fastmf.kernels.tasks import even
from fastmf.kernels.types import Side, nothing_known
from fastmf.runtime.device import Device
from fastmf.runtime.launch import launch
from fastmf.solvers.base import ExactOrCG, Factors, Regularised, Start, draw, zeros
from fastmf.solvers.declare import with_settings
from fastmf.solvers.settings import Momentum

if TYPE_CHECKING:
    from fastmf.data.ratings import Ratings

INIT_SIGMA = 0.1
ROWS_PER_TASK = 1 << 13


@with_settings
class ALS(Momentum, ExactOrCG, Regularised):
    """Alternating least squares: users are solved with the items fixed, then items with the users fixed.

    The objective is in :mod:`fastmf.solvers`. The same data, settings and seed give the same bits for any number of
    threads. Two steps of conjugate gradients cost half as much as an exact solve at k = 64 and a third at k = 128, and
    make as much progress per epoch; below k = 64 they are not faster.

    Examples
    --------
    >>> ALS(k=8).epochs
    12
    """

    name: ClassVar[str] = "als"
    remedy: ClassVar[str] = "raise reg0 (it is {reg0:g}), or lower momentum (it is {momentum:g})"
    tuned_by_default: ClassVar[bool] = True
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"als": {}, "als-cg": {"method": "cg"}}

    def start(self, ratings: "Ratings") -> Factors:
        """Draw the items' factors; the users' start at zero and are solved first."""
        items = draw(ratings.item_counts, self.k, INIT_SIGMA, np.random.default_rng(self.seed))
        previous = Side(items.factors.copy(), items.bias.copy())
        return Factors(zeros(ratings.n_users, self.k), items, memory=previous)

    def start_from(self, ratings: "Ratings", start: Start) -> Factors:
        """Start from an earlier model; the items' last change is zero."""
        factors = super().start_from(ratings, start)
        return factors._replace(memory=Side(factors.items.factors.copy(), factors.items.bias.copy()))

    def run(self, ratings: "Ratings", factors: Factors, device: Device, done: int = 0) -> Iterator[int]:
        """Solve users, then items; the memory holds the items before their last change, for momentum."""
        by_user, by_item = device.put((ratings.by_user, ratings.by_item))
        user_tasks, item_tasks = self.tasks(ratings.by_user.indptr), self.tasks(ratings.by_item.indptr)
        item_rows = even(ratings.n_items, ROWS_PER_TASK)
        users, items, previous = factors.users, factors.items, Side(*factors.memory)
        ahead = device.put(zeros(ratings.n_items, kernels.vectors.whole(self.k)))
        nothing = device.put(nothing_known(self.k))
        for _ in range(done, self.epochs):
            launch(kernels.als.EXTRAPOLATE, device, item_rows, items, previous, ahead, self.momentum)
            singular = self.solve(device, user_tasks, by_user, users, ahead, self.penalty, nothing)
            others = kernels.vectors.padded(users)
            yield singular + self.solve(device, item_tasks, by_item, items, others, self.penalty, nothing)
