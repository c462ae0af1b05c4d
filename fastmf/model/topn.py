"""Top-n lists over dense indices: the best items of users, the nearest rows of a factor matrix, what to leave out."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastmf.data import csr
from fastmf.errors import ParameterError
from fastmf.kernels.tasks import even
from fastmf.kernels.topn import TOPN, catalogue
from fastmf.kernels.types import Compressed, Side
from fastmf.runtime.device import Device, resolve
from fastmf.runtime.launch import launch

# Added to the cosine of rows without direction, so that they rank after everything that has one.
_LAST = np.float32(-4)

USERS_PER_TASK = 96

MOST_WATCHED = 10_000  # users, where lists are only to be compared


def compress(rows: np.ndarray, columns: np.ndarray, n_rows: int) -> Compressed:
    """Group columns (n,) int32 by row, keeping their order within a row; there are no values."""
    rows, columns = rows.astype(np.int32, copy=False), columns.astype(np.int32, copy=False)
    shape = n_rows, int(columns.max(initial=0)) + 1
    return csr.compress(rows, columns, np.zeros(len(rows), np.float32), shape, resolve("cpu"))


def left_out(users: np.ndarray, lists: Sequence[Compressed]) -> Compressed:
    """Join, for each of ``users`` (dense, -1: nobody), that user's rows of some lists: row j belongs to users[j].

    One list for all users in their order is what it is, and comes back uncopied.
    """
    if len(lists) == 1 and np.array_equal(users, np.arange(len(lists[0].indptr) - 1)):
        return lists[0]
    # np.append: user -1 reads the last row of the extended indptr, which is empty
    counts = [np.diff(np.append(each.indptr, each.indptr[-1]))[users] for each in lists]
    indptr = np.append(0, np.cumsum(sum(counts, np.zeros(len(users), np.int64))))
    parts = [each.indices[_ranges(each.indptr[users], count)] for each, count in zip(lists, counts, strict=True)]
    columns = parts[0] if len(parts) == 1 else np.empty(indptr[-1], np.int32)
    starts = indptr[:-1]
    for part, count in zip(parts, counts, strict=True):
        if part is not columns:
            columns[_ranges(starts, count)] = part
        starts = starts + count
    return Compressed(indptr, columns, np.empty(0, np.float32))


def _ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Write ranges of whole numbers one after another."""
    numbers = np.repeat(starts - np.cumsum(counts) + counts, counts)
    numbers += np.arange(len(numbers))
    return numbers


def lengths(n: Any, n_users: int) -> np.ndarray:
    """Check the lengths of lists, one for all or one each: (n_users,) int64."""
    given = np.asarray(n)
    whole = given.dtype.kind in "iu" and given.ndim < 2 and not isinstance(n, bool)
    if not whole or given.min(initial=1) < 1:
        raise ParameterError(f"n is {n!r}: give an integer of at least 1, or one for each user")
    if given.ndim and len(given) != n_users:
        raise ParameterError(f"{len(given):,} lengths for {n_users:,} users: give one for each, or one for all")
    return np.broadcast_to(given, n_users).astype(np.int64)


