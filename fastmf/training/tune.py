"""tune: search for k and the weights of solvers on one validation split; :mod:`fastmf.training.trials` runs them."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fastmf.data.ratings import Ratings
from fastmf.errors import ParameterError, require_integer, require_number
from fastmf.model.history import MAE, NDCG, RMSE, Measure
from fastmf.runtime.device import Device
from fastmf.solvers import SOLVERS, make
from fastmf.solvers.settings import MAX_SEED
from fastmf.training.loop import is_stop
from fastmf.training.plan import Plan, for_plan, make_plan
from fastmf.training.room import Data
from fastmf.training.trials import Space, Study, quiet_optuna, require_optuna, space_of

TRIALS = 40
VALIDATION = 0.1
MAX_K = 128


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A solver with its settings, and the result of training it.

    Attributes
    ----------
    number : from 1, in the order of the trials.
    solver, settings : the solver's name, and the settings given to it; the others are defaults.
    state : "complete"; "pruned", stopped early because other trials had done better by then; or "failed".
    epochs : the number of epochs run.
    best_epoch, validation_rmse, validation_mae, validation_ndcg : the best of these epochs by the measure, and its
        figures, as in an Epoch; None if the trial failed.
    seconds : time that the whole trial took.
    error : the message of the error if the trial failed.
    """

    number: int
    solver: str
    settings: dict[str, Any]
    state: str
    epochs: int
    best_epoch: int | None = None
    validation_rmse: float | None = None
    validation_mae: float | None = None
    validation_ndcg: float | None = None
    seconds: float
    error: str | None = None

    @property
    def measure(self) -> Measure:
        """The figure by which trials are compared: nDCG for implicit feedback, MAE for absolute loss, else RMSE."""
        return make(self.solver, **self.settings).measure


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """The result of :func:`tune`.

    Attributes
    ----------
    trials : all trials, in the order they ran; the first of each solver has the default settings.
    training, validation : the number of ratings that each trial was trained on and measured on.
    """

    trials: tuple[Trial, ...]
    training: int
    validation: int

    @property
    def defaults(self) -> dict[str, Trial]:
        """Each solver's trial with its default settings, by the solver's name."""
        found: dict[str, Trial] = {}
        for trial in self.trials:
            found.setdefault(trial.solver, trial)
        return found

    @property
    def best(self) -> Trial:
        """The best complete trial; the earliest if several are equally good."""
        return ranked(self.trials)[0]

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments of :func:`fastmf.fit` for the best model; see :func:`settings_for`."""
        return settings_for(self.best)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain data, for JSON."""
        measure = self.best.measure
        return {
            "settings": self.settings,
            measure.attribute: measure.of(self.best),
            f"defaults_{measure.key}": {solver: measure.of(trial) for solver, trial in self.defaults.items()},
            "best_trial": self.best.number,
            "ratings": {"training": self.training, "validation": self.validation},
            "trials": [asdict(trial) for trial in self.trials],
        }


