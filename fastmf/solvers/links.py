"""Alternating least squares with implicit links: SVD++ (Koren 2008) on both sides, by alternating solves.

What a user has rated, and who has rated an item, says something before any rating is looked at. Factors are therefore
pulled not to zero but to what their links say: with w_j and s_v one vector an item and one a user,

    sum over rated (u, i) of (r_ui - b_u - c_i - x_u . y_i)^2 + bias_reg (sum_u b_u^2 + sum_i c_i^2)
      + sum_u (reg n_u + reg0) |x_u - z_u|^2 + sum_i (reg n_i + reg0) |y_i - t_i|^2

    z_u = m + f_u (n_u^(-1/2) sum over u's items of w_j - m),    f_u = n_u / (n_u + fade)
    t_i = n_i^(-1/2) sum over i's users of s_v

m is the mean of x over all ratings. A user of few ratings has few links, which say little: then f_u is small and the
pull is to the mean user. Without that, users of up to ten ratings are predicted worse than by biases alone. What items
are pulled to has no such fade, which made the predictions worse.

An epoch moves W one step towards the ridge regression of x on the links, with weight link_reg on its squares, solves
the users, does the same with S for the items, and solves these. The steps are not weighted by reg n + reg0 (which was
tried, and is .001 to .002 of RMSE behind), so it is only the solves that never raise the objective.

What comes out is a model like any other: the mean user is taken off the users and into the items' biases, so that zero
is the mean user and an unknown user is predicted as that one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fastmf.data.ratings import Ratings
from fastmf.kernels.als import EXTRAPOLATE, HALF_SWEEP, half_sweep_tasks
from fastmf.kernels.links import (
    ABSORB,
    ADVANCE,
    ATTRACT,
    CENTRE,
    DEPART,
    GATHER,
    RESPOND,
    TOTAL,
    TURN,
    gather_tasks,
    link_weights,
)
from fastmf.kernels.tasks import even
from fastmf.kernels.types import Compressed, Side, nothing_known
from fastmf.kernels.vectors import aligned, filled_up, padded, whole
from fastmf.model.learned import Links
from fastmf.runtime.device import Device
from fastmf.runtime.launch import launch
from fastmf.solvers.als import INIT_SIGMA, ROWS_PER_TASK
from fastmf.solvers.base import MAX_WEIGHT, Factors, Regularised, draw, require_integer, require_number


@dataclass(frozen=True, kw_only=True)
class LinkedALS(Regularised):
    """Alternating least squares with implicit links; the model is in :mod:`fastmf.solvers.links`.

    The same data, settings and seed give the same bits for any number of threads.

    Parameters
    ----------
    k : number of factors.
    epochs : passes over all ratings.
    reg, reg0 : weight of how far a row's factors are from what its links say, per rating of the row and per row.
    bias_reg : weight of the squared biases.
    link_reg : weight of the squared links.
    link_steps : of conjugate gradients for the links of each side in an epoch. More cost more time, and have not given
        better predictions.
    fade : ratings of a user at which its links pull with half their force; 0 lets them pull fully from the first.
    momentum : as for :class:`ALS`.
    biases : whether users and items have a bias.
    seed : of the items' starting factors.

    Raises
    ------
    ParameterError
        If a setting is out of range.

    Examples
    --------
    >>> LinkedALS(k=8).epochs
    12
    """

    name: ClassVar[str] = "als-links"

    k: int = 32
    epochs: int = 12
    reg: float = 0.03
    reg0: float = 10.0
    bias_reg: float = 3.0
    link_reg: float = 4.0
    link_steps: int = 1
    fade: float = 20.0
    momentum: float = 0.3
    biases: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("link_reg", self.link_reg, low=0, above=True, high=MAX_WEIGHT)
        require_integer("link_steps", self.link_steps, 1)
        require_number("fade", self.fade, low=0, high=MAX_WEIGHT)
        require_number("momentum", self.momentum, low=0, high=1)

    @property
    def tables(self) -> int:
        """Add to the factors these as they are solved, links, what these say, and the room to find them."""
        return 10

    @property
    def remedy(self) -> str:
        """What to change when training diverges."""
        return f"raise reg0 (it is {self.reg0:g}) or link_reg (it is {self.link_reg:g})"

    def start(self, ratings: Ratings) -> Factors:
        """Draw the items' factors; all else starts at zero."""
        rng, kp = np.random.default_rng(self.seed), whole(self.k)
        items = draw(ratings.item_counts, self.k, INIT_SIGMA, rng)
        users = Side(aligned(ratings.n_users, self.k), np.zeros(ratings.n_users, np.float32))
        solved = users.factors.copy(), items.bias.copy()
        links = (aligned(n, kp) for n in (ratings.n_users, ratings.n_users, ratings.n_items))
        memory = (*solved, items.factors.copy(), items.bias.copy(), *links)
        return Factors(users, items, memory, kept=(aligned(ratings.n_items, kp), aligned(1, kp)))

    def run(self, ratings: Ratings, factors: Factors, device: Device, done: int = 0) -> Iterator[int]:
        """Move the links of the users and solve these, then those of the items; yield how many rows were singular.

        The memory is the users' factors and the items' biases as they were solved, with the mean user in the users; the
        item side before its last change; what the items' links say of the users; the users' links; and what these say
        of the items. Kept are the items' links and the mean user.
        """
        by_user, by_item = device.put(ratings.by_user), device.put(ratings.by_item)
        (x, c, *before), (of_items, origin) = factors.memory[:4], factors.kept
        users, items, previous = Side(x, factors.users.bias), Side(factors.items.factors, c), Side(*before)
        expected, of_users, expected_items = factors.memory[4:]
        ahead = device.put(Side(aligned(ratings.n_items, whole(self.k)), np.zeros(ratings.n_items, np.float32)))
        both = (ratings.by_user, by_user), (ratings.by_item, by_item)
        user_links = Linked(self.k, self.link_reg, *both, of_items, expected, device, self.fade)
        item_links = Linked(self.k, self.link_reg, *both[::-1], of_users, expected_items, device, 0.0)
        user_tasks, item_tasks = (half_sweep_tasks(side.indptr, self.k) for side in (ratings.by_user, ratings.by_item))
        known = device.put(nothing_known(self.k))
        of_one = device.put((aligned(1, whole(self.k)), np.ones(1, np.float32)))
        for epoch in range(done, self.epochs):
            pull, item_pull = user_links.expected, item_links.expected  # zeros in the first epoch
            if epoch:
                pull = user_links.follow(users, self.link_steps)
            launch(EXTRAPOLATE, device, item_links.rows, items, previous, ahead, self.momentum)
            rules = self.penalty, known._replace(pull=pull)
            singular = launch(HALF_SWEEP, device, user_tasks, by_user, users, ahead, *rules)
            if epoch:
                item_pull = item_links.follow(items, self.link_steps)
            rules = self.penalty, known._replace(pull=item_pull)
            singular += launch(HALF_SWEEP, device, item_tasks, by_item, items, padded(users), *rules)
            mean = user_links.mean(users)
            offset = mean[: self.k] * np.float32(self.biases)  # without biases there is no place for it
            launch(ATTRACT, device, np.array([0, 1]), *of_one, mean, origin)  # origin becomes the mean
            launch(CENTRE, device, user_links.rows, user_links.counts, x, offset, factors.users.factors)
            launch(ABSORB, device, item_links.rows, items, offset, factors.items.bias)
            yield int(singular)

    def extras(self, factors: Factors) -> dict[str, Any]:
        """Keep the items' links, for fold-in."""
        of_items, origin = factors.kept
        return {"links": Links(of_items[:, : self.k].copy(), origin[0, : self.k].copy())}


