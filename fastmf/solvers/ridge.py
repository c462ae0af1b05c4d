"""Ridge regression of a side's factors on a sparse design, all columns at once, by conjugate gradients.

With a design D (n_rows, n_columns) and a weight ``ridge`` of the squares, the table W solves

    (D'D + ridge I) W = D' (rows - what is explained otherwise)

Each call continues from the last table, so one step or a few an epoch are enough. The kernels are those of
:mod:`fastmf.kernels.links`. The design is that of implicit links (:mod:`fastmf.solvers.links`) or of side features
(:mod:`fastmf.solvers.features`).
"""

import numpy as np

from fastmf import kernels
from fastmf.kernels.tasks import even
from fastmf.kernels.types import Compressed
from fastmf.runtime.device import Device
from fastmf.runtime.launch import launch

ROWS_PER_TASK = 1 << 13
DONE = 1e-12  # share of a column's first residual (squared) that is rounding error: further steps would divide by it


class Ridge:
    """The arrays and the steps of one regression.

    Row r of the design holds ``weights[r]`` times the entry's own weight at the column of each entry of row r.

    Parameters
    ----------
    k : number of columns that are solved; tables are padded to kp.
    entries, others : the design by row, and the same entries by column, on the device.
    weights : (n_rows,) float32, on the device.
    squares : (n_columns,) float32, the diagonal of D'D, on the device.
    table : (n_columns, kp), the solution W, updated in place.
    """

    def __init__(
        self,
        k: int,
        ridge: float,
        entries: Compressed,
        others: Compressed,
        weights: np.ndarray,
        squares: np.ndarray,
        table: np.ndarray,
        device: Device,
    ) -> None:
        self.k, self.entries, self.others, self.weights, self.squares = k, entries, others, weights, squares
        self.table, self.device = table, device
        by_row, by_column = device.get((entries.indptr, others.indptr))
        n_rows, (n_columns, width) = len(by_row) - 1, table.shape
        self.rows, self.columns = even(n_rows, ROWS_PER_TASK), even(n_columns, ROWS_PER_TASK)
        links, vectors = kernels.links, kernels.vectors
        self.row_tasks, self.column_tasks = links.gather_tasks(by_row, k), links.gather_tasks(by_column, k)
        self.lifts = device.put(np.ones((1, width), np.float32))
        self.set_ridge(np.full(k, ridge))
        self.gap, self.response = device.put(tuple(vectors.aligned(n_rows, width) for _ in range(2)))
        self.residual, self.direction = device.put(tuple(vectors.aligned(n_columns, width) for _ in range(2)))

    def set_ridge(self, ridge: np.ndarray) -> None:
        """Set the weights of the squares, one per column (k,)."""
        self.ridge = np.ones(self.table.shape[1])  # padding: any weight but zero
        self.ridge[: self.k] = ridge
        self.ridge32 = self.device.put(self.ridge[None].astype(np.float32))

    def set_ridges(self, ridges: np.ndarray) -> None:
        """Set the weights of the squares, one for each element of the table: (n_columns, kp) float32."""
        self.ridge = np.ones(self.table.shape[1])
        self.ridge32 = self.lifts = self.device.put(ridges)

    def approach(self, steps: int, penalised: np.ndarray | None = None) -> None:
        """Take steps of preconditioned conjugate gradients that shrink ``gap``, what the table does not yet explain.

        The ridge penalises the table or, if given, ``penalised`` (n_columns, kp); that array takes the same steps.
        """
        links, device, last, first = kernels.links, self.device, None, None
        target = self.table if penalised is None else penalised
        for _ in range(steps):
            given = self.others, self.weights, self.gap, self.ridge32, target, self.squares
            square = launch(links.RESPOND, device, self.column_tasks, *given, self.residual)
            first = square if first is None else first
            square = np.where(square > DONE * first, square, 0.0)
            shares = np.zeros(len(square), np.float32) if last is None else _ratio(square, last)
            norms = launch(links.TURN, device, self.columns, shares, self.residual, self.lifts, self.direction)
            lengths = _ratio(square, self.respond() + self.ridge * norms)
            launch(links.ADVANCE, device, self.columns, lengths, self.direction, self.table)
            if penalised is not None:
                launch(links.ADVANCE, device, self.columns, lengths, self.direction, penalised)
            self.advance(lengths)
            last = square

    def respond(self) -> np.ndarray:
        """Write D times the direction to ``response``; return the sums of its squares, (kp,) float64."""
        moved = self.entries, self.weights, self.direction, self.response
        return np.asarray(launch(kernels.links.GATHER, self.device, self.row_tasks, *moved))

    def advance(self, lengths: np.ndarray) -> None:
        """Close the gap by so many responses, (kp,) float32."""
        launch(kernels.links.ADVANCE, self.device, self.rows, -lengths, self.response, self.gap)


def keep(device: Device, row: np.ndarray, out: np.ndarray) -> None:
    """Write a row (kp,) to ``out`` (1, kp), which may be on a GPU."""
    zero, one = device.put((np.zeros((1, len(row)), np.float32), np.ones(1, np.float32)))
    launch(kernels.links.ATTRACT, device, np.array([0, 1]), zero, one, row, out)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Divide column by column; return 0 where ``below`` is 0, because such a column is already solved."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0).astype(np.float32)
