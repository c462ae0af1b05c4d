"""Explanations: how much each of a user's items contributes to a score, if the user's row solves a linear system.

With w_j = (y_j, 1) for an item and its bias, a user's z = (x, b) solves A z = sum_j g_j t_j w_j + R p, with R the
diagonal matrix (rho, ..., rho, bias_reg). The user is pulled to p (:mod:`fastmf.kernels.als`). So for any item i (Hu,
Koren and Volinsky 2008, section 5)

    x . y_i + b = sum over the user's items of g_j t_j w_j' A^-1 w_i  +  (R p)' A^-1 w_i

Side features are part of p, one feature at a time: p = sum of F_ug B_g + intercept. An item's features are part of its
factors and bias: they say F_ig (B_g . x + b_g) of a user's score.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from fastmf.data import ids
from fastmf.data.features import Features
from fastmf.errors import ParameterError, UnknownIdError, counted
from fastmf.kernels.types import Compressed, Known, Penalty, Side
from fastmf.kernels.vectors import filled_up
from fastmf.model.fold_in import (
    expected_rows,
    half_of,
    known_entries,
    read_like_training,
    row_terms,
    solve_rows,
)
from fastmf.model.state import State
from fastmf.model.topn import rows_of
from fastmf.runtime.device import resolve

if TYPE_CHECKING:
    import pandas as pd


def explain_score(state: State, user_id: Any, item_id: Any, ratings: Any, reading: dict[str, Any]) -> "pd.DataFrame":
    """Split a score into the contributions of the user's items; see :meth:`fastmf.Model.explain`."""
    import pandas as pd

    if state.user_prior is not None:
        name = state.solver.get("name")
        raise ParameterError(f"a model of solver {name!r} cannot explain its scores: fit one with als or implicit")
    items_found = ids.require(state.arrow_ids("item"), ids.many(item_id), "item")
    if len(items_found) != 1:
        raise ParameterError(f"{len(items_found):,} items are given: explain one at a time")
    item = int(items_found[0])
    entries, half = _entries_of(state, user_id, ratings, reading), half_of(state, "user")
    items = half.columns
    features, expected = _user_features(state, user_id), None
    if features is not None:
        expected = expected_rows(state, "user", features.rows)
    terms = row_terms(half, entries, filled_up(items.factors), resolve("cpu"), expected)
    rated = Side(items.factors[entries.indices], items.bias[entries.indices])
    found, towards = _contributions(rated, entries, state.item_factors[item], *terms)
    of_pull = _of_pull(terms[1], towards)
    order = np.argsort(-np.abs(found), kind="stable")
    item_ids = state.arrow_ids("item").take(pa.array(entries.indices[order]))
    frame = pd.DataFrame({"item_id": ids.to_pandas(item_ids), "contribution": found[order] * state.scale})
    rest = state.mean + float(state.item_bias[item]) + of_pull * state.scale
    frame.attrs = {"score": rest + float(frame["contribution"].sum()), "rest": rest}
    if features is not None:
        frame.attrs["user_features"] = _by_feature(state, "user", features, towards)
    if state.item_features is not None:
        user, _ = solve_rows(half, None, entries, resolve("cpu"), expected)
        x = user.factors[0] / half.scales[0] + half.frame.user_origin
        own = state.item_features.of(state.arrow_ids("item").slice(item, 1))
        frame.attrs["item_features"] = _by_feature(state, "item", own, np.append(x, 1.0))
    return frame


def _user_features(state: State, user_id: Any) -> Features | None:
    """Return the features of a user whom the model may not know; None if the model has no user features."""
    if state.user_features is None:
        return None
    wanted = ids.as_column(state.arrow_ids("user"), ids.many(user_id), "user")
    return state.user_features.of(ids.keys(wanted, "user").combine_chunks())


def _by_feature(state: State, side: str, features: Features, weights: np.ndarray) -> dict[str, float]:
    """Return what each feature of one row adds to a score, on the rating scale, by falling size.

    ``weights`` (k + 1,) is what a unit of each factor and of the bias adds.
    """
    expected, rows = getattr(state, f"{side}_expected"), features.rows
    tables = np.column_stack([expected.weights[rows.indices], expected.bias_weights[rows.indices]])
    shares = rows.values * (tables.astype(np.float64) @ weights) * state.scale
    names = features.encoding.names.take(pa.array(rows.indices)).to_pylist()
    return {names[place]: float(shares[place]) for place in np.argsort(-np.abs(shares), kind="stable")}


