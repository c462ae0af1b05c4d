"""Fold-in: the factors of new users from their ratings alone, with the items of a model fixed."""

import warnings
from typing import Any

import numpy as np

from fastmf import kernels
from fastmf.data import csr
from fastmf.data.ratings import Ratings, reading
from fastmf.data.standardise import standardised
from fastmf.errors import DataError, DivergenceError, ParameterError
from fastmf.kernels.types import Compressed, Known, Penalty, Side
from fastmf.model.baseline import fold_baseline
from fastmf.model.fold_in_rule import FoldInRule
from fastmf.model.learned import Links, Prior, Samples
from fastmf.model.state import State
from fastmf.runtime.device import Device, resolve
from fastmf.runtime.launch import launch

STREAMS = 1 << 40  # first random stream of fold-in; training uses lower ones
SWEEPS = 3  # over a new user's factors and precision, which starts at 1


def fold_users(state: State, ratings: Any, device: str | Device) -> dict[str, Any]:
    """Solve for the users of new ratings; return the model's fields that change.

    Raises and warns as :meth:`fastmf.Model.fold_in`.
    """
    where, ratings = resolve(device), read_like_training(state, ratings)
    rated = entries = known_entries(state, ratings)
    if state.implicit:
        entries = known_entries(state, ratings.observed(state.positive_from, state.negative_to))
    samples = None
    if state.prior is None:
        users = _solved(state, entries, where)
    else:
        users, samples = _posterior(state, state.prior, entries)
    scale = np.float32(state.scale)
    with np.errstate(over="ignore"):  # lost_rows finds overflow
        users = Side(users.factors * scale, users.bias * scale)
    lost = lost_rows(users)
    if len(lost):
        first = ratings.user_ids[int(lost[0])].as_py()
        raise DivergenceError(
            f"{len(lost):,} users have ratings that lead to values beyond float32, the first {first!r}: rescale them"
        )
    used, baseline = len(rated.values), state.baseline
    return {
        "user_ids": ratings.user_ids,
        "user_factors": users.factors,
        "user_bias": users.bias,
        "user_counts": _interests(state, entries).astype(np.int32),
        "seen": (rated.indptr, rated.indices),
        "rows": {**ratings.rows, "used": used, "unknown_items": len(ratings) - used},
        "baseline": None if baseline is None else fold_baseline(baseline, entries, state.scale),
        "samples": samples,
    }


def read_like_training(state: State, ratings: Any) -> Ratings:
    """Read ratings as the training ratings were read.

    Raises
    ------
    DataError
        If only one of the two has weights.
    """
    how = reading(state.implicit, state.positive_from is not None)
    how |= {"weight": state.weight or None, "half_life": state.half_life, "duplicates": state.duplicates}
    found = Ratings.read(ratings, **how)
    weighed = state.weight is not None or state.half_life is not None
    if (found.weights is not None) != weighed:
        fitted, given = ("with", "none") if weighed else ("without", "some")
        raise DataError(
            f"the model was fitted to ratings {fitted} weights, but these ratings have {given}:"
            " read them in the same way (weight=, half_life=)"
        )
    if found.half_life != state.half_life:
        raise DataError("the model was fitted without a half-life, but these ratings have one: read them without")
    return found


def known_entries(state: State, ratings: Ratings) -> Compressed:
    """Group standardised ratings by user, with the model's item indices; items without training ratings are dropped."""
    items = state.known_items(ratings.item_ids)[ratings.items]
    known = items >= 0
    indptr = np.append(0, np.cumsum(np.bincount(ratings.users[known], minlength=ratings.n_users)))
    values = standardised(ratings.values[known], state.mean, state.scale)
    return Compressed(indptr, items[known], values, None if ratings.weights is None else ratings.weights[known])


def row_terms(state: State, entries: Compressed, table: np.ndarray, device: Device) -> tuple[Penalty, Known]:
    """Return the penalty and the prior of users' equations.

    ``table`` holds the items' factors, on the device.
    """
    rule = _rule_of(state)
    known = rule.known(table, state.k, device)
    if state.links is not None:
        _, shares = kernels.links.link_weights(np.diff(entries.indptr), rule.fade, csr.masses(entries))
        if rule.bias_reg is not None:  # factors are then measured from the mean user
            shares = shares - 1
        pull = _expected(entries, state.links, rule.fade, state.k) + shares[:, None] * state.links.origin
        known = known._replace(pull=device.put(np.ascontiguousarray(pull)))
    return rule.penalty, known


def _interests(state: State, entries: Compressed) -> np.ndarray:
    """Count each user's entries (n_users,), dislikes not included."""
    if state.negative_to is None:
        return np.diff(entries.indptr)
    return csr.masses(entries._replace(weights=entries.values))  # 1, or 0 for dislikes


