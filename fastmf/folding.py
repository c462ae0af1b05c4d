"""Fold-in: the factors of users from their ratings alone, with the items of a model fixed."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastmf.device import Device, resolve
from fastmf.extras import Links, Prior, Samples
from fastmf.kernels import gibbs
from fastmf.kernels.als import HALF_SWEEP, Penalty, Side, filled_up, half_sweep_tasks, nowhere, padded
from fastmf.kernels.compress import Compressed
from fastmf.kernels.links import GATHER, gather_tasks, link_weights
from fastmf.runtime import launch

FOLDED = 1 << 40  # streams of random numbers from here on are those of fold-in
SWEEPS = 3  # that draw folded-in users and their precisions, which begin at 1


def fold(
    entries: Compressed, items: Side, solver: Mapping[str, Any], links: Links | None, device: Device
) -> tuple[Side, int]:
    """Solve each user's row exactly, with the weights of the solver that found the items.

    Parameters
    ----------
    entries : the users' standardised ratings, by the items' indices.
    items : the items' side, for standardised ratings.
    solver : the solver's hyper-parameters, with reg, reg0 and bias_reg.
    links : what users are pulled to; to zero without any.

    Returns
    -------
    The users' side, for standardised ratings, and how many rows were singular.
    """
    n_users, k = len(entries.indptr) - 1, items.factors.shape[1]
    users = Side(np.zeros((n_users, k), np.float32), np.zeros(n_users, np.float32))
    penalty = Penalty(solver["reg"], solver["reg0"], solver["bias_reg"] if solver.get("biases", True) else np.inf)
    tasks, pull = half_sweep_tasks(entries.indptr, k), _pull(entries, solver, links, k)
    entries, users, items, pull = device.put((entries, users, padded(items), pull))
    singular = launch(HALF_SWEEP, device, tasks, entries, users, items, penalty, pull)
    return device.get(users), int(singular)


def fold_by_prior(
    entries: Compressed, items: Side, prior: Prior, samples: Samples | None, expected: np.ndarray, seed: int
) -> tuple[Side, Samples | None]:
    """Find the mean of each user's factors and bias given the items, by the prior of a Bayesian model.

    The means are those for the mean items, which is what these predict best with: the samples of items, each of which
    has a basis of its own, have the draws.

    Parameters
    ----------
    entries, items : as for :func:`fold`.
    expected : what links say of the users, (n_users, k), or zeros (1, k).

    Returns
    -------
    The users' side, for standardised ratings, and the samples with draws of these users in place of the model's.
    """
    counted = prior._replace(mean=prior.mean - prior.origin)
    users, _ = _drawn(entries, (items, prior.items), counted, expected, None)
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
    """Draw users and their precisions in some sweeps, by a seed and a number; without these find the users' means."""
    (items, of_items), n_users = known, len(entries.indptr) - 1
    k, roots, (seed, number) = items.factors.shape[1], np.sqrt(of_items), chance or (0, 0)
    users = Side(np.zeros((n_users, k), np.float32), np.zeros(n_users, np.float32))
    precisions = np.ones(n_users, np.float32)
    weighted = gibbs.Weighted(filled_up(items.factors * roots[:, None]), items.bias, roots)
    alpha, bias_precision, bias_pull = map(float, prior.numbers)
    pull = np.ascontiguousarray((prior.mean + expected) @ prior.precision)
    around = gibbs.Prior(prior.precision, pull, bias_precision or np.inf, bias_pull)
    tasks, given = half_sweep_tasks(entries.indptr, k), (entries, users, precisions, weighted, around)
    random = chance is not None
    for sweep in range(SWEEPS if random else 1):
        stream = np.uint64(FOLDED + SWEEPS * number + sweep)
        launch(gibbs.DRAW, resolve("cpu"), tasks, *given, gibbs.Chance(np.uint64(seed), stream, alpha, random, random))
    return users, precisions


def expected_of(entries: Compressed, links: Links | None, fade: float, k: int) -> np.ndarray:
    """Say what the items that users have rated say of their factors: (n_users, k), or zeros (1, k) without links."""
    if links is None:
        return np.zeros((1, k), np.float32)
    weights, _ = link_weights(np.diff(entries.indptr), fade)
    table = filled_up(links.items)
    expected = np.empty((len(weights), table.shape[1]), np.float32)
    launch(GATHER, resolve("cpu"), gather_tasks(entries.indptr, k), entries, weights, table, expected)
    return expected[:, :k]


def _pull(entries: Compressed, solver: Mapping[str, Any], links: Links | None, k: int) -> np.ndarray:
    """Say what users are pulled to: by the items they have rated, and to the mean user where these are few."""
    if links is None:
        return nowhere(k)
    _, shares = link_weights(np.diff(entries.indptr), solver.get("fade", 0))
    mean = (shares[:, None] - (1 if solver.get("biases", True) else 0)) * links.origin  # biases hold the mean user
    return np.ascontiguousarray(expected_of(entries, links, solver.get("fade", 0), k) + mean)


def lost_rows(side: Side) -> np.ndarray:
    """Find the rows whose factors or bias are not finite."""
    return np.flatnonzero(~(np.isfinite(side.factors).all(axis=1) & np.isfinite(side.bias)))
