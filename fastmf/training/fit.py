"""fit: the one loop over epochs. It standardises, times, validates, stops early, and makes the model."""

import os
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fastmf.data.ratings import Ratings, reading
from fastmf.errors import DeviceUnavailableError, DivergenceError, ParameterError
from fastmf.kernels.compile import ENABLED
from fastmf.kernels.vectors import WIDTH
from fastmf.model.fold_in import lost_rows
from fastmf.model.history import Epoch
from fastmf.model.model import Model
from fastmf.runtime.device import Device, resolve
from fastmf.runtime.memory import parse_size, require_memory
from fastmf.solvers import SOLVERS, Factors, Solver, make
from fastmf.solvers.base import require_integer
from fastmf.training.blend import learned
from fastmf.training.checkpoint import Checkpoint, check_folder, fill, fingerprint, named
from fastmf.training.objective import Task, measure_of, task_of

# Training whose RMSE is this many times that of the mean alone has diverged, even if every number is still finite.
DIVERGED = 10.0

BLEND_SHARE = 0.1  # of the ratings that are held out to learn it

MANY = 100_000  # ratings that take longer without the JIT than anybody wants to wait

# What training holds of each rating, beside the Ratings: its standardised value, and both compressed views of these.
BYTES_PER_RATING = 12
BYTES_PER_WEIGHT = 4  # where ratings have weights, which one of the views copies
BYTES_HELD = 12  # of each of the Ratings
BYTES_ON_GPU = 28  # that training takes of each rating there: both views, and the pairs to measure the errors of


def fit(
    ratings: Any,
    k: int | None = None,
    solver: str | Solver = "als",
    *,
    validation: Any = None,
    patience: int | None = None,
    device: str | Device = "cpu",
    threads: int | None = None,
    seed: int | None = None,
    weight: str | None = None,
    duplicates: str = "error",
    bad_rows: str = "error",
    callback: Callable[[Epoch], object] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    every: int = 1,
    resume: bool = False,
    keep_seen: bool = True,
    blend: bool = False,
    memory_limit: float | str | None = None,
    **hyperparameters: Any,
) -> Model:
    """Factorize ratings.

    Parameters
    ----------
    ratings : a path or URI of Parquet, a frame, an Arrow table, a tuple of arrays, or a Ratings.
    k : number of factors, 32 unless the solver says otherwise.
    solver : "als", "als-links", "sgd", "gibbs", "implicit", or a solver object, which then holds all hyper-parameters.
    validation : ratings to watch, in the same forms; or a fraction of the ratings to hold out for it. The model keeps
        the factors of the epoch that was best on them (by RMSE; by MAE for the absolute loss; by nDCG for implicit).
    patience : stop after this many epochs without a better one; needs validation.
    device : "cpu", "cuda" (the first GPU; "cuda:1" and so on), "numpy" (the plain definitions, slow) or "auto".
    threads : at most this many.
    seed : of everything random, 0 unless the solver says otherwise.
    weight : for implicit feedback: the column that says how much rows count, which may be that of the ratings.
    duplicates : what to do with rows of the same (user, item): "error", keep the "last", or take their "mean" or "sum";
        see :meth:`fastmf.Ratings.read`.
    bad_rows : what to do with rows of a null id, or without a finite rating or a weight: "error", or "drop" and count
        them.
    callback : called with an Epoch after every epoch.
    checkpoint : a folder to keep the state of training in.
    every : epochs from one checkpoint to the next, which a kill may lose; any other end keeps the last whole epoch.
    resume : go on from the checkpoint, if there is one; data and settings must be those it was made with. The model is
        then the same, bit for bit, as without the interruption.
    keep_seen : whether the model remembers what each user has rated, to leave it out of recommendations.
    blend : whether to learn what popularity is worth in lists, for ``rank_by="blend"`` of :meth:`Model.recommend`: from
        the validation ratings, or without any from a tenth of the ratings that a fit of its own leaves out first.
    memory_limit : bytes, or text such as "4GiB", that fitting may take; what is available when left out.
    hyperparameters : settings of the solver: see :class:`fastmf.ALS`, :class:`fastmf.LinkedALS`, :class:`fastmf.SGD`,
        :class:`fastmf.Gibbs` and :class:`fastmf.ImplicitALS`.

    Returns
    -------
    The model, on the scale of the ratings. The same ratings in any order or container give the same model, bit for
    bit, but for ``schedule="hogwild"`` on several threads.

    Raises
    ------
    DataError
        If the ratings cannot be used; see :meth:`fastmf.Ratings.read`.
    ParameterError
        If a setting is out of range or contradicts another.
    DivergenceError
        If training does not stay finite; it names the epoch and the setting to change.
    ResourceError
        If the ratings or the factors do not fit into memory: what is known ahead is checked before anything is read.

    Examples
    --------
    >>> import fastmf
    >>> model = fastmf.fit((["ann", "ann", "bob", "bob"], [1, 2, 2, 3], [5.0, 3.0, 2.0, 4.0]), k=2)
    >>> model.recommend("ann", n=1)["item_id"].tolist()
    [3]
    """
    chosen = make(SOLVERS, solver, k=k, seed=seed, **hyperparameters)
    limit, where = parse_size(memory_limit), place_for(chosen, device, threads)
    require_consistent(ratings, validation, patience, checkpoint, every, resume)
    require_blend(chosen, blend)
    require_weight(chosen, weight)
    require_memory_for(chosen, where, limit)
    how = {"duplicates": duplicates, "bad_rows": bad_rows, "memory_limit": limit, **reading_for(chosen)}
    ratings, held_out, rows = _read(ratings, validation, chosen, weight, how)
    _require_usable(chosen, blend, ratings, held_out)
    held = BYTES_HELD * (len(ratings) + (0 if held_out is None else len(held_out)))
    require_memory_for(chosen, where, limit, ratings, held)
    if not ENABLED and where.name == "cpu" and len(ratings) > MANY:
        warnings.warn(f"NUMBA_DISABLE_JIT is set: {len(ratings):,} ratings will take hours; unset it", stacklevel=2)
    kept = None if checkpoint is None else _kept_at(checkpoint, every, chosen, patience, where, ratings, held_out)
    run = _Run(chosen, task_of(chosen, ratings, held_out, where), where, patience, kept)
    run.train(callback)
    model = _model(run, rows | run.task.counts, keep_seen)
    return replace(model, blend=_blend(model, ratings, held_out, chosen, where)) if blend else model


