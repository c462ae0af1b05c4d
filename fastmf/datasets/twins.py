"""Synthetic twins of MovieLens sets, drawn from known models.

A twin has a real set's numbers of users, items and ratings, and the same skewed activity and popularity. Its ratings
come from a known model of rank 8, so the best possible RMSE is known. :mod:`fastmf.kernels.twins` draws the rows.
"""

import os
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastmf.data.atomic import check_outputs
from fastmf.data.write import write_parquet
from fastmf.datasets.movielens import Dataset
from fastmf.errors import ParameterError, counted, require_integer
from fastmf.kernels import random, twins
from fastmf.kernels.tasks import balanced
from fastmf.runtime.device import resolve
from fastmf.runtime.launch import launch
from fastmf.runtime.memory import require_memory

MEAN, NOISE = 3.53, 0.75
USER_BIAS, ITEM_BIAS, POPULARITY_BIAS = 0.40, 0.38, 0.25
FACTORS = 0.62 * np.sqrt([0.26, 0.22, 0.19, 0.17, 0.15, 0.13, 0.11, 0.10])
ACTIVITY_SIGMA, ACTIVITY_FLOOR = 1.25, 20
POPULARITY_SHIFT, POPULARITY_SLOPE = 60.0, -1.55
BYTES_PER_RATING = 32  # users, items and ratings; their ids and the encoded pages while they are written
FIRST_DAY, LAST_DAY = 9_496, 16_436  # 1996-01-01 and 2015-01-01, in days since 1970
DAY, PER_SESSION, SESSION_LENGTH = 86_400, 25, 5_400  # seconds, mean number of ratings, seconds
DAYS_APART = 12  # mean days from one session of a user to the next
MAX_SCALE = 10_000  # at this scale of ml-20m, the indices still fit in 31 bits

