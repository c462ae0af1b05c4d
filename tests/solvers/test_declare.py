"""Settings: what they may be, and how solvers are made of them."""

import math
from dataclasses import dataclass

import numpy as np
import pytest

from fastmf import ALS, SGD, Gibbs, ImplicitALS, ParameterError
from fastmf.solvers import SOLVERS, make
from fastmf.solvers.base import Solver
from fastmf.solvers.declare import settings_of, with_settings

BAD = {
    "k": [0, -1, 2.5, True, "3"],
    "epochs": [0, -3, 1.5],
    "seed": [-1, 0.5, 2**64],
    "reg": [-0.1, np.nan, np.inf, "x", None, True],
    "reg0": [-0.1, np.nan, np.inf, "x"],
    "bias_reg": [-0.1, np.nan, np.inf],
    "biases": ["no", 1, None],
    "momentum": [-0.1, 1.1, np.nan],
    "method": ["CG", None, ""],
    "steps": [0, -1, 1.5],
    "link_reg": [0, -1, np.nan, np.inf],
    "link_steps": [0, -1, 1.5],
    "fade": [-1, np.nan, np.inf, "x"],
    "burn": [-1, 1.5],
    "samples": [0, 2.5],
    "kept": [-1, 1.5],
    "links": [1, "yes", None],
    "lr": [0, -1, np.nan, np.inf],
    "decay": [0, -0.5, 1.1, np.nan],
    "loss": ["huber", None],
    "schedule": ["", "hogwild "],
    "bins": [0, -1, 2.5, True],
    "adaptive": [1, "yes"],
    "alpha0": [-0.1, np.nan, np.inf, "x", None],
    "positive_from": [np.nan, np.inf, "x", True],
    "negative_to": [np.nan, -np.inf, "x", True],
}


def beyond(each):
    """Values of other kinds, and those just beyond the limits."""
    if each.kind is bool:
        return [1, "yes"]
    if each.kind is str:
        return [1, "", each.default + " "]
    if each.kind is int:
        return ["x", True, 2.5, each.low - 1, *([] if math.isinf(each.high) else [each.high + 1])]
    below = each.low if each.above else math.nextafter(each.low, -math.inf)
    return ["x", True, math.nan, below, math.nextafter(each.high, math.inf)]


@pytest.mark.parametrize("name", SOLVERS)
def test_settings_out_of_range_are_parameter_errors(name):
    for each in settings_of(SOLVERS[name]).values():
        bad = [value for value in BAD.get(each.name, []) if value is not None]
        for value in [*bad, *beyond(each), *([] if each.optional else [None])]:
            with pytest.raises(ParameterError, match=f"^{each.name} is ") as caught:
                SOLVERS[name](**{each.name: value})
            assert isinstance(caught.value, ValueError)


def test_settings_at_their_limits_are_fine():
    assert ALS(k=1, epochs=1, reg=0, reg0=0, bias_reg=0, momentum=1, seed=2**63 - 1).k == 1
    assert SGD(decay=1.0, bins=1024, lr=1e-9).bins == 1024
    assert Gibbs(burn=0, samples=1, kept=0).epochs == 1


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ParameterError, match="fade is 5, but there are no links to fade"):
        Gibbs(fade=5)
    assert Gibbs(fade=5, links=True).fade == 5
    with pytest.raises(ParameterError, match="steps is 4, but method='exact' takes none"):
        ImplicitALS(method="exact", steps=4)
    assert ALS(steps=4, method="cg").steps == 4
    with pytest.raises(ParameterError, match=r"zeros is 7 and alpha0 0\.3: give one of them"):
        ImplicitALS(zeros=7, alpha0=0.3)
    with pytest.raises(ParameterError, match="neither zeros nor alpha0 is given"):
        ImplicitALS(zeros=None)
    assert (ImplicitALS(alpha0=0.3).zeros, ImplicitALS(zeros=7).alpha0) == (None, None)
    assert (ImplicitALS().reg, ImplicitALS(penalty="frequency").reg, ImplicitALS(reg=0).reg) == (1, 0.01, 0)
    with pytest.raises(ParameterError, match="negative_to is 2, but positive_from is left out: give a higher positive"):
        ImplicitALS(negative_to=2)
    for positive_from in (1.5, 2):
        with pytest.raises(
            ParameterError, match=rf"negative_to is 2, but not below positive_from \({positive_from:g}\)"
        ):
            ImplicitALS(negative_to=2, positive_from=positive_from)
    assert ImplicitALS(negative_to=2, positive_from=2.5).negative_to == 2


def test_make_takes_names_and_objects():
    solver = ALS(k=2)
    assert make(solver) is solver
    assert make("sgd", k=2, seed=None, lr=0.1) == SGD(k=2, lr=0.1)
    with pytest.raises(ParameterError, match="choose one of als, als-links, sgd, gibbs"):
        make("svd")
    with pytest.raises(ParameterError, match="has no setting lr, loss; it has k, seed"):
        make("als", lr=0.1, loss="squared", k=3)
    with pytest.raises(ParameterError, match="k, reg given with a solver object"):
        make(solver, k=2, reg=0.1, seed=None)
    with pytest.raises(ParameterError, match="not a solver"):
        make(object())


def test_a_default_may_change_alone_and_a_setting_needs_help():
    @with_settings
    class Larger(ALS):
        k: int = 64

    assert settings_of(Larger)["k"] == settings_of(ALS)["k"]._replace(default=64)
    assert "    k : int, default 64\n        Number of factors." in Larger.__doc__
    with pytest.raises(TypeError, match="setting strength of Silent has no help"):

        @with_settings
        class Silent(ALS):
            strength: float = 1.0


def test_a_solver_must_say_what_an_epoch_is():
    @dataclass(frozen=True, kw_only=True)
    class Idle(Solver):
        name = "idle"

    with pytest.raises(TypeError, match="abstract"):
        Idle()
