"""The plan of a fit: its arguments, checked once before any data are read, and how to read the ratings.

``fastmf.fit``, ``fastmf.tune`` and their commands each make a plan, then read ratings and train according to it.
"""

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fastmf.data.atomic import check_outputs
from fastmf.data.features import Features
from fastmf.data.files import called, find, is_location, locations
from fastmf.data.kept import NAME
from fastmf.data.ratings import Ratings, reading
from fastmf.data.times import aging_of
from fastmf.errors import (
    DataError,
    DeviceUnavailableError,
    ParameterError,
    ResourceError,
    counted,
    require_integer,
    require_truth,
    verb,
)
from fastmf.model.state import State
from fastmf.runtime.device import Device, resolve
from fastmf.runtime.memory import parse_size
from fastmf.runtime.spill import Spill
from fastmf.solvers.base import Solver
from fastmf.training.checkpoint import NAME as CHECKPOINT
from fastmf.training.checkpoint import check_folder
from fastmf.training.room import BYTES_HELD, Data, require_room
from fastmf.training.spilling import Spilling, check_spill
from fastmf.training.warm_start import read_init

BLEND_SHARE = 0.1  # the share of the ratings held out to learn a blend

WEIGHING = ("weight", "half_life", "timestamp", "time_unit")  # how to read training ratings, not validation ratings

LITTLE = 0.01  # share of the ratings that weights should add up to, at least

