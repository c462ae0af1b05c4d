"""The solvers: plain Python that reads like the paper; the loops over ratings are in :mod:`fastmf.kernels`.

ALS and SGD minimise one objective over standardised ratings r = (rating - mean) / scale, so that the same settings
serve every rating scale:

    sum over rated (u, i) of loss(r_ui - b_u - c_i - x_u . y_i)
      + sum_u (reg n_u + reg0) |x_u|^2 + sum_i (reg n_i + reg0) |y_i|^2 + bias_reg (sum_u b_u^2 + sum_i c_i^2)

with n_u, n_i the number of ratings of a user and an item. reg0 = 0 is the weighted-lambda regularisation of Zhou et al.
(2008), reg = 0 the plain one. ALS solves each row of it exactly; SGD spreads a row's penalty over its ratings, so the
numbers mean the same in both. ALS with links (:mod:`fastmf.solvers.links`) pulls factors elsewhere than to zero; Gibbs
sampling (:mod:`fastmf.solvers.gibbs`) draws from a model of the ratings instead. Implicit feedback has an objective of
its own (:mod:`fastmf.solvers.implicit`).
"""

from typing import Any

from fastmf.solvers.als import ALS
from fastmf.solvers.base import Factors, Solver, make
from fastmf.solvers.gibbs import Gibbs
from fastmf.solvers.implicit import ImplicitALS
from fastmf.solvers.links import LinkedALS
from fastmf.solvers.sgd import SGD

SOLVERS: dict[str, Any] = {"als": ALS, "als-links": LinkedALS, "sgd": SGD, "gibbs": Gibbs, "implicit": ImplicitALS}

__all__ = ["ALS", "SGD", "SOLVERS", "Factors", "Gibbs", "ImplicitALS", "LinkedALS", "Solver", "make"]
