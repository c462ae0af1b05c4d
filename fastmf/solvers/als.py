"""Alternating least squares (Zhou, Wilkinson, Schreiber and Pan 2008), with biases and momentum."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fastmf import kernels
from fastmf.kernels.tasks import even
from fastmf.kernels.types import Side
from fastmf.runtime.device import Device
from fastmf.runtime.launch import launch
from fastmf.solvers import features
from fastmf.solvers.base import ExactOrCG, FollowsFeatures, Regularised, draw, zeros
from fastmf.solvers.declare import with_settings
from fastmf.solvers.factors import Factors, Start
from fastmf.solvers.ridge import ROWS_PER_TASK
from fastmf.solvers.settings import Momentum

if TYPE_CHECKING:
    from fastmf.data.ratings import Ratings

INIT_SIGMA = 0.1


@with_settings
class ALS(Momentum, FollowsFeatures, ExactOrCG, Regularised):
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
    spills: ClassVar[bool] = True
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"als": {}, "als-cg": {"method": "cg"}}

    def start(self, ratings: "Ratings") -> Factors:
        """Draw the items' factors; the users' start at zero and are solved first."""
        items = draw(ratings.item_counts, self.k, INIT_SIGMA, np.random.default_rng(self.seed))
        users, previous = zeros(ratings.n_users, self.k), Side(items.factors.copy(), items.bias.copy())
        memory, kept = features.start(ratings, self.k)
        return Factors(users, items, memory=(*previous, *memory), kept=kept)

    def start_from(self, ratings: "Ratings", start: Start) -> Factors:
        """Start from an earlier model; the items' last change is zero."""
        factors = super().start_from(ratings, start)
        previous = Side(factors.items.factors.copy(), factors.items.bias.copy())
        return factors._replace(memory=(*previous, *factors.memory[2:]))

    def run(self, ratings: "Ratings", factors: Factors, device: Device, done: int = 0) -> Iterator[int]:
        """Solve users, then items; the memory holds the items before their last change, for momentum."""
        by_user, by_item = device.put((ratings.by_user, ratings.by_item))
        user_tasks, item_tasks = self.tasks(ratings.by_user.indptr), self.tasks(ratings.by_item.indptr)
        item_rows = even(ratings.n_items, ROWS_PER_TASK)
        penalties = self.penalty, self.penalty
        pulls = features.Pulls(self.k, features.Shrinkage(self.feature_reg), penalties, ratings, factors, device)
        users, items, previous = factors.users, factors.items, Side(*factors.memory[:2])
        ahead = device.put(zeros(ratings.n_items, kernels.vectors.whole(self.k)))
        for _ in range(done, self.epochs):
            launch(kernels.als.EXTRAPOLATE, device, item_rows, items, previous, ahead, self.momentum)
            singular = self.solve(device, user_tasks, by_user, users, ahead, self.penalty, pulls.users.known)
            pulls.users.follow(users, items)
            others = kernels.vectors.padded(users)
            singular += self.solve(device, item_tasks, by_item, items, others, self.penalty, pulls.items.known)
            pulls.items.follow(items, users)
            yield singular