def reading_for(solver: Solver) -> dict[str, Any]:
    """Say how :meth:`Ratings.read` is to read what a solver is fitted to: ratings only where they are needed."""
    return reading(solver.implicit, solver.settings.get("positive_from") is not None)


def _require_usable(solver: Solver, blend: bool, ratings: Ratings, held_out: Ratings | None) -> None:
    """Raise a ParameterError if ratings have weights that do not count, or are too few to learn a blend from."""
    require_weight(solver, None if ratings.weights is None else ratings.columns[3])
    if blend and held_out is None and round(len(ratings) * BLEND_SHARE) < 1:
        raise ParameterError(f"{len(ratings):,} ratings are too few to learn a blend from a tenth: give validation=")


def require_blend(solver: Solver, blend: bool) -> None:
    """Raise a ParameterError if a blend is wanted where there are no ratings to blend with."""
    if blend and solver.implicit:
        raise ParameterError(f"blend is for models of ratings: solver {solver.name!r} is made to rank as it is")


def require_weight(solver: Solver, weight: str | None) -> None:
    """Raise a ParameterError if rows are to be weighed where they cannot be."""
    if weight is not None and not solver.implicit:
        raise ParameterError(f"weight is for implicit feedback: solver {solver.name!r} takes all ratings alike")


def _blend(model: Model, ratings: Ratings, held_out: Ratings | None, solver: Solver, device: Device) -> float:
    """Learn what popularity is worth from ratings the model has not seen; without any, from those of another fit."""
    if held_out is None:
        rest, held_out = ratings.split(BLEND_SHARE, seed=solver.settings.get("seed", 0))
        model = fit(rest, solver=solver, device=device)
    elif model.seen is None:
        model = replace(model, seen=(ratings.by_user.indptr, ratings.by_user.indices))
    return learned(model, held_out)


def place_for(solver: Solver, device: str | Device, threads: int | None) -> Device:
    """Resolve where to train; "auto" is a GPU only for a solver that runs there.

    Raises
    ------
    DeviceUnavailableError, ParameterError
        As :func:`fastmf.runtime.device.resolve`, and if the solver does not run there.
    """
    where = resolve("cpu" if device == "auto" and not solver.on_gpu else device, threads)
    if not where.on_host and not solver.on_gpu:
        raise DeviceUnavailableError(f"solver {solver.name!r} does not run on a GPU: use --device cpu, or another one")
    return where


