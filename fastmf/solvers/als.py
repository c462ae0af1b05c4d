"""Alternating least squares (Zhou, Wilkinson, Schreiber and Pan 2008), with biases and momentum."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fastmf import kernels
from fastmf.kernels.tasks import even
from fastmf.kernels.types import Side, nothing_known
from fastmf.runtime.device import Device
from fastmf.runtime.launch import launch
from fastmf.solvers.base import Factors, Regularised, SolvesRows, draw
from fastmf.solvers.settings import setting, with_settings

if TYPE_CHECKING:
    from fastmf.data.ratings import Ratings

INIT_SIGMA = 0.1
ROWS_PER_TASK = 1 << 13


@with_settings
class Alternating(Regularised):
    """The settings of alternating least squares for ratings."""

    tuned_by_default: ClassVar[bool] = True

    momentum: float = setting(
        0.3, "How far items move on along their last change before users are solved.", low=0, high=1
    )


@with_settings
class ALS(SolvesRows, Alternating):
    """Alternating least squares: users solved with the items fixed, then items with the users fixed.

    The objective is in :mod:`fastmf.solvers`. The same data, settings and seed give the same bits for any number of
    threads. Two steps of conjugate gradients cost half as much as an exact solve at k = 64 and a third at k = 128, and
    an epoch of them gets as far; below k = 64 there is nothing to gain.

    Examples
    --------
    >>> ALS(k=8).epochs
    12
    """

    name: ClassVar[str] = "als"
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"als": {}, "als-cg": {"method": "cg"}}

    @property
    def remedy(self) -> str:
        """What to change if training diverges."""
        return f"raise reg0 (it is {self.reg0:g}), or lower momentum (it is {self.momentum:g})"

    def start(self, ratings: "Ratings") -> Factors:
        """Draw the items' factors; the users' start at zero, and are the first to be solved."""
        rng = np.random.default_rng(self.seed)
        items = draw(ratings.item_counts, self.k, INIT_SIGMA, rng)
        users = Side(kernels.vectors.aligned(ratings.n_users, self.k), np.zeros(ratings.n_users, np.float32))
        return Factors(users, items, memory=(items.factors.copy(), items.bias.copy()))

    def run(self, ratings: "Ratings", factors: Factors, device: Device, done: int = 0) -> Iterator[int]:
        """Solve users, then items, once an epoch; yield how many rows' equations were singular.

        The memory is the item side before its last change, which momentum needs.
        """
        by_user, by_item = device.put(ratings.by_user), device.put(ratings.by_item)
        users, items, previous, _ = factors
        width = kernels.vectors.whole(self.k)
        ahead = device.put(Side(kernels.vectors.aligned(ratings.n_items, width), np.zeros(ratings.n_items, np.float32)))
        rows = even(ratings.n_items, ROWS_PER_TASK)
        user_tasks, item_tasks = (self.tasks(side.indptr) for side in (ratings.by_user, ratings.by_item))
        rules = self.penalty, device.put(nothing_known(self.k))
        for _ in range(done, self.epochs):
            launch(kernels.als.EXTRAPOLATE, device, rows, items, previous, ahead, self.momentum)
            singular = self.solve(device, user_tasks, by_user, users, ahead, *rules)
            others = kernels.vectors.padded(users)
            yield singular + self.solve(device, item_tasks, by_item, items, others, *rules)
