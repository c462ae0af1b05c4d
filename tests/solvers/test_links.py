"""ALS with links: the published algorithm, in float64, and what links gain and cost."""

import numpy as np
import pytest

import fastmf
from fastmf import ALS, LinkedALS, Ratings

QUICK = {"k": 3, "epochs": 6, "reg0": 0.5, "bias_reg": 1.0}


def linked(n_users=80, n_items=40, seed=0):
    """Ratings by factors that show in what is rated: users rate the items nearest to them."""
    rng = np.random.default_rng(seed)
    x, y, other = (rng.standard_normal((n, 2)) for n in (n_users, n_items, n_items))
    near = x @ y.T + rng.gumbel(0, 0.7, (n_users, n_items))
    rated = np.argsort(-near, axis=1)[:, : n_items // 4]
    users, items = np.repeat(np.arange(n_users), rated.shape[1]), rated.ravel()
    return users, items, np.sum(x[users] * other[items], axis=1) + 0.5 * rng.standard_normal(len(users))


@pytest.mark.big
def test_links_gain_where_what_is_rated_says_something():
    found = []
    for link_reg in (1.0, 1e9):  # the second leaves links without effect
        solver, folds = LinkedALS(k=2, reg0=2.0, link_reg=link_reg, fade=1.0), Ratings.from_arrays(*linked()).folds(4)
        found.append(np.mean([fastmf.evaluate(fastmf.fit(a, solver=solver), b)["rmse"] for a, b in folds]))
    assert found[0] < 0.9 * found[1]


def test_without_force_links_are_plain_als(rows):
    plain = fastmf.fit(rows, solver="als", **QUICK)
    found = fastmf.fit(rows, solver="als-links", link_reg=1e30, fade=0.0, reg=ALS.reg, **QUICK)
    for one, other in zip(plain.history, found.history, strict=True):
        assert other.train_rmse == pytest.approx(one.train_rmse, rel=1e-5)
    np.testing.assert_allclose(
        found.predict(*rows[:2])["prediction"], plain.predict(*rows[:2])["prediction"], atol=1e-4
    )


@pytest.mark.parametrize(("biases", "weighed"), [(True, False), (False, False), (True, True)])
def test_links_are_the_published_algorithm(rows, biases, weighed, standardised, ran):
    # The model of solvers/links.py once more, in float64, with dense matrices and one row after another.
    solver = LinkedALS(k=3, epochs=4, reg=0.05, reg0=1.0, bias_reg=2.0, link_reg=0.5, link_steps=2, fade=3.0,
                       momentum=0.4, biases=biases)  # fmt: skip
    ratings = standardised(rows, weighed)
    users, items = ([array.astype(np.float64) for array in side] for side in solver.start(ratings)[:2])
    previous = [array.copy() for array in items]
    counts = [np.diff(side.indptr).astype(float) for side in (ratings.by_user, ratings.by_item)]
    ones = np.zeros((ratings.n_users, ratings.n_items))
    ones[ratings.users, ratings.items] = 1
    mass = np.bincount(ratings.users, ratings.weights)  # the links themselves have no weights
    force = mass / (mass + 3)
    design = (force / np.sqrt(counts[0]))[:, None] * ones, ones.T / np.sqrt(counts[1])[:, None]
    rest = (1 - force)[:, None]
    w, s = np.zeros((ratings.n_items, 3)), np.zeros((ratings.n_users, 3))

    def solve(entries, side, other, pull):
        for row in range(len(side[1])):
            rated = slice(entries.indptr[row], entries.indptr[row + 1])
            columns, g = (
                entries.indices[rated],
                entries.weights[rated] if weighed else np.ones(rated.stop - rated.start),
            )
            rho = 0.05 * g.sum() + 1.0
            d = np.column_stack([other[0][columns], np.full(len(g), float(biases))])
            right = d.T @ (g * (entries.values[rated] - other[1][columns])) + np.append(rho * pull[row], 0)
            found = np.linalg.solve((g * d.T) @ d + np.diag([rho] * 3 + [2.0]), right)
            side[0][row], side[1][row] = found[:3], found[3]

    def step(d, table, target, steps=2):
        # preconditioned conjugate gradients, a column at a time
        matrix, diagonal = d.T @ d + 0.5 * np.eye(len(table)), np.sum(d**2, axis=0) + 0.5
        for f in range(3):
            z, r = table[:, f].copy(), d.T @ target[:, f] - matrix @ table[:, f]
            p, square = r / diagonal, r @ (r / diagonal)
            for _ in range(steps):
                length = square / (p @ matrix @ p)
                z, r = z + length * p, r - length * matrix @ p
                p, square = r / diagonal + r @ (r / diagonal) / square * p, r @ (r / diagonal)
            table[:, f] = z

    def mean():
        return counts[0] @ users[0] / counts[0].sum()

    for epoch in range(4):
        ahead = [now + 0.4 * (now - before) for now, before in zip(items, previous, strict=True)]
        previous = [array.copy() for array in items]
        if epoch:
            step(design[0], w, users[0] - rest * mean())
        solve(ratings.by_user, users, ahead, design[0] @ w + rest * mean() * (epoch > 0))
        if epoch:
            step(design[1], s, items[0])
        solve(ratings.by_item, items, users, design[1] @ s)
    found, offset = ran(solver, ratings), mean() * biases
    for side, factors, bias in zip(
        found[:2], (users[0] - offset, items[0]), (users[1], items[1] + items[0] @ offset), strict=True
    ):
        np.testing.assert_allclose(side.factors, factors, rtol=2e-3, atol=2e-4)
        np.testing.assert_allclose(side.bias, bias, rtol=2e-3, atol=2e-4)


def test_no_rating_held_out_shows_in_the_links(rows):
    rest, held_out = Ratings.from_arrays(*rows).split(0.2, seed=0)
    alone = fastmf.fit(rest, solver="als-links", **QUICK)
    watched = fastmf.fit(rest, solver="als-links", validation=held_out, **QUICK)
    assert [epoch.train_rmse for epoch in watched.history] == [epoch.train_rmse for epoch in alone.history]
    few, pairs_out = Ratings.from_arrays(*rows).split(0.9, seed=0)
    cold = few.item_counts == 0
    assert cold.any()
    assert np.isin(np.flatnonzero(cold), pairs_out.items).all()  # they are rated, but not in training
    model = fastmf.fit(few, solver="als-links", **QUICK)
    assert not model.links.items[cold].any()
    assert model.links.items[~cold].any()


@pytest.mark.big
def test_folding_in_with_links_comes_near_a_refit(planted):
    ratings = Ratings.from_arrays(*planted(80, 60, 2400, noise=0.5))
    model = fastmf.fit(ratings, k=4, solver="als-links", epochs=30)
    folded = model.fold_in(ratings)
    before, after = (fastmf.evaluate(each, ratings)["rmse"] for each in (model, folded))
    assert after == pytest.approx(before, abs=0.002)
