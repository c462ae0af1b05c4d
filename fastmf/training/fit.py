"""fit: train a model on ratings."""

import os
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from fastmf.errors import DivergenceError, ParameterError, brief
from fastmf.kernels.compile import ENABLED
from fastmf.model.fold_in import lost_rows
from fastmf.model.history import Epoch
from fastmf.model.model import Model
from fastmf.model.spectrum import factors_in_use
from fastmf.model.state import State
from fastmf.runtime.device import Device
from fastmf.solvers import DEFAULT, make
from fastmf.solvers.base import Solver
from fastmf.solvers.factors import Factors, Start
from fastmf.solvers.features import expected_by
from fastmf.training.blend import learn_blend
from fastmf.training.checkpoint import Checkpoint, fingerprint
from fastmf.training.choice import fit_choice
from fastmf.training.loop import Run
from fastmf.training.objective import Objective, objective_of
from fastmf.training.plan import BLEND_SHARE, Plan, for_plan, make_plan
from fastmf.training.room import Data
from fastmf.training.warm_start import Scaling, start_of, warn_of_known_pairs

LOST = "only .* possible factors are in use"  # how the warning begins
SOME = 16  # of fewer factors, none counts as lost
MANY = 100_000  # ratings that take hours without the JIT


def fit(
    ratings: Any,
    k: int | None = None,
    solver: str | Solver = DEFAULT,
    *,
    validation: Any = None,
    patience: int | None = None,
    device: str | Device = "cpu",
    threads: int | None = None,
    seed: int | None = None,
    user: str | None = None,
    item: str | None = None,
    rating: str | None = None,
    weight: str | None = None,
    half_life: float | None = None,
    timestamp: str | None = None,
    time_unit: str | None = None,
    duplicates: str = "error",
    bad_rows: str = "error",
    columns: Any = None,
    sep: str | None = None,
    decimal: str | None = None, encoding: str | None = None,
    wide: bool = False,
    callback: Callable[[Epoch], object] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    every: int = 1,
    resume: bool = False,
    keep_seen: bool = True,
    blend: bool = False, choice: bool = True,
    memory_limit: float | str | None = None,
    min_user_ratings: int | None = None, min_item_ratings: int | None = None,
    init: Any = None,
    item_features: Any = None,
    user_features: Any = None,
    spill: str | os.PathLike[str] | None = None, keep_spill: bool = False,
    cluster: Any = None, storage: str | os.PathLike[str] | None = None,
    **hyperparameters: Any,
) -> Model:  # fmt: skip
    """Factorize ratings.

    Parameters
    ----------
    ratings : files (a path, a URI, a directory, a pattern, or a list of these: Parquet, delimited text, JSON lines,
        Arrow or ORC), "-" for the standard input, a frame or another table, a sparse matrix, an array, a tuple of
        arrays, or a Ratings; see :meth:`fastmf.Ratings.read`.
    k : number of factors; the solver's default if left out.
    solver : "als-links", "als", "sgd", "gibbs", "implicit", or a solver object, which then holds all hyper-parameters.
    validation : validation ratings, in the same forms, or a fraction of the ratings to hold out. The model keeps the
        factors of the best epoch: by RMSE, by MAE for the absolute loss, or by nDCG for implicit feedback.
    patience : stop after this many epochs without a better one; needs validation.
    device : "cpu", "cuda" (the first GPU; "cuda:1" and so on), "numpy" (the plain definitions, slow) or "auto".
    threads : the most threads to use.
    seed : seed of all random numbers.
    user, item, rating : names of the columns, if they have none of the usual names.
    weight : the column of the rows' weights; the column of ratings will do. A row of weight 2 counts as two equal rows
        in what is minimised, not in the mean and scale of the ratings, nor in the RMSE of training and validation.
    half_life : days in which a rating loses half its weight: one that is ``age`` days older than the newest training
        row has the weight 2^(-age / half_life), times ``weight``. The validation ratings are read without it. It does
        not always help: on ml-latest-small, with each user's latest ratings held out, no half-life from 90 to 10,000
        days gave a better RMSE than none (``benchmarks/README.md``).
    timestamp : the column of times, "timestamp" if left out: Arrow timestamps or dates, or numbers.
    time_unit : what times that are numbers count since 1970: "s" (the default), "ms", "us" or "ns".
    duplicates : what to do with rows of the same (user, item): "error", keep the "last", or take their "mean" or "sum";
        see :meth:`fastmf.Ratings.read`.
    bad_rows : what to do with rows that have a null id, no finite rating, no weight above 0, or no time if there is a
        half-life: "error", or "drop" and count them.
    columns, sep, decimal, encoding, wide : the layout of text, arrays and pivots; see :meth:`fastmf.Ratings.read`.
    callback : called with an Epoch after every epoch. If it returns False, training ends there, as with ``patience``:
        the model keeps the best epoch's factors, or without validation the last one's, and ``history`` ends with that
        epoch. The checkpoint is kept, and ``resume`` goes on from it. Any other answer, such as None, goes on.
    checkpoint : a folder for the state of training.
    every : epochs from one checkpoint to the next. A killed process loses the epochs since the last checkpoint; if
        training ends in any other way, they are saved.
    resume : continue from the checkpoint, if there is one; it must be from the same data and settings. The model is
        then the same, bit for bit, as without the interruption.
    keep_seen : keep in the model what each user has rated, so that recommendations leave it out.
    blend : learn the weight of popularity in lists, for ``rank_by="blend"`` of :meth:`Model.recommend`: from the
        validation ratings or, without them, from a tenth of the ratings, which an extra fit leaves out.
    choice : learn what users choose, by which :meth:`Model.recommend` then ranks a model of ratings; see
        :mod:`fastmf.model.choice`. False makes the model half as large; its lists are ranked by predicted rating.
    item_features, user_features : tables of what is known of items and users beside their ratings: a column of ids of
        the ratings' type and any others, from a path or URI or a table in memory. Numbers, categories,
        lists or "a|b|c" of categories, booleans and dates become features; see :meth:`fastmf.Features.read`. Items and
        users without ratings are then predicted by their features; see :mod:`fastmf.solvers.features`.
    memory_limit : the most memory to take, as bytes or text such as "4GiB"; the available memory if left out.
    min_user_ratings, min_item_ratings : leave out users, and items, with fewer training ratings than this, until all
        that remain have enough; see :meth:`fastmf.Ratings.core`. Pairs count whatever their rating, also those below
        ``positive_from``. A fraction for validation is held out of what remains; in validation ratings that are given,
        the users and items left out are unknown.
    init : a model to start from, or the path of one, of the same k and the same kind of feedback. Ids are matched by
        value. Known rows start where they were, carried to the mean and scale of these ratings; new ones are folded in
        from their ratings. All solvers can start from each other's models. Two epochs then do for what takes twelve,
        except with sgd, whose learning rate starts anew.
    spill : a folder for ratings that memory cannot hold: they are read batch by batch, sorted on disk, and read from
        there in each epoch. The model is the same, bit for bit. Memory holds the tables of factors and ids and, beside
        these, what ``memory_limit`` allows (half of the available memory if it is left out). The disk has to hold 36
        to 55 bytes a rating; nothing is left there. For als-links, als and implicit, on the CPU.
    keep_spill : keep the ratings in the folder, sorted, for the next fit of the same files, read in the same way.
    cluster : a Dask client, the address of a scheduler ("tcp://…"), or "local" or "local:N" for N worker processes on
        this machine. The workers read the ratings, Parquet files that all of them see or a frame of Dask, and solve
        blocks of rows; the model is the same, bit for bit. For als and implicit; see :mod:`fastmf.cluster.fit`.
    storage : a folder, or the URI of one, that all workers of the cluster see, for blocks of ratings and factors. If
        left out, it is the folder of the checkpoint, or a temporary one if all workers are on this machine.
    hyperparameters : settings of the solver: see :class:`fastmf.ALS`, :class:`fastmf.LinkedALS`, :class:`fastmf.SGD`,
        :class:`fastmf.Gibbs` and :class:`fastmf.ImplicitALS`.

    Returns
    -------
    The model, on the scale of the ratings. The same ratings in any order or container give the same model, bit for
    bit, except for ``schedule="hogwild"`` on several threads.

    Raises
    ------
    DataError
        If the ratings cannot be used; see :meth:`fastmf.Ratings.read`.
    ParameterError
        If a setting is out of range or contradicts another.
    DivergenceError
        If training does not stay finite; the message names the epoch and the setting to change.
    ResourceError
        If memory cannot hold the ratings or the factors; what can be checked early is checked before anything is read.

    Examples
    --------
    >>> import fastmf
    >>> model = fastmf.fit((["ann", "ann", "bob", "bob"], [1, 2, 2, 3], [5.0, 3.0, 2.0, 4.0]), k=2)
    >>> model.recommend("ann", n=1)["item_id"].tolist()
    [3]
    """
    plan = make_plan(ratings, make(solver, k=k, seed=seed, **hyperparameters), **for_plan(locals()))
    return train(plan, plan.read(), callback) if cluster is None else train_on(cluster, storage, plan, callback)