def require_consistent(
    ratings: Any, validation: Any, patience: int | None, checkpoint: Any, every: int, resume: bool
) -> None:
    """Check what can be checked of the arguments of :func:`fit` before anything is read.

    Raises
    ------
    ParameterError
        If one is out of range or needs another.
    OSError
        If the validation ratings are not there, or the folder of checkpoints cannot be used.
    """
    if isinstance(validation, int | float | np.number) and not 0 < validation < 1:
        raise ParameterError(f"validation is a fraction of {validation}: give one above 0 and below 1, or ratings")
    if patience is not None:
        require_integer("patience", patience, 1)
        if validation is None:
            raise ParameterError("patience needs validation: give ratings or a fraction to watch")
    if isinstance(validation, str | os.PathLike) and "://" not in str(validation) and not Path(validation).exists():
        raise FileNotFoundError(f"{validation} does not exist: give ratings to watch, or a fraction to hold out for it")
    require_integer("every", every, 1)
    if checkpoint is None and (resume or every != 1):
        raise ParameterError(f"{'resume' if resume else 'every'} needs a checkpoint: give the folder")
    if checkpoint is not None:
        paths = [given for given in (ratings, validation) if isinstance(given, str | os.PathLike)]
        check_folder(checkpoint, resume, paths)


def require_memory_for(
    solver: Solver, device: Device, limit: int | None, ratings: Ratings | None = None, held: int = 0
) -> None:
    """Refuse factors that memory cannot hold: in training, the model and its samples, and each thread's equations.

    Before the ratings are read, there is one user and one item at least. ``held`` bytes are in use already: they count
    against a limit that is given, and are not among those available.

    Raises
    ------
    ResourceError
        With the numbers.
    """
    rows, k = ratings.n_users + ratings.n_items if ratings else 2, solver.settings.get("k", 0)
    weighed = BYTES_PER_WEIGHT if ratings is not None and ratings.weights is not None else 0
    need = solver.tables * rows * k * 4
    if device.name == "cpu" and solver.settings.get("method") != "cg" and "lr" not in solver.settings:
        need += device.threads * k**2 * (2 * max(WIDTH, 1) * 4 + 8)
    if ratings is not None:
        need += len(ratings) * (BYTES_PER_RATING + weighed) + (0 if limit is None else held)
    what = f"fitting k = {k:,} factors" + (f" of {rows:,} users and items" if ratings else "")
    remedy = "use a smaller k, or set another limit with --memory-limit (memory_limit=)"
    require_memory(need, what, limit, remedy)
    device.require(
        k, max(solver.tables, 4) * rows * k * 4 + (len(ratings) * (BYTES_ON_GPU + 2 * weighed) if ratings else 0), what
    )


def _kept_at(
    folder: str | os.PathLike[str],
    every: int,
    solver: Solver,
    patience: int | None,
    device: Device,
    ratings: Ratings,
    held_out: Ratings | None,
) -> Checkpoint:
    """Make the checkpoint of a run, with all that it depends on."""
    settings = {**solver.settings, "epochs": int(solver.epochs), "patience": patience}
    made_of = fingerprint(solver.name, settings, device.name, ratings=ratings, validation=held_out)
    return Checkpoint(folder, made_of, every)


def _read(
    source: Any, validation: Any, solver: Solver, weight: str | None, how: dict[str, Any]
) -> tuple[Ratings, Ratings | None, dict[str, int]]:
    """Read ratings, set some apart to watch, or read these; and account for all rows that were read."""
    ratings = Ratings.read(source, weight=weight, **how)
    if validation is None:
        return ratings, None, ratings.rows
    if isinstance(validation, int | float | np.number):
        rest, held_out = ratings.split(float(validation), seed=solver.settings.get("seed", 0))
        return rest, held_out, {**ratings.rows, "used": len(rest), "validation": len(held_out)}
    if how["memory_limit"] is not None:
        how = {**how, "memory_limit": max(how["memory_limit"] - BYTES_HELD * len(ratings), 1)}
    held_out = Ratings.read(validation, **how)
    both = {name: ratings.rows.get(name, 0) + held_out.rows.get(name, 0) for name in ratings.rows | held_out.rows}
    return ratings, held_out, {**both, "used": len(ratings), "validation": len(held_out)}