Tell = Callable[[str], object]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The checked arguments of a fit; see :func:`fastmf.fit`.

    ``how`` holds the arguments of :meth:`Ratings.read` for training and validation ratings, ``weighing`` those for the
    training ratings alone. ``core`` are the fewest ratings of a user and of an item. ``outputs`` are the files to be
    written, ``features`` the tables of side features by "user" and "item".
    """

    source: Any
    solver: Solver
    device: Device
    validation: Any
    patience: int | None
    checkpoint: str | os.PathLike[str] | None
    every: int
    blend: bool
    choice: bool
    keep_seen: bool
    weighing: dict[str, Any]
    memory_limit: int | None
    how: dict[str, Any]
    outputs: Sequence[Path]
    core: tuple[int, int] | None = None
    init: State | None = None
    spilling: Spilling | None = None
    features: dict[str, Any] = field(default_factory=dict)

    def read(self, tell: Tell | None = None) -> Data:
        """Read the training ratings; read or hold out the validation ratings.

        ``tell`` is called with a line about each file that was read, and about the rows left out of it.

        Raises
        ------
        DataError, OSError, ResourceError
            As :meth:`Ratings.read`, or if memory cannot hold the fit.
        ParameterError
            If there are too few ratings to learn a blend.
        """
        limit, spill = self.memory_limit, None if self.spilling is None else self.spilling.begun(self.memory_limit)
        ratings = self._training(tell, spill)
        if len(ratings) == 0:
            raise DataError("there are no ratings to fit: give at least one")
        if self.core is not None:
            ratings = _core(ratings, self.core, tell)
        if ratings.half_life is not None and ratings.weights is not None:
            _warn_of_little_weight(ratings.weights)
        ratings = self._with_features(ratings, tell)
        if self.validation is None:
            data = Data(ratings, None, ratings.rows)
        elif _is_fraction(self.validation):
            rest, held_out = ratings.split(float(self.validation), seed=self.solver.seed)
            data = Data(rest, held_out, {**ratings.rows, "used": len(rest), "validation": len(held_out)})
        else:
            left = limit if limit is None or spill else max(limit - BYTES_HELD * len(ratings), 1)
            own = {"memory_limit": left, "weight": "", "like": ratings, "spill": spill}
            held_out = _read(self.validation, tell, **own, **self.how)
            first, second = ratings.rows, held_out.rows
            both = {name: first.get(name, 0) + second.get(name, 0) for name in first | second}
            data = Data(ratings, held_out, {**both, "used": len(ratings), "validation": len(held_out)})
        if self.blend and data.validation is None and round(len(ratings) * BLEND_SHARE) < 1:
            raise ParameterError(
                f"{len(ratings):,} ratings are too few to learn a blend from a tenth of them: give validation="
            )
        require_room(self.solver, self.device, self.memory_limit, data, self.choice)
        return data

    def _training(self, tell: Tell | None, spill: Spill | None) -> Ratings:
        """Read the training ratings, or take those that an earlier fit has kept."""
        if spill is None or self.spilling is None:
            try:
                return _read(self.source, tell, memory_limit=self.memory_limit, **self.weighing, **self.how)
            except ResourceError as error:
                more = "; a fit can keep them on disk with --spill (spill=)" if self.solver.spills else ""
                raise ResourceError(f"{error}{more}") from None
        ratings = self.spilling.kept(spill)
        if ratings is not None:
            _tell_of(f"{self.spilling.folder / NAME}, kept by an earlier fit", ratings, tell)
            return ratings
        ratings = _read(self.source, tell, memory_limit=self.memory_limit, spill=spill, **self.weighing, **self.how)
        self.spilling.keep_if_asked(ratings)
        return ratings

    def _with_features(self, ratings: Ratings, tell: Tell | None) -> Ratings:
        """Read the tables of side features, and return the ratings with them."""
        found = {}
        for side, source in self.features.items():
            row_ids = getattr(ratings, f"{side}_ids")
            text = {name: self.how.get(name) for name in ("decimal", "encoding")}
            features = Features.read(source, side, id_column=self.how.get(side), like=row_ids, **text)
            of_rated, own = (np.diff(each.rows.indptr) > 0 for each in (features.of(row_ids), features))
            n_both = int(np.count_nonzero(of_rated))
            if n_both == 0:
                warnings.warn(
                    f"none of {len(features):,} {side}s in the table of {side} features has ratings: is it the right"
                    " table, and the right column of ids?",
                    stacklevel=4,
                )
            if tell is not None:
                left, more = len(row_ids) - n_both, int(np.count_nonzero(own)) - n_both
                sizes = counted(features.encoding.n_features, "feature"), counted(int(np.count_nonzero(own)), side)
                lacking = f"{counted(left, f'rated {side}')} {verb(left, 'has', 'have')} none"
                tell(f"{side} features: {' of '.join(sizes)}, {more:,} of them without ratings; {lacking}")
            for line in features.remarks:
                warnings.warn(line, stacklevel=4) if tell is None else tell(f"note: {line}")
            found[f"{side}s"] = features
        return ratings.with_features(**found) if found else ratings


def for_plan(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return those arguments of fit or tune that their plans take as they are."""
    own = ("ratings", "k", "solver", "seed", "callback", "hyperparameters", "fixed")
    return {name: value for name, value in arguments.items() if name not in own}


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
    blend: bool = False, choice: bool = True,
    keep_seen: bool = True,
    memory_limit: float | str | None = None,
    min_user_ratings: int | None = None, min_item_ratings: int | None = None,
    init: Any = None,
    spill: str | os.PathLike[str] | None = None, keep_spill: bool = False,
    cluster: Any = None, storage: str | os.PathLike[str] | None = None,
    outputs: Iterable[str | os.PathLike[str]] = (),
    overwrite: bool = False,
    **how: Any,
) -> Plan:  # fmt: skip
    """Check everything that can be checked before anything is read.

    Parameters are those of :func:`fastmf.fit`. ``outputs`` are files to be written, which ``overwrite`` may replace.
    ``how`` are tables of features, and further arguments of :meth:`Ratings.read`; None stands for their defaults.

    Raises
    ------
    ParameterError
        If an argument is out of range, or needs or contradicts another.
    DeviceUnavailableError, ResourceError
        If the device does not exist, or memory cannot hold the factors.
    OSError
        If the validation ratings or the model to start from do not exist, or a checkpoint or an output cannot be
        written.
    ModelFormatError
        If the model to start from is a damaged file.
    """
    limit, where, start = parse_size(memory_limit), _device_for(solver, device, threads), read_init(init, solver)
    _check_validation(validation, patience)
    _check_storage(storage, cluster)
    given = {name: value for name, value in how.items() if value is not None}
    weighing, learns_choice = _weighing(given), _check_solver(solver, blend, choice)
    tables = {side: given.pop(f"{side}_features") for side in ("user", "item") if f"{side}_features" in given}
    reads = reading(solver.implicit, solver.positive_from) | given
    inputs = [path for each in (source, validation, *tables.values()) for path in locations(each)]
    spilling = check_spill(spill, keep_spill, solver, where, source, {**weighing, **reads})
    inputs += map(str, _checkpoint_files(checkpoint, every, resume, inputs))
    inputs += [] if spilling is None else spilling.files
    options: dict[str, Any] = {"patience": patience, "every": every, "blend": blend, "keep_seen": keep_seen}
    options |= {"source": source, "solver": solver, "validation": validation, "checkpoint": checkpoint}
    options |= {"device": where, "weighing": weighing, "init": start, "features": tables, "memory_limit": limit}
    options |= {"spilling": spilling, "how": reads, "choice": learns_choice}
    require_room(solver, where, limit, choice=learns_choice, spilled=spill is not None)
    core = _fewest(min_user_ratings, min_item_ratings)
    return Plan(core=core, outputs=check_outputs(outputs, overwrite, inputs=inputs), **options)


def _warn_of_little_weight(weights: np.ndarray) -> None:
    """Warn if a half-life leaves next to nothing of the ratings, as one wrong time in the future does."""
    left = float(weights.sum(dtype=np.float64))
    if left < LITTLE * len(weights):
        warnings.warn(
            f"the half-life leaves {left:,.1f} of {len(weights):,} ratings: is the newest time right, and its unit"
            " (time_unit, --time-unit)?",
            stacklevel=4,
        )


def _weighing(given: dict[str, Any]) -> dict[str, Any]:
    """Take the arguments that weigh ratings out of the given ones, and check those of a half-life."""
    found = {name: given.pop(name, None) for name in WEIGHING}
    aging_of(found["half_life"], found["timestamp"], found["time_unit"])
    return found


