"""cross_validate: fit solvers to the same folds of ratings, and measure each on what the fold holds out."""

import inspect
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from fastmf.data.write import frame_of
from fastmf.errors import ParameterError, require_choice, require_integer
from fastmf.evaluation.evaluate import evaluate, measure_errors
from fastmf.evaluation.metrics import RANKING
from fastmf.solvers import DEFAULT, SOLVERS, make
from fastmf.solvers.base import Solver
from fastmf.solvers.settings import MAX_SEED
from fastmf.training.fit import fit, train
from fastmf.training.loop import is_stop
from fastmf.training.plan import Plan, make_plan
from fastmf.training.room import Data, require_room

ERRORS = "rmse", "mae", "rmse_of_biases"
LISTS = *RANKING, "reach", "novelty"

# Arguments of fit that do not go with folds: all others say how ratings are read and where they are fitted.
LEFT_OUT = {"ratings", "solver", "k", "seed", "hyperparameters", "callback", "validation", "patience", "init"}
LEFT_OUT |= {
    "checkpoint",
    "every",
    "resume",
    "keep_seen",
    "blend",
    "choice",
    "spill",
    "keep_spill",
    "cluster",
    "storage",
}
OPTIONS = inspect.signature(fit).parameters.keys() - LEFT_OUT

Row = dict[str, Any]


def cross_validate(
    ratings: Any,
    solvers: Any = DEFAULT,
    *,
    folds: int = 5,
    seed: int = 0,
    lists: bool = False,
    n: int = 10,
    relevant_from: float | None = None,
    rank_by: str | None = None,
    callback: Callable[[Row], object] | None = None,
    **options: Any,
) -> Any:
    """Fit every solver to the same folds of ratings, and measure it on the ratings that each fold holds out.

    Ratings are read once. Every rating is held out once per solver.

    Parameters
    ----------
    ratings : in any form that :func:`fastmf.fit` takes.
    solvers : one or several, by name or as solver objects; or a dict of any label to a name, a solver object, or a dict
        of arguments of :func:`fastmf.fit`, such as ``{"solver": "sgd", "k": 16}`` or the settings that
        :func:`fastmf.tune` found. A label that is a solver's name stands for it if there is no "solver".
    folds : number of folds.
    seed : seed of the folds; they are those of :meth:`fastmf.Ratings.folds`. Solvers have seeds of their own.
    lists : measure lists of recommendations, too, which takes a while. Solvers of implicit feedback always are.
    n, relevant_from, rank_by : as for :func:`fastmf.evaluate`; lists are ranked by "choice" or "rating".
    callback : called with each row of the result as a dict, once it is known. If it returns False, no further fit
        begins.
    options : the arguments of :func:`fastmf.fit` that say how ratings are read and where they are fitted, such as
        device, threads, weight, duplicates, item_features and min_user_ratings. Users and items with few ratings are
        left out before the folds are made. Arguments of one fit do not go with folds: validation, patience, init,
        blend, choice, keep_seen and those of checkpoints.

    Returns
    -------
    A pandas frame with a row for each fold and solver: solver (the label), fold (from 0), train and test (numbers of
    ratings), epochs, seconds (of the fit alone), rmse, mae and rmse_of_biases; with lists also precision, recall,
    ndcg, map, mrr, hit_rate, reach and novelty. See :func:`fastmf.evaluate`. What is not measured is NaN.

    Raises
    ------
    ParameterError
        If there are no solvers, two have the same label, an option is unknown, or as :func:`fastmf.fit`.
    DataError, DivergenceError, ResourceError
        As :func:`fastmf.fit`.

    Examples
    --------
    >>> import numpy as np, fastmf
    >>> users, items = np.divmod(np.arange(0, 400, 3), 20)
    >>> ratings = fastmf.Ratings.from_arrays(users, items, 3.0 + users % 3 - items % 2)
    >>> found = fastmf.cross_validate(ratings, {"als": {"k": 2}, "small steps": fastmf.SGD(k=2)}, folds=3)
    >>> found.groupby("solver")["rmse"].mean().round(1).index.tolist(), len(found)
    (['als', 'small steps'], 6)
    """
    require_integer("folds", folds, 2)
    require_integer("seed", seed, 0, MAX_SEED)
    if rank_by is not None:
        require_choice("rank_by", rank_by, ("choice", "rating"))  # no fold learns a blend
    plans = _plans(ratings, named(solvers), lists, options)
    # Read the ratings' values if any solver needs them.
    whole = min(plans.values(), key=lambda plan: (plan.solver.implicit, plan.solver.positive_from is None)).read()
    for plan in plans.values():
        require_room(plan.solver, plan.device, plan.memory_limit, whole, plan.choice)
    parts = enumerate(whole.ratings.folds(folds, seed))
    measured = _rows(parts, plans, {"n": n, "relevant_from": relevant_from, "rank_by": rank_by}, lists)
    rows = []
    for row in measured:
        rows.append(row)
        if callback is not None and is_stop(callback(row)):
            break
    return frame_of(rows)


