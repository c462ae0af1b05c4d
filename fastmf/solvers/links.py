"""Alternating least squares with implicit links: SVD++ (Koren 2008) on both sides, by alternating solves.

Which items a user has rated, and which users have rated an item, is informative whatever the ratings are. Factors are
therefore pulled to what these links predict instead of to zero. With one vector w_j per item and s_v per user,

    sum over rated (u, i) of (r_ui - b_u - c_i - x_u . y_i)^2 + bias_reg (sum_u b_u^2 + sum_i c_i^2)
      + sum_u (reg n_u + reg0) |x_u - z_u|^2 + sum_i (reg n_i + reg0) |y_i - t_i|^2

    z_u = m + f_u (n_u^(-1/2) sum over u's items of w_j - m),    f_u = n_u / (n_u + fade)
    t_i = n_i^(-1/2) sum over i's users of s_v

m is the mean of x over all ratings. The few links of a user with few ratings predict little: f_u is then small, and the
pull is to the mean user. Without this fade, users with up to ten ratings are predicted worse than by biases alone. The
same fade for items made predictions worse. If ratings have weights, the n of the penalties and of f_u are sums of
weights. The rest of the links is who rated what, and has no weights.

An epoch moves W one step towards the ridge regression of x on the links, with weight link_reg on its squares, and
solves the users; then it does the same with S and the items. Weighting the regressions by reg n + reg0, too, makes the
RMSE .001 to .002 worse. Without these weights, a step of W or S may raise the objective; the row solves never do.

The result is a model like any other: the mean user is moved from the users' factors into the items' biases. Zero
factors then stand for the mean user, whose predictions serve for unknown users.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from fastmf import kernels
from fastmf.kernels.types import Compressed, Side
from fastmf.model.fold_in_rule import FoldInRule
from fastmf.model.learned import Links, predict_by_links
from fastmf.runtime.device import Device
from fastmf.runtime.launch import launch
from fastmf.solvers import features
from fastmf.solvers.als import INIT_SIGMA
from fastmf.solvers.base import FollowsFeatures, Regularised, SolvesRows, draw, zeros
from fastmf.solvers.declare import setting, with_settings
from fastmf.solvers.factors import Factors, Start
from fastmf.solvers.ridge import Ridge, keep
from fastmf.solvers.settings import MAX_WEIGHT, Fading, Momentum

if TYPE_CHECKING:
    from fastmf.data.ratings import Ratings


@with_settings
class LinkedALS(Fading, Momentum, FollowsFeatures, SolvesRows, Regularised):
    """Alternating least squares with implicit links; the model is in :mod:`fastmf.solvers.links`.

    A row's factors are penalised for their distance from what its links predict. More steps of conjugate gradients
    for the links cost more time, and have not given better predictions. The same data, settings and seed give the same
    bits for any number of threads.

    Examples
    --------
    >>> LinkedALS(k=8).epochs
    12
    """

    name: ClassVar[str] = "als-links"
    remedy: ClassVar[str] = "raise reg0 (it is {reg0:g}) or link_reg (it is {link_reg:g})"
    tuned_by_default: ClassVar[bool] = True
    spills: ClassVar[bool] = True
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"als-links": {}}

    reg0: float = 10.0
    link_reg: float = setting("Penalty weight of the squared links.", default=4.0, low=0, above=True, high=MAX_WEIGHT)
    link_steps: int = setting("Steps of conjugate gradients per epoch for the links of each side.", default=1, low=1)

    @property
    def bytes_per_row(self) -> int:
        """Bytes per row of the factors (twice), the links, their predictions and the regression's scratch arrays."""
        return 10 * 4 * self.k

    def operations(self, n_ratings: int, n_rows: int) -> float:
        """Count the operations of the row solves, and 4 k per rating for the links."""
        return super().operations(n_ratings, n_rows) + 4.0 * n_ratings * self.k

    def traffic(self, n_ratings: int) -> float:
        """Count the bytes of the row solves and, per rating, of four rows of links with an index each."""
        return super().traffic(n_ratings) + 4.0 * n_ratings * (4 * self.k + 4)

    def start(self, ratings: "Ratings") -> Factors:
        """Draw the items' factors; everything else starts at zero."""
        n_users, n_items, width = ratings.n_users, ratings.n_items, kernels.vectors.whole(self.k)
        items = draw(ratings.item_counts, self.k, INIT_SIGMA, np.random.default_rng(self.seed))
        users = zeros(n_users, self.k)
        memory = Memory(
            users=users.factors.copy(),
            item_bias=items.bias.copy(),
            previous_items=items.factors.copy(),
            previous_item_bias=items.bias.copy(),
            expected_users=kernels.vectors.aligned(n_users, width),
            expected_items=kernels.vectors.aligned(n_items, width),
        )
        links = Links(*(kernels.vectors.aligned(n, width) for n in (n_items, n_users, 1)))
        more, kept = features.start(ratings, self.k)
        return Factors(users, items, (*memory, *more), kept=(*links, *kept))

    def start_from(self, ratings: "Ratings", start: Start) -> Factors:
        """Start from an earlier model and its links, which predict anew from these ratings who has rated what."""
        factors, trained = super().start_from(ratings, start), super().start_from(ratings, start.trained)
        (users, _), items = trained.users, trained.items
        memory = Memory(*factors.memory[:N_MEMORY])._replace(
            users=users,
            item_bias=items.bias,
            previous_items=items.factors.copy(),
            previous_item_bias=items.bias.copy(),
        )
        if start.links is not None:
            for table, given in zip(factors.kept[:N_LINKS], start.links, strict=True):
                table[:, : self.k] = given
            predict_by_links(ratings.by_user, factors.kept[0], memory.expected_users, self.k, self.fade)
            predict_by_links(ratings.by_item, factors.kept[1], memory.expected_items, self.k)
        return factors._replace(memory=(*memory, *factors.memory[N_MEMORY:]))

    def run(self, ratings: "Ratings", factors: Factors, device: Device, done: int = 0) -> Iterator[int]:
        """Update the users' links and solve the users, then the same for the items."""
        by_user, by_item = device.put((ratings.by_user, ratings.by_item))
        memory, (item_links, user_links, origin) = Memory(*factors.memory[:N_MEMORY]), factors.kept[:N_LINKS]
        penalties = self.penalty, self.penalty
        pulls = features.Pulls(self.k, features.Shrinkage(self.feature_reg), penalties, ratings, factors, device)
        users, items = Side(memory.users, factors.users.bias), Side(factors.items.factors, memory.item_bias)
        previous = Side(memory.previous_items, memory.previous_item_bias)
        fading = self.fade, ratings.user_masses
        of_users = Linked(self.k, self.link_reg, by_user, by_item, item_links, memory.expected_users, device, *fading)
        of_items = Linked(self.k, self.link_reg, by_item, by_user, user_links, memory.expected_items, device)
        user_tasks = kernels.als.half_sweep_tasks(ratings.by_user.indptr, self.k)
        item_tasks = kernels.als.half_sweep_tasks(ratings.by_item.indptr, self.k)
        width = kernels.vectors.whole(self.k)
        ahead = device.put(zeros(ratings.n_items, width))
        begun = bool(done or device.get(memory.users).any())  # else there is nothing yet that links could predict
        for epoch in range(done, self.epochs):
            begun = begun or epoch > 0
            steps = self.link_steps if begun else 0
            linked = of_users.follow(pulls.users.left(users), steps)
            launch(kernels.als.EXTRAPOLATE, device, of_items.rows, items, previous, ahead, self.momentum)
            given = by_user, users, ahead, self.penalty, pulls.users.with_links(linked)
            singular = launch(kernels.als.HALF_SWEEP, device, user_tasks, *given)
            pulls.users.follow(users, items, linked)
            linked = of_items.follow(pulls.items.left(items), steps)
            given = by_item, items, kernels.vectors.padded(users), self.penalty, pulls.items.with_links(linked)
            singular += launch(kernels.als.HALF_SWEEP, device, item_tasks, *given)
            pulls.items.follow(items, users, linked)
            mean = of_users.mean(pulls.users.left(users))
            keep(device, mean, origin)
            moved = mean[: self.k] * np.float32(self.biases)  # without biases, it has nowhere to go
            centred, absorbed = factors.users.factors, factors.items.bias
            launch(kernels.links.CENTRE, device, of_users.rows, pulls.users.present, users.factors, moved, centred)
            launch(kernels.links.ABSORB, device, of_items.rows, items, moved, absorbed)
            yield int(singular)

    def learned(self, factors: Factors) -> dict[str, Any]:
        """Keep both sides' links and the mean user, for fold-in."""
        item_links, user_links, origin = (array[:, : self.k].copy() for array in factors.kept[:N_LINKS])
        return {"links": Links(item_links, user_links, origin[0])}

    def user_rule(self, ratings: "Ratings") -> FoldInRule:
        """Return the penalties, and how links fade; for items they do not."""
        return replace(super().user_rule(ratings), fade=self.fade)


