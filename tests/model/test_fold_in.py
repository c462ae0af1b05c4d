import dataclasses
from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import fastmf
from fastmf.data.ratings import Ratings
from fastmf.errors import DataError, DivergenceError, ParameterError
from fastmf.kernels.als import HALF_SWEEP, half_sweep_tasks
from fastmf.kernels.types import Side, nothing_known
from fastmf.model.fold_in_rule import FoldInRule
from fastmf.runtime.device import resolve
from fastmf.runtime.launch import launch

NEW = ["x", "x", "x", "y", "z", "z", "w"], [0, 3, 2**60, -5, 0, 77, 77], [5.0, 1.5, 3.0, 4.0, 2.0, 5.0, 1.0]


def solved(model, items, ratings):
    """Solve the row equations in float64, with bias and factors in one system: minimise
    sum (r - c - b - x.y)^2 + (reg n + reg0) |x|^2 + bias_reg b^2 over standardised r."""
    n, k, equations = len(items), model.k, model.user_rule
    y = model.item_factors[items].astype(np.float64)
    target = (np.array(ratings) - model.mean) / model.scale - model.item_bias[items] / model.scale
    design = np.column_stack([y, np.ones(n)])
    penalty = np.full(k + 1, equations.reg * n + equations.reg0)
    if equations.bias_reg is None:
        design, penalty = design[:, :k], penalty[:k]
    else:
        penalty[k] = equations.bias_reg
    solution = np.linalg.solve(design.T @ design + np.diag(penalty), design.T @ target) * model.scale
    return solution[:k], 0.0 if equations.bias_reg is None else solution[k]


@pytest.mark.parametrize("bias_reg", [3.0, None])
def test_new_users_are_the_solution_of_their_equations(build, bias_reg):
    model = build(user_rule=FoldInRule(reg=0.05, reg0=2.0, bias_reg=bias_reg))
    if bias_reg is None:
        model = dataclasses.replace(model, item_bias=np.zeros_like(model.item_bias))
    folded, raw = model.fold_in(NEW), model.item_ids.to_pylist()
    assert folded.user_ids.to_pylist() == ["w", "x", "y", "z"]
    known = {"x": ([0, 3, 2**60], [5.0, 1.5, 3.0]), "y": ([-5], [4.0]), "z": ([0], [2.0])}
    for row, user in enumerate(["w", "x", "y", "z"]):
        if user == "w":  # has rated nothing the model knows
            factors, bias = np.zeros(3), 0.0
        else:
            factors, bias = solved(model, [raw.index(item) for item in known[user][0]], known[user][1])
            assert np.abs(factors).max() > 0.01
        np.testing.assert_allclose(folded.user_factors[row], factors, atol=2e-6)
        np.testing.assert_allclose(folded.user_bias[row], bias, atol=2e-6)
        assert (bias != 0) == (bias_reg is not None and user != "w")
    assert folded.user_factors.dtype == folded.user_bias.dtype == np.float32


def test_folding_in_keeps_the_items_and_counts_the_unknown(model):
    before = model.content_hash
    folded = model.fold_in(NEW)
    assert model.content_hash == before
    assert folded.rows == {"read": 7, "used": 5, "duplicates": 0, "unknown_items": 2}
    assert folded.user_counts.tolist() == [0, 3, 1, 1]
    for name in ("item_ids", "item_factors", "item_bias", "item_counts", "mean", "scale", "rating_range", "solver"):
        assert getattr(folded, name) is getattr(model, name)
    cold = model.fold_in((["x", "x"], [0, 7], [1.0, 5.0]))
    assert cold.rows["unknown_items"] == 1
    np.testing.assert_array_equal(cold.user_factors, model.fold_in((["x"], [0], [1.0])).user_factors)


def test_new_users_get_predictions_and_lists_without_the_items_they_rated(model, tmp_path):
    folded = model.fold_in(NEW)
    lists = folded.recommend(n=100)
    rated = {"x": {0, 3, 2**60}, "y": {-5}, "z": {0}, "w": set()}
    for user, own in rated.items():
        assert set(lists["item_id"][lists["user_id"] == user]) == set(model.item_ids.to_pylist()) - {7} - own
    row = folded.user_ids.to_pylist().index("x")
    biases = folded.mean + folded.user_bias[row] + folded.item_bias[1]
    estimate = biases + folded.user_factors[row] @ folded.item_factors[1]
    assert folded.predict(["x"], [0])["prediction"][0] == pytest.approx(estimate, rel=1e-6)
    folded.save(tmp_path / "folded")
    pd.testing.assert_frame_equal(fastmf.load(tmp_path / "folded").recommend(n=100), lists)
    unseen = dataclasses.replace(model, seen=None).fold_in(NEW)  # the new users' own ratings are known all the same
    pd.testing.assert_frame_equal(unseen.recommend(n=100), lists)


