"""Fold-in: rows of new users or new items from their ratings alone, with the other side of a model fixed."""

import warnings
from typing import Any, NamedTuple

import numpy as np

from fastmf import kernels
from fastmf.data import csr, ids
from fastmf.data.features import Features
from fastmf.data.ratings import Ratings, reading
from fastmf.data.standardise import standardised
from fastmf.errors import DataError, DivergenceError, ParameterError, counted
from fastmf.kernels.types import Compressed, Known, Penalty, Side
from fastmf.model.baseline import fold_bias
from fastmf.model.choice import choosing
from fastmf.model.fold_in_rule import FoldInRule
from fastmf.model.frame import Frame, absorbed, frame_of
from fastmf.model.frozen import thawed
from fastmf.model.learned import Prior, Samples, predict_by_links, predicted_by_features, product
from fastmf.model.state import State
from fastmf.model.topn import rows_of
from fastmf.runtime.device import Device, resolve
from fastmf.runtime.launch import launch

SIDES = ("user", "item")
STREAMS = {"user": 1 << 40, "item": 1 << 41}  # first random stream of each side's rows; training uses lower ones
SWEEPS = 3  # over a new row's factors and precision, which starts at 1


class Half(NamedTuple):
    """The rows of one side, to be solved for, and the other side, which is fixed.

    Attributes
    ----------
    side : "user" or "item": the side that is solved for.
    rule, prior : of the side's rows; the prior is None unless the model is Bayesian.
    columns : the other side, on the standardised scale. Its bias suits rows that are measured from their origin.
    links : the other side's link vectors, which predict the rows, (n_columns, k); None without links.
    mean : (k,) the row to which links fade; ``moved`` is 1 if it is the rows' origin, too, and else 0.
    frame : the frame of the model, with this side as its users.
    scales : of factors and biases, from the standardised scale to that of the ratings.
    """

    side: str
    rule: FoldInRule
    prior: Prior | None
    columns: Side
    links: np.ndarray | None
    mean: np.ndarray
    moved: int
    frame: Frame
    scales: tuple[np.float32, np.float32]


def half_of(state: State, side: str) -> Half:
    """Return what the rows of a side are solved with.

    Raises
    ------
    ParameterError
        If the model has no rule for them.
    """
    rule, users = getattr(state, f"{side}_rule"), side == "user"
    if rule is None:
        remedy = "" if users else "; if an earlier version of fastmf wrote it, fit it again"
        raise ParameterError(
            f"solver {state.solver.get('name')!r} has no rule for new {side}s: it cannot fold them in{remedy}"
        )
    frame, columns = frame_of(state), state.standard_side("item" if users else "user")
    frame, links, scale = frame if users else frame.swapped, thawed(state.links), np.float32(state.scale)
    other = "item" if users else "user"
    features = getattr(state, f"{other}_features")
    if rule.all_pairs and features is not None:  # columns known by their features alone are not among all pairs
        paired = (getattr(state, f"{other}_counts") > 0) | (np.diff(features.rows.indptr) == 0)
        columns = Side(columns.factors * paired[:, None].astype(np.float32), columns.bias)
    if frame.item_origin.any():
        columns = Side(columns.factors + frame.item_origin, columns.bias)
    return Half(
        side=side,
        rule=rule,
        prior=thawed(getattr(state, f"{side}_prior")),
        columns=columns,
        links=None if links is None else links.items if users else links.users,
        mean=links.origin if users and links is not None else np.zeros(state.k, np.float32),
        moved=int(rule.bias_reg is not None),
        frame=frame,
        scales=(scale if users else np.float32(1), scale),
    )


