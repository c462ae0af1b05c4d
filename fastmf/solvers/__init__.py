"""The solvers: plain Python that reads like the paper; the loops over ratings are in :mod:`fastmf.kernels`.

Each solver is one file: the dataclass of its settings, and the code of an epoch. To add one, add a file here, a file in
kernels/ and its class to SOLVERS. ALS and SGD minimise one objective, of standardised ratings r = (rating - mean) /
scale, so that the same settings serve every rating scale:

    sum over rated (u, i) of w_ui loss(r_ui - b_u - c_i - x_u . y_i)
      + sum_u (reg n_u + reg0) |x_u|^2 + sum_i (reg n_i + reg0) |y_i|^2 + bias_reg (sum_u b_u^2 + sum_i c_i^2)

with w_ui the weight of a rating (``weight`` and ``half_life`` of :func:`fastmf.fit`), or 1, and n_u, n_i the sums of
the weights of a user's and an item's ratings. A rating of weight 2 therefore counts as two equal ratings. Weights take
no part in the mean and the scale, in the RMSE of training and validation, or in counts of ratings; the biases that
factors have to beat (:mod:`fastmf.model.baseline`) are fitted with the same weights.

reg0 = 0 is the weighted-lambda regularisation of Zhou et al. (2008), reg = 0 plain L2 regularisation. ALS solves each
row exactly; SGD spreads a row's penalty over its ratings, so that reg and reg0 mean the same in both. ALS with links
(:mod:`fastmf.solvers.links`) pulls factors to predictions instead of to zero. Gibbs sampling
(:mod:`fastmf.solvers.gibbs`) draws from a model of the ratings. Implicit feedback has its own objective
(:mod:`fastmf.solvers.implicit`).
"""

from collections.abc import Collection
from typing import Any

from fastmf.errors import ParameterError
from fastmf.solvers.als import ALS
from fastmf.solvers.base import Solver
from fastmf.solvers.declare import settings_of
from fastmf.solvers.gibbs import Gibbs
from fastmf.solvers.implicit import ImplicitALS
from fastmf.solvers.links import LinkedALS
from fastmf.solvers.sgd import SGD

SOLVERS: dict[str, type[Solver]] = {each.name: each for each in (ALS, LinkedALS, SGD, Gibbs, ImplicitALS)}
DEFAULT = LinkedALS.name  # the solver if none is named; why: benchmarks/README.md

# What fastmf bench measures: label to solver and settings. benchmarks/ranking.py measures implicit feedback.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    label: (name, dict(settings))
    for name, solver in SOLVERS.items()
    if not solver.implicit
    for label, settings in solver.variants.items()
}

# What other libraries call the settings: implicit, Surprise, LensKit, Spark, scikit-learn.
FOREIGN = {
    **dict.fromkeys(("factors", "n_factors", "features", "embedding_size", "rank", "n_components"), "k"),
    **dict.fromkeys(("iterations", "n_epochs", "max_iter", "maxIter"), "epochs"),
    **dict.fromkeys(("regularization", "reg_all", "reg_param", "regParam"), "reg"),
    **dict.fromkeys(("lr_all", "learning_rate"), "lr"),
    **dict.fromkeys(("random_state", "rng"), "seed"),
}


def make(solver: Any, **given: Any) -> Solver:
    """Make a solver from its name and hyper-parameters, or return a solver object unchanged.

    Hyper-parameters that are None keep their defaults.

    Raises
    ------
    ParameterError
        For an unknown name or hyper-parameter, or for hyper-parameters given together with a solver object.
    """
    given = {name: value for name, value in given.items() if value is not None}
    if not isinstance(solver, str):
        if given:
            raise ParameterError(f"{', '.join(given)} given with a solver object: set them on the object")
        if not isinstance(solver, Solver):
            raise ParameterError(f"{solver!r} is not a solver: give one of {', '.join(SOLVERS)}, or a Solver object")
        return solver
    if solver not in SOLVERS:
        raise ParameterError(f"unknown solver {solver!r}: choose one of {', '.join(SOLVERS)}")
    known = settings_of(SOLVERS[solver])
    unknown = [name for name in given if name not in known]
    if unknown:
        ours = {name: FOREIGN[name] for name in unknown if FOREIGN.get(name) in known}
        hint = "".join(f"; {name} is {own} here" for name, own in ours.items())
        holder = _holder(given, solver)
        hint += f"; for {', '.join(unknown)}, give --solver {holder} (solver=)" if holder else ""
        raise ParameterError(f"solver {solver!r} has no setting {', '.join(unknown)}; it has {', '.join(known)}{hint}")
    return SOLVERS[solver](**given)


def _holder(given: Collection[str], instead_of: str) -> str | None:
    """Return the first solver that has all these settings, for the same kind of feedback if there is one; or None."""
    having = [name for name, kind in SOLVERS.items() if settings_of(kind).keys() >= set(given)]
    same = [name for name in having if SOLVERS[name].implicit == SOLVERS[instead_of].implicit]
    return next(iter(same or having), None)
