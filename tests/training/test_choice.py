"""The fit of what users choose: taste where there is any, popularity where there is none, and the same bits always."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

import fastmf
from fastmf import Ratings
from fastmf.data.standardise import standardised
from fastmf.runtime.device import resolve
from fastmf.solvers import SOLVERS
from fastmf.training.choice import EPOCHS, REG, REG0, fit_choice

RATING_SOLVERS = [name for name, kind in SOLVERS.items() if not kind.implicit]


def standard(rows):
    ratings = Ratings.from_arrays(*rows)
    values = ratings.values.astype(np.float64)
    return ratings.with_values(standardised(ratings.values, values.mean(), values.std()))


@pytest.fixture(scope="module")
def groups():
    """300 users of three groups, who mostly choose the items of their group, whatever they rate them."""
    rng = np.random.default_rng(0)
    same = np.arange(300)[:, None] % 3 == np.arange(90) % 3
    popular = 0.2 + 0.8 / (1 + np.arange(90) // 3)
    users, items = np.nonzero(rng.random((300, 90)) < popular * np.where(same, 0.5, 0.05))
    return Ratings.from_arrays(users, items, rng.integers(1, 6, len(users)).astype(float)).split(0.3)


@pytest.mark.parametrize("weighed", [False, True])
def test_it_alternates_exact_solutions_of_the_objective(planted, weighed):
    ratings = standard(planted())
    if weighed:
        weights = np.random.default_rng(5).uniform(0.2, 3, len(ratings)).astype(np.float32)
        ratings = dataclasses.replace(ratings, weights=weights)
    found = fit_choice(ratings, 3, 7, resolve("cpu"))["choice"]
    good = ratings.values >= 0
    alone = np.bincount(ratings.users[good], minlength=ratings.n_users) == 0
    good |= alone[ratings.users]
    shares = np.zeros((ratings.n_users, ratings.n_items))
    shares[ratings.users[good], ratings.items[good]] = 1 if ratings.weights is None else ratings.weights[good]
    possible = (shares > 0).any(axis=1).sum() * (shares > 0).any(axis=0).sum()
    all_pairs = min(30 * good.sum() / possible, 1)
    mean = shares[shares > 0].mean()
    reg0, all_pairs = mean * REG0, mean * all_pairs
    np.testing.assert_allclose(found.numbers, [REG, reg0, all_pairs], rtol=1e-6)

    def solve(g, others):
        out = np.zeros((len(g), 3))
        for row in np.flatnonzero(g.any(axis=1)):
            normal = (g[row] * others.T) @ others + all_pairs * others.T @ others
            out[row] = np.linalg.solve(normal + (REG * g[row].sum() + reg0) * np.eye(3), g[row] @ others)
        return out

    users = np.random.default_rng(7).standard_normal((ratings.n_users, 3), dtype=np.float32) / np.sqrt(3)
    users[~shares.any(axis=1)] = 0
    for _ in range(EPOCHS):
        items = solve(shares.T, users)
        users = solve(shares, items)
    np.testing.assert_allclose(found.users, users, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found.items, items, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("weight", [1e-10, 0.01, 100, 1e10])
def test_only_the_ratios_of_weights_count(planted, weight):
    ratings = standard(planted())
    plain = fit_choice(ratings, 3, 7, resolve("cpu"))["choice"]
    same = dataclasses.replace(ratings, weights=np.full(len(ratings), weight, np.float32))
    found = fit_choice(same, 3, 7, resolve("cpu"))["choice"]
    np.testing.assert_allclose(found.numbers[1:], plain.numbers[1:] * weight, rtol=1e-5)
    scores = [each.users @ each.items.T for each in (found, plain)]
    np.testing.assert_allclose(*scores, rtol=0.01, atol=1e-3)


@pytest.mark.parametrize("solver", RATING_SOLVERS)
def test_lists_find_planted_taste_that_ratings_do_not_show(groups, solver):
    train, test = groups
    model = fastmf.fit(train, k=8, solver=solver)
    by_choice, by_rating = (fastmf.evaluate(model, test, rank_by=way) for way in (None, "rating"))
    assert by_choice["ndcg"] > 1.5 * by_choice["popularity"]["ndcg"]
    assert by_choice["ndcg"] > 1.5 * by_rating["ndcg"]


def test_where_the_act_of_rating_says_nothing_lists_are_about_as_good_as_popularity():
    rng = np.random.default_rng(1)
    popular = 0.02 + 0.6 / (1 + np.arange(200) / 5)
    users, items = np.nonzero(rng.random((600, 200)) < popular)
    ratings = Ratings.from_arrays(users, items, rng.integers(1, 6, len(users)).astype(float))
    train, test = ratings.split(0.2)
    found = fastmf.evaluate(fastmf.fit(train), test)
    assert found["ndcg"] > 0.8 * found["popularity"]["ndcg"]


def test_the_bits_depend_on_neither_threads_nor_the_solver_nor_a_warm_start(planted, tmp_path):
    rows = planted()
    model = fastmf.fit(rows, k=3, threads=1)
    others = [
        fastmf.fit(rows, k=3, threads=2),
        fastmf.fit(rows, k=3, solver="sgd"),
        fastmf.fit(rows, k=3, epochs=1, init=model),
    ]
    fastmf.fit(rows, k=3, checkpoint=tmp_path / "c", callback=lambda epoch: epoch.number < 4)
    others.append(fastmf.fit(rows, k=3, checkpoint=tmp_path / "c", resume=True))
    assert others[-1].content_hash == model.content_hash
    for other in others:
        for ours, theirs in zip(model.choice, other.choice, strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("values", [[5.0, 3, 2, 4, 1], [4.0] * 5, [0.1] * 5])
@pytest.mark.parametrize("solver", RATING_SOLVERS)
def test_few_ratings_are_enough(solver, values):
    rows = ["a", "a", "b", "c", "c"], [1, 2, 2, 1, 3], values
    model = fastmf.fit(rows, solver=solver)
    lists = model.recommend(n=3)
    assert np.isfinite(lists["score"]).all()
    assert lists["user_id"].unique().tolist() == ["a", "b", "c"]
    one = fastmf.fit((["a"], [1], [values[0]]), solver=solver)
    assert one.recommend(include_seen=True)["item_id"].tolist() == [1]
    assert one.recommend().empty


def test_cross_validation_measures_lists_in_either_order(planted):
    frames = {way: fastmf.cross_validate(planted(), folds=2, lists=True, rank_by=way) for way in (None, "rating")}
    assert (frames[None]["ndcg"] != frames["rating"]["ndcg"]).any()
    pd.testing.assert_series_equal(frames[None]["rmse"], frames["rating"]["rmse"])


def test_folds_have_no_other_order(planted):
    for way in ("blend", "x"):
        with pytest.raises(fastmf.ParameterError, match=f"rank_by is '{way}'"):
            fastmf.cross_validate(planted(), rank_by=way)
    both = fastmf.cross_validate(planted(), ["als", "implicit"], folds=2, lists=True, rank_by="choice")
    assert both["ndcg"].notna().all()