class _Run:
    """One training run: its factors, its history, and the best epoch so far where validation tells."""

    def __init__(
        self,
        solver: Solver,
        task: Task,
        device: Device,
        patience: int | None,
        checkpoint: Checkpoint | None,
    ) -> None:
        self.solver, self.task, self.device, self.patience = solver, task, device, patience
        self.checkpoint, self.measure = checkpoint, measure_of(solver)
        self.factors = solver.start(task.ratings)
        self.history: list[Epoch] = []
        self.best_epoch: int | None = None
        self.best_factors: Factors | None = None
        self.unsaved: tuple[Factors, Factors | None, list[Epoch], int | None] | None = None
        self.singular = 0

    def train(self, callback: Callable[[Epoch], object] | None) -> None:
        """Take up the state of the checkpoint, if it holds one, and run the epochs that remain."""
        self._load()
        self.factors, self.best_factors = self.device.put((self.factors, self.best_factors))
        epochs = self.solver.run(self.task.ratings, self.factors, self.device, done=len(self.history))
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
        finally:  # also when a Ctrl-C or a divergence ends it
            self._save()

    def _keep(self) -> None:
        """Save what the last epoch has made, where that is due; else copy it, so that it can be saved at the end."""
        if self.checkpoint is None:
            return
        due = len(self.history) % self.checkpoint.every == 0
        now = self.factors if due else self.device.copy(self.factors)
        self.unsaved = now, self.best_factors, self.history[:], self.best_epoch
        if due:
            self._save()

    def _save(self) -> None:
        """Write the checkpoint of the last whole epoch, unless there is none to be written."""
        if self.checkpoint is None or self.unsaved is None:
            return
        (now, best, history, best_epoch), self.unsaved = self.unsaved, None
        arrays = named("now", self.device.get(now)) | (named("best", self.device.get(best)) if best else {})
        self.checkpoint.save(arrays, history, best_epoch)

    def _is_best(self, epoch: Epoch) -> bool:
        best = np.inf if self.best_epoch is None else self.measure.cost(self.history[self.best_epoch - 1])
        return epoch.number > self.solver.burn and self.measure.cost(epoch) < best

    def _stops(self) -> bool:
        """Say whether patience is at an end."""
        return self.patience is not None and len(self.history) - (self.best_epoch or self.solver.burn) >= self.patience

    def _warn_of_singular(self, n_rows: int) -> None:
        """Say it when it happens first."""
        if n_rows and not self.singular:
            warnings.warn(
                f"epoch {len(self.history) + 1}: the equations of {n_rows:,} rows were singular and were solved with a"
                f" jitter, here and maybe in later epochs; {self.solver.remedy}",
                stacklevel=4,
            )
        self.singular += n_rows

    def _measured(self, seconds: float) -> Epoch:
        """Look at what an epoch has made.

        Raises
        ------
        DivergenceError
            If the errors are not finite or absurdly large; it names the first row that is not finite.
        """
        number, task, remedy = len(self.history) + 1, self.task, self.solver.remedy
        train_rmse = task.train_rmse(self.factors, self.device)
        if not train_rmse < DIVERGED:
            what = f"is {train_rmse:.3g} times their deviation" if np.isfinite(train_rmse) else "is not finite"
            raise DivergenceError(
                f"epoch {number}: training diverged (the RMSE of the ratings {what}{self._first_lost()}); {remedy}"
            )
        watched = task.watched(self.factors, self.device)
        return Epoch(number=number, seconds=seconds, train_rmse=train_rmse * task.scale, **watched)

    def _first_lost(self) -> str:
        """Name the first user, or else item, whose factors are not finite."""
        factors, ratings = self.device.get(self.factors), self.task.ratings
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
        """The factors of the best epoch, or of the last; the memory is that of the last."""
        best = self.best_factors or self.factors
        return self.device.get(best._replace(memory=self.factors.memory))


def _model(run: _Run, rows: dict[str, int], keep_seen: bool) -> Model:
    """Put the factors back on the rating scale.

    Raises
    ------
    DivergenceError
        If they do not fit there.
    """
    task, factors, solver = run.task, run.result(), run.solver
    ratings, scale = task.ratings, np.float32(task.scale)
    model = Model(
        user_ids=ratings.user_ids,
        item_ids=ratings.item_ids,
        user_factors=factors.users.factors * scale,
        item_factors=factors.items.factors.copy(),
        user_bias=factors.users.bias * scale,
        item_bias=factors.items.bias * scale,
        user_counts=ratings.user_counts.astype(np.int32),
        item_counts=ratings.item_counts.astype(np.int32),
        mean=task.mean,
        scale=task.scale,
        rating_range=task.range,
        seen=task.seen if keep_seen else None,
        solver={"name": solver.name, **solver.settings},
        history=run.history,
        best_epoch=run.best_epoch,
        rows=rows,
        weight=None if ratings.weights is None else ratings.columns[3],
        duplicates=ratings.duplicates,
        baseline=task.baseline(),
        **solver.extras(factors),
    )
    if any(len(lost_rows(side)) for side in (model.user_side, model.item_side)):
        raise DivergenceError(f"the factors do not fit into float32 on the rating scale ({task.scale:g}): rescale them")
    return model
