"""Alternating least squares: the published algorithm, in float64, and where conjugate gradients lead."""

import numpy as np
import pytest

from fastmf import ALS


def test_als_is_the_published_algorithm(rows, standardised, ran):
    # The model of the docstrings once more, in float64, one row after another, with momentum from the second epoch on.
    solver, ratings = ALS(k=3, epochs=4, reg=0.05, reg0=1.0, bias_reg=2.0, momentum=0.4), standardised(rows)
    users, items = ([array.astype(np.float64) for array in side] for side in solver.start(ratings)[:2])
    previous = [array.copy() for array in items]

    def solve(entries, side, other):
        for row in range(len(side[1])):
            rated = slice(entries.indptr[row], entries.indptr[row + 1])
            columns, n = entries.indices[rated], entries.indptr[row + 1] - entries.indptr[row]
            design = np.column_stack([other[0][columns], np.ones(n)])  # the bias is one more unknown of the row
            ridge = np.diag([0.05 * n + 1.0] * 3 + [2.0])
            found = np.linalg.solve(design.T @ design + ridge, design.T @ (entries.values[rated] - other[1][columns]))
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


@pytest.mark.parametrize("biases", [True, False])
def test_als_by_cg_gets_where_exact_als_does(biases, rows, standardised, ran, objective):
    ratings, weights = standardised(rows), {"reg": 0.05, "reg0": 1.0, "bias_reg": 2.0}

    def reached(**how):
        return objective(ratings, ran(ALS(k=3, epochs=20, biases=biases, **weights, **how), ratings), **weights)

    exact = reached()
    assert exact < 0.5 * objective(ratings, ALS(k=3).start(ratings), **weights)
    assert reached(method="cg") < 1.005 * exact
    assert abs(reached(method="cg", steps=12) - exact) < 1e-4 * exact  # k + 1 steps are exact but for rounding