@pytest.mark.parametrize("settings", [{}, {"biases": False}, {"reg": 0.0, "reg0": 1.0}, {"solver": "sgd", "lr": 0.02}])
def test_folding_in_the_training_users_is_the_half_sweep_of_the_users(planted, settings):
    ratings = Ratings.from_arrays(*planted(n=200))
    model = fastmf.fit(ratings, k=3, epochs=3, **{"solver": "als", "reg0": 0.5} | settings)
    standardised = ratings.with_values(((ratings.values - model.mean) / model.scale).astype(np.float32))
    users = Side(np.zeros((ratings.n_users, 3), np.float32), np.zeros(ratings.n_users, np.float32))
    tasks = half_sweep_tasks(ratings.by_user.indptr, 3)
    args = standardised.by_user, users, model.standard_side("item"), model.user_rule.penalty, nothing_known(3)
    assert launch(HALF_SWEEP, resolve("cpu"), tasks, *args) == 0
    folded = model.fold_in(ratings)
    np.testing.assert_allclose(folded.user_factors, users.factors * model.scale, atol=1e-5)
    np.testing.assert_allclose(folded.user_bias, users.bias * model.scale, atol=1e-5)
    assert folded.rows["unknown_items"] == 0
    np.testing.assert_array_equal(folded.seen[0], model.seen[0])
    np.testing.assert_array_equal(folded.seen[1], model.seen[1])


def test_folding_in_the_training_users_of_a_converged_fit_finds_them_again(planted):
    users, items, ratings = planted(n=200)
    model = fastmf.fit((users, items, ratings), 2, "als", epochs=80, momentum=0.0, reg0=0.5)
    folded = model.fold_in((users, items, ratings))
    assert np.abs(model.user_factors).max() > 0.5
    np.testing.assert_allclose(folded.user_factors, model.user_factors, atol=2e-3)
    np.testing.assert_allclose(folded.user_bias, model.user_bias, atol=2e-3)


def test_the_sum_over_all_pairs_is_part_of_the_equations(build):
    model = build(user_rule=FoldInRule(reg=0.1, reg0=0.5, all_pairs=0.25), implicit=True, mean=0.0, scale=1.0)
    model = dataclasses.replace(model, item_bias=np.zeros_like(model.item_bias))
    folded = model.fold_in((["x", "x"], [0, 3]))
    y = model.item_factors[[1, 2]].astype(np.float64)
    system = y.T @ y + 0.25 * model.item_factors.T.astype(np.float64) @ model.item_factors + 0.7 * np.eye(3)
    np.testing.assert_allclose(folded.user_factors[0], np.linalg.solve(system, y.sum(axis=0)), atol=2e-6)
    assert folded.user_bias[0] == 0


def test_lists_of_users_the_model_knows_leave_out_what_they_rated_before(model, tmp_path):
    """bob and eve have rated items in training; ann has rated -5 alone, and rates it again."""
    old = {name: {model.item_ids[int(i)] for i in model.seen[1][slice(*model.seen[0][row : row + 2])]}
           for row, name in enumerate(model.user_ids)}  # fmt: skip
    new = ["bob", "eve", "eve", "ann", "zoe"], [0, 0, 3, -5, 3], [4.0, 1.0, 5.0, 2.0, 3.0]
    given = {"ann": {-5}, "bob": {0}, "eve": {0, 3}, "zoe": {3}}
    left = sum(len(old.get(name, set()) - own) for name, own in given.items())
    assert len(old["bob"] - given["bob"]) > 0
    assert len(old["eve"] - given["eve"]) > 0
    with pytest.warns(UserWarning, match=rf"^the model holds {left} more ratings by 2 of 4 users, the first 'bob': "):
        folded = model.fold_in(new)
    lists = folded.recommend(n=100)
    for name, own in given.items():
        items = set(lists["item_id"][lists["user_id"] == name])
        assert items == set(model.item_ids) - {7} - own - old.get(name, set())
    assert folded.user_counts.tolist() == [1, 1, 2, 1]
    indptr, indices = folded.seen
    assert all((np.diff(indices[a:b]) > 0).all() for a, b in pairwise(indptr))
    fresh = dataclasses.replace(model, seen=None).fold_in(new)
    for name in ("user_factors", "user_bias", "user_counts"):
        np.testing.assert_array_equal(getattr(folded, name), getattr(fresh, name))
    assert fresh.seen[1].tolist() == [0, 1, 1, 2, 2]  # a model without seen items knows of the new ones alone
    folded.save(tmp_path / "m")
    pd.testing.assert_frame_equal(fastmf.load(tmp_path / "m").recommend(n=100), lists)