def fold_users(
    state: State, ratings: Any, features: Any, device: str | Device, reading: dict[str, Any]
) -> dict[str, Any]:
    """Solve for the users of new ratings; return the model's fields that change.

    Raises and warns as :meth:`fastmf.Model.fold_in`.
    """
    where, ratings = resolve(device), read_like_training(state, ratings, **reading)
    rated = entries = known_entries(state, ratings)
    if state.implicit:
        entries = known_entries(state, ratings.observed(state.positive_from, state.negative_to))
    known = _features_of(state, ratings.user_ids, features)
    expected = None if known is None else expected_rows(state, "user", known.rows)
    users, draws = solve_rows(half_of(state, "user"), state.samples, entries, where, expected)
    require_finite(users, "user", ratings.user_ids)
    used, baseline, links, prior = len(rated.values), state.baseline, state.links, state.item_prior
    choice = state.choice
    if choice is not None:
        rows = None if known is None else known.rows
        choice = choice._replace(users=choosing(state, choice, "user", entries, rows, where))
    if baseline is not None:
        baseline = baseline._replace(user_bias=fold_bias(baseline.item_bias, entries, state.scale))
    return {
        "user_ids": ratings.user_ids,
        "user_factors": users.factors,
        "user_bias": users.bias,
        "user_counts": interests(state, entries).astype(np.int32),
        "seen": _seen_by(state, ratings, rated, entries),
        "rows": {**ratings.rows, "used": used, "unknown_items": len(ratings) - used},
        "baseline": baseline,
        "user_features": known,
        "links": None if links is None else links._replace(users=np.zeros_like(users.factors)),
        "item_prior": None if prior is None else prior._replace(others=np.ones_like(users.bias)),
        "samples": None if state.samples is None else state.samples._replace(**draws),
        "choice": choice,
    }


def _seen_by(state: State, ratings: Ratings, rated: Compressed, entries: Compressed) -> tuple[np.ndarray, np.ndarray]:
    """Return what users have rated, now or before, as the model holds it; warn of old ratings that are not given.

    ``entries`` are those of ``rated`` that the users are solved from.
    """
    if state.seen is None:
        return rated.indptr, rated.indices
    try:
        users = ids.lookup(state.arrow_ids("user"), ratings.user_ids, "user")
    except DataError:  # ids of another kind: the model knows none of them
        return rated.indptr, rated.indices
    old = rows_of(users, [Compressed(*state.seen, np.empty(0, np.float32))])
    if not len(old.indices):
        return rated.indptr, rated.indices
    counts = entries.values > 0 if state.negative_to is not None else True  # dislikes are not among the counts
    left = np.append(state.user_counts, 0)[users] - _common(old, entries, counts)
    left = np.minimum(left, np.diff(old.indptr) - _common(old, rated))
    left = np.where(ratings.user_counts > 0, np.maximum(left, 0), 0)
    if left.any():
        known, n_given = np.flatnonzero(left), np.count_nonzero(ratings.user_counts)
        warnings.warn(
            f"the model holds {counted(int(left.sum()), 'more rating')} by {len(known):,} of {n_given:,} users, the"
            f" first {ratings.user_ids[int(known[0])].as_py()!r}: lists leave these items out, but the ratings did not"
            " count in the solution; give old and new ratings together, or use update",
            stacklevel=4,
        )
    both, _ = csr.insert(old._replace(values=old.indices), rated._replace(values=rated.indices, weights=None))
    return both.indptr, both.indices


def _common(old: Compressed, entries: Compressed, counts: np.ndarray | bool = True) -> np.ndarray:
    """Count the entries of each row, of those that count, that are in ``old``, too: (n_rows,)."""
    rows = np.repeat(np.arange(len(entries.indptr) - 1), np.diff(entries.indptr))
    again = csr.locate((old.indptr, old.indices), rows, entries.indices)[1] & counts
    return np.bincount(rows[again], minlength=len(entries.indptr) - 1)


def _features_of(state: State, user_ids: Any, source: Any) -> Features | None:
    """Return the features of users: those in a new table, or else those that the model holds; None if it has none."""
    found = None if source is None else features_like(state, "user", source)
    if state.user_features is None:
        return None
    known = state.user_features.of(user_ids)
    if found is None:
        return known
    given = found.of(user_ids)
    n_left = len(found) - int(np.count_nonzero(np.diff(given.rows.indptr)))
    if n_left:
        warnings.warn(f"{n_left:,} of {len(found):,} users in the table of features have no ratings here", stacklevel=4)
    return known.updated(given)