ACTIVITY, RANKS, USER_BIASES, ITEM_BIASES, USER_FACTORS, ITEM_FACTORS = (np.uint64(16 + n) for n in range(6))
BEGINNINGS, GAPS, SESSIONS, OFFSETS = (np.uint64(32 + n) for n in range(4))

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The size of a twin: its numbers of users, items and ratings, and the most ratings that one user may have."""

    users: int
    items: int
    ratings: int
    cap: int


TWINS = {
    "ml-20m": Shape(users=138_493, items=26_744, ratings=20_000_263, cap=9_254),
    "ml-latest-small": Shape(users=610, items=9_724, ratings=100_836, cap=2_698),
}


class Twin(NamedTuple):
    """A synthetic rating matrix and the model it was drawn from.

    users and items (n,) int32 are indices from 0, ratings (n,) float32 are half stars; rows are in (user, item) order.
    A written file holds the indices plus 1. ranks (n_items,) int64 are the items' popularity ranks from 1. truth is the
    model.
    """

    name: str
    users: npt.NDArray[np.int32]
    items: npt.NDArray[np.int32]
    ratings: Floats
    n_users: int
    n_items: int
    ranks: npt.NDArray[np.int64]
    truth: twins.Truth

    def predict(self, users: npt.NDArray[Any], items: npt.NDArray[Any]) -> Floats:
        """Predict pairs with the true model: without noise, clipped to .5 to 5, not rounded."""
        truth, result = self.truth, np.empty(len(users), np.float32)
        for first in range(0, len(users), 1 << 18):  # the gathered factors of 20 M pairs would take 1.3 GB
            part = slice(first, first + (1 << 18))
            user, item = users[part], items[part]
            exact = truth.mean + truth.user_bias[user] + truth.item_bias[item]
            exact += np.einsum("nf,nf->n", truth.user_factors[user], truth.item_factors[item])
            result[part] = np.clip(exact, 0.5, 5.0)
        return result


def synthesize(like: str = "ml-20m", *, scale: float = 1.0, seed: int = 0) -> Twin:
    """Draw the synthetic twin of a MovieLens set.

    Parameters
    ----------
    like : "ml-20m" or "ml-latest-small".
    scale : multiplies the users, the items and the ratings. Ratings per user stay the same, so a smaller matrix
        is denser; at the smallest scale every user has rated every item.
    seed : the same seed gives the same bytes at any thread count (on one machine type with fixed library versions).

    Returns
    -------
    A Twin of exactly this shape: pairs are unique, and every user and item has at least one rating. User activity is
    log-normal, clipped to between 20 and the real set's maximum. Items are drawn without replacement with probability
    proportional to (rank + 60)^-1.55. Then ``r = 3.53 + b_u + c_i + p_u·q_i + noise``, in half stars. The popularity in
    c_i is the log of an item's number of ratings, minus its mean over the ratings (so that 3.53 is the mean rating),
    divided by its standard deviation over the items.

    Raises
    ------
    ParameterError
        For an unknown twin, a scale out of range or too small for the number of ratings, or a bad seed.
    ResourceError
        If the machine has too little memory.

    Examples
    --------
    >>> twin = synthesize("ml-latest-small", scale=0.05)
    >>> twin.n_users, twin.n_items, len(twin.ratings)
    (30, 486, 5042)
    """
    shape = scaled(like, scale)
    require_integer("seed", seed, 0, 2**64 - 1)
    what = f"a twin of {shape.ratings:,} ratings"
    require_memory(shape.ratings * BYTES_PER_RATING, what, None, "take a smaller scale")
    return draw(shape, np.uint64(seed), name=f"{like} twin, scale {scale:g}, seed {seed}")


def draw(shape: Shape, seed: np.uint64, *, name: str) -> Twin:
    """Draw a twin of any shape by the recipe of :func:`synthesize`."""
    counts = _activity(twins.normals_numpy(seed, ACTIVITY, shape.users), shape)
    indptr = np.zeros(shape.users + 1, np.int64)
    np.cumsum(counts, out=indptr[1:])
    order = np.argsort(random.bits_numpy(seed, RANKS, 0, np.arange(shape.items, dtype=np.uint64)))
    ranks = np.empty(shape.items, np.int64)
    ranks[order] = np.arange(1, shape.items + 1)
    popularity = twins.popularity((ranks + POPULARITY_SHIFT) ** POPULARITY_SLOPE)
    items = np.empty(shape.ratings, np.int32)
    device, tasks = resolve("cpu"), balanced(indptr, 1, 0)
    launch(twins.DRAW_ITEMS, device, tasks, indptr, popularity, seed, items)
    twins.cover_items(indptr, items, shape.items, seed)
    truth = _truth(shape, np.bincount(items, minlength=shape.items), seed)
    ratings = np.empty(shape.ratings, np.float32)
    launch(twins.RATE_ITEMS, device, tasks, indptr, items, truth, seed, ratings)
    users = np.repeat(np.arange(shape.users, dtype=np.int32), counts)
    return Twin(name, users, items, ratings, shape.users, shape.items, ranks, truth)


def draw_times(twin: Twin, seed: np.uint64) -> npt.NDArray[np.int64]:
    """Draw when each row of a twin was rated, (n,) int64 seconds since 1970, from streams of its own.

    A user has one session for about every PER_SESSION ratings, a random number of days apart, all between FIRST_DAY and
    LAST_DAY. A rating falls into a random session of its user, whatever its item.
    """
    users = np.arange(twin.n_users, dtype=np.uint64)
    begin, gap = (random.units_numpy(random.bits_numpy(seed, stream, 0, users)) for stream in (BEGINNINGS, GAPS))
    n_sessions = -(-np.bincount(twin.users, minlength=twin.n_users) // PER_SESSION)
    first = FIRST_DAY + begin * (LAST_DAY - 1 - FIRST_DAY)
    apart = np.minimum(-np.log(gap) * DAYS_APART + 0.5, (LAST_DAY - first) / n_sessions)
    times = np.empty(len(twin.users), np.int64)
    for start in range(0, len(times), 1 << 18):  # small enough for the caches
        part = slice(start, start + (1 << 18))
        user, rows = twin.users[part], np.arange(start, min(start + (1 << 18), len(times)), dtype=np.uint64)
        session = random.units_numpy(random.bits_numpy(seed, SESSIONS, 0, rows)) * n_sessions[user]
        offset = random.units_numpy(random.bits_numpy(seed, OFFSETS, 0, rows)) * SESSION_LENGTH
        begun = first[user] + (np.ceil(session) - 1) * apart[user]
        times[part] = begun * DAY + offset
    return times


def write_twin(
    path: str | os.PathLike[str],
    like: str = "ml-20m",
    *,
    scale: float = 1.0,
    seed: int = 0,
    titles: str | os.PathLike[str] | None = None,
    timestamps: bool = True,
    overwrite: bool = False,
) -> Dataset:
    """Write a twin as Parquet: userId and movieId (int32, from 1), rating (float32) and timestamp (int64 seconds).

    Rows are sorted by user, then item.

    Parameters
    ----------
    path : the file to write; its folder must exist.
    like, scale, seed : as in :func:`synthesize`.
    titles : a second file to write, with movieId and title, such as ``Item 17 (popularity rank 3)``.
    timestamps : whether to write times; see :func:`draw_times`. They change nothing in the other columns.
    overwrite : replace existing files.

    Raises
    ------
    ParameterError, ResourceError, OSError
        As :func:`synthesize` and :func:`fastmf.data.atomic.check_outputs`, before anything is drawn.
    """
    outputs = check_outputs([output for output in (path, titles) if output is not None], overwrite)
    twin = synthesize(like, scale=scale, seed=seed)
    if titles is not None:
        ids = np.arange(1, twin.n_items + 1, dtype=np.int32)
        names = [f"Item {item} (popularity rank {rank})" for item, rank in enumerate(twin.ranks.tolist(), start=1)]
        write_parquet({"movieId": ids, "title": names}, outputs[1], overwrite=overwrite)
    rows = {"userId": twin.users + np.int32(1), "movieId": twin.items + np.int32(1), "rating": twin.ratings}
    if timestamps:
        rows["timestamp"] = draw_times(twin, np.uint64(seed))
    write_parquet(rows, outputs[0], overwrite=overwrite)
    size = (
        f"{counted(len(twin.ratings), 'rating')} of {counted(twin.n_items, 'item')} by {counted(twin.n_users, 'user')}"
    )
    note = f"synthetic {twin.name}: {size}"
    return Dataset(name=f"{like}-twin", path=outputs[0], real=False, note=note)


def scaled(like: str, scale: float) -> Shape:
    """Return the shape of a twin at a scale; raise a ParameterError if there is none."""
    if like not in TWINS:
        raise ParameterError(f"there is no twin of {like!r}; there are {', '.join(sorted(TWINS))}")
    full = TWINS[like]
    if not 0 < scale <= MAX_SCALE:
        raise ParameterError(f"scale is {scale}; it must be above 0 and at most {MAX_SCALE:,}")
    users, items, ratings = (round(scale * n) for n in (full.users, full.items, full.ratings))
    if ratings > users * items or ratings == 0:
        least = full.ratings / full.users / full.items
        raise ParameterError(
            f"scale {scale:g} of {like} asks for {ratings:,} ratings of only {users * items:,} pairs "
            f"({users:,} users, {items:,} items); take a scale above {least:.2g}"
        )
    return Shape(users=users, items=items, ratings=ratings, cap=min(full.cap, items))


def _activity(normals: npt.NDArray[np.float64], shape: Shape) -> npt.NDArray[np.int64]:
    """Draw each user's number of ratings: log-normal, clipped to floor and cap, ``shape.ratings`` in total."""
    floor = min(ACTIVITY_FLOOR, shape.ratings // shape.users)

    def counts_at(log_median: float) -> npt.NDArray[np.int64]:
        return np.clip(np.rint(np.exp(log_median + ACTIVITY_SIGMA * normals)), floor, shape.cap).astype(np.int64)

    low, high = -20.0, 40.0
    while (middle := (low + high) / 2) not in (low, high):
        if counts_at(middle).sum() > shape.ratings:
            high = middle
        else:
            low = middle
    counts = counts_at(low)
    while (short := shape.ratings - int(counts.sum())) > 0:  # several users' counts may step at the same median
        counts[np.flatnonzero(counts < shape.cap)[:short]] += 1
    return counts


def _truth(shape: Shape, n_ratings_of: npt.NDArray[np.int64], seed: np.uint64) -> twins.Truth:
    logs = np.log(n_ratings_of)
    popularity = (logs - np.average(logs, weights=n_ratings_of)) / (logs.std() or 1.0)
    item_bias = POPULARITY_BIAS * popularity + ITEM_BIAS * twins.normals_numpy(seed, ITEM_BIASES, shape.items)
    user_bias = USER_BIAS * twins.normals_numpy(seed, USER_BIASES, shape.users)

    def factors(stream: np.uint64, n_rows: int) -> Floats:
        normals: npt.NDArray[np.float64] = twins.normals_numpy(seed, stream, n_rows * len(FACTORS))
        return (normals.reshape(n_rows, len(FACTORS)) * FACTORS).astype(np.float32)

    return twins.Truth(
        mean=MEAN,
        noise=NOISE,
        user_bias=user_bias.astype(np.float32),
        item_bias=item_bias.astype(np.float32),
        user_factors=factors(USER_FACTORS, shape.users),
        item_factors=factors(ITEM_FACTORS, shape.items),
    )
