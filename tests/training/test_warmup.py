"""warmup: what it compiles is what users do."""

import pytest

import fastmf
from fastmf import ParameterError
from fastmf.kernels.compile import ENABLED
from fastmf.solvers import SOLVERS
from fastmf.training import warmup


@pytest.mark.skipif(not ENABLED, reason="there is nothing to compile without the JIT")
def test_every_variant_of_every_solver_is_fitted_and_one_model_serves(monkeypatch):
    fitted, fit = [], warmup.fit

    def counted(ratings, *arguments, solver="als", **options):
        fitted.append(solver)
        return fit(ratings, *arguments, solver=solver, **options)

    monkeypatch.setattr(warmup, "fit", counted)
    monkeypatch.setattr(warmup, "TYPES", warmup.TYPES[:1])
    assert fastmf.warmup(k=3) > 0
    variants = [(name, dict(v)) for name, solver in SOLVERS.items() for v in solver.variants.values()]
    assert [solver.name for solver in fitted[:-1]] == [*(name for name, _ in variants), *SOLVERS]  # and with features
    assert all(solver.k == 3 for solver in fitted[:-1])


def test_less_than_one_factor_is_refused():
    with pytest.raises(ParameterError, match="k is 0"):
        fastmf.warmup(k=0)
