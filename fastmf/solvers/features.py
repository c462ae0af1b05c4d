"""Side features: factors and biases are pulled to a linear function of what is known of their rows.

F holds the features of a side's rows, as :mod:`fastmf.data.features` encodes them. The penalties of its rows become

    sum_i (reg n_i + reg0) |y_i - z_i|^2 + bias_reg sum_i (c_i - a_i)^2,     z_i = (F_i - f) B,   a_i = (F_i - f) b + o

with f the mean of F. That is what rows are solved with. B and b are found by another objective: after a side's rows are
solved, they take steps of conjugate gradients towards the ridge regression of factors and biases on the features,

    min  sum_i n_i^(1/2) (|y_i - z_i|^2 + (c_i - a_i)^2) + sum_g (k_g |B_g|^2 + k'_g b_g^2)

The intercept o is not penalised. Means weigh rows by n^(1/2), too: on MovieLens, 1, n, and reg n + reg0 made
predictions worse. Because the weights differ, and the k_g are chosen anew each epoch, a step of B may raise the
objective of the rows, and the last digits never settle. Factors have no intercept, because an average item is not what
an item without ratings should be predicted as: in random splits of MovieLens, the mean row of the factors made cold
items .04 worse.

Each feature g has its own penalties, so that useless features cost nothing. S_gj = sum_i n_i^(1/2) (F_ig - f_g) e_ij is
the score of feature g on column j of what the rows say themselves, e, and V_gj the sum of its squared terms. Their mean
ratio t = mean_j S_gj^2 / V_gj over k factors is about 1 if the feature is noise, with a standard deviation of (2 /
k)^(1/2). With H_g the curvature of S, the penalty

    k_g = max(feature_reg, H_g / (t - 1)),   or MOST H_g if t is not above 1 + CLEAR (2 / k)^(1/2)

shrinks B_g by 1 - 1 / t, like James and Stein (1961), or to nothing. k' is the same for biases, with one column.

Rows that are not in the table, or say nothing in it, and sides without a table are pulled to zero as ever: factors and
biases. Rows without ratings take what they are pulled to, so they are predicted by their features alone. With links
(:mod:`fastmf.solvers.links`), W is fitted to what F B leaves of X, and B to what W leaves. A Bayesian model draws B
(:mod:`fastmf.solvers.gibbs`; Macau: Simm et al. 2017). An epoch of SGD does not solve rows, so they also move with what
they are pulled to (:mod:`fastmf.solvers.sgd`).
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastmf import kernels
from fastmf.data import csr
from fastmf.kernels.tasks import even
from fastmf.kernels.types import Compressed, Known, Penalty, Side, nothing_known
from fastmf.model.learned import Expected, predicted_by_features
from fastmf.runtime.device import Device, resolve
from fastmf.runtime.launch import launch
from fastmf.solvers.factors import Factors
from fastmf.solvers.ridge import ROWS_PER_TASK, Ridge, keep

if TYPE_CHECKING:
    from fastmf.data.ratings import Ratings

STEPS = 2  # of conjugate gradients, each epoch
CLEAR = 4.0  # standard deviations from noise: with fewer, some useless features get through
MOST = 1e3


class Shrinkage(NamedTuple):
    """How the weights of features are shrunk: their least penalty, and standard deviations that noise stays within."""

    least: float
    clear: float = CLEAR


class Kept(NamedTuple):
    """What a model keeps of each side: B and b, (n_features, kp), and the intercepts -f B and o - f b, (1, kp).

    Columns are the factors, the bias, and padding. A side without features has no rows in the table.
    """

    users: np.ndarray
    user_intercept: np.ndarray
    items: np.ndarray
    item_intercept: np.ndarray


def start(ratings: "Ratings", k: int) -> tuple[tuple[np.ndarray, ...], Kept | tuple[()]]:
    """Return the memory and the kept arrays of :class:`Pulls`, which are empty if the ratings have no features.

    The memory is (n_rows, kp) of each side: what features pull its rows to.
    """
    both = (ratings.user_features, ratings.n_users), (ratings.item_features, ratings.n_items)
    if all(features is None for features, _ in both):
        return (), ()
    vectors, width = kernels.vectors, kernels.vectors.whole(k + 1)
    sizes = [(0, 0) if features is None else (features.encoding.n_features, n) for features, n in both]
    kept = [vectors.aligned(n, width) for n_features, _ in sizes for n in (n_features, 1)]
    return tuple(vectors.aligned(n, width) for _, n in sizes), Kept(*kept)


class Pulled:
    """A side without features: its rows are pulled to zero.

    ``present`` (n_rows,) float32 is 1 for rows that have ratings or features, else 0. ``square`` is the mean square of
    the other side's factors, when features were last followed; infinite if they never were.
    """

    def __init__(self, k: int, counts: np.ndarray, device: Device) -> None:
        self.device, self.rows = device, even(len(counts), ROWS_PER_TASK)
        self.present = device.put((counts > 0).astype(np.float32))
        self.known: Known = device.put(nothing_known(k))
        self.square = np.inf

    def follow(self, side: Side, other: Side, linked: np.ndarray | None = None) -> None:
        """Do nothing: there are no features to follow."""

    def hide_cold(self, side: Side) -> None:
        """Set the factors of rows without ratings to zero, until the next call of :meth:`follow`."""

    def left(self, side: Side) -> Side:
        """Return the side without what features explain of its factors."""
        return side

    def with_links(self, linked: np.ndarray) -> Known:
        """Return what rows are pulled to, if links (n_rows, k or more) pull them, too."""
        return self.known._replace(pull=linked)


class Centred(Ridge):
    """A ridge regression on centred features; its gap is centred, too.

    ``host`` is the design; weights (n_rows,) are the roots of its shares.
    """

    host: "Design"

    def respond(self) -> np.ndarray:
        """Write the response of centred features to ``response``; return the sums of its squares."""
        squares, mass = super().respond(), self.host.mass
        total = launch(kernels.links.TOTAL, self.device, self.rows, self.weights, self.response)
        mean = (total / mass).astype(np.float32)
        given = self.response, self.weights, -mean, self.response  # an array on a GPU has no minus
        launch(kernels.links.ATTRACT, self.device, self.rows, *given)
        return np.asarray(squares - mass * mean.astype(np.float64) ** 2)


class Featured(Pulled, Centred):
    """A side with features, and their regression.

    Parameters
    ----------
    shrinkage : of the weights of features.
    penalty : of the side's rows.
    features : one row for each row of the side.
    counts, other_counts : the sums of the weights of the ratings of each row, and of each row of the other side.
    table, intercept, expected : see :class:`Kept` and :func:`start`; updated in place.
    """

    def __init__(
        self,
        k: int,
        shrinkage: Shrinkage,
        penalty: Penalty,
        features: Compressed,
        counts: np.ndarray,
        other_counts: np.ndarray,
        table: np.ndarray,
        intercept: np.ndarray,
        expected: np.ndarray,
        device: Device,
    ) -> None:
        Pulled.__init__(self, k, counts + np.diff(features.indptr), device)
        self.shrinkage, self.penalty, self.intercept, self.expected = shrinkage, penalty, intercept, expected
        self.host = Design(features, counts, len(table))
        inside, shares = self.host.inside, self.host.shares
        given = inside, shares, np.sqrt(shares), counts, other_counts
        self.inside, self.shares, weights, self.counts, self.other_counts = device.put(
            tuple(array.astype(np.float32) for array in given)
        )
        self.ones, self.column_ones = device.put(tuple(np.ones(n, np.float32) for n in (len(inside), len(table))))
        entries, columns, self.squared = device.put(self.host.entries())
        diagonal = device.put(self.host.spread(shares).astype(np.float32))
        Centred.__init__(self, k + 1, shrinkage.least, entries, columns, weights, diagonal, table, device)
        tables = tuple(kernels.vectors.aligned(*array.shape) for array in (expected, table))
        self.rest, self.found = device.put(tables)
        self.rows_left = device.put(np.empty((len(inside), k), np.float32))
        self.towards = device.put(device.get(expected)[:, k].copy())
        self.none = device.put(np.empty((0, k), np.float32))
        bias = self.towards if np.isfinite(penalty.bias_reg) else self.known.bias
        self.known = self.known._replace(pull=expected, bias=bias)

    def follow(self, side: Side, other: Side, linked: np.ndarray | None = None) -> None:
        """Move the weights of features towards their regression; set what rows are pulled to.

        ``linked`` (n_rows, k or more) is what links predict: features are fitted to what it leaves. Rows without
        ratings are set to what features and links pull them to. ``other`` is the other side: the size of its factors
        tells how much the ratings say of a row.

        First the penalties are chosen, from what the rows say besides their pull. Then the regression goes on from the
        last weights. In the end the intercept is what it leaves on average.
        """
        linked = self.none if linked is None else linked
        self._leave(side, linked)
        self._weigh(self.shares)
        self.set_ridges(self._ridges(other))
        self._expect()
        self._leave(side, linked)
        self._weigh(self.weights)
        self.approach(STEPS)
        self._expect()
        self._leave(side, linked)
        k = self.k - 1
        intercept = self._mean(self.rest)
        intercept[:k] = -self._mean(self.expected)[:k]
        keep(self.device, intercept, self.intercept)
        given = self.expected, linked, self.inside, intercept, side, self.counts, self.towards
        launch(kernels.features.PULL, self.device, self.rows, *given)

    def hide_cold(self, side: Side) -> None:
        """Set the factors of rows without ratings to zero, until the next call of :meth:`follow`."""
        nothing = np.zeros(side.factors.shape[1], np.float32)
        launch(kernels.links.CENTRE, self.device, self.rows, self.counts, side.factors, nothing, side.factors)

    def left(self, side: Side) -> Side:
        """Return the side without what features explain of its factors."""
        launch(kernels.links.DEPART, self.device, self.rows, side.factors, self.expected, self.rows_left)
        return side._replace(factors=self.rows_left)

    def with_links(self, linked: np.ndarray) -> Known:
        """Return what rows are pulled to, if links (n_rows, k or more) pull them, too."""
        launch(kernels.features.JOIN, self.device, self.rows, self.expected, linked, self.rows_left)
        return self.known._replace(pull=self.rows_left)

    def _expect(self) -> None:
        """Write F B and F b, uncentred."""
        given = self.entries, self.ones, self.table, self.expected
        launch(kernels.links.GATHER, self.device, self.row_tasks, *given)

    def _leave(self, side: Side, linked: np.ndarray) -> None:
        """Write what is left of the side, without links and features."""
        launch(kernels.features.LEAVE, self.device, self.rows, side, linked, self.expected, self.rest)

    def _weigh(self, weights: np.ndarray) -> None:
        """Centre what is left, and weigh its rows."""
        launch(kernels.features.WEIGH, self.device, self.rows, weights, self.rest, self._mean(self.rest), self.gap)

    def _mean(self, table: np.ndarray) -> np.ndarray:
        total = launch(kernels.links.TOTAL, self.device, self.rows, self.shares, table)
        return np.asarray(total / self.host.mass, np.float32)

    def _ridges(self, other: Side) -> np.ndarray:
        """Choose the features' penalties, (n_features, kp) float32, from the centred and weighed rest in ``gap``."""
        k, rows, device = self.k - 1, self.rows, self.device
        score = self._per_feature(self.others)
        launch(kernels.features.SQUARE, device, rows, self.gap, self.gap)
        of_squares, of_values = self._per_feature(self.squared), self._per_feature(self.others)
        every = launch(kernels.links.TOTAL, device, rows, self.inside, self.gap)
        mean = self.host.mean[:, None]
        variance = of_squares - 2 * mean * of_values + mean**2 * every
        other_rows = even(other.factors.shape[0], ROWS_PER_TASK)
        spread = launch(kernels.links.SPREAD, device, other_rows, self.other_counts, other.factors)
        weights = device.get(self.table).astype(np.float64)
        ridges = np.full(weights.shape, self.shrinkage.least, np.float32)
        self.square = float(spread.sum()) / k / max(self.host.counts.sum(), 1.0)
        curvatures = self.host.curvatures(self.square, self.penalty)
        for part, curvature in zip((slice(0, k), slice(k, k + 1)), curvatures, strict=True):
            pulled = (score[:, part] + curvature[:, None] * weights[:, part]) ** 2
            ratio = np.divide(pulled, variance[:, part], out=np.zeros_like(pulled), where=variance[:, part] > 0)
            above = ratio.mean(axis=1) - 1
            is_clear = above > self.shrinkage.clear * np.sqrt(2 / (part.stop - part.start))
            chosen = np.where(is_clear, curvature / np.where(is_clear, above, 1), MOST * curvature)
            ridges[:, part] = np.maximum(self.shrinkage.least, chosen)[:, None]
        return ridges

    def _per_feature(self, columns: Compressed) -> np.ndarray:
        """Sum the gap over the rows that have each feature, times what it is worth there: (n_features, kp) float64."""
        given = columns, self.column_ones, self.gap, self.found
        launch(kernels.links.GATHER, self.device, self.column_tasks, *given)
        return self.device.get(self.found).astype(np.float64)


