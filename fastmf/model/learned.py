"""What only some models have beside factors and biases: groups of arrays (float32) that their solvers have learned."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np


class Baseline(NamedTuple):
    """Biases fitted without factors, on the rating scale: user_bias (n_users,), item_bias (n_items,)."""

    user_bias: np.ndarray
    item_bias: np.ndarray


class Links(NamedTuple):
    """What a user's rated items say of the user's factors beforehand; see :mod:`fastmf.solvers.links`.

    items (n_items, k), a vector for each item; origin (k,), the mean user, which the model's user factors are counted
    from if it has biases. Both are for standardised ratings.
    """

    items: np.ndarray
    origin: np.ndarray


class Prior(NamedTuple):
    """What users are drawn around by a model of :mod:`fastmf.solvers.gibbs`, mean values over its sweeps.

    precision (k, k) and mean (k,) of the factors; items (n_items,), their precisions; numbers (3,): alpha, and of the
    biases p and p m, both 0 without biases; origin (k,), the mean user, which the model's users are counted from.
    """

    precision: np.ndarray
    mean: np.ndarray
    items: np.ndarray
    numbers: np.ndarray
    origin: np.ndarray


class Samples(NamedTuple):
    """Whole draws of all that predictions are made of, for standardised ratings, one line a sample.

    user_factors (n, n_users, k), user_bias and user_precisions (n, n_users), and the items' likewise. A rating has the
    precision of its user times that of its item.
    """

    user_factors: np.ndarray
    user_bias: np.ndarray
    user_precisions: np.ndarray
    item_factors: np.ndarray
    item_bias: np.ndarray
    item_precisions: np.ndarray


# The attributes of a model, and the shapes of their parts in the order of these.
KINDS: dict[str, Any] = {"baseline": Baseline, "links": Links, "prior": Prior, "samples": Samples}
SHAPES: dict[str, tuple[tuple[str, ...], ...]] = {
    "baseline": (("users",), ("items",)),
    "links": (("items", "k"), ("k",)),
    "prior": (("k", "k"), ("k",), ("items",), ("numbers",), ("k",)),
    "samples": tuple(("samples", side, *more) for side in ("users", "items") for more in (("k",), (), ())),
}


def flat(groups: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Name each array of the groups that are there by its group and its part."""
    there = {name: group for name, group in groups.items() if group is not None}
    return {f"{name}_{part}": array for name, group in there.items() for part, array in group._asdict().items()}


def grouped(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Take the arrays of whole groups out of ``arrays``, and make the groups of them."""
    return {
        name: kind(*(arrays.pop(f"{name}_{part}") for part in kind._fields))
        for name, kind in KINDS.items()
        if f"{name}_{kind._fields[0]}" in arrays
    }
