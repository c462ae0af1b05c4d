"""Fold-in: the factors of new users from their ratings alone, with the items of a model fixed."""

import warnings
from typing import Any

import numpy as np

from fastmf import kernels
from fastmf.data.ratings import Ratings, reading
from fastmf.data.standardise import standardised
from fastmf.errors import DataError, DivergenceError, ParameterError
from fastmf.kernels.types import Compressed, Known, Penalty, Side
from fastmf.model.baseline import fold_baseline
from fastmf.model.equations import RowEquations
from fastmf.model.learned import Links, Prior, Samples
from fastmf.model.state import State
from fastmf.runtime.device import Device, resolve
from fastmf.runtime.launch import launch

STREAMS = 1 << 40  # streams of random numbers from here on belong to fold-in
SWEEPS = 3  # that draw new users and their precisions, which start at 1


def fold_users(state: State, ratings: Any, device: str | Device) -> dict[str, Any]:
    """Solve for the users of new ratings; return the fields of the model that change.

    Raises and warnings are those of :meth:`fastmf.Model.fold_in`.
    """
    where, ratings = resolve(device), read_like_training(state, ratings)
    rated = entries = known_entries(state, ratings)
    if state.implicit:
        entries = known_entries(state, ratings.observed(state.positive_from))
    users, samples, singular = _solve(state, entries, where)
    if singular:
        warnings.warn(
            f"the equations of {singular:,} users were singular and were solved with a jitter: fit the model with"
            " reg0 > 0",
            stacklevel=3,
        )
    scale = np.float32(state.scale)
    with np.errstate(over="ignore"):  # overflow is found next
        users = Side(users.factors * scale, users.bias * scale)
    lost = lost_rows(users)
    if len(lost):
        first = ratings.user_ids[int(lost[0])].as_py()
        raise DivergenceError(
            f"{len(lost):,} users have ratings that lead beyond float32, the first {first!r}: rescale the ratings"
        )
    used, baseline = len(rated.values), state.baseline
    return {
        "user_ids": ratings.user_ids,
        "user_factors": users.factors,
        "user_bias": users.bias,
        "user_counts": np.diff(entries.indptr).astype(np.int32),
        "seen": (rated.indptr, rated.indices),
        "rows": {**ratings.rows, "used": used, "unknown_items": len(ratings) - used},
        "baseline": None if baseline is None else fold_baseline(baseline, entries, state.scale),
        "samples": samples,
    }


def read_like_training(state: State, ratings: Any) -> Ratings:
    """Read ratings in the way the training ratings were read.

    Raises
    ------
    DataError
        If only one of the two has weights.
    """
    how = reading(state.implicit, state.positive_from is not None)
    found = Ratings.read(ratings, weight=state.weight or None, duplicates=state.duplicates, **how)
    if (found.weights is None) != (state.weight is None):
        less, more = "the model was fitted to ratings with", "these ratings have"
        what = f"{less} weights, and {more} none" if state.weight else f"{less}out weights, and {more} some"
        raise DataError(f"{what}: read them as the others were (weight=)")
    return found


def known_entries(state: State, ratings: Ratings) -> Compressed:
    """Group standardised ratings by user, with the model's item indices; items without training are left out."""
    items = state.known_items(ratings.item_ids)[ratings.items]
    known = items >= 0
    indptr = np.append(0, np.cumsum(np.bincount(ratings.users[known], minlength=ratings.n_users)))
    values = standardised(ratings.values[known], state.mean, state.scale)
    return Compressed(indptr, items[known], values, None if ratings.weights is None else ratings.weights[known])


def row_equations(state: State) -> RowEquations:
    """Return the equations that users are solved by.

    Raises
    ------
    ParameterError
        If the solver does not say.
    """
    if state.equations is None:
        raise ParameterError(f"solver {state.solver.get('name')!r} says no equations of a row: it cannot fold in")
    return state.equations


def row_terms(state: State, entries: Compressed, table: np.ndarray, device: Device) -> tuple[Penalty, Known]:
    """Return what users' equations hold beside their entries; ``table`` has the items' factors, on the device."""
    equations, k = row_equations(state), state.k
    known = equations.known(table, k, device)
    if state.links is not None:
        known = known._replace(pull=device.put(_pull(entries, equations, state.links, k)))
    return equations.penalty, known


def lost_rows(side: Side) -> np.ndarray:
    """Find the rows whose factors or bias are not finite."""
    return np.flatnonzero(~(np.isfinite(side.factors).all(axis=1) & np.isfinite(side.bias)))


