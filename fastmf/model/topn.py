"""Top-n lists over dense indices: the best items of each user, and the items to leave out."""

from collections.abc import Sequence

import numpy as np

from fastmf.data.csr import ranges
from fastmf.errors import require_integer
from fastmf.kernels.tasks import even
from fastmf.kernels.topn import TOPN, catalogue
from fastmf.kernels.types import Compressed, Side
from fastmf.model.frozen import thawed
from fastmf.runtime.device import Device, resolve
from fastmf.runtime.launch import launch

USERS_PER_TASK = 192  # at most: as many as are ranked at once
MOST = 1e9  # operations of a task, about 0.02 s


def top_n(
    users: Side, items: Side, excluded: Compressed, n: int, device: Device | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Rank the n best items of every user by score: user bias + item bias + dot product.

    Row u of ``excluded`` holds the items to leave out for user u. Items with a bias of -inf are left out for all users.

    Returns
    -------
    items (n_users, n) int32 and scores (n_users, n) float32, best first, ties by lower index. Places left over
    at the end of a list hold -1 and -inf.

    Raises
    ------
    ParameterError
        If n is less than 1.
    """
    require_integer("n", n, 1)
    users, items, excluded = thawed((users, items, excluded))
    shape = (len(users.bias), min(n, len(items.bias)))
    found, scores = np.empty(shape, np.int32), np.empty(shape, np.float32)
    per_user = 2.0 * items.factors.size
    tasks = even(len(users.bias), min(USERS_PER_TASK, max(int(MOST / per_user), 1)))
    ready = catalogue(items, users.factors)
    launch(TOPN, device or resolve("cpu"), tasks, users, ready, excluded, found, scores)
    return found, scores


def most_rated(counts: np.ndarray, n: int, excluded: Compressed) -> tuple[np.ndarray, np.ndarray]:
    """Rank the n most rated items for every row of ``excluded``; counts (n_items,) are of ratings.

    Returns what :func:`top_n` returns. Equal counts have equal scores, and only they: a score is the rank of the count.
    Items without ratings are left out.
    """
    n_users = len(excluded.indptr) - 1
    _, ranks = np.unique(counts, return_inverse=True)  # float32 has no steps of 1 above 2^24
    popular = Side(np.zeros((len(counts), 1), np.float32), np.where(counts > 0, ranks + np.float32(1), -np.inf))
    anybody = Side(np.zeros((n_users, 1), np.float32), np.zeros(n_users, np.float32))
    return top_n(anybody, popular, excluded, n)


def rows_of(users: np.ndarray, lists: Sequence[Compressed]) -> Compressed:
    """Concatenate, for each of ``users``, that user's rows of several lists; row j belongs to users[j].

    Users are dense indices; -1 (unknown) has an empty row. Values are dropped. A single list is returned uncopied if
    ``users`` are exactly its rows, in order.
    """
    if len(lists) == 1 and np.array_equal(users, np.arange(len(lists[0].indptr) - 1)):
        return lists[0]
    # User -1 reads the last difference of the appended indptr, which is 0.
    counts = [np.diff(np.append(each.indptr, each.indptr[-1]))[users] for each in lists]
    indptr = np.append(0, np.cumsum(sum(counts, np.zeros(len(users), np.int64))))
    columns, starts = np.empty(indptr[-1], np.int32), indptr[:-1]
    for each, count in zip(lists, counts, strict=True):
        columns[ranges(starts, count)] = each.indices[ranges(each.indptr[users], count)]
        starts = starts + count
    return Compressed(indptr, columns, np.empty(0, np.float32))
