"""Explanations: how much each of a user's items contributes to a score, if the user's row solves a linear system.

With w_j = (y_j, 1) for an item and its bias, a user's z = (x, b) solves A z = sum_j g_j t_j w_j + rho (p, 0). The user
is pulled to p (:mod:`fastmf.kernels.als`). So for any item i (Hu, Koren and Volinsky 2008, section 5)

    x . y_i + b = sum over the user's items of g_j t_j w_j' A^-1 w_i  +  rho (p, 0)' A^-1 w_i
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from fastmf.data import ids
from fastmf.errors import ParameterError, UnknownIdError
from fastmf.kernels.types import Compressed, Known, Penalty, Side
from fastmf.kernels.vectors import filled_up
from fastmf.model.fold_in import half_of, known_entries, read_like_training, row_terms
from fastmf.model.state import State
from fastmf.model.topn import rows_of
from fastmf.runtime.device import resolve

if TYPE_CHECKING:
    import pandas as pd


def explain_score(state: State, user_id: Any, item_id: Any, ratings: Any) -> "pd.DataFrame":
    """Split a score into the contributions of the user's items; see :meth:`fastmf.Model.explain`."""
    import pandas as pd

    if state.user_prior is not None:
        name = state.solver.get("name")
        raise ParameterError(f"a model of solver {name!r} cannot explain its scores: fit one with als or implicit")
    items_found = ids.require(state.item_ids, ids.many(item_id), "item")
    if len(items_found) != 1:
        raise ParameterError(f"{len(items_found):,} items are given: explain one at a time")
    item = int(items_found[0])
    entries, half = _entries_of(state, user_id, ratings), half_of(state, "user")
    items = half.columns
    terms = row_terms(half, entries, filled_up(items.factors), resolve("cpu"))
    rated = Side(items.factors[entries.indices], items.bias[entries.indices])
    found, of_pull = _contributions(rated, entries, items.factors[item], *terms)
    order = np.argsort(-found, kind="stable")
    item_ids = state.item_ids.take(pa.array(entries.indices[order]))
    frame = pd.DataFrame({"item_id": ids.to_pandas(item_ids), "contribution": found[order] * state.scale})
    rest = state.mean + float(state.item_bias[item]) + of_pull * state.scale
    frame.attrs = {"score": rest + float(frame["contribution"].sum()), "rest": rest}
    return frame


def _contributions(
    rated: Side, entries: Compressed, wanted: np.ndarray, penalty: Penalty, known: Known
) -> tuple[np.ndarray, float]:
    """Return what the user's items, (n,) float64, and the pull contribute to x . y + b, on the standardised scale.

    ``rated`` is the side of the user's items, ``entries`` the user's ratings as one row, ``wanted`` (k,) the factors y.
    """
    n, k = rated.factors.shape
    biased = np.isfinite(penalty.bias_reg)
    w = np.column_stack([rated.factors, np.full(n, float(biased))]).astype(np.float64)
    weights = np.ones(n) if entries.weights is None else entries.weights.astype(np.float64)
    rho = penalty.reg * weights.sum() + penalty.reg0
    system = (weights * w.T) @ w + np.diag([rho] * k + [penalty.bias_reg if biased else 1.0])
    if len(known.base):
        system[:k, :k] += known.base
    towards = np.linalg.lstsq(system, np.append(wanted, float(biased)).astype(np.float64), rcond=None)[0]
    of_pull = rho * towards[:k] @ known.pull[0, :k] if len(known.pull) else 0.0
    left = entries.values.astype(np.float64) - rated.bias
    return weights * left * (w @ towards), float(of_pull)


def _entries_of(state: State, user_id: Any, ratings: Any) -> Compressed:
    """Return a user's ratings, or for implicit feedback the observed pairs, as one row."""
    wanted = ids.as_column(state.user_ids, ids.many(user_id), "user")
    if len(wanted) != 1:
        raise ParameterError(f"{len(wanted):,} users are given: explain one at a time")
    if ratings is None:
        known = state.implicit and state.positive_from is None and state.weight is None and state.half_life is None
        if not known or state.seen is None:
            raise ParameterError("the model does not hold what the user has rated: give --ratings (ratings=)")
        user = int(ids.require(state.user_ids, wanted, "user")[0])
        own = rows_of(np.array([user]), [Compressed(*state.seen, np.empty(0, np.float32))])
        return own._replace(values=np.ones(len(own.indices), np.float32))
    data = read_like_training(state, ratings)
    if state.implicit:
        data = data.observed(state.positive_from, state.negative_to)
    user = int(ids.lookup(data.user_ids, wanted, "user")[0])
    if user < 0:
        raise UnknownIdError(f"user {wanted[0].as_py()!r} is not in these ratings: give ratings of this user")
    entries = known_entries(state, data.take(data.users == user))
    return entries._replace(indptr=np.array([0, len(entries.indices)]))
