"""Stochastic gradient descent: its objective, its steps, and the blocks it works through."""

import dataclasses
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

import fastmf
from fastmf import ALS, SGD, Ratings
from fastmf.data.features import Features
from fastmf.kernels.sgd import Step
from fastmf.runtime.device import Device
from fastmf.runtime.launch import launch
from fastmf.solvers import features
from fastmf.solvers import sgd as sgd_module
from fastmf.solvers.sgd import cut, dealt


@pytest.mark.parametrize("weighed", [False, True])
def test_als_and_sgd_minimise_the_same_objective(weighed, planted, standardised, ran, objective):
    users, items, values = planted(15, 12, 150)
    rng = np.random.default_rng(1)
    values = values + rng.standard_normal(200)[users - 100] + rng.standard_normal(12)[items - 1000]
    ratings = standardised((users, items, values), weighed)
    weights = {"reg": 0.05, "reg0": 0.5, "bias_reg": 2.0}

    def reached(solver, **settings):
        factors = ran(solver(k=2, **settings), ratings)
        assert min(np.linalg.norm(side.factors) for side in factors[:2]) > 1  # not at the saddle, where all is zero
        return objective(ratings, factors, **weights)

    slow = {"epochs": 300, "lr": 0.05, "decay": 0.985}
    expected = reached(ALS, epochs=60, momentum=0, **weights)
    assert reached(SGD, **slow, **weights) == pytest.approx(expected, rel=0.005)
    for name, weight in weights.items():  # this check notices if one of them means something else
        assert reached(SGD, **slow, **{**weights, name: 2 * weight}) > 1.005 * expected


@pytest.mark.parametrize("loss", ["squared", "absolute"])
def test_sgd_lowers_its_loss(loss, rows):
    model = fastmf.fit(rows, 3, "sgd", lr=0.2, reg0=0.5, bias_reg=1.0, loss=loss, epochs=30)
    assert model.history[-1].train_rmse < 0.8 * model.history[0].train_rmse


def test_sgd_steps_by_lr_times_decay(monkeypatch, rows, standardised, ran):
    steps = []

    def launched(kernel, device, tasks, *args):
        steps.extend(arg for arg in args if isinstance(arg, Step))
        return launch(kernel, device, tasks, *args)

    monkeypatch.setattr(sgd_module, "launch", launched)
    ran(SGD(epochs=3, lr=0.08, decay=0.5, bins=1, seed=7, k=5), standardised(rows))
    assert [step.lr for step in steps] == [0.08, 0.04, 0.02]
    assert {(step.k, step.biases, step.adaptive, step.absolute) for step in steps} == {(5, True, False, False)}
    assert [step.epoch for step in steps] == [0, 1, 2]
    assert {step.seed for step in steps} == {7}
    steps.clear()
    ran(SGD(epochs=1, biases=False, bins=1, loss="absolute", adaptive=True), standardised(rows))
    assert (steps[0].biases, steps[0].adaptive, steps[0].absolute) == (False, True, True)


def test_hogwild_on_two_threads_comes_as_near(rows):
    one, two = (
        fastmf.fit(rows, solver=SGD(k=3, lr=0.2, reg0=0.5, bias_reg=1.0, schedule="hogwild"), threads=threads)
        for threads in (1, 2)
    )
    assert two.history[-1].train_rmse == pytest.approx(one.history[-1].train_rmse, rel=0.1)


def skewed():
    """Ratings, most of them by a few users or of a few items."""
    rng = np.random.default_rng(0)
    pairs = {(int(u), int(i)) for u, i in (rng.random((900, 2)) ** 3 * (40, 25)).astype(int)}
    users, items = np.array(sorted(pairs)).T
    return Ratings.from_arrays(users, items, np.arange(len(users), dtype=np.float32))


@pytest.mark.parametrize(("bins", "device"), [(1, "cpu"), (8, "numpy"), (25, "cpu")])
def test_blocks_hold_every_rating_once_and_a_stratum_shares_no_row(bins, device):
    ratings = skewed()
    grid = cut(ratings, bins)
    triples, bounds = dealt(ratings, grid, 0, Device(name=device, threads=2))
    assert len(bounds) == bins**2 + 1
    order = triples.values.astype(int)  # the ratings are their own numbers
    assert sorted(order) == list(range(len(ratings)))
    np.testing.assert_array_equal(triples.users, grid.user_rows[ratings.users[order]])
    np.testing.assert_array_equal(triples.items, grid.item_rows[ratings.items[order]])
    for rows, of_bin in ((grid.user_rows, grid.user_bins), (grid.item_rows, grid.item_bins)):
        assert sorted(rows) == list(range(len(rows)))
        assert np.all(np.diff(of_bin[np.argsort(rows)]) >= 0)  # the rows of a bin lie together
    assert (bounds[0], bounds[-1]) == (0, len(ratings))
    assert triples.weights is None
    weighed = dataclasses.replace(ratings, weights=ratings.values + 1)
    again, _ = dealt(weighed, grid, 0, Device(name=device, threads=2))
    np.testing.assert_array_equal(again.values, triples.values)
    np.testing.assert_array_equal(again.weights, triples.values + 1)
    for start in range(0, bins**2, bins):
        tasks = bounds[start : start + bins + 1]
        for side in (triples.users, triples.items):
            of_block = [set(side[first:last]) for first, last in pairwise(tasks)]
            assert sum(map(len, of_block)) == len(set().union(*of_block))


