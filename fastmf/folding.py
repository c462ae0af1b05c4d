"""Fold-in: the factors of users from their ratings alone, with the items of a model fixed."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from fastmf.device import Device, resolve
from fastmf.kernels.als import HALF_SWEEP, Penalty, Side, half_sweep_tasks, nowhere, padded
from fastmf.kernels.compress import Compressed
from fastmf.kernels.links import GATHER, gather_tasks, link_weights
from fastmf.runtime import launch


class Links(NamedTuple):
    """What a user's rated items say of the user's factors beforehand; see :mod:`fastmf.solvers.links`.

    items (n_items, k) float32, a vector for each item; origin (k,) float32, the mean user, which the model's user
    factors are counted from if it has biases. Both are for standardised ratings.
    """

    items: np.ndarray
    origin: np.ndarray


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


def _pull(entries: Compressed, solver: Mapping[str, Any], links: Links | None, k: int) -> np.ndarray:
    """Say what users are pulled to by the items they have rated."""
    if links is None:
        return nowhere(k)
    weights, shares = link_weights(np.diff(entries.indptr), solver["fade"])
    table = padded(Side(links.items, links.origin)).factors
    pull = np.empty((len(weights), table.shape[1]), np.float32)
    launch(GATHER, resolve("cpu"), gather_tasks(entries.indptr, k), entries, weights, table, pull)
    pull[:, :k] += (shares[:, None] - (1 if solver["biases"] else 0)) * links.origin  # biases hold the mean user
    return pull


def lost_rows(side: Side) -> np.ndarray:
    """Find the rows whose factors or bias are not finite."""
    return np.flatnonzero(~(np.isfinite(side.factors).all(axis=1) & np.isfinite(side.bias)))
