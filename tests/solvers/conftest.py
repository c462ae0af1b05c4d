"""What the tests of solvers share: ratings as given and standardised, a whole run, and the common objective."""

import dataclasses

import numpy as np
import pytest

from fastmf import Ratings
from fastmf.runtime.device import Device


@pytest.fixture(scope="package")
def rows(planted):
    users, items, ratings = planted()
    return users, items, np.abs(ratings)  # they serve as weights, too


@pytest.fixture(scope="package")
def standardised():
    """Ratings made from arrays, with mean 0 and deviation 1, and random weights if asked for."""

    def of(rows, weighed=False):
        users, items, values = rows
        found = Ratings.from_arrays(users, items, (values - values.mean()) / values.std())
        weights = np.random.default_rng(8).uniform(0.1, 4, len(found)).astype(np.float32)
        return dataclasses.replace(found, weights=weights) if weighed else found

    return of


@pytest.fixture(scope="package")
def ran():
    """The factors of a solver after all its epochs."""

    def factors_of(solver, ratings):
        factors = solver.start(ratings)
        assert list(solver.run(ratings, factors, Device(name="cpu", threads=1))) == [0] * solver.epochs
        return factors

    return factors_of


@pytest.fixture(scope="package")
def objective():
    """The objective of fastmf.solvers, in float64."""

    def of(ratings, factors, *, reg, reg0, bias_reg):
        (x, b), (y, c) = ([array.astype(np.float64) for array in side] for side in factors[:2])
        u, i = ratings.users, ratings.items
        errors = ratings.values - b[u] - c[i] - np.sum(x[u] * y[i], axis=1)
        weights = np.ones(len(u)) if ratings.weights is None else ratings.weights
        total = weights @ errors**2 + bias_reg * (b @ b + c @ c)
        for rows, factors_of in ((u, x), (i, y)):
            total += (reg * np.bincount(rows, weights) + reg0) @ np.sum(factors_of**2, axis=1)
        return total

    return of
