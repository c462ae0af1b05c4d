"""The plan of a fit: all that can be checked before anything is read, checked once, and how ratings are then read.

``fastmf.fit``, ``fastmf.tune`` and both their commands make a plan, read by it, and train by it.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastmf.data.atomic import check_outputs
from fastmf.data.ratings import Ratings, reading
from fastmf.errors import DeviceUnavailableError, ParameterError, require_integer
from fastmf.runtime.device import Device, resolve
from fastmf.runtime.memory import parse_size, require_memory
from fastmf.solvers.base import Solver
from fastmf.training.checkpoint import NAME as CHECKPOINT
from fastmf.training.checkpoint import check_folder

BLEND_SHARE = 0.1  # of the ratings that are held out to learn a blend

# What training holds of each rating, beside the Ratings: its standardised value, and both compressed views of these.
BYTES_PER_RATING = 12
BYTES_PER_WEIGHT = 4  # if ratings have weights, one of the views copies them
BYTES_HELD = 12  # of each of the Ratings
BYTES_ON_GPU = 28  # of each rating there: both views, and the pairs to measure the errors of

Tell = Callable[[str], object]


class Data(NamedTuple):
    """What a plan has read: training ratings, validation ratings if any, and the account of all rows."""

    ratings: Ratings
    validation: Ratings | None
    rows: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A fit whose arguments have been checked; see :func:`fastmf.fit` for what they mean.

    Attributes
    ----------
    how : how :meth:`Ratings.read` reads training and validation ratings; weight : of the training ratings alone.
    outputs : files that will be written.
    """

    source: Any
    solver: Solver
    device: Device
    validation: Any
    patience: int | None
    checkpoint: str | os.PathLike[str] | None
    every: int
    blend: bool
    keep_seen: bool
    weight: str | None
    memory_limit: int | None
    how: dict[str, Any]
    outputs: Sequence[Path]

    def read(self, tell: Tell | None = None) -> Data:
        """Read the ratings, and hold some out or read those to validate on.

        ``tell`` gets a line about each file that was read, and about rows left out of it.

        Raises
        ------
        DataError, OSError, ResourceError
            As :meth:`Ratings.read`.
        ParameterError
            If ratings have weights that do not count, or are too few to learn a blend from.
        """
        limit = self.memory_limit
        ratings = _read(self.source, tell, weight=self.weight, memory_limit=limit, **self.how)
        if isinstance(self.validation, int | float | np.number):
            rest, held_out = ratings.split(float(self.validation), seed=self.solver.seed)
            data = Data(rest, held_out, {**ratings.rows, "used": len(rest), "validation": len(held_out)})
        elif self.validation is None:
            data = Data(ratings, None, ratings.rows)
        else:
            left = None if limit is None else max(limit - BYTES_HELD * len(ratings), 1)
            held_out = _read(self.validation, tell, memory_limit=left, **self.how)
            both = {
                name: ratings.rows.get(name, 0) + held_out.rows.get(name, 0) for name in ratings.rows | held_out.rows
            }
            data = Data(ratings, held_out, {**both, "used": len(ratings), "validation": len(held_out)})
        self._check(data)
        return data

    def _check(self, data: Data) -> None:
        """Check what depends on the ratings."""
        require_weight(self.solver, None if data.ratings.weights is None else data.ratings.columns[3])
        if self.blend and data.validation is None and round(len(data.ratings) * BLEND_SHARE) < 1:
            n = f"{len(data.ratings):,}"
            raise ParameterError(f"{n} ratings are too few to learn a blend from a tenth: give validation=")
        require_room(self.solver, self.device, self.memory_limit, data)


def make_plan(
    source: Any,
    solver: Solver,
    *,
    validation: Any = None,
    patience: int | None = None,
    device: str | Device = "cpu",
    threads: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    every: int = 1,
    resume: bool = False,
    blend: bool = False,
    keep_seen: bool = True,
    weight: str | None = None,
    memory_limit: float | str | None = None,
    outputs: Iterable[str | os.PathLike[str]] = (),
    overwrite: bool = False,
    **how: Any,
) -> Plan:
    """Check everything that can be checked before anything is read.

    Parameters are those of :func:`fastmf.fit`; ``outputs`` are files to be written, which ``overwrite`` may replace;
    ``how`` are further arguments of :meth:`Ratings.read`, of which None is left out.

    Raises
    ------
    ParameterError
        If an argument is out of range, needs another or contradicts one.
    DeviceUnavailableError, ResourceError
        If the device is not there, or memory cannot hold the factors.
    OSError
        If the validation ratings are not there, or a checkpoint or an output cannot be written.
    """
    limit, where = parse_size(memory_limit), place_for(solver, device, threads)
    _require_validation(validation, patience)
    paths = [given for given in (source, validation) if isinstance(given, str | os.PathLike)]
    _require_checkpoint(checkpoint, every, resume, paths)
    if blend and solver.implicit:
        raise ParameterError(f"blend is for models of ratings: solver {solver.name!r} is made to rank as it is")
    require_weight(solver, weight)
    require_room(solver, where, limit)
    inputs = paths if checkpoint is None else [*paths, Path(checkpoint) / CHECKPOINT]
    written = check_outputs(outputs, overwrite, inputs=inputs)
    given = {name: value for name, value in how.items() if value is not None}
    how = reading(solver.implicit, solver.positive_from is not None) | given
    kept = {"patience": patience, "checkpoint": checkpoint, "every": every, "blend": blend, "keep_seen": keep_seen}
    ready: dict[str, Any] = {"device": where, "memory_limit": limit, "outputs": written, "how": how, **kept}
    return Plan(source=source, solver=solver, validation=validation, weight=weight, **ready)