class Linked:
    """The links that one side's rows have by the columns of their entries, and how to find them.

    Parameters
    ----------
    ridge : weight of the squared links.
    entries, others : what is rated by the rows of the side, and the same by column, each on the host and the device.
    table : (n_columns, kp), the links, one vector a column.
    expected : (n_rows, kp), what they say of the rows.
    fade : entries at which a row's links pull with half their force.
    """

    def __init__(
        self,
        k: int,
        ridge: float,
        entries: tuple[Compressed, Compressed],
        others: tuple[Compressed, Compressed],
        table: np.ndarray,
        expected: np.ndarray,
        device: Device,
        fade: float,
    ) -> None:
        self.k, self.table, self.expected, self.device = k, table, expected, device
        self.entries, self.others = entries[1], others[1]
        indptr, of_columns = entries[0].indptr, others[0].indptr
        counts = np.diff(indptr)
        weights, shares = link_weights(counts, fade)
        self.n_entries, self.fades = int(counts.sum()), fade > 0
        self.rows, self.columns = even(len(counts), ROWS_PER_TASK), even(len(table), ROWS_PER_TASK)
        self.row_tasks, self.column_tasks = gather_tasks(indptr, k), gather_tasks(of_columns, k)
        self.counts, self.weights, self.shares = device.put((counts.astype(np.float32), weights, shares))
        squares = device.put(aligned(len(table), whole(1)))
        of_rows = self.others, device.put(np.ones(len(table), np.float32)), device.put(filled_up(weights[:, None] ** 2))
        launch(GATHER, device, gather_tasks(of_columns, 1), *of_rows, squares)
        self.squares = device.put(device.get(squares)[:, 0].copy())
        self.weigh(np.full(k, ridge))
        room = (*(aligned(*expected.shape) for _ in range(3)), *(aligned(*table.shape) for _ in range(2)))
        self.pull, self.gap, self.response, self.ahead, self.direction = device.put(room)

    def weigh(self, ridge: np.ndarray) -> None:
        """Set the weight of the squared links, one for each column (k,)."""
        self.ridge = np.ones(self.table.shape[1])  # any would do for what fills up
        self.ridge[: self.k] = ridge
        self.weight = self.device.put(self.ridge.astype(np.float32))

    def mean(self, side: Side) -> np.ndarray:
        """Average the side's factors over all entries: (kp,) float32."""
        found = np.zeros(self.expected.shape[1], np.float32)
        found[: self.k] = launch(TOTAL, self.device, self.rows, self.counts, side.factors) / self.n_entries
        return found

    def follow(self, side: Side, steps: int) -> np.ndarray:
        """Move the links some steps towards their regression on a side's factors; return what they pull these to."""
        mean = self.mean(side) if self.fades else None
        launch(DEPART, self.device, self.rows, side.factors, self._pulled(mean), self.gap)
        self.approach(steps)
        return self._pulled(mean)

    def approach(self, steps: int, around: np.ndarray | None = None) -> None:
        """Take steps of conjugate gradients towards links that leave less of the gap.

        Their squares are weighed as they are, or else those of ``around`` (n_columns, kp), which moves with them.
        """
        device, before = self.device, None
        weighed = self.table if around is None else around
        for _ in range(steps):
            gap = self.others, self.weights, self.gap
            square = launch(RESPOND, device, self.column_tasks, *gap, self.weight, weighed, self.squares, self.ahead)
            shares = np.zeros(len(square), np.float32) if before is None else _ratio(square, before)
            squares = launch(TURN, device, self.columns, shares, self.ahead, self.direction)
            ahead = self.entries, self.weights, self.direction
            lengths = _ratio(
                square, launch(GATHER, device, self.row_tasks, *ahead, self.response) + self.ridge * squares
            )
            launch(ADVANCE, device, self.columns, lengths, self.direction, self.table)
            if around is not None:
                launch(ADVANCE, device, self.columns, lengths, self.direction, around)
            launch(ADVANCE, device, self.rows, lengths, self.response, self.expected)
            launch(ADVANCE, device, self.rows, -lengths, self.response, self.gap)
            before = square

    def _pulled(self, mean: np.ndarray | None) -> np.ndarray:
        """Say what the rows are pulled to: by their links, and where these fade to the mean row."""
        if mean is None:
            return self.expected
        launch(ATTRACT, self.device, self.rows, self.expected, self.shares, mean, self.pull)
        return self.pull


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Divide column by column; columns of zeros, which are done, get 0."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0).astype(np.float32)
