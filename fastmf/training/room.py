"""The memory that a fit needs, checked before it begins."""

from typing import NamedTuple

from fastmf.data.ratings import Ratings
from fastmf.runtime.device import Device
from fastmf.runtime.memory import require_memory
from fastmf.solvers.base import Solver

BYTES_HELD = 12  # per rating, in Ratings
BYTES_PER_RATING = 12  # added by training: the standardised value, and two compressed views of it
BYTES_PER_WEIGHT = 4  # added by training if ratings have weights: one of the views copies them
BYTES_CHOSEN = 12  # added by learning the choice: two views of the chosen ratings, about half of all
BYTES_ON_GPU = 28  # per rating: both views, and the pairs whose errors are measured


class Data(NamedTuple):
    """What a plan reads: training ratings, validation ratings if any, and counts of all rows."""

    ratings: Ratings
    validation: Ratings | None
    rows: dict[str, int]


def require_room(
    solver: Solver,
    device: Device,
    limit: int | None,
    data: Data | None = None,
    choice: bool = False,
    spilled: bool = False,
) -> None:
    """Raise a ResourceError, with the numbers, if memory cannot hold a fit.

    It has to hold the factors, each thread's equations, what training derives from the ratings, and what learning the
    ``choice`` adds. Without ``data``, one user and one item are assumed. Ratings already in memory count against a
    given ``limit``; the machine's available memory excludes them already. Of ``spilled`` ratings only the factors
    count, and these against the available memory.
    """
    n_rows, what = 2, f"fitting k = {solver.k:,} factors"
    of_ratings = on_gpu = of_features = 0
    if data is not None:
        ratings, weight = data.ratings, 0 if data.ratings.weights is None else BYTES_PER_WEIGHT
        n_rows = ratings.n_users + ratings.n_items
        what += f" of {n_rows:,} users and items"
        of_ratings = len(ratings) * (BYTES_PER_RATING + weight + BYTES_CHOSEN * choice)
        on_gpu = len(ratings) * (BYTES_ON_GPU + 2 * weight)
        if limit is not None:
            of_ratings += BYTES_HELD * (len(ratings) + (0 if data.validation is None else len(data.validation)))
        of_features = _bytes_of_features(ratings, solver.k)
        spilled = ratings.spill is not None
    threads = device.threads if device.name == "cpu" else 0
    need = (solver.bytes_per_row + 3 * 4 * solver.k * choice) * n_rows + threads * solver.bytes_per_thread + of_features
    if spilled:
        require_memory(need, what, None, "use a smaller k")
    else:
        remedy = "use a smaller k, or set another limit with --memory-limit (memory_limit=)"
        remedy += ", or keep the ratings on disk with --spill (spill=)" * (solver.spills and of_ratings > 0)
        require_memory(need + of_ratings, what, limit, remedy)
    device.require(solver.k, on_gpu + max(solver.bytes_per_row, 4 * 4 * solver.k) * n_rows, what)


def _bytes_of_features(ratings: Ratings, k: int) -> int:
    """Return the bytes of the tables that side features need: five for each row, seven for each feature."""
    sides = [each for each in (ratings.user_features, ratings.item_features) if each is not None]
    return sum(4 * (k + 1) * (5 * len(each) + 7 * each.encoding.n_features) for each in sides)