def lost_rows(side: Side) -> np.ndarray:
    """Return the indices of rows whose factors or bias are not finite."""
    return np.flatnonzero(~(np.isfinite(side.factors).all(axis=1) & np.isfinite(side.bias)))


def _rule_of(state: State) -> FoldInRule:
    if state.fold_in_rule is None:
        name = state.solver.get("name")
        raise ParameterError(f"solver {name!r} has no rule for new users: it cannot fold them in")
    return state.fold_in_rule


def _solved(state: State, entries: Compressed, device: Device) -> Side:
    """Solve each user's linear equations on the standardised scale; warn if some are singular."""
    n_users, k = len(entries.indptr) - 1, state.k
    users = Side(np.zeros((n_users, k), np.float32), np.zeros(n_users, np.float32))
    given = device.put((entries, users, kernels.vectors.padded(state.standard_items)))
    terms = row_terms(state, entries, given[2].factors, device)
    tasks = kernels.als.half_sweep_tasks(entries.indptr, k)
    singular = launch(kernels.als.HALF_SWEEP, device, tasks, *given, *terms)
    if singular:
        warnings.warn(
            f"the equations of {int(singular):,} users were singular and were solved with a jitter: fit the model with"
            " reg0 > 0",
            stacklevel=4,
        )
    return Side(*device.get(given[1]))


def _posterior(state: State, prior: Prior, entries: Compressed) -> tuple[Side, Samples | None]:
    """Return users' posterior means for standardised ratings, and the model's samples with draws of these users.

    The users' means are conditional on the items' posterior means, because that predicts best. Users are drawn once for
    each sample of the items, because each sample has its own basis.
    """
    rule, items, samples = _rule_of(state), state.standard_items, state.samples
    expected = _expected(entries, state.links, rule.fade, state.k)
    centred = prior._replace(mean=prior.mean - prior.origin)
    users, _ = _drawn(entries, items, prior.items, centred, expected)
    if samples is None:
        return users, None
    draws = []
    for number, (factors, bias, precisions) in enumerate(zip(*samples[3:], strict=True)):
        random = rule.seed, number
        drawn, of_users = _drawn(entries, Side(factors, bias), precisions, prior, expected, random)
        draws.append((*drawn, of_users * prior.numbers[0]))
    own = [np.stack(arrays) for arrays in zip(*draws, strict=True)]
    return users, samples._replace(**dict(zip(Samples._fields[:3], own, strict=True)))


def _drawn(
    entries: Compressed,
    items: Side,
    item_precisions: np.ndarray,
    prior: Prior,
    expected: np.ndarray,
    random: tuple[int, int] | None = None,
) -> tuple[Side, np.ndarray]:
    """Draw users and their precisions; without ``random``, return the users' means instead.

    ``random`` is a seed and the number of a sample; ``expected`` is added to the prior's mean.
    """
    n_users, k, gibbs, draw = len(entries.indptr) - 1, items.factors.shape[1], kernels.gibbs, random is not None
    users = Side(np.zeros((n_users, k), np.float32), np.zeros(n_users, np.float32))
    precisions, roots = np.ones(n_users, np.float32), np.sqrt(item_precisions)
    weighted = gibbs.Weighted(kernels.vectors.filled_up(items.factors * roots[:, None]), items.bias, roots)
    alpha, bias_precision, bias_pull = map(float, prior.numbers)
    pull = np.ascontiguousarray((prior.mean + expected) @ prior.precision)
    around = gibbs.Prior(prior.precision, pull, bias_precision or np.inf, bias_pull)
    tasks, (seed, number) = kernels.als.half_sweep_tasks(entries.indptr, k), random or (0, 0)
    for sweep in range(SWEEPS if draw else 1):
        chance = gibbs.Chance(np.uint64(seed), np.uint64(STREAMS + SWEEPS * number + sweep), alpha, draw, draw)
        launch(gibbs.DRAW, resolve("cpu"), tasks, entries, users, precisions, weighted, around, chance)
    return users, precisions


def _expected(entries: Compressed, links: Links | None, fade: float, k: int) -> np.ndarray:
    """Return the factors that links predict for users: (n_users, k), or zeros (1, k) without links."""
    if links is None:
        return np.zeros((1, k), np.float32)
    weights, _ = kernels.links.link_weights(np.diff(entries.indptr), fade, csr.masses(entries))
    table = kernels.vectors.filled_up(links.items)
    expected = np.empty((len(weights), table.shape[1]), np.float32)
    tasks = kernels.links.gather_tasks(entries.indptr, k)
    linked = entries._replace(weights=None)  # links are who rated what
    launch(kernels.links.GATHER, resolve("cpu"), tasks, linked, weights, table, expected)
    return expected[:, :k]