def best(
    user_side: Side, item_side: Side, excluded: Compressed, n: int, device: Device | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Rank the n best items of every user; items with a bias of -inf and those of the user's row of excluded are out.

    Returns
    -------
    items (n_users, n) int32 and scores (n_users, n) float32; lists that run out of items end in -1 and -inf.

    Raises
    ------
    ParameterError
        If n is less than 1.
    """
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise ParameterError(f"n is {n!r}: give an integer of at least 1")
    n_users, n_items = len(user_side.bias), len(item_side.bias)
    shape = (n_users, min(n, n_items))
    items, scores = np.empty(shape, np.int32), np.empty(shape, np.float32)
    tasks, ready = even(n_users, USERS_PER_TASK), catalogue(item_side, user_side.factors)
    launch(TOPN, device or resolve("cpu"), tasks, user_side, ready, excluded, items, scores)
    return items, scores


def most_rated(counts: np.ndarray, n: int, excluded: Compressed) -> tuple[np.ndarray, np.ndarray]:
    """Rank for every row of ``excluded`` the n items of most ratings, counts (n_items,), but its own; as :func:`best`.

    Scores are the logarithms of the counts.
    """
    n_users = len(excluded.indptr) - 1
    with np.errstate(divide="ignore"):
        popular = Side(np.zeros((len(counts), 1), np.float32), np.log(counts).astype(np.float32))
    nobody = Side(np.zeros((n_users, 1), np.float32), np.zeros(n_users, np.float32))
    return best(nobody, popular, excluded, n)


def overlap(seen: tuple[np.ndarray, np.ndarray], users: np.ndarray, items: np.ndarray, n_items: int) -> int:
    """Count the pairs (dense, -1: unknown) that are among those ``seen``: (indptr, indices), sorted within rows."""
    indptr, indices = seen
    known = (users >= 0) & (items >= 0)
    wanted = users[known] * np.int64(n_items) + items[known]
    there = np.repeat(np.arange(len(indptr) - 1, dtype=np.int64) * n_items, np.diff(indptr)) + indices
    place = np.minimum(np.searchsorted(there, wanted), max(len(there) - 1, 0))
    return int(np.count_nonzero(there[place] == wanted)) if len(there) else 0


class Wanted(NamedTuple):
    """What lists should hold: list j is for users[j] (dense, -1: unknown), and pairs (line, item) are to be in them.

    items are dense, -1 where unknown; counts (n_lists,) are the pairs of each list.
    """

    users: np.ndarray
    lines: np.ndarray
    items: np.ndarray
    counts: np.ndarray


def wanted(pairs: tuple[np.ndarray, np.ndarray], chosen: np.ndarray, users: np.ndarray, items: np.ndarray) -> Wanted:
    """Say what lists should hold for the ``chosen`` of some users, by the pairs (user, item) that are relevant.

    ``users`` and ``items`` say what the model calls those of the pairs, -1 for nothing.
    """
    line = np.full(len(users), -1)
    line[chosen] = np.arange(len(chosen))
    lines, there = line[pairs[0]], line[pairs[0]] >= 0
    return Wanted(users[chosen], lines[there], items[pairs[1][there]], np.bincount(lines[there], minlength=len(chosen)))


def sampled(candidates: np.ndarray) -> np.ndarray:
    """Choose of some users those to watch, at most MOST_WATCHED, in order and always the same."""
    return np.sort(np.random.default_rng(0).permutation(candidates)[:MOST_WATCHED])


def hits(found: np.ndarray, wanted: Wanted, n_items: int, n: int) -> np.ndarray:
    """Say which places of lists, items or -1, hold what is wanted: (n_lists, n) bool, False where lists are shorter."""
    keys, known = wanted.lines.astype(np.int64) * (n_items + 1) + wanted.items, wanted.items >= 0
    keys = np.sort(np.append(keys[known], np.iinfo(np.int64).max))
    ranked = np.arange(len(found))[:, None] * (n_items + 1) + found
    hit = (keys[np.searchsorted(keys, ranked)] == ranked) & (found >= 0)  # np.isin takes five times as long
    return np.pad(hit, ((0, 0), (0, n - hit.shape[1])))


def nearest(factors: np.ndarray, counts: np.ndarray, wanted: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Rank the n rows nearest to each wanted row by cosine, without itself and without cold rows (count 0).

    Rows whose factors are all zero have cosine 0 to everything and come last. Returns as :func:`best`.
    """
    norms = np.linalg.norm(factors.astype(np.float64), axis=1)  # float32 has no room for the squares of large factors
    unit = (factors / np.where(norms > 0, norms, 1)[:, None]).astype(np.float32)
    bias = np.where(counts == 0, np.float32(-np.inf), np.where(norms > 0, np.float32(0), _LAST))
    queries = Side(unit[wanted], np.zeros(len(wanted), np.float32))
    itself = Compressed(np.arange(len(wanted) + 1), wanted.astype(np.int32, copy=False), np.empty(0, np.float32))
    rows, cosines = best(queries, Side(unit, bias), itself, n)
    cosines[(rows >= 0) & (cosines < _LAST / 2)] = 0
    return rows, np.where(rows >= 0, np.clip(cosines, -1, 1), cosines)
