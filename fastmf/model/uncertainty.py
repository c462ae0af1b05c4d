"""How sure a Bayesian model is of a prediction: the spread over its samples, and the noise of the ratings."""

import numpy as np

from fastmf.errors import ParameterError
from fastmf.kernels.residual import ESTIMATE, PAIRS_PER_TASK
from fastmf.kernels.tasks import even
from fastmf.kernels.types import Pairs, Scale, Side
from fastmf.model.learned import Prior, Samples
from fastmf.model.state import State
from fastmf.runtime.device import resolve
from fastmf.runtime.launch import launch


def require_samples(state: State) -> tuple[Samples, Prior]:
    """Return a model's samples and the users' prior.

    Raises
    ------
    ParameterError
        If the model has no samples.
    """
    if state.samples is None or state.user_prior is None:
        raise ParameterError(
            f"a model of solver {state.solver.get('name')!r} without samples gives no standard deviations: fit one"
            " with solver gibbs and kept of at least 1"
        )
    return state.samples, state.user_prior


def deviations(state: State, pairs: Pairs) -> np.ndarray:
    """Return the standard deviation (n,) float32 of ratings around their predictions, by dense index (-1: unknown).

    Its square is the variance of the sampled predictions plus the mean variance of the noise. An unknown user is
    distributed like the prior, an unknown item like the model's items; predictions leave the unknown one out. If both
    are unknown, the deviation is that of all training ratings.

    Raises
    ------
    ParameterError
        If the model has no samples.
    """
    samples, prior = require_samples(state)
    warm = state.user_counts > 0, state.item_counts > 0
    n, size = len(samples.user_bias), len(pairs.users)
    total, squares, noise = (np.zeros(size) for _ in range(3))
    (user_rows, user_places), (item_rows, item_places) = (np.unique(rows, return_inverse=True) for rows in pairs)
    where = Pairs(user_places.astype(np.int32), item_places.astype(np.int32))
    estimates, scale, tasks = np.empty(size, np.float32), Scale(0.0, -np.inf, np.inf), even(size, PAIRS_PER_TASK)
    for sample in zip(*samples, strict=True):
        users, user_noise = _rows_of(user_rows, Side(*sample[:2]), sample[2], warm[0], prior.origin)
        items, item_noise = _rows_of(item_rows, Side(*sample[3:5]), sample[5], warm[1], np.float32(0))
        launch(ESTIMATE, resolve("cpu"), tasks, where, users, items, scale, estimates)
        total += estimates
        squares += np.square(estimates, dtype=np.float64)
        noise += user_noise[where.users] * item_noise[where.items]
    variance = np.maximum(squares / n - np.square(total / n), 0) + noise / n
    variance += _variance_of_unknown(samples, prior, pairs, warm)
    variance[(pairs.users < 0) & (pairs.items < 0)] = 1
    return np.sqrt(variance).astype(np.float32) * np.float32(state.scale)


def _rows_of(
    rows: np.ndarray, side: Side, precisions: np.ndarray, warm: np.ndarray, factors: np.ndarray | np.float32
) -> tuple[Side, np.ndarray]:
    """Return the given rows of a side, and the variance (n_rows,) float64 of their noise.

    Unknown rows (-1) get the given factors, no bias, and the mean variance of the warm rows.
    """
    taken, unknown = Side(side.factors[rows], side.bias[rows]), rows < 0
    noise = 1 / precisions[rows].astype(np.float64)
    if unknown.any():
        taken.factors[unknown], taken.bias[unknown] = factors, 0
        noise[unknown] = np.mean(1 / precisions[warm].astype(np.float64)) if warm.any() else 1.0
    return taken, noise


def _variance_of_unknown(
    samples: Samples, prior: Prior, pairs: Pairs, warm: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Return the variance (n,) float64 that the factors and bias of an unknown user or item add to a prediction."""
    found = np.zeros(len(pairs.users))
    user, item = (pairs.users < 0) & (pairs.items >= 0), (pairs.items < 0) & (pairs.users >= 0)
    if user.any():
        y = samples.item_factors[-1][pairs.items[user]].astype(np.float64)
        _, p, pull = map(float, prior.numbers)
        bias_mean, bias_variance = (pull / p, 1 / p) if p else (0.0, 0.0)
        covariance, offset = np.linalg.inv(prior.precision.astype(np.float64)), prior.mean - prior.origin
        found[user] = np.sum(y @ covariance * y, axis=1) + bias_variance + (y @ offset + bias_mean) ** 2
    if item.any():
        known = np.column_stack([samples.item_factors[-1], samples.item_bias[-1]])[warm[1]].astype(np.float64)
        x = np.column_stack([samples.user_factors[-1], np.ones(len(warm[0]))])[pairs.users[item]].astype(np.float64)
        found[item] = np.sum(x @ (known.T @ known / len(known)) * x, axis=1)
    return found