def features_like(state: State, side: str, source: Any, id_column: str | None = None, **layout: Any) -> Features:
    """Read side features of "user" or "item" rows, encoded like those the model was fitted with.

    ``id_column`` names the column of ids, ``layout`` is that of text; see :meth:`Features.read`.

    Raises
    ------
    ParameterError
        If the model was fitted without such features.
    DataError, OSError, ResourceError
        As :meth:`Features.read`.
    """
    own = getattr(state, f"{side}_features")
    if own is None:
        raise ParameterError(
            f"the model was fitted without {side} features: fit it with --{side}-features ({side}_features=) first"
        )
    known = {"like": state.arrow_ids(side), "encode_as": own.encoding}
    found = Features.read(source, side, id_column=id_column or state.columns[SIDES.index(side)], **known, **layout)
    for line in found.remarks:
        warnings.warn(line, stacklevel=4)
    return found


def expected_rows(state: State, side: str, features: Compressed) -> Side:
    """Return the standardised factors (n_rows, k) and biases that features expect of rows; zeros for empty rows."""
    return predicted_by_features(getattr(state, f"{side}_expected"), features)


def read_like_training(state: State, ratings: Any, **further: Any) -> Ratings:
    """Read ratings as the training ratings were read; ``further`` are arguments of :meth:`Ratings.read`.

    Raises
    ------
    DataError
        If only one of the two has weights.
    """
    how = reading(state.implicit, state.positive_from) | further
    how |= {"weight": state.weight or "", "half_life": state.half_life, "duplicates": state.duplicates, "like": state}
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


def known_entries(state: State, ratings: Ratings, side: str = "user") -> Compressed:
    """Group standardised ratings by user or item, with the model's indices of the other side.

    Rows are those of ``ratings``. Ratings whose other side has no training ratings are dropped.
    """
    if side == "item":
        users = state.known_users(ratings.user_ids)[ratings.users]
        known = users >= 0
        values = standardised(ratings.values[known], state.mean, state.scale)
        weights = None if ratings.weights is None else state.scaled_weights(ratings.weights[known])
        shape = ratings.n_items, len(state.user_ids)
        return csr.compress(ratings.items[known], users[known], values, shape, resolve("cpu"), weights=weights)
    items = state.known_items(ratings.item_ids)[ratings.items]
    known = items >= 0
    indptr = np.append(0, np.cumsum(np.bincount(ratings.users[known], minlength=ratings.n_users)))
    values = standardised(ratings.values[known], state.mean, state.scale)
    weights = None if ratings.weights is None else state.scaled_weights(ratings.weights[known])
    return Compressed(indptr, items[known], values, weights)


def solve_rows(
    half: Half,
    samples: Samples | None,
    entries: Compressed,
    device: Device,
    expected: Side | None = None,
    precisions: np.ndarray | None = None,
) -> tuple[Side, dict[str, np.ndarray]]:
    """Solve the rows of standardised ratings; return them as the model has them, and draws of them if it has samples.

    ``expected`` is what features say of the rows, or None. The draws are arrays of :class:`Samples`, by name. Without
    entries, rows are as expected, or zero. A Bayesian model may know the rows' ``precisions`` (n_rows,), which else are
    1.
    """
    if half.prior is None:
        found, draws = _solved(half, entries, device, expected), dict[str, np.ndarray]()
    else:
        found, draws = _posterior(half, half.prior, samples, entries, precisions, expected)
    with np.errstate(over="ignore"):  # lost_rows finds overflow
        bias = absorbed(found.factors, found.bias, half.frame)
        return Side(found.factors * half.scales[0], bias * half.scales[1]), draws


def require_finite(side: Side, name: str, row_ids: Any) -> None:
    """Raise a DivergenceError if rows, whose ids are given, are not finite."""
    lost = lost_rows(side)
    if len(lost):
        first = row_ids[int(lost[0])].as_py()
        raise DivergenceError(
            f"{len(lost):,} {name}s have ratings that lead to values beyond float32, the first {first!r}: rescale them"
        )


