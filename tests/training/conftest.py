"""Noisy ratings, and fits that overfit them: the validation error falls, then rises."""

import pytest

import fastmf
from fastmf import Ratings

# Many factors and hardly any penalty.
OVERFIT = {"k": 8, "reg": 0.0, "reg0": 0.02, "bias_reg": 0.5, "threads": 1}
OF_SOLVER = {
    "als": {"epochs": 15, "momentum": 0.0},
    "als-links": {"epochs": 15, "momentum": 0.0, "link_reg": 0.1},
    "sgd": {"epochs": 40, "lr": 0.1, "decay": 1.0},
}


@pytest.fixture(scope="package")
def noisy(planted):
    return Ratings.from_arrays(*planted(n=400, noise=1.0))


@pytest.fixture(scope="package")
def overfit():
    def fit(ratings, solver, **settings):
        if solver == "gibbs":  # it hardly can
            sweeps = settings.pop("epochs", 8)
            return fastmf.fit(ratings, 8, solver, threads=1, burn=1, samples=sweeps - 1, kept=2, **settings)
        return fastmf.fit(ratings, solver=solver, **{**OVERFIT, **OF_SOLVER[solver], **settings})

    return fit