def place_for(solver: Solver, device: str | Device, threads: int | None) -> Device:
    """Return the device to train on; "auto" is a GPU only for a solver that runs there.

    Raises
    ------
    DeviceUnavailableError, ParameterError
        As :func:`fastmf.runtime.device.resolve`, and if the solver does not run there.
    """
    where = resolve("cpu" if device == "auto" and not solver.on_gpu else device, threads)
    if not where.on_host and not solver.on_gpu:
        raise DeviceUnavailableError(f"solver {solver.name!r} does not run on a GPU: use --device cpu, or another one")
    return where


def require_weight(solver: Solver, weight: str | None) -> None:
    """Raise a ParameterError if rows are to be weighed for a solver that takes no weights."""
    if weight is not None and not solver.implicit:
        raise ParameterError(f"weight is for implicit feedback: solver {solver.name!r} takes all ratings alike")


def require_room(solver: Solver, device: Device, limit: int | None, data: Data | None = None) -> None:
    """Refuse a fit that memory cannot hold: factors, each thread's equations, and the ratings once they are read.

    Before that there is at least one user and one item. Ratings in memory count against a given limit, and are no
    longer among the available bytes.

    Raises
    ------
    ResourceError
        With the numbers.
    """
    ratings = None if data is None else data.ratings
    rows = 2 if ratings is None else ratings.n_users + ratings.n_items
    need, on_gpu = solver.bytes_per_row * rows, max(solver.bytes_per_row, 4 * 4 * solver.k) * rows
    if device.name == "cpu":
        need += device.threads * solver.bytes_per_thread
    if data is not None and ratings is not None:
        weight = 0 if ratings.weights is None else BYTES_PER_WEIGHT
        held = BYTES_HELD * (len(ratings) + (0 if data.validation is None else len(data.validation)))
        need += len(ratings) * (BYTES_PER_RATING + weight) + (0 if limit is None else held)
        on_gpu += len(ratings) * (BYTES_ON_GPU + 2 * weight)
    what = f"fitting k = {solver.k:,} factors" + ("" if ratings is None else f" of {rows:,} users and items")
    require_memory(need, what, limit, "use a smaller k, or set another limit with --memory-limit (memory_limit=)")
    device.require(solver.k, on_gpu, what)


def _require_validation(validation: Any, patience: int | None) -> None:
    if isinstance(validation, int | float | np.number) and not 0 < validation < 1:
        raise ParameterError(f"validation is a fraction of {validation}: give one above 0 and below 1, or ratings")
    if patience is not None:
        require_integer("patience", patience, 1)
        if validation is None:
            raise ParameterError("patience needs validation: give ratings or a fraction to watch")
    if isinstance(validation, str | os.PathLike) and "://" not in str(validation) and not Path(validation).exists():
        raise FileNotFoundError(f"{validation} does not exist: give ratings to watch, or a fraction to hold out for it")


def _require_checkpoint(checkpoint: Any, every: int, resume: bool, inputs: Iterable[Any]) -> None:
    require_integer("every", every, 1)
    if checkpoint is None and (resume or every != 1):
        raise ParameterError(f"{'resume' if resume else 'every'} needs a checkpoint: give the folder")
    if checkpoint is not None:
        check_folder(checkpoint, resume, inputs)


def _read(source: Any, tell: Tell | None, **how: Any) -> Ratings:
    """Read ratings; tell what they are, and what was left out."""
    ratings = Ratings.read(source, **how)
    if tell is not None and not isinstance(source, Ratings):
        size = f"{len(ratings):,} ratings of {ratings.n_items:,} items by {ratings.n_users:,} users"
        tell(f"{source}: {size} (columns {', '.join(dict.fromkeys(filter(None, ratings.columns)))})")
        for line in notes_on(ratings):
            tell(line)
    return ratings


def notes_on(ratings: Ratings) -> list[str]:
    """Describe the rows that were read and are not in the ratings, a line for each kind."""
    lines, dropped = [], {**ratings.dropped}
    again = dropped.pop("duplicates", 0)
    if again:
        lines.append(f"note: {again:,} rows of repeated pairs were merged (--duplicates {ratings.duplicates})")
    if dropped:
        counts = ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in dropped.items())
        lines.append(f"note: {sum(dropped.values()):,} bad rows were dropped (--bad-rows drop): {counts}")
    return lines