def row_terms(
    half: Half, entries: Compressed, table: np.ndarray, device: Device, expected: Side | None = None
) -> tuple[Penalty, Known]:
    """Return the penalty and the prior of the rows' equations.

    ``table`` holds the columns' factors, on the device. ``expected`` is what features say of the rows, or None.
    """
    rule, k = half.rule, half.columns.factors.shape[1]
    known = rule.known(table, k, device)
    if half.links is not None:
        _, shares = kernels.links.link_weights(np.diff(entries.indptr), rule.fade, csr.masses(entries))
        pull = _expected(half, entries) + (shares - half.moved)[:, None] * half.mean
        pull = pull if expected is None else pull + expected.factors
        known = known._replace(pull=device.put(np.ascontiguousarray(pull)))
    elif expected is not None:
        known = known._replace(pull=device.put(np.ascontiguousarray(expected.factors)))
    if expected is not None and rule.bias_reg is not None:
        known = known._replace(bias=device.put(expected.bias))
    return rule.penalty, known


def interests(state: State, entries: Compressed) -> np.ndarray:
    """Count each row's entries (n_rows,), dislikes not included."""
    if state.negative_to is None:
        return np.diff(entries.indptr)
    return csr.masses(entries._replace(weights=entries.values))  # 1, or 0 for dislikes


def lost_rows(side: Side) -> np.ndarray:
    """Return the indices of rows whose factors or bias are not finite."""
    return np.flatnonzero(~(np.isfinite(side.factors).all(axis=1) & np.isfinite(side.bias)))


def _solved(half: Half, entries: Compressed, device: Device, expected: Side | None) -> Side:
    """Solve each row's linear equations on the standardised scale; warn if some are singular."""
    n_rows, k = len(entries.indptr) - 1, half.columns.factors.shape[1]
    rows = Side(np.zeros((n_rows, k), np.float32), np.zeros(n_rows, np.float32))
    if expected is not None:
        rows = Side(np.ascontiguousarray(expected.factors), expected.bias)
    given = device.put((entries, Side(*map(np.copy, rows)), kernels.vectors.padded(half.columns)))
    terms = row_terms(half, entries, given[2].factors, device, expected)
    tasks = kernels.als.half_sweep_tasks(entries.indptr, k)
    singular = launch(kernels.als.HALF_SWEEP, device, tasks, *given, *terms)
    if singular:
        warnings.warn(
            f"the equations of {int(singular):,} {half.side}s were singular and were solved with a jitter: fit the"
            " model with larger penalties (reg, reg0)",
            stacklevel=5,
        )
    return Side(*device.get(given[1]))


class Around(NamedTuple):
    """What the prior means of rows differ by from the mean of the prior.

    factors (n_rows or 1, k), bias (n_rows or 1,). blank (n_rows,) bool: rows without entries, but with features.
    """

    factors: np.ndarray
    bias: np.ndarray
    blank: np.ndarray


def _posterior(
    half: Half,
    prior: Prior,
    samples: Samples | None,
    entries: Compressed,
    precisions: np.ndarray | None,
    expected: Side | None,
) -> tuple[Side, dict[str, np.ndarray]]:
    """Return the rows' posterior means for standardised ratings, and draws of them if the model has samples.

    The means are conditional on the other side's posterior means, because that predicts best. Rows are drawn once for
    each sample of the other side, because each sample has its own basis.
    """
    around, users = _around(half, prior, entries, expected), half.side == "user"
    centred = prior._replace(mean=prior.mean - prior.origin)
    found, _ = _drawn(entries, half.columns, prior.others, centred, around, precisions=precisions)
    if samples is None:
        return found, {}
    samples = thawed(samples)
    others, names = (samples[3:], Samples._fields[:3]) if users else (samples[:3], Samples._fields[3:])
    draws, alpha, first = [], prior.numbers[0], STREAMS[half.side]
    for number, (factors, bias, of_columns) in enumerate(zip(*others, strict=True)):
        random = half.rule.seed, first + SWEEPS * number
        weights = of_columns if users else of_columns / alpha  # alpha is part of the users' precisions
        drawn, of_rows = _drawn(entries, Side(factors, bias), weights, prior, around, random)
        draws.append((*drawn, of_rows * alpha if users else of_rows))
    return found, {name: np.stack(arrays) for name, arrays in zip(names, zip(*draws, strict=True), strict=True)}