def tune(
    ratings: Any,
    solver: str | Sequence[str] | None = None,
    *,
    trials: int = TRIALS,
    validation: Any = VALIDATION,
    max_k: int = MAX_K,
    timeout: float | None = None,
    device: str | Device = "cpu",
    threads: int | None = None,
    seed: int = 0,
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
    decimal: str | None = None,
    encoding: str | None = None,
    wide: bool = False,
    callback: Callable[[Trial], object] | None = None,
    memory_limit: float | str | None = None,
    min_user_ratings: int | None = None,
    min_item_ratings: int | None = None,
    item_features: Any = None,
    user_features: Any = None,
    **fixed: Any,
) -> Tuning:
    """Search for settings that predict or rank held-out ratings better than the defaults do.

    Trials are compared as :func:`fastmf.fit` compares epochs: by RMSE, by MAE for the absolute loss, by nDCG for
    implicit feedback. The best trial's figure is slightly optimistic, because the trial was chosen by it. For a figure
    to quote, evaluate the model on ratings that were not used here.

    Parameters
    ----------
    ratings : in any form :func:`fastmf.fit` takes.
    solver : a name, or several with the same measure; they share the trials; "als" and "als-links" if left out.
    trials : the number of trials, including one with each solver's defaults.
    validation : a fraction of the ratings to hold out, or validation ratings. They are the same for every trial.
    max_k : the largest k to try.
    timeout : seconds after which no new trial begins; results then depend on the machine's speed.
    device, threads, user, item, rating, weight, half_life, timestamp, time_unit, duplicates, bad_rows, columns, sep,
        decimal, encoding, wide, memory_limit, min_user_ratings, min_item_ratings : as for :func:`fastmf.fit`.
    item_features, user_features : as for :func:`fastmf.fit`; give the same tables to it with the settings found.
    seed : seed of the split, the search and the solvers. The same data, settings and seed give the same result.
    callback : called with each :class:`Trial` after it has run. If it returns False, no further trial begins.
    fixed : settings shared by all trials, such as epochs or positive_from. k, reg, and reg0 (zeros for implicit
        feedback) are searched unless they are fixed; with features, feature_reg too.

    Raises
    ------
    DataError, ParameterError, ResourceError
        As :func:`fastmf.fit`; a ParameterError also if optuna is not installed.
    FastMFError
        If no trial completed: the error of the first trial that failed.

    Examples
    --------
    >>> import fastmf
    >>> found = fastmf.tune(ratings, "sgd", trials=20, k=16)  # doctest: +SKIP
    >>> model = fastmf.fit(ratings, **found.settings)  # doctest: +SKIP
    """
    plan = plan_tuning(ratings, solver, fixed, seed=seed, **for_plan(locals()))
    return run_trials(plan, plan.fit.read(), callback)


@dataclass(frozen=True, kw_only=True)
class TuningPlan:
    """The checked arguments of a search: what to search, and how ratings are read and fitted."""

    spaces: tuple[Space, ...]
    fit: Plan  # the first solver's; the other solvers share its measure, and so how ratings are read
    trials: int
    timeout: float | None
    seed: int


def plan_tuning(
    ratings: Any,
    solver: str | Sequence[str] | None,
    fixed: dict[str, Any],
    *,
    trials: int,
    validation: Any,
    max_k: int,
    timeout: float | None,
    seed: int,
    **options: Any,
) -> TuningPlan:
    """Check everything that can be checked before anything is read; ``options`` are those of :func:`make_plan`.

    Raises
    ------
    ParameterError, ResourceError, OSError
        As :func:`tune`.
    """
    require_optuna()
    require_integer("trials", trials, 1)
    require_integer("max_k", max_k, 1)
    require_integer("seed", seed, 0, MAX_SEED)
    if timeout is not None:
        require_number("timeout", timeout, low=0, above=True)
    if validation is None:
        raise ParameterError("tune needs validation: give a fraction to hold out, or validation ratings")
    given = {name: value for name, value in fixed.items() if value is not None} | ({"seed": seed} if seed else {})
    featured = _featured(ratings, options)
    spaces = tuple(space_of(name, max_k, given, featured) for name in _names(solver))
    plans = [make_plan(ratings, space.start, validation=validation, keep_seen=False, **options) for space in spaces]
    return TuningPlan(spaces=spaces, fit=plans[0], trials=trials, timeout=timeout, seed=seed)


