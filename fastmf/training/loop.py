"""The one loop over epochs: it times, measures, validates, keeps the best, saves checkpoints and stops early."""

import time
import warnings
from collections.abc import Callable

import numpy as np

from fastmf.errors import DivergenceError
from fastmf.model.fold_in import lost_rows
from fastmf.model.history import Epoch
from fastmf.runtime.device import Device
from fastmf.solvers.base import Factors, Solver
from fastmf.training.checkpoint import Checkpoint, fill, named
from fastmf.training.objective import Objective

# Training whose RMSE is this many times that of the mean alone has diverged, even if every number is still finite.
DIVERGED = 10.0


class Run:
    """One training run: its factors, its history, and the best epoch so far if there is validation."""

    def __init__(
        self,
        solver: Solver,
        objective: Objective,
        device: Device,
        patience: int | None,
        checkpoint: Checkpoint | None,
    ) -> None:
        self.solver, self.objective, self.device, self.patience = solver, objective, device, patience
        self.checkpoint, self.measure = checkpoint, solver.measure
        self.factors = solver.start(objective.ratings)
        self.history: list[Epoch] = []
        self.best_epoch: int | None = None
        self.best_factors: Factors | None = None
        self.unsaved: tuple[Factors, Factors | None, list[Epoch], int | None] | None = None
        self.singular = 0

    def train(self, callback: Callable[[Epoch], object] | None) -> None:
        """Resume from the checkpoint, if there is one, and run the remaining epochs."""
        self._load()
        self.factors, self.best_factors = self.device.put((self.factors, self.best_factors))
        epochs = self.solver.run(self.objective.ratings, self.factors, self.device, done=len(self.history))
        try:
            while not self._stops():
                began = time.perf_counter()
                singular = next(epochs, None)
                self.device.wait()
                if singular is None:
                    break
                epoch = self._measured(time.perf_counter() - began)
                self._warn_of_singular(singular)
                self.history.append(epoch)
                if self._is_best(epoch):
                    self.best_epoch, self.best_factors = (
                        epoch.number,
                        self.device.copy(self.factors._replace(memory=())),
                    )
                self._keep()
                if callback is not None:
                    callback(epoch)
        finally:  # also if a Ctrl-C or a divergence ends it
            self._save()

    def _keep(self) -> None:
        """Save the last epoch if that is due; else copy it, so that it can be saved at the end."""
        if self.checkpoint is None:
            return
        due = len(self.history) % self.checkpoint.every == 0
        now = self.factors if due else self.device.copy(self.factors)
        self.unsaved = now, self.best_factors, self.history[:], self.best_epoch
        if due:
            self._save()

    def _save(self) -> None:
        """Write the checkpoint of the last whole epoch, unless it is written already."""
        if self.checkpoint is None or self.unsaved is None:
            return
        (now, best, history, best_epoch), self.unsaved = self.unsaved, None
        arrays = named("now", self.device.get(now)) | (named("best", self.device.get(best)) if best else {})
        self.checkpoint.save(arrays, history, best_epoch)

    def _is_best(self, epoch: Epoch) -> bool:
        best = np.inf if self.best_epoch is None else self.measure.cost(self.history[self.best_epoch - 1])
        return epoch.number > self.solver.burn and self.measure.cost(epoch) < best

    def _stops(self) -> bool:
        """Check whether patience has run out."""
        return self.patience is not None and len(self.history) - (self.best_epoch or self.solver.burn) >= self.patience

    def _warn_of_singular(self, n_rows: int) -> None:
        """Warn the first time that rows are singular."""
        if n_rows and not self.singular:
            warnings.warn(
                f"epoch {len(self.history) + 1}: the equations of {n_rows:,} rows were singular and were solved with a"
                f" jitter, here and maybe in later epochs; {self.solver.remedy}",
                stacklevel=5,
            )
        self.singular += n_rows

    def _measured(self, seconds: float) -> Epoch:
        """Measure the factors after an epoch.

        Raises
        ------
        DivergenceError
            If the errors are not finite or absurdly large; it names the first row that is not finite.
        """
        number, objective, remedy = len(self.history) + 1, self.objective, self.solver.remedy
        train_rmse = objective.train_rmse(self.factors, self.device)
        if not train_rmse < DIVERGED:
            what = f"is {train_rmse:.3g} times their deviation" if np.isfinite(train_rmse) else "is not finite"
            raise DivergenceError(
                f"epoch {number}: training diverged (the RMSE of the ratings {what}{self._first_lost()}); {remedy}"
            )
        validated = objective.validate(self.factors, self.device)
        return Epoch(number=number, seconds=seconds, train_rmse=train_rmse * objective.scale, **validated)

    def _first_lost(self) -> str:
        """Name the first user, or else the first item, whose factors are not finite."""
        factors, ratings = self.device.get(self.factors), self.objective.ratings
        for name, side, row_ids in (
            ("user", factors.users, ratings.user_ids),
            ("item", factors.items, ratings.item_ids),
        ):
            lost = lost_rows(side)
            if len(lost):
                return f", as are the factors of {len(lost):,} {name}s, the first {row_ids[int(lost[0])].as_py()!r}"
        return ""

    def _load(self) -> None:
        state = self.checkpoint.load() if self.checkpoint is not None else None
        if state is None:
            return
        arrays, self.history, self.best_epoch = state
        if self.best_epoch is not None:
            self.best_factors = self.device.host.copy(self.factors._replace(memory=()))
            fill(named("best", self.best_factors), arrays)
        fill(named("now", self.factors), arrays)

    def result(self) -> Factors:
        """Return the factors of the best epoch, or of the last; the memory is that of the last."""
        best = self.best_factors or self.factors
        return self.device.get(best._replace(memory=self.factors.memory))