def _contributions(
    rated: Side, entries: Compressed, wanted: np.ndarray, penalty: Penalty, known: Known
) -> tuple[np.ndarray, np.ndarray]:
    """Return what the user's items, (n,) float64, contribute to x . y + b, on the standardised scale.

    ``rated`` is the side of the user's items, ``entries`` the user's ratings as one row, ``wanted`` (k,) the factors y.
    Also returns R A^-1 (y, 1), (k + 1,): what a unit of each factor and of the bias of the pull contributes.
    """
    n, k = rated.factors.shape
    biased = np.isfinite(penalty.bias_reg)
    w = np.column_stack([rated.factors, np.full(n, float(biased))]).astype(np.float64)
    weights = np.ones(n) if entries.weights is None else entries.weights.astype(np.float64)
    rho = penalty.rho(weights.sum())
    system = (weights * w.T) @ w + np.diag([rho] * k + [penalty.bias_reg if biased else 1.0])
    if len(known.base):
        system[:k, :k] += known.base
    towards = np.linalg.lstsq(system, np.append(wanted, float(biased)).astype(np.float64), rcond=None)[0]
    left = entries.values.astype(np.float64) - rated.bias
    pulls = np.append(np.full(k, rho), penalty.bias_reg if biased else 0.0)
    return weights * left * (w @ towards), pulls * towards


def _of_pull(known: Known, towards: np.ndarray) -> float:
    """Return what the pull contributes, given what each unit of it does."""
    k = len(towards) - 1
    of_factors = towards[:k] @ known.pull[0, :k] if len(known.pull) else 0.0
    return float(of_factors + (towards[k] * known.bias[0] if len(known.bias) else 0.0))


def _observed(state: State, user: int) -> Compressed:
    """Return a user's observed pairs as one row, from the model alone; raise a ParameterError if it cannot tell them.

    It holds all that a user has rated, and how many of these count as observed: if all do, it knows which.
    """
    remedy = "give the ratings that it was fitted to: --ratings (ratings=)"
    if state.seen is None:
        raise ParameterError(f"the model does not hold which items the user has rated: {remedy}")
    own = rows_of(np.array([user]), [Compressed(*state.seen, np.empty(0, np.float32))])
    n_rated, n_observed, user_id = len(own.indices), int(state.user_counts[user]), state.user_ids[user]
    if not state.implicit:
        lacks = "how"
    elif state.weight is not None or state.half_life is not None:
        lacks = "what each of them weighs"
    elif n_observed != n_rated:
        positive = state.positive_from
        how = "it was solved from" if positive is None else f"count as observed (positive_from is {positive:g})"
        lacks = f"which {n_observed:,} of them {how}"
    else:
        return own._replace(values=np.ones(n_rated, np.float32))
    rated = f"the model holds which {counted(n_rated, 'item')} user {user_id!r} has rated"
    raise ParameterError(f"{rated}, but not {lacks}: {remedy}")


def _entries_of(state: State, user_id: Any, ratings: Any, reading: dict[str, Any]) -> Compressed:
    """Return a user's ratings, or for implicit feedback the observed pairs, as one row."""
    wanted = ids.as_column(state.arrow_ids("user"), ids.many(user_id), "user")
    if len(wanted) != 1:
        raise ParameterError(f"{len(wanted):,} users are given: explain one at a time")
    if ratings is None:
        user = int(ids.require(state.arrow_ids("user"), wanted, "user")[0])
        return _observed(state, user)
    data = read_like_training(state, ratings, **reading)
    if state.implicit:
        data = data.observed(state.positive_from, state.negative_to)
    user = int(ids.lookup(data.user_ids, wanted, "user")[0])
    if user < 0:
        raise UnknownIdError(f"user {wanted[0].as_py()!r} is not in these ratings: give ratings of this user")
    entries = known_entries(state, data.take(data.users == user))
    return entries._replace(indptr=np.array([0, len(entries.indices)]))