class Design:
    """The features of a side's rows on the host, and sums over them.

    Attributes
    ----------
    counts, shares : (n_rows,) float64, the sums of the weights of ratings, and their roots for rows inside the table.
    mass, mean : the sum of the shares, and the mean of each feature.
    """

    def __init__(self, features: Compressed, counts: np.ndarray, n_features: int) -> None:
        n_rows = len(counts)
        self.features, self.counts, self.n_features = features, counts, n_features
        self.of_row = np.repeat(np.arange(n_rows, dtype=np.int32), np.diff(features.indptr))
        self.inside = np.diff(features.indptr) > 0
        self.shares = np.sqrt(counts) * self.inside
        self.mass = float(self.shares.sum()) or 1.0
        self.mean = self._total(self.shares, features.values) / self.mass

    def entries(self) -> tuple[Compressed, Compressed, Compressed]:
        """Return the entries by row, the same by feature, and those with squared values."""
        values, shape = self.features.values, (self.n_features, len(self.counts))
        columns = csr.compress(self.features.indices, self.of_row, values, shape, resolve("cpu"), weights=values)
        return self.features._replace(weights=values), columns, columns._replace(weights=columns.values**2)

    def spread(self, shares: np.ndarray) -> np.ndarray:
        """Return the sums of the squares of centred features, times ``shares`` (n_rows,)."""
        values, mass = self.features.values, shares[self.inside].sum()
        first, second = self._total(shares, values), self._total(shares, values.astype(np.float64) ** 2)
        return np.maximum(second - 2 * self.mean * first + self.mean**2 * mass, 0)

    def curvatures(self, square: float, penalty: Penalty) -> tuple[np.ndarray, np.ndarray]:
        """Return the curvatures of the scores (n_features,): for factors, and for biases.

        A row has the say n a / (n a + rho) on its own factors, with ``a`` the mean square of the other side's.
        """
        of_factors, rho = self.counts * square, penalty.rho(self.counts)
        parts = (of_factors, rho), (self.counts, penalty.bias_reg)
        factors, biases = (self.spread(self.shares * (own / np.maximum(own + pull, 1e-30))) for own, pull in parts)
        return factors, biases

    def _total(self, shares: np.ndarray, values: np.ndarray) -> np.ndarray:
        return np.bincount(self.features.indices, shares[self.of_row] * values, self.n_features)