def train_on(
    cluster: Any,
    storage: str | os.PathLike[str] | None,
    plan: Plan,
    callback: Callable[[Epoch], object] | None = None,
    tell: Callable[[str], object] | None = None,
) -> Model:
    """Read and train according to a plan on the workers of a cluster; see :func:`fit`."""
    from fastmf.cluster.fit import fit_on_cluster

    return fit_on_cluster(plan, cluster, storage, callback, tell)


def train(plan: Plan, data: Data, callback: Callable[[Epoch], object] | None = None) -> Model:
    """Train on the ratings that a plan has read; see :func:`fit`."""
    if callback is not None and not callable(callback):
        raise ParameterError(f"callback is {brief(callback)}: give a function that takes an Epoch")
    solver, device, ratings = plan.solver, plan.device, data.ratings
    if not ENABLED and device.name == "cpu" and len(ratings) > MANY:
        warnings.warn(f"NUMBA_DISABLE_JIT is set: {len(ratings):,} ratings will take hours; unset it", stacklevel=3)
    objective = objective_of(solver, ratings, data.validation, device)
    start, started = _warm_start(plan.init, data, objective)
    checkpoint = None
    if plan.checkpoint is not None:
        settings = {**solver.settings, "epochs": solver.epochs, "patience": plan.patience}
        settings["init"] = None if plan.init is None else plan.init.content_hash
        tables = {"item_features": ratings.item_features, "user_features": ratings.user_features}
        settings |= {name: None if table is None else table.digest() for name, table in tables.items()}
        made_of = fingerprint(solver.name, settings, device.name, ratings=ratings, validation=data.validation)
        checkpoint = Checkpoint(plan.checkpoint, made_of, plan.every)
    run = Run(solver, objective, device, plan.patience, checkpoint, start)
    run.train(callback)
    model = model_of(objective, solver, run.result(), data.rows | started, plan.keep_seen)
    model = replace(model, history=run.history, best_epoch=run.best_epoch)
    if solver.implicit:
        warn_of_lost_factors(model, solver)
    if plan.choice:
        model = replace(model, **fit_choice(objective.ratings, solver.k, solver.seed, device))
    return replace(model, blend=_blend(model, data, plan)) if plan.blend else model


