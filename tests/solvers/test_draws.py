"""Gibbs draws of what side features are worth: the posterior, a planted truth, rows without ratings, and resuming."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from fastmf import Gibbs, Ratings
from fastmf.data.features import Features
from fastmf.kernels.types import Compressed, Side
from fastmf.kernels.vectors import aligned, whole
from fastmf.model.learned import Samples
from fastmf.runtime.device import Device
from fastmf.solvers import draws, features, gibbs
from fastmf.solvers.draws import Drawn, Hyper

CPU = Device(name="cpu", threads=2)
K, N_USERS, N_ITEMS = 3, 60, 40


def compressed(dense):
    """The entries of a dense design that are not zero."""
    rows, columns = np.nonzero(dense)
    indptr = np.append(0, np.cumsum(np.bincount(rows, minlength=len(dense))))
    return Compressed(indptr, columns.astype(np.int32), dense[rows, columns].astype(np.float32))


@pytest.mark.parametrize("biased", [True, False], ids=["biases", "no biases"])
def test_weights_follow_their_posterior(monkeypatch, biased):
    # Rows x ~ N(m + F B, L^-1), B ~ N(0, I / kappa_g): B is normal with precision L (x) F'F + kappa (x) I.
    rng, k, n = np.random.default_rng(0), 2, 14
    design = rng.standard_normal((n, 3)) * (rng.random((n, 3)) < 0.7)
    design[11] = 0  # a row that is not in the table
    warm = np.arange(n) != 12  # and one without ratings
    a = rng.standard_normal((k, k + 2))
    hyper = Hyper(rng.standard_normal(k), a @ a.T, *((2.5, 1.5) if biased else (np.inf, 0.0)))
    side = Side(*(rng.standard_normal(shape).astype(np.float32) for shape in ((n, k), n)))
    linked, kappas = rng.standard_normal((n, k)), np.array([[2.0, 2.0, 1.0], [0.5, 0.5, 3.0], [7.0, 7.0, 0.3]])
    monkeypatch.setattr(Drawn, "_draw_kappas", lambda *_: kappas)
    monkeypatch.setattr(draws, "FEATURE_STEPS", 8)  # more than there are features: exact
    drawn = Drawn(k, compressed(design), warm, aligned(3, whole(k + 1)), CPU)
    found = []
    for _ in range(4000):
        drawn.draw(side, hyper, linked, rng)
        found.append(drawn.table[:, : k + 1].copy())
    inside = warm & (np.arange(n) != 11)
    f = design[inside] - design[inside].mean(axis=0)
    precision = np.kron(f.T @ f, hyper.precision) + np.diag(np.repeat(kappas[:, 0], k))
    right = (f.T @ (side.factors - hyper.mean - linked)[inside] @ hyper.precision).ravel()
    covariance = np.linalg.inv(precision)
    of_factors = np.array(found)[:, :, :k].reshape(len(found), -1)
    scale = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose((of_factors.mean(axis=0) - covariance @ right) / scale, 0, atol=0.07)
    both = np.outer(scale, scale)
    np.testing.assert_allclose(np.cov(of_factors.T) / both, covariance / both, atol=0.1)
    of_biases = np.array(found)[:, :, k]
    if not biased:
        assert not of_biases.any()
        return
    p, covariance = 2.5, np.linalg.inv(2.5 * f.T @ f + np.diag(kappas[:, 2]))
    scale = np.sqrt(np.diag(covariance))
    mean = covariance @ (p * f.T @ (side.bias[inside] - 1.5 / p))
    np.testing.assert_allclose((of_biases.mean(axis=0) - mean) / scale, 0, atol=0.07)
    both = np.outer(scale, scale)
    np.testing.assert_allclose(np.cov(of_biases.T) / both, covariance / both, atol=0.1)
    centred = (design - design[inside].mean(axis=0)) * inside[:, None]
    np.testing.assert_allclose(drawn.expected[:, : k + 1], centred @ found[-1], atol=1e-5)
    outside = np.append(hyper.mean, 0.6) - design[inside].mean(axis=0) @ found[-1]
    np.testing.assert_allclose(drawn.intercept[: k + 1], outside, atol=1e-5)


def featured(sides=("item", "user"), seed=0, cold=10):
    """Standardised ratings whose factors are linear in features, in which the last items have no ratings; the truth."""
    rng = np.random.default_rng(seed)
    made, truth = {}, []
    for side, n in (("user", N_USERS), ("item", N_ITEMS)):
        f = rng.standard_normal((n, 4))
        truth.append((f @ rng.standard_normal((4, 2)) / 2, f @ rng.standard_normal(4) / 4))
        table = pa.table({side: np.arange(n)} | {f"f{g}": f[:, g] for g in range(4)})
        made[side] = Features.read(table, side)
    (x, b), (y, c) = truth
    users, items = np.divmod(rng.permutation(N_USERS * (N_ITEMS - cold))[:700], N_ITEMS - cold)
    expected = b[:, None] + c + x @ y.T
    values = expected[users, items] + 0.3 * rng.standard_normal(len(users))
    ratings = Ratings.from_arrays(users, items, (values - values.mean()) / values.std())
    given = {f"{side}s": made[side] for side in sides}
    return ratings.with_features(**given), (expected - values.mean()) / values.std()


def run(solver, ratings, device=CPU, done=0, factors=None, sweeps=None):
    """The factors after so many more sweeps."""
    factors = solver.start(ratings) if factors is None else factors
    steps = solver.run(ratings, factors, device, done)
    for _ in range(solver.epochs - done if sweeps is None else sweeps):
        next(steps)
    return factors


def rmse_of_cold(factors, expected):
    """The error of the predictions for the items without ratings."""
    found = factors.users.bias[:, None] + factors.items.bias + factors.users.factors @ factors.items.factors.T
    return float(np.sqrt(np.mean((found - expected)[:, -10:] ** 2)))


@pytest.mark.parametrize("links", [False, True], ids=["no links", "links"])
def test_items_without_ratings_are_predicted_by_what_features_are_worth(links):
    ratings, expected = featured()
    solver = Gibbs(k=K, burn=20, samples=40, links=links)
    plain = dataclasses.replace(ratings, user_features=None, item_features=None)
    without, found = rmse_of_cold(run(solver, plain), expected), rmse_of_cold(run(solver, ratings), expected)
    assert found < 0.35 * without


@pytest.mark.parametrize("links", [False, True], ids=["no links", "links"])
@pytest.mark.parametrize("sides", [("item",), ("user", "item")], ids=len)
def test_rows_without_ratings_are_what_the_model_keeps_of_features(links, sides):
    ratings, _ = featured(sides=sides)
    solver = Gibbs(k=K, burn=2, samples=4, kept=4, links=links)
    factors = run(solver, ratings)
    kept = features.Kept(*factors.kept[-4:])
    assert len(kept.users) == (4 if "user" in sides else 0)
    assert ("user" in sides) == kept.user_intercept.any()
    rows = ratings.item_features.rows
    dense = np.zeros((N_ITEMS, 4))
    dense[np.repeat(np.arange(N_ITEMS), np.diff(rows.indptr)), rows.indices] = rows.values
    found = dense @ kept.items[:, : K + 1] + kept.item_intercept[0, : K + 1]
    cold, origin = ratings.item_counts == 0, gibbs.Kept.of(factors.kept).user_prior.origin
    assert cold.sum() == 10
    np.testing.assert_allclose(factors.items.factors[cold], found[cold, :K], atol=1e-5)
    bias = found[:, K] + found[:, :K] @ origin  # the model's biases absorb the mean user
    np.testing.assert_allclose(factors.items.bias[cold], bias[cold], atol=1e-5)
    samples = Samples(*solver.learned(factors)["samples"])
    assert (samples.item_factors[:, cold].std(axis=0) > 0).all()
    assert (samples.item_bias[:, cold] != 0).all()
    assert (samples.item_precisions[:, cold].std(axis=0) > 0).all()


def test_useless_features_change_little():
    ratings, expected = featured(cold=0)
    solver, there = Gibbs(k=K, burn=10, samples=20), np.zeros((N_USERS, N_ITEMS), bool)
    there[ratings.users, ratings.items] = True

    def rmse(given):
        factors = run(solver, given)
        found = factors.users.bias[:, None] + factors.items.bias + factors.users.factors @ factors.items.factors.T
        return np.sqrt(np.mean((found - expected)[~there] ** 2))

    none = dataclasses.replace(ratings, user_features=None, item_features=None)
    shuffled = np.random.default_rng(9).permutation
    useless = dataclasses.replace(
        ratings,
        user_features=ratings.user_features.of(ratings.user_ids.take(pa.array(shuffled(N_USERS)))),
        item_features=ratings.item_features.of(ratings.item_ids.take(pa.array(shuffled(N_ITEMS)))),
    )
    assert rmse(ratings) < 0.85 * rmse(none)
    assert rmse(useless) < 1.02 * rmse(none)


@pytest.mark.parametrize("links", [False, True], ids=["no links", "links"])
def test_resuming_and_threads_change_no_bit(links):
    ratings, _ = featured()
    solver = Gibbs(k=K, burn=2, samples=5, kept=3, links=links)
    whole_run = run(solver, ratings, Device(name="cpu", threads=1))
    half = run(solver, ratings, sweeps=4)
    sides, arrays = half[:2], (tuple(map(np.copy, part)) for part in half[2:])
    copied = type(half)(*(Side(*map(np.copy, side)) for side in sides), *arrays)
    resumed = run(solver, ratings, done=4, factors=copied)
    for one, other in zip(resumed, whole_run, strict=True):
        for found, expected in zip(one, other, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_the_kernels_draw_what_their_definitions_draw():
    ratings, _ = featured()
    solver = Gibbs(k=K, burn=0, samples=3)
    found, expected = run(solver, ratings), run(solver, ratings, Device(name="numpy", threads=1))
    for side, other in zip(found[:2], expected[:2], strict=True):
        np.testing.assert_allclose(side.factors, other.factors, rtol=1e-2, atol=2e-3)
        np.testing.assert_allclose(side.bias, other.bias, rtol=1e-2, atol=2e-3)
