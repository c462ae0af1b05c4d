"""The one loop over epochs: it times, measures, validates, keeps the best, saves checkpoints and stops early."""

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from fastmf.errors import DivergenceError, counted
from fastmf.model.fold_in import lost_rows
from fastmf.model.history import Epoch
from fastmf.runtime.device import Device
from fastmf.solvers.base import Solver
from fastmf.solvers.factors import Factors, Start
from fastmf.training.checkpoint import Checkpoint, Snapshot
from fastmf.training.objective import Objective

# Training whose RMSE is this many times that of the mean alone has diverged, even if every number is still finite.
DIVERGED = 10.0


def is_stop(answer: Any) -> bool:
    """Return whether a callback's answer ends the run: False does, from Python or NumPy; None and 0 do not."""
    return isinstance(answer, bool | np.bool_) and not answer


class Run:
    """One training run: its factors, its history, and the best epoch so far if there is validation."""

    def __init__(
        self,
        solver: Solver,
        objective: Objective,
        device: Device,
        patience: int | None,
        checkpoint: Checkpoint | None,
        init: Start | None = None,
    ) -> None:
        self.solver, self.objective, self.device, self.patience = solver, objective, device, patience
        self.checkpoint, self.measure = checkpoint, solver.measure
        start = solver.start(objective.ratings) if init is None else solver.start_from(objective.ratings, init)
        state = None if checkpoint is None else checkpoint.load(start)
        factors, best, self.history, self.best_epoch = state or Snapshot(start, None, [], None)
        self.factors: Factors = device.put(factors)
        self.best_factors: Factors | None = device.put(best)
        self.unsaved: Snapshot | None = None
        self.any_singular = False

    def train(self, callback: Callable[[Epoch], object] | None) -> None:
        """Run the remaining epochs, until the callback returns False."""
        epochs = self.solver.run(self.objective.ratings, self.factors, self.device, done=len(self.history))
        try:
            while not self._patience_is_over():
                began = time.perf_counter()
                singular = next(epochs, None)
                self.device.wait()
                if singular is None:
                    break
                epoch = self._measured(time.perf_counter() - began)
                self._warn_of_singular(singular)
                self.history.append(epoch)
                if self._is_best(epoch):
                    self.best_epoch = epoch.number
                    self.best_factors = self.device.copy(self.factors._replace(memory=()))
                self._keep()
                if callback is not None and is_stop(callback(epoch)):
                    break
        finally:  # also after a Ctrl-C or a divergence
            self._save()

    def result(self) -> Factors:
        """Return the best epoch's factors, or the last epoch's if none is best; the memory is the last epoch's."""
        best = self.best_factors or self.factors
        return self.device.get(best._replace(memory=self.factors.memory))

    def _keep(self) -> None:
        """Save the state if a checkpoint is due; else copy it, so that it can be saved at the end."""
        if self.checkpoint is None:
            return
        due = len(self.history) % self.checkpoint.every == 0
        now = self.factors if due else self.device.copy(self.factors)
        self.unsaved = Snapshot(now, self.best_factors, self.history[:], self.best_epoch)
        if due:
            self._save()

    def _save(self) -> None:
        """Write the checkpoint of the last complete epoch, unless it has been written already."""
        if self.checkpoint is None or self.unsaved is None:
            return
        state, self.unsaved = self.unsaved, None
        now, best = self.device.get((state.now, state.best))
        self.checkpoint.save(state._replace(now=now, best=best))

    def _is_best(self, epoch: Epoch) -> bool:
        best = np.inf if self.best_epoch is None else self.measure.cost(self.history[self.best_epoch - 1])
        return epoch.number > self.solver.burn and self.measure.cost(epoch) < best

    def _patience_is_over(self) -> bool:
        return self.patience is not None and len(self.history) - (self.best_epoch or self.solver.burn) >= self.patience

    def _warn_of_singular(self, n_rows: int) -> None:
        """Warn the first time that equations of rows are singular."""
        if n_rows and not self.any_singular:
            self.any_singular = True
            warnings.warn(
                f"epoch {len(self.history) + 1}: the equations of {counted(n_rows, 'row')} were singular and were"
                f" solved with a jitter, here and maybe in later epochs; {self.solver.advise()}",
                stacklevel=5,
            )

    def _measured(self, seconds: float) -> Epoch:
        """Measure the factors after an epoch; raise a DivergenceError if errors are not finite or absurdly large."""
        number, objective = len(self.history) + 1, self.objective
        train_rmse = objective.train_rmse(self.factors, self.device)
        if not train_rmse < DIVERGED:
            what = objective.missed(train_rmse) if np.isfinite(train_rmse) else f"{objective.figure} is not finite"
            where = f"{what}{self._first_lost()}"
            raise DivergenceError(
                f"epoch {number}: training diverged ({where}{objective.furthest()}); {self.solver.advise()}"
            )
        validated = objective.validate(self.factors, self.device)
        return Epoch(number=number, seconds=seconds, train_rmse=train_rmse * objective.scale, **validated)

    def _first_lost(self) -> str:
        """Name the first user, or else the first item, whose factors are not finite."""
        factors, ratings = self.device.get(self.factors), self.objective.ratings
        both = ("user", factors.users, ratings.user_ids), ("item", factors.items, ratings.item_ids)
        for name, side, row_ids in both:
            lost = lost_rows(side)
            if len(lost):
                first = row_ids[int(lost[0])].as_py()
                return f"; factors of {counted(len(lost), name)} are not finite, the first {first!r}"
        return ""
