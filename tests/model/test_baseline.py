import numpy as np
import pytest

import fastmf
from fastmf.data.ratings import Ratings
from fastmf.model.baseline import REG, fit_baseline


def test_the_baseline_minimises_its_objective(planted):
    ratings = Ratings.from_arrays(*planted(n=250))
    model = fastmf.fit(ratings, k=2, epochs=1)
    values = ((ratings.values - model.mean) / model.scale).astype(np.float32)
    standard = ratings.with_values(values)
    found = fit_baseline(standard.by_user, standard.by_item, 1.0)
    users = np.eye(ratings.n_users)[ratings.users]
    design = np.column_stack([users, np.eye(ratings.n_items)[ratings.items]])
    exact = np.linalg.solve(design.T @ design + REG * np.eye(design.shape[1]), design.T @ values)
    np.testing.assert_allclose(np.concatenate(found), exact, atol=0.02)  # a few sweeps, not all
    np.testing.assert_allclose(model.baseline.user_bias, found.user_bias * model.scale, rtol=1e-5)


def test_a_folded_in_users_bias_solves_its_equation(model, planted):
    users, items, ratings = planted(n=250)
    fitted = fastmf.fit((users, items, ratings), k=2, epochs=1)
    own = users == users[0]
    folded = fitted.fold_in((users[own], items[own], ratings[own]))
    places = np.searchsorted(fitted.item_ids.to_numpy(), items[own])
    left = ratings[own] - fitted.mean - fitted.baseline.item_bias[places]
    assert folded.baseline.user_bias[0] == pytest.approx(left.sum() / (own.sum() + REG), rel=1e-4)
    assert folded.baseline.item_bias is fitted.baseline.item_bias
    assert model.fold_in((["x"], [0], [3.0])).baseline is None