def _solve(state: State, entries: Compressed, device: Device) -> tuple[Side, Samples | None, int]:
    """Solve for users on the standardised scale. Returns them, their samples, and how many were singular."""
    n_users, k, items = len(entries.indptr) - 1, state.k, state.standard_items
    if state.prior is not None:
        equations = row_equations(state)
        expected = _expected(entries, state.links, equations.fade, k)
        return *_draw_by_prior(entries, items, state.prior, state.samples, expected, equations.seed), 0
    users = Side(np.zeros((n_users, k), np.float32), np.zeros(n_users, np.float32))
    given = device.put((entries, users, kernels.vectors.padded(items)))
    terms = row_terms(state, entries, given[2].factors, device)
    tasks = kernels.als.half_sweep_tasks(entries.indptr, k)
    singular = launch(kernels.als.HALF_SWEEP, device, tasks, *given, *terms)
    return device.get(given[1]), None, int(singular)


def _draw_by_prior(
    entries: Compressed, items: Side, prior: Prior, samples: Samples | None, expected: np.ndarray, seed: int
) -> tuple[Side, Samples | None]:
    """Find the posterior mean of each user's factors and bias given the items.

    The mean items predict best, so users are the means for these. Each sample of the items has a basis of its own, in
    which users are drawn once.

    Parameters
    ----------
    entries, items : the users' standardised ratings, and the items' side for these.
    expected : what links say of the users, (n_users, k), or zeros (1, k).

    Returns
    -------
    The users' side, for standardised ratings, and the samples with draws of these users in place of the model's.
    """
    centred = prior._replace(mean=prior.mean - prior.origin)
    users, _ = _drawn(entries, (items, prior.items), centred, expected, None)
    if samples is None:
        return users, None
    draws = []
    for number, (*side, precisions) in enumerate(zip(*samples[3:], strict=True)):
        drawn, precisions_of_users = _drawn(entries, (Side(*side), precisions), prior, expected, (seed, number))
        draws.append((*drawn, precisions_of_users * prior.numbers[0]))
    named = dict(zip(Samples._fields, map(np.stack, zip(*draws, strict=True)), strict=False))
    return users, samples._replace(**named)


def _drawn(
    entries: Compressed,
    known: tuple[Side, np.ndarray],
    prior: Prior,
    expected: np.ndarray,
    chance: tuple[int, int] | None,
) -> tuple[Side, np.ndarray]:
    """Draw users and their precisions by a seed and a sample's number; without these return the users' means."""
    (items, of_items), n_users, gibbs = known, len(entries.indptr) - 1, kernels.gibbs
    k, roots, (seed, number) = items.factors.shape[1], np.sqrt(of_items), chance or (0, 0)
    users = Side(np.zeros((n_users, k), np.float32), np.zeros(n_users, np.float32))
    precisions = np.ones(n_users, np.float32)
    weighted = gibbs.Weighted(kernels.vectors.filled_up(items.factors * roots[:, None]), items.bias, roots)
    alpha, bias_precision, bias_pull = map(float, prior.numbers)
    pull = np.ascontiguousarray((prior.mean + expected) @ prior.precision)
    around = gibbs.Prior(prior.precision, pull, bias_precision or np.inf, bias_pull)
    tasks = kernels.als.half_sweep_tasks(entries.indptr, k)
    given, random = (entries, users, precisions, weighted, around), chance is not None
    for sweep in range(SWEEPS if random else 1):
        stream = np.uint64(STREAMS + SWEEPS * number + sweep)
        launch(gibbs.DRAW, resolve("cpu"), tasks, *given, gibbs.Chance(np.uint64(seed), stream, alpha, random, random))
    return users, precisions


def _expected(entries: Compressed, links: Links | None, fade: float, k: int) -> np.ndarray:
    """Return what users' items say of their factors: (n_users, k), or zeros (1, k) without links."""
    if links is None:
        return np.zeros((1, k), np.float32)
    weights, _ = kernels.links.link_weights(np.diff(entries.indptr), fade)
    table = kernels.vectors.filled_up(links.items)
    expected = np.empty((len(weights), table.shape[1]), np.float32)
    tasks = kernels.links.gather_tasks(entries.indptr, k)
    launch(kernels.links.GATHER, resolve("cpu"), tasks, entries, weights, table, expected)
    return expected[:, :k]


def _pull(entries: Compressed, equations: RowEquations, links: Links, k: int) -> np.ndarray:
    """Return what users are pulled to: what their items say, and the mean user if these are few."""
    _, shares = kernels.links.link_weights(np.diff(entries.indptr), equations.fade)
    mean = (shares[:, None] - (0 if equations.bias_reg is None else 1)) * links.origin  # biases hold the mean user
    return np.ascontiguousarray(_expected(entries, links, equations.fade, k) + mean)