def notes_on(ratings: Ratings) -> list[str]:
    """Describe the weights by age, and the rows that were read but are not among the ratings, one line for each."""
    lines, dropped = [], {name: n for name, n in ratings.dropped.items() if not name.startswith("below_")}
    if ratings.half_life is not None and ratings.weights is not None:
        total = f"{ratings.weights.sum(dtype=np.float64):,.1f}"
        lines.append(f"weights halve every {ratings.half_life.describe()} and add up to {total} ratings")
    merged = dropped.pop("duplicates", 0)
    if merged:
        merging = f"{counted(merged, 'row')} of repeated pairs {verb(merged, 'was', 'were')} merged"
        lines.append(f"note: {merging} (--duplicates {ratings.duplicates})")
    if dropped:
        counts = ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in dropped.items())
        bad = sum(dropped.values())
        lines.append(f"note: {counted(bad, 'bad row')} {verb(bad, 'was', 'were')} dropped (--bad-rows drop): {counts}")
    return lines


def _fewest(min_user_ratings: int | None, min_item_ratings: int | None) -> tuple[int, int] | None:
    """Return the fewest ratings of a user and of an item; None if any number will do."""
    found = []
    for name, fewest in (("min_user_ratings", min_user_ratings), ("min_item_ratings", min_item_ratings)):
        if fewest is not None:
            require_integer(name, fewest, 1)
        found.append(fewest or 1)
    return None if min_user_ratings is None and min_item_ratings is None else (found[0], found[1])


def _core(ratings: Ratings, least: tuple[int, int], tell: Tell | None) -> Ratings:
    """Leave out users and items with too few ratings."""
    core = ratings.core(*least)
    if tell is not None:
        asked = f"--min-user-ratings {least[0]:,} and --min-item-ratings {least[1]:,}"
        sizes = ((len(each), each.n_users, each.n_items) for each in (core, ratings))
        ratings_left, users, items = (f"{left:,} of {all_of_them:,}" for left, all_of_them in zip(*sizes, strict=True))
        tell(f"note: {asked} leave {ratings_left} ratings, {users} users and {items} items")
    return core


def _device_for(solver: Solver, device: str | Device, threads: int | None) -> Device:
    """Return the device to train on; "auto" picks a GPU only if the solver runs on one."""
    where = resolve("cpu" if isinstance(device, str) and device == "auto" and not solver.on_gpu else device, threads)
    if not where.on_host and not solver.on_gpu:
        raise DeviceUnavailableError(f"solver {solver.name!r} does not run on a GPU: use another, or --device cpu")
    return where


def _check_solver(solver: Solver, blend: bool, choice: bool) -> bool:
    """Check what goes with the solver; return whether the model is to learn the choice."""
    require_truth("choice", choice)
    if blend and solver.implicit:
        raise ParameterError(f"blend is for models of ratings: solver {solver.name!r} is already made to rank")
    return choice and not solver.implicit


def _is_fraction(validation: Any) -> bool:
    return isinstance(validation, int | float | np.number)


def _check_storage(storage: Any, cluster: Any) -> None:
    if storage is not None and cluster is None:
        raise ParameterError("storage is for a cluster: give one with --cluster (cluster=), or leave it out")


def _check_validation(validation: Any, patience: int | None) -> None:
    if _is_fraction(validation) and not 0 < validation < 1:
        raise ParameterError(f"validation is {validation}: give a fraction above 0 and below 1, or ratings")
    if patience is not None:
        require_integer("patience", patience, 1)
        if validation is None:
            raise ParameterError("patience needs validation: give validation ratings, or a fraction to hold out")
    if is_location(validation):
        find(validation)


def _checkpoint_files(checkpoint: Any, every: int, resume: bool, inputs: Iterable[Any]) -> list[Path]:
    """Check the options of checkpoints; return the file that will be written, if any."""
    require_integer("every", every, 1)
    if checkpoint is not None:
        check_folder(checkpoint, resume, inputs)
        return [Path(checkpoint) / CHECKPOINT]
    if resume or every != 1:
        raise ParameterError(f"{'resume' if resume else 'every'} needs a checkpoint: give the folder")
    return []


def _read(source: Any, tell: Tell | None, **how: Any) -> Ratings:
    ratings = Ratings.read(source, **how)
    if not isinstance(source, Ratings):
        _tell_of(called(source), ratings, tell)
    return ratings


def _tell_of(what: str, ratings: Ratings, tell: Tell | None) -> None:
    """Tell what ratings there are, and what has become of rows that are not among them."""
    if tell is None:
        return
    size = f"{counted(len(ratings), 'rating')} of {counted(ratings.n_items, 'item')}"
    size += f" by {counted(ratings.n_users, 'user')}"
    columns = *filter(None, ratings.columns), *([] if ratings.half_life is None else [ratings.half_life.timestamp])
    tell(f"{what}: {size} (columns {', '.join(dict.fromkeys(columns))})")
    for line in notes_on(ratings):
        tell(line)