class Memory(NamedTuple):
    """The memory of an epoch: factors and biases before the mean user is moved, and what links predict.

    Arrays of factors have k columns; the links' predictions are padded to whole vectors.
    """

    users: np.ndarray
    item_bias: np.ndarray
    previous_items: np.ndarray  # before their last change, for momentum
    previous_item_bias: np.ndarray
    expected_users: np.ndarray  # predictions of the items' links
    expected_items: np.ndarray  # predictions of the users' links


N_MEMORY, N_LINKS = len(Memory._fields), len(Links._fields)


class Linked(Ridge):
    """The links of one side's rows, and the ridge regression that finds them.

    With the weights of :func:`fastmf.kernels.links.link_weights`, D is the (n_rows, n_columns) matrix that holds
    ``weight[r]`` for every entry of row r. The links W predict Z = D W.

    Parameters
    ----------
    ridge : weight of the squared links.
    entries, others : the ratings by row, and the same ratings by column, on the device.
    table : (n_columns, kp), the links W, updated in place.
    expected : (n_rows, kp), their predictions Z, updated in place.
    fade : number of entries at which a row's links pull with half their force.
    masses : (n_rows,), what counts as the number of entries there; the number itself if left out.
    """

    def __init__(
        self,
        k: int,
        ridge: float,
        entries: Compressed,
        others: Compressed,
        table: np.ndarray,
        expected: np.ndarray,
        device: Device,
        fade: float = 0.0,
        masses: np.ndarray | None = None,
    ) -> None:
        self.expected, self.fades = expected, fade > 0
        entries, others = entries._replace(weights=None), others._replace(weights=None)  # links are who rated what
        links, vectors = kernels.links, kernels.vectors
        by_row, by_column = device.get((entries.indptr, others.indptr))
        counts, n_columns = np.diff(by_row), len(by_column) - 1
        self.n_entries = int(counts.sum())
        weights, shares = links.link_weights(counts, fade, masses)
        squares = device.put(vectors.aligned(n_columns, vectors.whole(1)))  # in the first column: the diagonal of D'D
        ones, squared = device.put((np.ones(n_columns, np.float32), vectors.filled_up(weights[:, None] ** 2)))
        launch(links.GATHER, device, links.gather_tasks(by_column, 1), others, ones, squared, squares)
        diagonal = device.put(device.get(squares)[:, 0].copy())
        self.counts, weights, self.shares = device.put((counts.astype(np.float32), weights, shares))
        self.pull = device.put(vectors.aligned(*expected.shape))
        super().__init__(k, ridge, entries, others, weights, diagonal, table, device)

    def mean(self, side: Side) -> np.ndarray:
        """Average the side's factors over all entries: (kp,) float32."""
        found = np.zeros(self.expected.shape[1], np.float32)
        total = launch(kernels.links.TOTAL, self.device, self.rows, self.counts, side.factors)
        found[: self.k] = total / self.n_entries
        return found

    def follow(self, side: Side, steps: int) -> np.ndarray:
        """Move the links a few steps towards their regression; return what they pull the side's factors to."""
        mean = self.mean(side) if self.fades else None
        launch(kernels.links.DEPART, self.device, self.rows, side.factors, self._pull(mean), self.gap)
        self.approach(steps)
        return self._pull(mean)

    def advance(self, lengths: np.ndarray) -> None:
        """Move what the links predict by so many responses, and close the gap by as much."""
        launch(kernels.links.ADVANCE, self.device, self.rows, lengths, self.response, self.expected)
        super().advance(lengths)

    def _pull(self, mean: np.ndarray | None) -> np.ndarray:
        """Return what the rows are pulled to: the links' predictions, faded towards the mean row if one is given."""
        if mean is None:
            return self.expected
        launch(kernels.links.ATTRACT, self.device, self.rows, self.expected, self.shares, mean, self.pull)
        return self.pull