def named(solvers: Any) -> dict[str, Solver]:
    """Return the solvers by label; raise a ParameterError if there are none, or two with one label."""
    if isinstance(solvers, str | Solver):
        solvers = [solvers]
    if isinstance(solvers, Mapping):
        found = {str(label): _solver(str(label), given) for label, given in solvers.items()}
    elif isinstance(solvers, Sequence):
        made = [make(each) for each in solvers]
        found = {each.name: each for each in made}
        if len(found) < len(made):
            labels = ", ".join(each.name for each in made)
            raise ParameterError(f"two solvers have the same name ({labels}): give a dict of label to solver")
    else:
        raise ParameterError(f"solvers is {solvers!r}: give names, solver objects, or a dict of label to either")
    if not found:
        raise ParameterError(f"there are no solvers to validate: give one or more of {', '.join(SOLVERS)}")
    return found


def _solver(label: str, given: Any) -> Solver:
    """Make a solver from its name, itself, or a dict of settings."""
    if not isinstance(given, Mapping):
        return make(given)
    usual = label if label in SOLVERS else DEFAULT
    return make(given.get("solver", usual), **{name: value for name, value in given.items() if name != "solver"})


def _plans(ratings: Any, solvers: Mapping[str, Solver], lists: bool, options: dict[str, Any]) -> dict[str, Plan]:
    """Check everything that can be checked before anything is read."""
    unknown = sorted(options.keys() - OPTIONS)
    if unknown:
        raise ParameterError(
            f"cross_validate takes no {', '.join(unknown)}; it takes {', '.join(sorted(OPTIONS))}. Settings go with"
            " their solver, such as {'als': {'k': 8}}"
        )
    seen = {label: lists or solver.implicit for label, solver in solvers.items()}
    return {
        label: make_plan(ratings, each, keep_seen=seen[label], choice=seen[label], **options)
        for label, each in solvers.items()
    }


def _rows(parts: Any, plans: Mapping[str, Plan], how: dict[str, Any], lists: bool) -> Iterator[Row]:
    """Fit every solver to each fold in turn, and yield its measures."""
    with_lists = lists or any(plan.solver.implicit for plan in plans.values())
    names = ERRORS + (LISTS if with_lists else ())
    for fold, (rest, held_out) in parts:
        for label, plan in plans.items():
            began = time.perf_counter()
            model = train(plan, Data(rest, None, rest.rows))
            sizes = {"train": len(rest), "test": len(held_out), "epochs": len(model.history)}
            seconds = time.perf_counter() - began
            ranked = lists or model.implicit
            found = evaluate(model, held_out, **how) if ranked else measure_errors(model, held_out)
            measures = {name: found.get(name) for name in names}
            yield {"solver": label, "fold": fold, **sizes, "seconds": seconds, **measures}