def test_bins_hold_as_many_ratings():
    # a user with c ratings for every c of 1 to 16, and so with the items: dealt there and back, 8 bins have 17 each
    pairs = np.argwhere(np.tri(16, dtype=bool))
    order = np.random.default_rng(0).permutation(16)
    ratings = Ratings.from_arrays(*order[pairs].T, np.ones(len(pairs)))
    _, bounds = dealt(ratings, cut(ratings, 8), 0, Device(name="cpu", threads=2))
    sizes = np.diff(bounds).reshape(8, 8)  # stratum s holds the blocks (b, b + s mod 8)
    assert sizes.sum(axis=0).tolist() == [17] * 8
    assert sum(np.roll(sizes[s], s) for s in range(8)).tolist() == [17] * 8


def featured(n_users=60, n_items=40, sides=("item",)):
    """Return standardised ratings of planted factors, which are the features, and what users would rate the last items.

    The last quarter of the items have no ratings.
    """
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((n_users, 2)), rng.standard_normal((n_items, 2))
    level = y @ (0.5, -0.8)
    users, items = np.nonzero(rng.random((n_users, n_items)) < 0.6)
    warm = items < n_items * 3 // 4
    users, items = users[warm], items[warm]
    values = np.sum(x[users] * y[items], axis=1) + level[items] + 0.2 * rng.standard_normal(len(users))
    given, scale = {}, values.std()
    for side, factors in (("user", x), ("item", y)):
        table = pa.table({side: np.arange(len(factors)), "a": factors[:, 0], "b": factors[:, 1]})
        given[f"{side}s"] = Features.read(table, side) if side in sides else None
    ratings = Ratings.from_arrays(users, items, ((values - values.mean()) / scale).astype(np.float32))
    truth = (x @ y.T + level - values.mean())[:, n_items * 3 // 4 :] / scale
    return ratings.with_features(**given), truth


LONG = {"k": 4, "reg": 0.02, "reg0": 1.0, "bias_reg": 0.5}


def of_cold_items(factors, truth):
    """What is predicted for the last items."""
    (x, b), (y, c) = factors[:2]
    n = truth.shape[1]
    return (x @ y.T + b[:, None] + c)[:, -n:]


@pytest.mark.parametrize("settings", [{}, {"adaptive": True, "lr": 0.2}, {"schedule": "hogwild"}, {"loss": "absolute"}])
def test_features_that_are_the_truth_predict_items_without_ratings(settings, ran):
    ratings, truth = featured()
    factors = ran(SGD(**LONG, epochs=40, **({"lr": 0.1} | settings)), ratings)
    rest = of_cold_items(factors, truth) - truth
    assert np.sqrt(np.mean(rest**2)) < 0.45 * truth.std()  # sgd shrinks features that are not very clear


def test_als_and_sgd_learn_the_same_from_features(ran, monkeypatch):
    # both stop where rows solve their equations and the weights of features their regression, if as much is shrunk
    monkeypatch.setattr("fastmf.solvers.sgd.CLEAR", features.CLEAR)
    ratings, truth = featured()
    expected = of_cold_items(ran(ALS(**LONG, epochs=60), ratings), truth)
    found = of_cold_items(ran(SGD(**LONG, epochs=200, lr=0.1, decay=0.98), ratings), truth)
    assert np.abs(found - expected).max() < 0.05 * truth.std()


@pytest.mark.parametrize("sides", [("item",), ("user",), ("user", "item")])
def test_rows_without_ratings_are_what_they_are_pulled_to(sides, ran):
    ratings, _ = featured(sides=sides)
    ratings = ratings.take(ratings.users > 3)  # users without ratings, too
    factors = ran(SGD(k=4, epochs=3), ratings)
    both = ("user", ratings.user_counts), ("item", ratings.item_counts)
    for (name, counts), side, pulls in zip(both, factors[:2], factors.memory, strict=True):
        cold = counts == 0
        assert cold.sum() > 3 or name not in sides
        expected = pulls[cold, :5] if name in sides else np.zeros((cold.sum(), 5))
        np.testing.assert_array_equal(np.column_stack(side)[cold], expected)
        assert expected.any() == (name in sides)


@pytest.mark.parametrize("settings", [{}, {"adaptive": True, "lr": 0.2}, {"schedule": "hogwild"}])
def test_a_fit_with_features_resumes_bit_for_bit(settings, ran):
    ratings, _ = featured(sides=("user", "item"))
    solver, device = SGD(k=4, epochs=6, **settings), Device(name="cpu", threads=1)
    expected = ran(solver, ratings)
    factors = solver.start(ratings)
    for _ in zip(range(3), solver.run(ratings, factors, device), strict=False):
        pass
    factors = device.copy(factors)
    assert list(solver.run(ratings, factors, device, done=3)) == [0] * 3
    for one, other in zip(flat(factors), flat(expected), strict=True):
        np.testing.assert_array_equal(one, other)


def flat(factors):
    return [*factors.users, *factors.items, *factors.memory, *factors.kept]


def test_threads_and_devices_agree_with_features(ran):
    ratings, _ = featured(sides=("user", "item"))
    expected = flat(ran(SGD(k=4, epochs=4, lr=0.1), ratings))
    for name, threads in (("cpu", 2), ("numpy", 1)):
        solver, device = SGD(k=4, epochs=4, lr=0.1), Device(name=name, threads=threads)
        factors = solver.start(ratings)
        assert list(solver.run(ratings, factors, device)) == [0] * 4
        for one, other in zip(flat(factors), expected, strict=True):
            if name == "cpu":
                np.testing.assert_array_equal(one, other)
            else:
                np.testing.assert_allclose(one, other, atol=1e-3)
