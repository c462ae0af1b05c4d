"""Alternating least squares: the published algorithm, in float64, and where conjugate gradients lead."""

import numpy as np
import pytest

import fastmf
from fastmf import ALS


@pytest.mark.parametrize("weighed", [False, True])
def test_als_is_the_published_algorithm(rows, standardised, ran, weighed):
    # The model of the docstrings once more, in float64, one row after another, with momentum from the second epoch on.
    solver, ratings = ALS(k=3, epochs=4, reg=0.05, reg0=1.0, bias_reg=2.0, momentum=0.4), standardised(rows, weighed)
    users, items = ([array.astype(np.float64) for array in side] for side in solver.start(ratings)[:2])
    previous = [array.copy() for array in items]

    def solve(entries, side, other):
        for row in range(len(side[1])):
            rated = slice(entries.indptr[row], entries.indptr[row + 1])
            columns, g = (
                entries.indices[rated],
                entries.weights[rated] if weighed else np.ones(rated.stop - rated.start),
            )
            design = np.column_stack([other[0][columns], np.ones(len(g))])  # the bias is one more unknown of the row
            ridge = np.diag([0.05 * g.sum() + 1.0] * 3 + [2.0])
            right = design.T @ (g * (entries.values[rated] - other[1][columns]))
            found = np.linalg.solve((g * design.T) @ design + ridge, right)
            side[0][row], side[1][row] = found[:3], found[3]

    for _ in range(4):
        ahead = [now + 0.4 * (now - before) for now, before in zip(items, previous, strict=True)]
        previous = [array.copy() for array in items]
        solve(ratings.by_user, users, ahead)
        solve(ratings.by_item, items, users)
    found = ran(solver, ratings)
    for side, expected in zip(found[:2], (users, items), strict=True):
        np.testing.assert_allclose(side.factors, expected[0], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(side.bias, expected[1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("solver", ["als", "als-links", "sgd"])
def test_weights_of_1_are_no_weights_but_for_rounding(solver, rows):
    users, items, values = rows
    plain = fastmf.fit(rows, 3, solver)
    found = fastmf.fit((users, items, values, np.ones(len(users))), 3, solver, weight="weight")
    for one, other in zip((*found.user_side, *found.item_side), (*plain.user_side, *plain.item_side), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert found.fold_in((users, items, values, values)).baseline is not None


@pytest.mark.parametrize(("biases", "weighed"), [(True, False), (False, False), (True, True)])
def test_als_by_cg_gets_where_exact_als_does(biases, weighed, rows, standardised, ran, objective):
    ratings, weights = standardised(rows, weighed), {"reg": 0.05, "reg0": 1.0, "bias_reg": 2.0}

    def reached(**how):
        return objective(ratings, ran(ALS(k=3, epochs=20, biases=biases, **weights, **how), ratings), **weights)

    exact = reached()
    assert exact < 0.5 * objective(ratings, ALS(k=3).start(ratings), **weights)
    assert reached(method="cg") < 1.005 * exact
    assert abs(reached(method="cg", steps=12) - exact) < 1e-4 * exact  # k + 1 steps are exact but for rounding
