"""Epochs on a cluster, for the loop of :mod:`fastmf.training.loop`.

The loop keeps, copies and saves factors. Those of a cluster stay in the storage, so all that it gets is the number of
the epoch that they are of, as factors of a single row: copying, saving and resuming are then as ever.
"""

from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np

from fastmf.cluster import block as compute
from fastmf.cluster import epochs
from fastmf.cluster.data import Data
from fastmf.cluster.epochs import Sides
from fastmf.cluster.load import Scaling
from fastmf.cluster.plan import bytes_per_row
from fastmf.cluster.workers import Workers
from fastmf.data.storage import Storage
from fastmf.errors import ResourceError
from fastmf.kernels.types import Side
from fastmf.runtime.device import Device
from fastmf.solvers.factors import Factors

TRIES = 10  # of an epoch whose tasks were lost with workers


class Remote:
    """A solver whose epochs run on workers.

    Parameters
    ----------
    solver : an instance of a class in :data:`fastmf.cluster.epochs.STARTS`.
    name : of the pieces in the storage.
    """

    def __init__(
        self, solver: Any, workers: Workers, storage: Storage, data: Data, scaling: Scaling, name: str
    ) -> None:
        self.solver, self.workers, self.storage, self.data = solver, workers, storage, data
        self.scaling, self.name, self.kind = scaling, name, epochs.kind_of(solver) or type(solver)
        self.sides: Sides | None = None
        self.kept: Callable[[], Collection[int | None]] = tuple  # returns epochs that must stay in the storage
        self.written: set[int] = set()
        self.sent: list[int] = []  # bytes that each epoch has sent from one worker to another

    def __getattr__(self, name: str) -> Any:
        return getattr(self.solver, name)

    def start(self, ratings: Any) -> Factors:
        """Return epoch 0 as factors."""
        return as_factors(0)

    def run(self, ratings: Any, factors: Factors, device: Device, done: int = 0) -> Iterator[int]:
        """Run the remaining epochs; after each, yield the number of rows with singular equations."""
        if done == 0:
            self._write_start()
        self.written = set(range(done + 1))
        for epoch in range(done, self.solver.epochs):
            singular = self._epoch(epoch)
            for side in factors[:2]:
                side.factors[:] = epoch + 1
            self._tidy(epoch + 1)
            yield singular

    def _write_start(self) -> None:
        """Write the pieces that both sides start from."""
        drawn, sigma = epochs.STARTS[self.kind](self.solver)
        calls = []
        for side in epochs.OTHER:
            counts = self.data.counts[side] if side == drawn else None
            names = [f"{self.name}.{side}{b}.0" for b in range(self.data.n_blocks(side))]
            given = counts, self.data.bounds[side], self.solver.k, sigma, self.solver.seed, names
            calls.append((self.storage, *given))
        self.workers.map(compute.start_pieces, calls)

    def _epoch(self, epoch: int) -> int:
        """Run an epoch; run it again from the storage if its tasks were lost with workers."""
        from distributed import KilledWorker
        from distributed.client import FutureCancelledError, FuturesCancelledError

        for _ in range(TRIES):
            try:
                sides = self._ready(epoch)
                before = sides.sent
                singular = epochs.RUNS[self.kind](sides, self.solver, self.data)
            except (KilledWorker, FutureCancelledError, FuturesCancelledError):
                self.forget()
                self.workers.look()
            else:
                self.sent.append(sides.sent - before)
                return singular
        raise ResourceError(
            f"epoch {epoch + 1} was lost {TRIES} times because workers died: give them more memory; a fit with a"
            " checkpoint goes on with --resume (resume=True)"
        )

    def _ready(self, epoch: int) -> Sides:
        """Return the sides after an epoch, with what the next one needs of them; anew if the workers have changed."""
        if self.sides is not None and self.sides.epoch == epoch and not self.workers.have_changed():
            return self.sides
        self.forget()
        given = self.workers, self.storage, self.data, self.scaling, self.name, self.width, epoch
        self.sides = Sides(*given)
        epochs.BEGINNINGS[self.kind](self.sides)
        return self.sides

    def bytes_an_epoch(self) -> int:
        """Return the bytes that an epoch sends from one worker to another."""
        return sum(epochs.rows_sent_to(side, self.data, self.workers) for side in epochs.OTHER) * self.width

    @property
    def width(self) -> int:
        """The bytes of a row that is sent."""
        return bytes_per_row(self.solver)

    def _tidy(self, epoch: int) -> None:
        """Remove the pieces of all epochs but this one, those that are kept, and those before each of them."""
        needed = {place - back for place in {epoch, *self.kept()} if place is not None for back in (0, 1)}
        for stale in self.written - needed:
            self.storage.remove(*(name for side in epochs.OTHER for name in self.names(side, stale)))
        self.written = (self.written & needed) | {epoch}

    def train_rmse(self) -> float:
        """Return the RMSE of unclipped predictions after the last epoch, on the standardised scale."""
        assert self.sides is not None
        return self.sides.train_rmse()

    def names(self, side: str, epoch: int) -> list[str]:
        """Return the names of a side's pieces after an epoch."""
        return [f"{self.name}.{side}{b}.{epoch}" for b in range(self.data.n_blocks(side))]

    def factors(self, epoch: int) -> Factors:
        """Read the factors of an epoch."""
        sides = []
        for side in epochs.OTHER:
            pieces = [self.storage.load(name) for name in self.names(side, epoch)]
            sides.append(Side(*(np.concatenate([piece[field] for piece in pieces]) for field in Side._fields)))
        return Factors(*sides)

    def forget(self) -> None:
        """Let what the workers hold go."""
        if self.sides is not None:
            self.sides.forget()
        self.sides = None


def as_factors(epoch: int) -> Factors:
    """Return the number of an epoch as factors."""
    users, items = (Side(np.full((1, 1), epoch, np.float32), np.zeros(1, np.float32)) for _ in range(2))
    return Factors(users, items)