class Pulls:
    """What the rows of both sides are pulled to, in a fit with or without features.

    Parameters
    ----------
    shrinkage : of the weights of features.
    penalties : of the users' and of the items' rows.
    factors : of the fit; the arrays of :func:`start` are the last of ``memory`` and ``kept``.

    Attributes
    ----------
    users, items : what the rows of each side are pulled to (``known``), and how that is updated (``follow``).
    """

    def __init__(
        self,
        k: int,
        shrinkage: Shrinkage,
        penalties: tuple[Penalty, Penalty],
        ratings: "Ratings",
        factors: Factors,
        device: Device,
    ) -> None:
        self.users, self.items = Pulled(k, ratings.user_counts, device), Pulled(k, ratings.item_counts, device)
        of_users, of_items = ratings.user_features, ratings.item_features
        if of_users is None and of_items is None:
            return
        counts, other_counts = ratings.user_masses, ratings.item_masses
        kept, expected = Kept(*factors.kept[-4:]), factors.memory[-2:]
        if of_users is not None:
            table, intercept = kept.users, kept.user_intercept
            given = shrinkage, penalties[0], of_users.rows, counts, other_counts
            self.users = Featured(k, *given, table, intercept, expected[0], device)
        if of_items is not None:
            table, intercept = kept.items, kept.item_intercept
            given = shrinkage, penalties[1], of_items.rows, other_counts, counts
            self.items = Featured(k, *given, table, intercept, expected[1], device)