def test_old_ratings_that_are_given_again_are_nothing_to_warn_of(model):
    row = model.user_ids.to_pylist().index("eve")
    own = [model.item_ids[int(i)] for i in model.seen[1][slice(*model.seen[0][row : row + 2])]]
    folded = model.fold_in((["eve"] * len(own), own, np.linspace(1, 5, len(own))))
    np.testing.assert_array_equal(folded.seen[1], np.sort(model.seen[1][slice(*model.seen[0][row : row + 2])]))
    other = model.fold_in(([1, 2], [0, 3], [3.0, 4.0]))  # ids of another kind are of users whom nobody knows
    assert other.seen[1].tolist() == [1, 2]


def test_only_ratings_that_counted_and_users_who_are_given_are_warned_of(planted):
    rows = users, items, ratings = planted()
    good = ratings >= np.median(ratings)
    model = fastmf.fit(rows, 3, "implicit", epochs=2, positive_from=float(np.median(ratings)))
    for given in (rows, (users[good], items[good], ratings[good])):
        folded = model.fold_in(given)
        np.testing.assert_array_equal(folded.seen[1], model.seen[1])
    assert (model.user_counts > 0).all()
    whole = Ratings.read(rows)
    some = whole.take(whole.users > 0)  # the first user is among the ids, without ratings
    folded = model.fold_in(some)
    assert folded.user_ids == model.user_ids
    np.testing.assert_array_equal(folded.seen[1], model.seen[1])
    assert folded.user_counts[0] == 0


def test_an_explanation_needs_the_ratings_a_known_user_was_folded_in_from(build):
    model = build(user_rule=FoldInRule(reg=0.1, all_pairs=0.25), implicit=True, mean=0.0, scale=1.0)
    with pytest.warns(UserWarning, match="more ratings by 1 of 1 users"):
        folded = model.fold_in((["bob"], [0]))
    with pytest.raises(ParameterError, match=r"has rated, but not which 1 of them it was solved from: give"):
        folded.explain("bob", 2**60)
    score = folded.explain("bob", 2**60, ratings=(["bob"], [0])).attrs["score"]
    assert score == pytest.approx(folded.recommend("bob", items=[2**60], include_seen=True)["score"][0], abs=1e-5)


def test_unusable_ratings_and_models_are_refused(model):
    with pytest.raises(DataError, match="item ids of type large_string cannot be found among ids of type int64"):
        model.fold_in((["x"], ["0"], [3.0]))
    with pytest.raises(DataError, match="repeat a"):
        model.fold_in((["x", "x"], [0, 0], [3.0, 4.0]))
    with pytest.raises(ParameterError, match="solver 'own' has no rule for new users: it cannot fold them in"):
        dataclasses.replace(model, solver={"name": "own"}, user_rule=None).fold_in(NEW)
    wide = dataclasses.replace(model, scale=1e38, mean=0.0, user_rule=FoldInRule(reg0=1e-6))
    with pytest.raises(DivergenceError, match="1 users have ratings that lead to values beyond float32, the first 'x'"):
        wide.fold_in((["x", "x"], [0, 3], [3e38, -3e38]))


def test_singular_equations_are_solved_with_a_jitter_and_reported(model):
    singular = dataclasses.replace(model, user_rule=FoldInRule(bias_reg=0.0))
    with pytest.warns(UserWarning, match="the equations of 1 users were singular") as caught:
        folded = singular.fold_in((["x"], [0], [3.0]))
    assert caught[0].filename == __file__
    assert abs(folded.predict("x", 0)["prediction"][0] - 3) < 1e-3


def test_weights_must_be_given_if_and_only_if_the_model_was_fitted_with_them(build):
    equations = FoldInRule(reg0=1.0, all_pairs=0.1)
    ways = (None, "w", "")
    plain, weighted, counted = (build(implicit=True, user_rule=equations, weight=weight) for weight in ways)
    table = pa.table({"user": ["x", "x"], "item": [0, 3], "w": [2.0, 1.0]})
    given = Ratings.read(table, rating="", weight="w")
    with pytest.raises(DataError, match=r"without weights, but these ratings have some: .*\(weight=, half_life=\)"):
        plain.fold_in(given)
    with pytest.raises(DataError, match="with weights, but these ratings have none"):
        counted.fold_in(Ratings.read(table, rating=""))
    with pytest.raises(ParameterError, match="weight is 'w', but these Ratings have no weights"):
        weighted.fold_in(Ratings.read(table, rating=""))
    np.testing.assert_array_equal(weighted.fold_in(table).user_factors, weighted.fold_in(given).user_factors)
