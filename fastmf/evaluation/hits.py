"""The items that top-n lists should hold, and the places in the lists that hold them."""

from typing import NamedTuple

import numpy as np

from fastmf.evaluation.metrics import ndcg

LIST_LENGTH = 10  # of lists that are only compared with each other
MOST_WATCHED = 10_000  # users, enough for such a comparison


class Wanted(NamedTuple):
    """The items that lists should hold: list j is for users[j] and should hold items[m] for every m with lines[m] == j.

    users and items are dense, -1 if unknown; counts (n_lists,) is the number of wanted items of each list.
    """

    users: np.ndarray
    lines: np.ndarray
    items: np.ndarray
    counts: np.ndarray


def wanted_of(pairs: tuple[np.ndarray, np.ndarray], chosen: np.ndarray, users: np.ndarray, items: np.ndarray) -> Wanted:
    """Return the items that lists for the ``chosen`` users should hold.

    Parameters
    ----------
    pairs : the relevant (user, item) pairs, as indices of the held-out ratings; ``chosen`` are some of these users.
    users, items : the model's index of each user and item of the held-out ratings, -1 if unknown.
    """
    line = np.full(len(users), -1)
    line[chosen] = np.arange(len(chosen))
    lines, there = line[pairs[0]], line[pairs[0]] >= 0
    counts = np.bincount(lines[there], minlength=len(chosen))
    return Wanted(users[chosen], lines[there], items[pairs[1][there]], counts)


def fixed_sample(users: np.ndarray) -> np.ndarray:
    """Return a fixed sample of at most MOST_WATCHED users, in order."""
    return np.sort(np.random.default_rng(0).permutation(users)[:MOST_WATCHED])


def hits_of(found: np.ndarray, wanted: Wanted, n_items: int, n: int) -> np.ndarray:
    """Mark the places in lists that hold a wanted item: (n_lists, n) bool.

    ``found`` (n_lists, at most n) holds the lists' items, then -1 where a list is shorter.
    """
    keys, known = wanted.lines.astype(np.int64) * (n_items + 1) + wanted.items, wanted.items >= 0
    keys = np.sort(np.append(keys[known], np.iinfo(np.int64).max))
    ranked = np.arange(len(found))[:, None] * (n_items + 1) + found
    hit = (keys[np.searchsorted(keys, ranked)] == ranked) & (found >= 0)  # np.isin takes five times as long
    return np.pad(hit, ((0, 0), (0, n - hit.shape[1])))


def mean_ndcg(found: np.ndarray, wanted: Wanted, n_items: int) -> float:
    """Return the mean nDCG of lists of LIST_LENGTH items; arguments as for :func:`hits_of`."""
    return float(ndcg(hits_of(found, wanted, n_items, LIST_LENGTH), wanted.counts).mean())