def warn_of_lost_factors(model: Model, solver: Solver) -> None:
    """Warn if none, or less than half, of the factors are in use: lists may say no more than what is popular."""
    possible = min(model.k, *(int(np.count_nonzero(counts)) for counts in (model.user_counts, model.item_counts)))
    used = factors_in_use(model)
    if used == 0 or (possible >= SOME and 2 * used < possible):
        warnings.warn(
            f"only {used:,} of {possible:,} possible factors are in use: if lists are hardly better than the most"
            f" popular items, lower reg (it is {solver.settings['reg']:g}); if they are, a smaller k will do",
            stacklevel=4,
        )


def _warm_start(init: State | None, data: Data, objective: Objective) -> tuple[Start | None, dict[str, int]]:
    """Return where to start from a model, if there is one, and counts of its rows to report."""
    if init is None:
        return None, {}
    if data.validation is not None:
        warn_of_known_pairs(init, data.validation)
    ratings = objective.ratings if init.implicit else data.ratings
    return start_of(init, ratings, Scaling(objective.mean, objective.scale))


def _blend(model: Model, data: Data, plan: Plan) -> float:
    """Learn the weight of popularity from the validation ratings, or from ratings that an extra fit leaves out."""
    ratings, held_out = data.ratings, data.validation
    if held_out is None:
        rest, held_out = ratings.split(BLEND_SHARE, seed=plan.solver.seed)
        model = fit(rest, solver=_from_scratch(plan), device=plan.device, choice=False)
    elif model.seen is None:
        model = replace(model, seen=(ratings.by_user.indptr, ratings.by_user.indices))
    return learn_blend(model, held_out)


def _from_scratch(plan: Plan) -> Solver:
    """Return the solver of the extra fit. It must not start from a model that may know the ratings left out.

    The few epochs that are enough after a warm start would then be too few.
    """
    usual = type(plan.solver)().epochs
    return plan.solver.with_epochs(usual) if plan.init is not None and plan.solver.epochs < usual else plan.solver


def model_of(objective: Objective, solver: Solver, factors: Factors, rows: dict[str, int], keep_seen: bool) -> Model:
    """Return the model on the rating scale; raise a DivergenceError if its factors are not finite there."""
    ratings, scale = objective.ratings, np.float32(objective.scale)
    model = Model(
        user_ids=ratings.user_ids,
        item_ids=ratings.item_ids,
        user_factors=factors.users.factors * scale,
        item_factors=factors.items.factors.copy(),
        user_bias=factors.users.bias * scale,
        item_bias=factors.items.bias * scale,
        user_counts=objective.interests.user_counts.astype(np.int32),
        item_counts=objective.interests.item_counts.astype(np.int32),
        mean=objective.mean,
        scale=objective.scale,
        rating_range=objective.range,
        seen=objective.seen if keep_seen else None,
        solver={"name": solver.name, **solver.settings},
        implicit=solver.implicit,
        positive_from=solver.positive_from,
        negative_to=solver.negative_to,
        user_rule=solver.user_rule(ratings),
        item_rule=solver.item_rule(ratings),
        rows=rows | objective.counts,
        weight=ratings.weight,
        weight_scale=objective.weight_scale,
        half_life=ratings.half_life,
        duplicates=ratings.duplicates,
        columns=ratings.columns[:3],
        baseline=objective.baseline(),
        user_features=ratings.user_features,
        item_features=ratings.item_features,
        **expected_by(ratings, factors),
        **solver.learned(factors),
    )
    if any(len(lost_rows(side)) for side in (model.user_side, model.item_side)):
        place = f"the rating scale ({objective.scale:g})"
        raise DivergenceError(f"the factors do not fit into float32 on {place}: rescale the ratings")
    return model