def expected_by(ratings: "Ratings", factors: Factors) -> dict[str, Any]:
    """Return what a fit has learned about the features of each side, by the name of the model's attribute."""
    found: dict[str, Any] = {}
    k = factors.users.factors.shape[1]
    if ratings.user_features is not None or ratings.item_features is not None:
        kept = Kept(*factors.kept[-len(Kept._fields) :])
        sides = ("user", kept.users, kept.user_intercept), ("item", kept.items, kept.item_intercept)
        for side, table, intercept in sides:
            if getattr(ratings, f"{side}_features") is not None:
                parts = table[:, :k], intercept[0, :k], table[:, k], intercept[0, k : k + 1]
                found[f"{side}_expected"] = Expected(*map(np.copy, parts))
    return found


def carry(factors: Factors, ratings: "Ratings", learned: dict[str, Expected]) -> None:
    """Start the features from what an earlier model has learned of each side, by "user" and "item", in place."""
    k, kept = factors.users.factors.shape[1], Kept(*factors.kept[-len(Kept._fields) :])
    tables = (
        (kept.users, kept.user_intercept, factors.memory[-2]),
        (kept.items, kept.item_intercept, factors.memory[-1]),
    )
    for side, (table, intercept, expected) in zip(("user", "item"), tables, strict=True):
        if side in learned:
            found, rows = learned[side], getattr(ratings, f"{side}_features").rows
            table[:, :k], table[:, k] = found.weights, found.bias_weights
            intercept[0, :k], intercept[0, k] = found.intercept, found.bias_intercept[0]
            expected[:, :k], expected[:, k] = predicted_by_features(found, rows)