def run_trials(plan: TuningPlan, data: Data, callback: Callable[[Trial], object] | None = None) -> Tuning:
    """Run the trials of a plan on the ratings it has read; see :func:`tune`."""
    solver, parts = plan.spaces[0].start, [part for part in (data.ratings, data.validation) if part is not None]
    dislikes = solver.negative_to, None  # of validation ratings, signs of interest alone are used
    used = [
        len(part.observed(solver.positive_from, negative_to) if solver.implicit else part)
        for part, negative_to in zip(parts, dislikes, strict=False)
    ]
    with quiet_optuna() as optuna:
        studies = [Study(space, optuna, plan.seed + place) for place, space in enumerate(plan.spaces)]
        done = _trials(studies, plan, data, callback)
    return Tuning(trials=tuple(done), training=used[0], validation=used[1])


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Sort trials: complete before pruned before failed, then better before worse, then earlier before later."""
    states = ["complete", "pruned", "failed"]
    return sorted(trials, key=lambda trial: (states.index(trial.state), trial.measure.cost(trial)))


def settings_for(trial: Trial) -> dict[str, Any]:
    """Return the arguments of :func:`fastmf.fit` that give a trial's model at its best epoch, omitting defaults."""
    given, usual = {**trial.settings, "epochs": trial.best_epoch}, make(trial.solver).settings
    return {"solver": trial.solver} | {name: value for name, value in given.items() if value != usual[name]}


def _featured(ratings: Any, options: dict[str, Any]) -> bool:
    """Return whether there are side features: in the arguments, or already in the ratings."""
    names = "user_features", "item_features"
    inside = isinstance(ratings, Ratings) and any(getattr(ratings, name) is not None for name in names)
    return inside or any(options.get(name) is not None for name in names)


def _names(solver: str | Sequence[str] | None) -> list[str]:
    """Return the names of the solvers to try; raise a ParameterError unless they can be tuned and compared."""
    tunable = [name for name, each in SOLVERS.items() if each.tuned]
    if solver is None:
        return [name for name, each in SOLVERS.items() if each.tuned_by_default]
    names = [solver] if isinstance(solver, str) else list(solver) if isinstance(solver, Sequence) else []
    if not names or not all(isinstance(name, str) for name in names):
        raise ParameterError(f"solver is {solver!r}: give one or more of {', '.join(tunable)}, by name")
    unknown = [name for name in names if name not in SOLVERS]
    if unknown:
        raise ParameterError(f"unknown solver {unknown[0]!r}: give one or more of {', '.join(tunable)}")
    learned = [name for name in names if name not in tunable]
    if learned:
        raise ParameterError(f"solver {learned[0]!r} has no weights to tune: choose from {', '.join(tunable)}")
    measures = {name: make(name).measure.name for name in names}
    if len(set(measures.values())) > 1:
        each = ", ".join(f"{name} by {measure}" for name, measure in measures.items())
        raise ParameterError(
            f"trials of these solvers cannot be compared, as they are measured differently ({each}): tune them in"
            " separate runs"
        )
    return list(dict.fromkeys(names))


def _trials(
    studies: list[Study], plan: TuningPlan, data: Data, callback: Callable[[Trial], object] | None
) -> list[Trial]:
    """Run trials of the studies in turn until there are enough, time or settings run out, or the callback says so."""
    began, waiting = time.perf_counter(), deque(studies)
    done: list[Trial] = []
    failures: list[BaseException] = []
    while waiting and len(done) < plan.trials:
        now = time.perf_counter()
        if done and plan.timeout is not None and now - began >= plan.timeout:
            break
        study = waiting.popleft()
        proposal = study.proposal()
        if proposal is None:
            continue
        waiting.append(study)
        state, history, failure = study.run(*proposal, data, plan.fit)
        result: dict[str, Any] = {"state": state, "epochs": len(history), "seconds": time.perf_counter() - now}
        if failure is None:
            best = min(history, key=study.measure.cost)
            result |= {"best_epoch": best.number} | {figure.attribute: figure.of(best) for figure in (RMSE, MAE, NDCG)}
        else:
            failures.append(failure)
            result["error"] = str(failure) or type(failure).__name__
        done.append(Trial(number=len(done) + 1, solver=study.space.solver, settings=proposal[1], **result))
        if callback is not None and is_stop(callback(done[-1])):
            break
    if not any(trial.state == "complete" for trial in done):
        raise type(failures[0])(f"none of the {len(done)} trials completed; the first error: {failures[0]}")
    return done
