"""Vectors for an index of nearest neighbours: one for each user and item, ranked by their inner products.

A predicted rating is mean + b_u + c_i + x_u . y_i. For one user, mean and b_u are the same for all items, so
(x_u, 1) . (y_i, c_i) ranks items exactly as :meth:`fastmf.Model.recommend` does. Scores by choice are inner products.
"""

from typing import NamedTuple

import numpy as np

from fastmf.errors import ParameterError, require_choice
from fastmf.kernels.types import Side
from fastmf.model.raw_ids import RawIds
from fastmf.model.recommend import ranked_sides, ranking_of
from fastmf.model.similar import similar_vectors
from fastmf.model.state import State

KINDS = "recommend", "similar"


class Vectors(NamedTuple):
    """Vectors of users and items, and their ids: row n of ``users`` belongs to ``user_ids[n]``.

    Ids are those of the model, ``users`` (n_users, width) and ``items`` (n_items, width) float32.
    """

    user_ids: RawIds
    users: np.ndarray
    item_ids: RawIds
    items: np.ndarray


def vectors_of(state: State, kind: str, rank_by: str | None) -> Vectors:
    """Return the vectors of all users and items of which something is known; see :meth:`fastmf.Model.vectors`."""
    require_choice("kind", kind, KINDS)
    ranking = ranking_of(state, rank_by)
    if kind == "similar":
        if rank_by is not None:
            raise ParameterError(f"rank_by is {rank_by!r}, but kind='similar' is for neighbours: leave it out")
        users, items = similar_vectors(state, "user"), similar_vectors(state, "item")
    else:
        users, items = _with_bias(*ranked_sides(state, ranking)[:2])
    rows = {side: np.flatnonzero(state.present(side)) for side in ("user", "item")}
    row_ids = {side: getattr(state, f"{side}_ids")[rows[side]] for side in rows}
    return Vectors(row_ids["user"], users[rows["user"]], row_ids["item"], items[rows["item"]])


def _with_bias(users: Side, items: Side) -> tuple[np.ndarray, np.ndarray]:
    """Return (x_u, 1) and (y_i, c_i), (n, k + 1); the factors alone if no item has a bias."""
    if not items.bias.any():
        return users.factors, items.factors
    ones = np.ones(len(users.factors), np.float32)
    return np.column_stack([users.factors, ones]), np.column_stack([items.factors, items.bias])
