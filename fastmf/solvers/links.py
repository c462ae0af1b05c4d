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

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fastmf import kernels
from fastmf.kernels.tasks import even
from fastmf.kernels.types import Compressed, Side, nothing_known
from fastmf.model.equations import RowEquations
from fastmf.model.learned import Links
from fastmf.runtime.device import Device
from fastmf.runtime.launch import launch
from fastmf.solvers.als import INIT_SIGMA, ROWS_PER_TASK, Alternating
from fastmf.solvers.base import Factors, Solver, draw, equation_bytes, solve_operations, solve_traffic
from fastmf.solvers.settings import MAX_WEIGHT, setting, with_settings

if TYPE_CHECKING:
    from fastmf.data.ratings import Ratings


@with_settings
class Fading(Solver):
    """The setting of solvers whose links fade in with a user's ratings."""

    fade: float = setting(
        20.0, "Ratings of a user at which links pull with half their force; 0 for full force.", low=0, high=MAX_WEIGHT
    )


@with_settings
class LinkedALS(Fading, Alternating):
    """Alternating least squares with implicit links; the model is in :mod:`fastmf.solvers.links`.

    The penalty of a row's factors is on how far they are from what its links say. More steps of conjugate gradients
    for the links cost more time, and have not given better predictions. The same data, settings and seed give the same
    bits for any number of threads.

    Examples
    --------
    >>> LinkedALS(k=8).epochs
    12
    """

    name: ClassVar[str] = "als-links"
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"als-links": {}}

    reg0: float = 10.0
    link_reg: float = setting(4.0, "Weight of the squared links.", low=0, above=True, high=MAX_WEIGHT)
    link_steps: int = setting(1, "Steps of conjugate gradients for the links of each side in an epoch.", low=1)

    @property
    def bytes_per_row(self) -> int:
        """The factors, the same as they are solved, links, what these say, and the room to find them."""
        return 10 * 4 * self.k

    @property
    def bytes_per_thread(self) -> int:
        """The equations of some rows."""
        return equation_bytes(self.k)

    def operations(self, n_ratings: int, n_rows: int) -> float:
        """Count those of solving rows, and 4 k a rating for the links."""
        return solve_operations(self.k, n_ratings, n_rows) + 4.0 * n_ratings * self.k

    def traffic(self, n_ratings: int) -> float:
        """Count the bytes of solving rows, and four sums of links with an index each."""
        return solve_traffic(self.k, n_ratings) + 4.0 * n_ratings * (4 * self.k + 4)

    @property
    def remedy(self) -> str:
        """What to change if training diverges."""
        return f"raise reg0 (it is {self.reg0:g}) or link_reg (it is {self.link_reg:g})"

    def start(self, ratings: "Ratings") -> Factors:
        """Draw the items' factors; all else starts at zero."""
        vectors = kernels.vectors
        rng, kp = np.random.default_rng(self.seed), vectors.whole(self.k)
        items = draw(ratings.item_counts, self.k, INIT_SIGMA, rng)
        users = Side(vectors.aligned(ratings.n_users, self.k), np.zeros(ratings.n_users, np.float32))
        solved = users.factors.copy(), items.bias.copy()
        links = (vectors.aligned(n, kp) for n in (ratings.n_users, ratings.n_users, ratings.n_items))
        memory = (*solved, items.factors.copy(), items.bias.copy(), *links)
        return Factors(users, items, memory, kept=(vectors.aligned(ratings.n_items, kp), vectors.aligned(1, kp)))

    def run(self, ratings: "Ratings", factors: Factors, device: Device, done: int = 0) -> Iterator[int]:
        """Move the links of the users and solve these, then those of the items; yield how many rows were singular.

        The memory is the users' factors and the items' biases as they were solved, with the mean user in the users; the
        item side before its last change; what the items' links say of the users; the users' links; and what these say
        of the items. Kept are the items' links and the mean user.
        """
        vectors = kernels.vectors
        by_user, by_item = device.put(ratings.by_user), device.put(ratings.by_item)
        (x, c, *before), (of_items, origin) = factors.memory[:4], factors.kept
        users, items, previous = Side(x, factors.users.bias), Side(factors.items.factors, c), Side(*before)
        expected, of_users, expected_items = factors.memory[4:]
        ahead = device.put(
            Side(
                vectors.aligned(ratings.n_items, vectors.whole(self.k)),
                np.zeros(ratings.n_items, np.float32),
            )
        )
        both = (ratings.by_user, by_user), (ratings.by_item, by_item)
        user_links = Linked(self.k, self.link_reg, *both, of_items, expected, device, self.fade)
        item_links = Linked(self.k, self.link_reg, *both[::-1], of_users, expected_items, device, 0.0)
        user_tasks, item_tasks = (
            kernels.als.half_sweep_tasks(side.indptr, self.k) for side in (ratings.by_user, ratings.by_item)
        )
        known = device.put(nothing_known(self.k))
        of_one = device.put((vectors.aligned(1, vectors.whole(self.k)), np.ones(1, np.float32)))
        for epoch in range(done, self.epochs):
            pull, item_pull = user_links.expected, item_links.expected  # zeros in the first epoch
            if epoch:
                pull = user_links.follow(users, self.link_steps)
            launch(kernels.als.EXTRAPOLATE, device, item_links.rows, items, previous, ahead, self.momentum)
            rules = self.penalty, known._replace(pull=pull)
            singular = launch(kernels.als.HALF_SWEEP, device, user_tasks, by_user, users, ahead, *rules)
            if epoch:
                item_pull = item_links.follow(items, self.link_steps)
            rules = self.penalty, known._replace(pull=item_pull)
            others = vectors.padded(users)
            singular += launch(kernels.als.HALF_SWEEP, device, item_tasks, by_item, items, others, *rules)
            mean = user_links.mean(users)
            offset = mean[: self.k] * np.float32(self.biases)  # without biases there is no place for it
            launch(kernels.links.ATTRACT, device, np.array([0, 1]), *of_one, mean, origin)  # origin becomes the mean
            launch(kernels.links.CENTRE, device, user_links.rows, user_links.counts, x, offset, factors.users.factors)
            launch(kernels.links.ABSORB, device, item_links.rows, items, offset, factors.items.bias)
            yield int(singular)

    def learned(self, factors: Factors) -> dict[str, Any]:
        """Keep the items' links, for fold-in."""
        of_items, origin = factors.kept
        return {"links": Links(of_items[:, : self.k].copy(), origin[0, : self.k].copy())}

    def row_equations(self, ratings: "Ratings") -> RowEquations:
        """Return the penalties, and how links fade."""
        return replace(super().row_equations(ratings), fade=self.fade)


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
        vectors = kernels.vectors
        self.k, self.table, self.expected, self.device = k, table, expected, device
        self.entries, self.others = entries[1], others[1]
        indptr, of_columns = entries[0].indptr, others[0].indptr
        counts = np.diff(indptr)
        weights, shares = kernels.links.link_weights(counts, fade)
        self.n_entries, self.fades = int(counts.sum()), fade > 0
        self.rows, self.columns = even(len(counts), ROWS_PER_TASK), even(len(table), ROWS_PER_TASK)
        self.row_tasks, self.column_tasks = (kernels.links.gather_tasks(rows, k) for rows in (indptr, of_columns))
        self.counts, self.weights, self.shares = device.put((counts.astype(np.float32), weights, shares))
        squares = device.put(vectors.aligned(len(table), vectors.whole(1)))
        of_rows = (
            self.others,
            device.put(np.ones(len(table), np.float32)),
            device.put(vectors.filled_up(weights[:, None] ** 2)),
        )
        launch(kernels.links.GATHER, device, kernels.links.gather_tasks(of_columns, 1), *of_rows, squares)
        self.squares = device.put(device.get(squares)[:, 0].copy())
        self.weigh(np.full(k, ridge))
        room = (
            *(vectors.aligned(*expected.shape) for _ in range(3)),
            *(vectors.aligned(*table.shape) for _ in range(2)),
        )
        self.pull, self.gap, self.response, self.ahead, self.direction = device.put(room)

    def weigh(self, ridge: np.ndarray) -> None:
        """Set the weight of the squared links, one for each column (k,)."""
        self.ridge = np.ones(self.table.shape[1])  # any would do for what fills up
        self.ridge[: self.k] = ridge
        self.weight = self.device.put(self.ridge.astype(np.float32))

    def mean(self, side: Side) -> np.ndarray:
        """Average the side's factors over all entries: (kp,) float32."""
        found = np.zeros(self.expected.shape[1], np.float32)
        found[: self.k] = (
            launch(kernels.links.TOTAL, self.device, self.rows, self.counts, side.factors) / self.n_entries
        )
        return found

    def follow(self, side: Side, steps: int) -> np.ndarray:
        """Move the links some steps towards their regression on a side's factors; return what they pull these to."""
        mean = self.mean(side) if self.fades else None
        launch(kernels.links.DEPART, self.device, self.rows, side.factors, self._pulled(mean), self.gap)
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
            square = launch(
                kernels.links.RESPOND, device, self.column_tasks, *gap, self.weight, weighed, self.squares, self.ahead
            )
            shares = np.zeros(len(square), np.float32) if before is None else _ratio(square, before)
            squares = launch(kernels.links.TURN, device, self.columns, shares, self.ahead, self.direction)
            ahead = self.entries, self.weights, self.direction
            lengths = _ratio(
                square,
                launch(kernels.links.GATHER, device, self.row_tasks, *ahead, self.response) + self.ridge * squares,
            )
            launch(kernels.links.ADVANCE, device, self.columns, lengths, self.direction, self.table)
            if around is not None:
                launch(kernels.links.ADVANCE, device, self.columns, lengths, self.direction, around)
            launch(kernels.links.ADVANCE, device, self.rows, lengths, self.response, self.expected)
            launch(kernels.links.ADVANCE, device, self.rows, -lengths, self.response, self.gap)
            before = square

    def _pulled(self, mean: np.ndarray | None) -> np.ndarray:
        """Say what the rows are pulled to: by their links, and where these fade to the mean row."""
        if mean is None:
            return self.expected
        launch(kernels.links.ATTRACT, self.device, self.rows, self.expected, self.shares, mean, self.pull)
        return self.pull


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Divide column by column; columns of zeros, which are done, get 0."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0).astype(np.float32)
