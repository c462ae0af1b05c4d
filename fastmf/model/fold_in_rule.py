"""The rule for solving a new row with the other side fixed: the solver provides it, and the model keeps it.

A row's factors x and bias b minimise, for its standardised ratings t_j of columns with factors y_j and biases c_j,

    sum_j (t_j - c_j - b - x . y_j)^2 + rho |x - z|^2 + bias_reg b^2 + all_pairs sum_i (x . y_i)^2
    rho = reg n + reg0 + root_reg n^(1/2)

z is what the links predict for x (:mod:`fastmf.solvers.links`), or zero. The last sum is over all columns, rated or not
(:mod:`fastmf.solvers.implicit`). A Bayesian model has a prior over rows instead (:mod:`fastmf.solvers.gibbs`).
"""

from dataclasses import dataclass, replace

import numpy as np

from fastmf import kernels
from fastmf.kernels.tasks import even
from fastmf.kernels.types import Known, Penalty, nothing_known
from fastmf.runtime.device import Device
from fastmf.runtime.launch import launch

ROWS_PER_TASK = 1 << 12


@dataclass(frozen=True, kw_only=True)
class FoldInRule:
    """The weights of a row's objective, as plain data.

    Attributes
    ----------
    reg, reg0, root_reg : weight of the squared factors, per rating, per row, and per square root of a row's ratings.
    bias_reg : weight of the squared bias; None if rows have no bias.
    all_pairs : weight of the squared scores of all pairs.
    fade : number of ratings at which links pull a row with half their force.
    seed : seed of the draws from the posterior.
    """

    reg: float = 0.0
    reg0: float = 0.0
    root_reg: float = 0.0
    bias_reg: float | None = None
    all_pairs: float = 0.0
    fade: float = 0.0
    seed: int = 0

    def for_columns(self, before: int, after: int) -> "FoldInRule":
        """Return the rule after the number of columns with ratings has changed.

        With a sum over all pairs and no root_reg, reg0 is per possible pair, and so grows with the columns.
        """
        grows = self.all_pairs and not self.root_reg and before
        return replace(self, reg0=self.reg0 * after / before) if grows else self

    @property
    def penalty(self) -> Penalty:
        """The weights as kernels take them."""
        return Penalty(self.reg, self.reg0, np.inf if self.bias_reg is None else self.bias_reg, self.root_reg)

    def known(self, table: np.ndarray, k: int, device: Device, tasks: np.ndarray | None = None) -> Known:
        """Return the sum over all pairs, a term that the equations of all rows share, as a Known on the device.

        ``table`` holds the other side's factors, padded to whole vectors, on the device; they are summed by ``tasks``.
        """
        known = nothing_known(k)
        if self.all_pairs:
            tasks = even(table.shape[0], ROWS_PER_TASK) if tasks is None else tasks
            gram = launch(kernels.gram.GRAM, device, tasks, table, k)
            known = known._replace(base=(self.all_pairs * gram).astype(np.float32))
        return Known(*device.put(tuple(known)))
