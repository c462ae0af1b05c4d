"""Fold-in: the factors of users from their ratings alone, with the items of a model fixed."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from fastmf.errors import ParameterError
from fastmf.kernels import gibbs
from fastmf.kernels.als import HALF_SWEEP, half_sweep_tasks
from fastmf.kernels.gram import GRAM
from fastmf.kernels.links import GATHER, gather_tasks, link_weights
from fastmf.kernels.tasks import even
from fastmf.kernels.types import Compressed, Known, Penalty, Side, nothing_known
from fastmf.kernels.vectors import filled_up, padded
from fastmf.model.learned import Links, Prior, Samples
from fastmf.runtime.device import Device, resolve
from fastmf.runtime.launch import launch

ROWS_OF_GRAM = 1 << 12  # of a task
FOLDED = 1 << 40  # streams of random numbers from here on are those of fold-in
SWEEPS = 3  # that draw folded-in users and their precisions, which begin at 1


def equations(
    table: np.ndarray, k: int, n_others: int, solver: Mapping[str, Any], device: Device
) -> tuple[Penalty, Known]:
    """Say what implicit feedback adds to each row's equations; see :mod:`fastmf.solvers.implicit`.

    Parameters
    ----------
    table : factors of the other side, filled up to whole vectors, on the device.
    n_others : how many rows of it have observed pairs.
    solver : the solver's hyper-parameters.
    """
    gram = launch(GRAM, device, even(table.shape[0], ROWS_OF_GRAM), table, k)
    base = (solver["alpha0"] * gram).astype(np.float32)
    penalty = Penalty(solver["reg"], solver["reg"] * solver["alpha0"] * n_others, np.inf)
    return penalty, device.put(nothing_known(k)._replace(base=base))


class Folded(NamedTuple):
    """Users for standardised ratings, the samples with draws of them, if there are any, and how many were singular."""

    users: Side
    samples: Samples | None
    singular: int


def fold(
    entries: Compressed,
    items: Side,
    item_counts: np.ndarray,
    solver: Mapping[str, Any],
    extras: Mapping[str, Any],
    device: Device,
) -> Folded:
    """Find each user's row, as the solver that found the items would.

    Parameters
    ----------
    entries : the users' standardised ratings, or what is observed of them, by the items' indices.
    items : the items' side, for standardised ratings; item_counts their training ratings.
    solver : name and hyper-parameters of the solver.
    extras : what else the model has, see :mod:`fastmf.model.learned`.

    Raises
    ------
    ParameterError
        If the hyper-parameters do not say how.
    """
    links, prior, samples = (extras[name] for name in ("links", "prior", "samples"))
    if prior is not None:
        expected = _expected_of(entries, links, solver.get("fade", 0), items.factors.shape[1])
        return Folded(*_by_prior(entries, items, prior, samples, expected, solver.get("seed", 0)), 0)
    n_users, k = len(entries.indptr) - 1, items.factors.shape[1]
    users = Side(np.zeros((n_users, k), np.float32), np.zeros(n_users, np.float32))
    given = device.put((entries, users, padded(items)))
    more = rules(entries, given[2].factors, k, item_counts, solver, links, device)
    singular = launch(HALF_SWEEP, device, half_sweep_tasks(entries.indptr, k), *given, *more)
    return Folded(device.get(given[1]), None, int(singular))


def rules(
    entries: Compressed,
    table: np.ndarray,
    k: int,
    item_counts: np.ndarray,
    solver: Mapping[str, Any],
    links: Links | None,
    device: Device,
) -> tuple[Penalty, Known]:
    """Say what users' equations have beside their entries; ``table``, as for :func:`equations`, has the items' factors.

    Raises
    ------
    ParameterError
        If the hyper-parameters do not say how.
    """
    implicit = "alpha0" in solver
    missing = [name for name in (("reg",) if implicit else ("reg", "reg0", "bias_reg")) if name not in solver]
    if missing:
        raise ParameterError(f"solver {solver.get('name')!r} has no {', '.join(missing)}: it cannot fold in")
    if implicit:
        return equations(table, k, int(np.count_nonzero(item_counts)), solver, device)
    known = nothing_known(k)
    if links is not None:
        known = known._replace(pull=_pull(entries, solver, links, k))
    penalty = Penalty(solver["reg"], solver["reg0"], solver["bias_reg"] if solver.get("biases", True) else np.inf)
    return penalty, device.put(known)


def _by_prior(
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


def _expected_of(entries: Compressed, links: Links | None, fade: float, k: int) -> np.ndarray:
    """Say what the items that users have rated say of their factors: (n_users, k), or zeros (1, k) without links."""
    if links is None:
        return np.zeros((1, k), np.float32)
    weights, _ = link_weights(np.diff(entries.indptr), fade)
    table = filled_up(links.items)
    expected = np.empty((len(weights), table.shape[1]), np.float32)
    launch(GATHER, resolve("cpu"), gather_tasks(entries.indptr, k), entries, weights, table, expected)
    return expected[:, :k]


def _pull(entries: Compressed, solver: Mapping[str, Any], links: Links, k: int) -> np.ndarray:
    """Say what users are pulled to: by the items they have rated, and to the mean user where these are few."""
    _, shares = link_weights(np.diff(entries.indptr), solver.get("fade", 0))
    mean = (shares[:, None] - (1 if solver.get("biases", True) else 0)) * links.origin  # biases hold the mean user
    return np.ascontiguousarray(_expected_of(entries, links, solver.get("fade", 0), k) + mean)


def lost_rows(side: Side) -> np.ndarray:
    """Find the rows whose factors or bias are not finite."""
    return np.flatnonzero(~(np.isfinite(side.factors).all(axis=1) & np.isfinite(side.bias)))
