"""How sure a Bayesian model is of a prediction: the spread over its samples, and the noise of ratings themselves."""

import numpy as np

from fastmf.device import resolve
from fastmf.folding import Prior, Samples
from fastmf.kernels.als import Side
from fastmf.kernels.compress import even
from fastmf.kernels.residual import ESTIMATE, PAIRS_PER_TASK, Pairs, Scale
from fastmf.runtime import launch


def deviations(samples: Samples, prior: Prior, pairs: Pairs, warm: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Find the standard deviation of a rating around its prediction, for standardised ratings.

    Its square is the variance of the sampled predictions plus the mean variance of the noise. An unknown user (-1) is
    one of those that users are drawn around; an unknown item is like any of the model's, which its prediction leaves
    out; of both unknown nothing is known, and the deviation is that of all ratings.

    Parameters
    ----------
    warm : which users and which items have ratings, (n_users,) and (n_items,) bool.

    Returns
    -------
    (n,) float32.
    """
    n, known = len(samples.user_bias), [rows >= 0 for rows in pairs]
    total, squares, noise = (np.zeros(len(pairs.users)) for _ in range(3))
    ends = [np.int32(len(rows)) for rows in warm]  # where the unknown stand
    where = Pairs(*(np.where(there, rows, end) for there, rows, end in zip(known, pairs, ends, strict=True)))
    estimates, scale = np.empty(len(total), np.float32), Scale(0.0, -np.inf, np.inf)
    for sample in zip(*samples, strict=True):
        users, user_precisions = _with_unknown(Side(*sample[:2]), sample[2], warm[0], prior.origin)
        items, item_precisions = _with_unknown(Side(*sample[3:5]), sample[5], warm[1], np.float32(0))
        launch(ESTIMATE, resolve("cpu"), even(len(total), PAIRS_PER_TASK), where, users, items, scale, estimates)
        total += estimates
        squares += np.square(estimates, dtype=np.float64)
        noise += 1 / (user_precisions[where.users].astype(np.float64) * item_precisions[where.items])
    variance = np.maximum(squares / n - np.square(total / n), 0) + noise / n
    variance += _of_unknown(samples, prior, pairs, warm)
    variance[~known[0] & ~known[1]] = 1
    return np.sqrt(variance).astype(np.float32)


def _with_unknown(
    side: Side, precisions: np.ndarray, warm: np.ndarray, factors: np.ndarray | np.float32
) -> tuple[Side, np.ndarray]:
    """Add a row for whoever is unknown, of these factors, without a bias, and as noisy as the others are on average."""
    more = np.full((1, side.factors.shape[1]), factors, np.float32)
    noise = np.mean(1 / precisions[warm].astype(np.float64)) if warm.any() else 1.0
    widened = Side(np.append(side.factors, more, axis=0), np.append(side.bias, np.float32(0)))
    return widened, np.append(precisions, np.float32(1 / noise))


def _of_unknown(samples: Samples, prior: Prior, pairs: Pairs, warm: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Find how much the factors and bias of an unknown user or item spread a prediction: (n,) float64."""
    found = np.zeros(len(pairs.users))
    user, item = (pairs.users < 0) & (pairs.items >= 0), (pairs.items < 0) & (pairs.users >= 0)
    if user.any():
        y = samples.item_factors[-1][pairs.items[user]].astype(np.float64)
        of_bias = 1 / float(prior.numbers[1]) if prior.numbers[1] else 0.0
        found[user] = np.sum(y @ np.linalg.inv(prior.precision.astype(np.float64)) * y, axis=1) + of_bias
    if item.any():
        known = np.column_stack([samples.item_factors[-1], samples.item_bias[-1]])[warm[1]].astype(np.float64)
        x = np.column_stack([samples.user_factors[-1], np.ones(len(warm[0]))])[pairs.users[item]].astype(np.float64)
        found[item] = np.sum(x @ (known.T @ known / len(known)) * x, axis=1)
    return found
