"""Categories that are over-represented among the items at an end of an axis, with a test that names no noise.

Items that many have rated lie further out, and are of other categories than the rest. So items are compared with those
of like popularity: within each of some strata of popularity, the lowest and the highest tenth of the items are the two
ends of an axis. A category's score is z = (count - expected) / deviation, for its count at an end, against drawing as
many items of each stratum at random. The p-value of z is the share of PERMUTATIONS random draws in which *any* category
scores as high (max-T; Westfall and Young 1993), and 1 - (1 - p)^n over the n ends that are looked at (Sidak 1967).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastmf.data.csr import ranges
from fastmf.data.encoding import CATEGORIES
from fastmf.data.features import Features

TAIL = 0.1  # of the items of a stratum are at each end
STRATA, PER_STRATUM = 10, 50  # strata at most, and items in each at least
LEAST = 10  # items of a category, and items without it
PERMUTATIONS = 999
SIGNIFICANT = 0.05


class Groups(NamedTuple):
    """Sets of items: entry e says that item ``items[e]`` is in group ``groups[e]``, of those in ``names``."""

    names: Sequence[str]
    items: np.ndarray
    groups: np.ndarray


def groups_of(features: Features, places: np.ndarray) -> Groups:
    """Return the groups that features make of items: a category is one; a number makes a lowest and a highest third.

    ``places`` (n_items,) are rows of the features, -1 for items without any.
    """
    indptr, indices, values, _ = features.rows
    there = np.flatnonzero(places >= 0)
    sizes = np.diff(indptr)[places[there]]
    entries = ranges(indptr[places[there]], sizes)
    items, found = np.repeat(there, sizes), indices[entries]
    names: list[str] = []
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    bounds = features.encoding.starts
    for column, first, stop in zip(features.encoding.columns, bounds, bounds[1:], strict=False):
        own = (found >= first) & (found < stop)
        if column.kind in CATEGORIES:
            parts.append((items[own], found[own] - first + len(names)))
            names += features.encoding.names[first:stop].to_pylist()
            continue
        for feature, place in enumerate(column.places, int(first)):
            one = found == feature
            numbers = values[entries[one]] * column.deviations[place] + column.means[place]
            thirds = np.quantile(numbers, (1 / 3, 2 / 3)) if len(numbers) else (0.0, 0.0)
            name = features.encoding.names[feature].as_py()
            for sign, bound, inside in (("≤", thirds[0], numbers <= thirds[0]), ("≥", thirds[1], numbers >= thirds[1])):
                parts.append((items[one][inside], np.full(inside.sum(), len(names))))
                names.append(f"{name} {sign} {bound:.4g}")
    where, which = (np.concatenate(each).astype(np.int64) for each in zip(*parts, strict=True))
    return Groups(names, where, which)


class Strata:
    """Items in strata of popularity, each ordered by popularity; ``counts`` (n_items,) are their ratings."""

    def __init__(self, counts: np.ndarray) -> None:
        n = len(counts)
        n_strata = min(max(n // PER_STRATUM, 1), STRATA)
        self.members = np.array_split(np.argsort(counts, kind="stable"), n_strata)
        self.tails = [min(max(round(TAIL * len(each)), 1), len(each) // 2) for each in self.members]

    def ends(self, coordinates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the items (m,) at the low end and at the high end of coordinates (n_items,)."""
        ordered = [each[np.argsort(coordinates[each], kind="stable")] for each in self.members]
        low = np.concatenate([each[:tail] for each, tail in zip(ordered, self.tails, strict=True)])
        high = np.concatenate([each[len(each) - tail :] for each, tail in zip(ordered, self.tails, strict=True)])
        return low, high

    def moments(self, groups: Groups, n_items: int) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and variance of each group's count at a random end: sums of hypergeometric ones."""
        mean, variance = np.zeros(len(groups.names)), np.zeros(len(groups.names))
        for members, m in zip(self.members, self.tails, strict=True):
            n = len(members)
            share = _counts(groups, members, n_items) / n
            mean += m * share
            variance += m * share * (1 - share) * (n - m) / max(n - 1, 1)
        return mean, variance

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Draw a random end: as many items of each stratum as a true one has."""
        drawn = (
            members[rng.choice(len(members), tail, replace=False, shuffle=False)]
            for members, tail in zip(self.members, self.tails, strict=True)
        )
        return np.concatenate(list(drawn))


def enriched(groups: Groups, coordinates: np.ndarray, counts: np.ndarray) -> list[dict[str, Any]]:
    """Find the groups over-represented at the ends of each axis, by falling score.

    ``coordinates`` (n_items, n_axes), ``counts`` (n_items,). Each found group is a dict of axis (the column), end,
    category, items (how many of it are at the end), expected, and p_value.
    """
    n_items, n_axes = coordinates.shape
    groups = _large(groups, n_items)
    if not groups.names or not n_axes:
        return []
    strata = Strata(counts)
    mean, variance = strata.moments(groups, n_items)
    deviation = np.sqrt(np.maximum(variance, np.finfo(float).tiny))
    rng = np.random.default_rng(0)
    highest = np.array(
        [np.max((_counts(groups, strata.draw(rng), n_items) - mean) / deviation) for _ in range(PERMUTATIONS)]
    )
    found = []
    for axis in range(n_axes):
        for end, items in zip(("low", "high"), strata.ends(coordinates[:, axis]), strict=True):
            there = _counts(groups, items, n_items)
            scores = (there - mean) / deviation
            for group in np.argsort(-scores, kind="stable"):
                p = (1 + np.count_nonzero(highest >= scores[group])) / (1 + PERMUTATIONS)
                p_value = 1 - (1 - p) ** (2 * n_axes)
                if p_value > SIGNIFICANT:
                    break
                found.append(
                    {"axis": axis, "end": end, "category": groups.names[int(group)], "items": int(there[group]),
                     "expected": float(mean[group]), "p_value": p_value}
                )  # fmt: skip
    return found


def _counts(groups: Groups, items: np.ndarray, n_items: int) -> np.ndarray:
    """Count each group's members among ``items``."""
    chosen = np.zeros(n_items, bool)
    chosen[items] = True
    return np.bincount(groups.groups[chosen[groups.items]], minlength=len(groups.names))


def _large(groups: Groups, n_items: int) -> Groups:
    """Leave out groups that hold, or lack, fewer than LEAST items: nothing can be said of them."""
    sizes = np.bincount(groups.groups, minlength=len(groups.names))
    kept = np.flatnonzero((sizes >= LEAST) & (sizes <= n_items - LEAST))
    place = np.full(len(groups.names), -1)
    place[kept] = np.arange(len(kept))
    entries = place[groups.groups] >= 0
    names = [groups.names[int(group)] for group in kept]
    return Groups(names, groups.items[entries], place[groups.groups[entries]])