def _around(half: Half, prior: Prior, entries: Compressed, expected: Side | None) -> Around:
    """Return the prior means of rows: of links, and of features, whose intercept is that of the prior already."""
    of_links, blank = _expected(half, entries), np.diff(entries.indptr) == 0
    if expected is None:
        return Around(of_links, np.zeros(1), np.zeros_like(blank))
    inside = expected.factors.any(axis=1) | (expected.bias != 0)
    _, bias_precision, bias_pull = prior.numbers
    bias_mean = bias_pull / bias_precision if bias_precision else expected.bias
    factors = of_links + inside[:, None] * (expected.factors - (prior.mean - prior.origin))
    return Around(factors.astype(np.float32), inside * (expected.bias - bias_mean), blank & inside)


def _drawn(
    entries: Compressed,
    columns: Side,
    column_precisions: np.ndarray,
    prior: Prior,
    around: Around,
    random: tuple[int, int] | None = None,
    precisions: np.ndarray | None = None,
) -> tuple[Side, np.ndarray]:
    """Draw rows and their precisions; without ``random``, return the rows' means instead, given their precisions.

    ``random`` is a seed and the first random stream.
    """
    n_rows, k, gibbs, draw = len(entries.indptr) - 1, columns.factors.shape[1], kernels.gibbs, random is not None
    rows = Side(np.zeros((n_rows, k), np.float32), np.zeros(n_rows, np.float32))
    precisions = np.ones(n_rows, np.float32) if precisions is None else precisions.copy()
    roots = np.sqrt(column_precisions)
    weighted = gibbs.Weighted(kernels.vectors.filled_up(columns.factors * roots[:, None]), columns.bias, roots)
    alpha, bias_precision, bias_pull = map(float, prior.numbers)
    mean, bias_pulls = prior.mean + around.factors, bias_pull + bias_precision * around.bias
    pull = product(mean, prior.precision, resolve("cpu")).astype(np.float32)
    given = gibbs.Prior(prior.precision, pull, bias_precision or np.inf, bias_pulls)
    tasks, (seed, stream) = kernels.als.half_sweep_tasks(entries.indptr, k), random or (0, 0)
    for sweep in range(SWEEPS if draw else 1):
        chance = gibbs.Chance(np.uint64(seed), np.uint64(stream + sweep), alpha, draw, draw)
        launch(gibbs.DRAW, resolve("cpu"), tasks, entries, rows, precisions, weighted, given, chance)
    if around.blank.any():  # the prior is all that is known of them
        rng, n = np.random.default_rng([seed, stream]), int(around.blank.sum())
        noise = rng.standard_normal((n, k + 1)) * draw
        root = kernels.dense.cholesky(prior.precision.astype(np.float64))
        spread = product(noise[:, :k], kernels.dense.solve_lower(root, np.eye(k)), resolve("cpu"))
        rows.factors[around.blank] = mean[around.blank] + spread
        if bias_precision:
            rows.bias[around.blank] = bias_pulls[around.blank] / bias_precision + noise[:, k] / np.sqrt(bias_precision)
    return rows, precisions


def _expected(half: Half, entries: Compressed) -> np.ndarray:
    """Return the factors that links predict for the rows: (n_rows, k), or zeros (1, k) without links."""
    k = half.columns.factors.shape[1]
    if half.links is None:
        return np.zeros((1, k), np.float32)
    table = kernels.vectors.filled_up(half.links)
    expected = np.empty((len(entries.indptr) - 1, table.shape[1]), np.float32)
    predict_by_links(entries, table, expected, k, half.rule.fade)
    return expected[:, :k]
