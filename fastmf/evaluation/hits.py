"""The items that top-n lists should hold, and the places in the lists that hold them.

Items with equal scores have no order of their own. Lists show the lower index first; measures count the worst order: a
wanted item comes after all others of its score. So a constant score is not rewarded for how ids are sorted.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fastmf.evaluation.metrics import ndcg

LIST_LENGTH = 10  # of lists that are only compared with each other
MOST_WATCHED = 10_000  # users, enough for such a comparison


# Ranks the n best items for some lists, given by their places (m,): items and scores as of fastmf.model.topn.top_n.
Rank = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]


class Wanted(NamedTuple):
    """The items that lists should hold: list j is for users[j] and should hold items[m] for every m with lines[m] == j.

    users and items are dense, -1 if unknown; counts (n_lists,) is the number of wanted items of each list.
    """

    users: np.ndarray
    lines: np.ndarray
    items: np.ndarray
    counts: np.ndarray

    def take(self, chosen: np.ndarray) -> "Wanted":
        """Return what some of the lists should hold."""
        place = np.full(len(self.users), -1)
        place[chosen] = np.arange(len(chosen))
        there = place[self.lines] >= 0
        return Wanted(self.users[chosen], place[self.lines[there]], self.items[there], self.counts[chosen])


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


def ranked_hits(rank: Rank, wanted: Wanted, n_items: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return lists of n items, and the places that hold a wanted item if ties count against it: both (n_lists, n).

    Items tied with the last one may not be in the list. As many more items as a user has wanted ones show whether the
    others of that score fill the list.
    """
    found, scores = rank(np.arange(len(wanted.users)), n + 1)
    hits = _delayed(scores, hits_of(found, wanted, n_items, max(n, found.shape[1])))[:, :n]
    if found.shape[1] > n:
        cut = np.flatnonzero((scores[:, n - 1] == scores[:, n]) & (found[:, n] >= 0) & (wanted.counts > 0))
        powers = np.ceil(np.log2(wanted.counts[cut]))
        for power in np.unique(powers):  # so that one long list does not lengthen the others
            chosen = cut[powers == power]
            own = wanted.take(chosen)
            longer, their = rank(chosen, n + int(own.counts.max()))
            hits[chosen] = _delayed(their, hits_of(longer, own, n_items, longer.shape[1]))[:, :n]
    return found[:, :n], hits


def _delayed(scores: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """Move the hits among items of equal scores (n_lists, n) behind the others of that score, in place."""
    ranked = hits[:, : scores.shape[1]]  # what comes after is empty
    tied = np.flatnonzero((scores[:, 1:] == scores[:, :-1]).any(axis=1) & ranked.any(axis=1))
    groups = np.zeros((len(tied), scores.shape[1]), np.int64)
    groups[:, 1:] = np.cumsum(scores[tied, 1:] != scores[tied, :-1], axis=1)
    ranked[tied] = np.sort(2 * groups + ranked[tied], axis=1) % 2
    return hits


def quality(rank: Rank, wanted: Wanted, n_items: int) -> float:
    """Return the mean nDCG of lists of LIST_LENGTH items, ties counted against them."""
    return float(ndcg(ranked_hits(rank, wanted, n_items, LIST_LENGTH)[1], wanted.counts).mean())
