"""tune: look for k and the weights of a solver by successive halving over one validation split, with optuna.

The ratings are read, encoded and split once. Each solver has its own trials, since an epoch of one says little about
an epoch of another. They begin with its defaults; the others are proposed by optuna's tree-structured Parzen estimator
(Bergstra et al. 2011), and after a quarter of their epochs, and again after three quarters, only the best third of
those that got so far goes on (Li et al. 2020, as optuna has it: without waiting for the others).
"""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from fastmf.data.ratings import Ratings
from fastmf.errors import FastMFError, ParameterError
from fastmf.model.history import MAE, NDCG, RMSE, Epoch, Measure
from fastmf.runtime.device import Device, resolve
from fastmf.runtime.memory import parse_size
from fastmf.solvers import SOLVERS, Solver, make
from fastmf.solvers.base import MAX_SEED, require_integer, require_number
from fastmf.training.fit import BYTES_HELD, fit, reading_for, require_consistent, require_memory_for, require_weight
from fastmf.training.objective import measure_of

TRIALS = 40
VALIDATION = 0.1
MAX_K = 128

# Where a setting is looked for: a solver's weights from a sixth of the default to six times it, in 24 steps each way,
# which leaves them two digits; and k among these and their doubles.
SPAN, STEPS = 6.0, 24
TUNABLE = [name for name, solver in SOLVERS.items() if solver.tuned]
FEWEST_K = (8, 12)

# At a quarter of the epochs, settings stand nearly in their final order: on ml-latest-small the ranks correlate by .96
# for ALS, .9 for SGD and .97 for implicit; after the first epoch by .8 for ALS, and for implicit not at all.
FIRST_RUNG, REDUCTION = 4, 3
RANDOM_TRIALS = 5  # of each solver, before there is something to learn from

PROPOSALS = 100  # in a row that have been tried already: then there is nothing left to try

SAMPLER_SEEDS = 2**32  # NumPy's RandomState takes none beyond


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One setting of a solver, and what came of it.

    Attributes
    ----------
    number : from 1, in the order of the trials.
    solver, settings : the solver's name, and what it was given beside its defaults.
    state : "complete"; "pruned", stopped early as others had done better by then; or "failed".
    epochs : how many were run.
    best_epoch, validation_rmse, validation_mae, validation_ndcg : the best epoch of these by the measure, and its
        figures, as in an Epoch; None if it failed.
    seconds : of the whole trial.
    error : why it failed.
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
        """What it is compared by: nDCG for implicit feedback, MAE for the absolute loss, RMSE for the others."""
        return measure_of(make(SOLVERS, self.solver, **self.settings))


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What :func:`tune` has found.

    Attributes
    ----------
    trials : all of them, in their order; the first of each solver is that of its defaults.
    training, validation : how many ratings each trial was trained and measured on.
    """

    trials: tuple[Trial, ...]
    training: int
    validation: int

    @property
    def defaults(self) -> dict[str, Trial]:
        """The trial of the defaults of each solver, by its name."""
        names = dict.fromkeys(trial.solver for trial in self.trials)
        return {name: next(trial for trial in self.trials if trial.solver == name) for name in names}

    @property
    def best(self) -> Trial:
        """The complete trial with the best figure; the first solver's defaults' unless another's is better."""
        return ranked(self.trials)[0]

    @property
    def settings(self) -> dict[str, Any]:
        """What to give :func:`fastmf.fit` for the model that was the best; see :func:`settings_for`."""
        return settings_for(self.best)

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain data, for JSON."""
        measure = self.best.measure
        return {
            "settings": self.settings,
            measure.attribute: measure.of(self.best),
            f"defaults_{measure.key}": {solver: measure.of(trial) for solver, trial in self.defaults.items()},
            "best_trial": self.best.number,
            "ratings": {"training": self.training, "validation": self.validation},
            "trials": [asdict(trial) for trial in self.trials],
        }


class Space(NamedTuple):
    """Where to look for settings of a solver: what every trial has, the values to choose from, and the first trial."""

    solver: str
    fixed: dict[str, Any]
    values: dict[str, list[Any]]
    start: Solver


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
    weight: str | None = None,
    duplicates: str = "error",
    bad_rows: str = "error",
    callback: Callable[[Trial], object] | None = None,
    memory_limit: float | str | None = None,
    **fixed: Any,
) -> Tuning:
    """Look for settings that predict held-out ratings, or rank them, better than the defaults do.

    Trials are compared as :func:`fastmf.fit` compares epochs: by RMSE, by MAE for the absolute loss, by nDCG for
    implicit feedback. That of the best of many trials flatters it a little, as it was chosen by it: for a figure to
    quote, evaluate the model on ratings that took no part.

    Parameters
    ----------
    ratings : in any form :func:`fastmf.fit` takes.
    solver : a name, or several of one measure to share the trials; "als" and its variants when left out.
    trials : how many settings to try, each solver's defaults among them.
    validation : the fraction of the ratings to measure on, or ratings for it. Every trial has the same.
    max_k : the most factors to try.
    timeout : seconds after which no trial is begun; what is found then depends on the machine's speed.
    device, threads, weight, duplicates, bad_rows, memory_limit : as for :func:`fastmf.fit`.
    seed : of the split, the search and the solvers. The same data, settings and seed find the same.
    callback : called with a :class:`Trial` after each.
    fixed : settings of the solver that every trial has, such as epochs or positive_from; one given here of k and the
        weights (reg, and reg0 or for implicit feedback alpha0) is not looked for.

    Raises
    ------
    DataError, ParameterError, ResourceError
        As :func:`fastmf.fit`; a ParameterError also if optuna is not installed.
    FastMFError
        That of the first trial that failed, if none is completed.

    Examples
    --------
    >>> import fastmf
    >>> found = fastmf.tune(ratings, "sgd", trials=20, k=16)  # doctest: +SKIP
    >>> model = fastmf.fit(ratings, **found.settings)  # doctest: +SKIP
    """
    limit, where = parse_size(memory_limit), resolve(device, threads)
    search: dict[str, Any] = {"trials": trials, "max_k": max_k, "timeout": timeout, "seed": seed, **fixed}
    found = spaces(ratings, validation, where, limit, solver=solver, weight=weight, **search)
    how: dict[str, Any] = {"duplicates": duplicates, "bad_rows": bad_rows, "memory_limit": limit}
    how |= reading_for(found[0].start)  # and so of the others, which share its measure
    data = Ratings.read(ratings, weight=weight, **how)
    if isinstance(validation, int | float | np.number):
        data, held_out = data.split(float(validation), seed=seed)
    else:
        left = None if limit is None else max(limit - BYTES_HELD * len(data), 1)
        held_out = Ratings.read(validation, **{**how, "memory_limit": left})
    n_training, n_validation = (_counted(part, found[0].start) for part in (data, held_out))
    with _quiet_optuna() as optuna:
        studies = [_Study(space, optuna, seed + place) for place, space in enumerate(found)]
        run: dict[str, Any] = {"validation": held_out, "device": where, "memory_limit": limit}
        done = _trials(studies, data, run, trials, timeout, callback)
    return Tuning(trials=tuple(done), training=n_training, validation=n_validation)


def spaces(
    ratings: Any,
    validation: Any,
    device: Device,
    limit: int | None,
    *,
    solver: str | Sequence[str] | None,
    trials: int,
    max_k: int,
    timeout: float | None,
    seed: int,
    weight: str | None,
    **fixed: Any,
) -> list[Space]:
    """Check what can be checked of the arguments of :func:`tune` before anything is read; say where it will look.

    Raises
    ------
    ParameterError, ResourceError, OSError
        As :func:`tune`.
    """
    _optuna()
    for name, value in (("trials", trials), ("max_k", max_k)):
        require_integer(name, value, 1)
    require_integer("seed", seed, 0, MAX_SEED)
    if timeout is not None:
        require_number("timeout", timeout, low=0, above=True)
    if validation is None:
        raise ParameterError("tune needs validation: give a fraction to hold out, or ratings to watch")
    require_consistent(ratings, validation, patience=None, checkpoint=None, every=1, resume=False)
    given = {name: value for name, value in fixed.items() if value is not None} | ({"seed": seed} if seed else {})
    found = [_space(name, max_k, given) for name in _names(solver)]
    for space in found:
        require_weight(space.start, weight)
        require_memory_for(space.start, device, limit)
    return found


def _counted(ratings: Ratings, solver: Solver) -> int:
    """Count the ratings that a solver takes; a DataError says if there are none."""
    return len(ratings.observed(solver.settings["positive_from"]) if solver.implicit else ratings)


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Put trials in order: complete, pruned, failed; the better first, and of equals the earlier."""
    states = ["complete", "pruned", "failed"]
    return sorted(trials, key=lambda trial: (states.index(trial.state), trial.measure.cost(trial)))


def settings_for(trial: Trial) -> dict[str, Any]:
    """Say what to give :func:`fastmf.fit` for the model a trial had when it was best.

    That is the solver, what is not its default, and the best epoch for epochs: a run of so many is at that epoch what
    the longer one was.
    """
    given, usual = {**trial.settings, "epochs": trial.best_epoch}, make(SOLVERS, trial.solver).settings
    return {"solver": trial.solver} | {name: value for name, value in given.items() if value != usual[name]}


def _names(solver: str | Sequence[str] | None) -> list[str]:
    """Name the solvers to try; without any, ALS and all that is built on it."""
    if solver is None:
        return [name for name in TUNABLE if name.split("-")[0] == "als"]
    names = [solver] if isinstance(solver, str) else list(solver) if isinstance(solver, Sequence) else []
    if not names or not all(isinstance(name, str) for name in names):
        raise ParameterError(f"solver is {solver!r}: give one or more of {', '.join(TUNABLE)}, by name")
    unknown = [name for name in names if name not in SOLVERS]
    if unknown:
        raise ParameterError(f"unknown solver {unknown[0]!r}: give one or more of {', '.join(TUNABLE)}")
    learned = [name for name in names if name not in TUNABLE]
    if learned:
        raise ParameterError(f"solver {learned[0]!r} has no weights to tune: choose of {', '.join(TUNABLE)}")
    measures = {name: measure_of(make(SOLVERS, name)).name for name in names}
    if len(set(measures.values())) > 1:
        each = ", ".join(f"{name} by {measure}" for name, measure in measures.items())
        raise ParameterError(
            f"trials of these solvers cannot be compared, as they are measured differently ({each}): tune them in"
            " separate runs"
        )
    return list(dict.fromkeys(names))


def _space(name: str, max_k: int, fixed: dict[str, Any]) -> Space:
    usual, values = make(SOLVERS, name, **fixed).settings, {}
    if "k" in usual and "k" not in fixed:
        start = {"k": min(usual["k"], max_k)}
        doubled = {fewest << times for fewest in FEWEST_K for times in range(max_k.bit_length())}
        values["k"] = sorted({k for k in doubled if k <= max_k} | set(start.values()))
    else:
        start = {}
    for weight in SOLVERS[name].tuned:
        if weight not in fixed and usual[weight] > 0:
            start[weight] = usual[weight]
            around = (usual[weight] * SPAN ** (step / STEPS) for step in range(-STEPS, STEPS + 1))
            values[weight] = sorted({float(f"{value:.2g}") for value in around} | {usual[weight]})
    return Space(name, fixed, values, make(SOLVERS, name, **fixed, **start))


class _Pruned(Exception):  # noqa: N818  nothing is wrong
    """Ends a trial that has fallen behind."""


class _Outcome(NamedTuple):
    """How a trial has ended, the epochs it ran, and why it failed."""

    state: str
    history: list[Epoch]
    failure: BaseException | None


class _Study:
    """The trials of one solver, as optuna keeps them: it proposes places in the lists of values, for the least cost."""

    def __init__(self, space: Space, optuna: Any, seed: int) -> None:
        self.space, self.measure, self.states = space, measure_of(space.start), optuna.trial.TrialState
        self.proposed: set[tuple[int, ...]] = set()
        start = space.start.settings
        rung = max(space.start.epochs // FIRST_RUNG, 1)
        self.study = optuna.create_study(
            sampler=optuna.samplers.TPESampler(seed=seed % SAMPLER_SEEDS, n_startup_trials=RANDOM_TRIALS),
            pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=rung, reduction_factor=REDUCTION),
        )
        self.study.enqueue_trial({name: values.index(start[name]) for name, values in space.values.items()})

    def proposal(self) -> tuple[Any, dict[str, Any]] | None:
        """Take optuna's next trial, and its settings; None if all that it proposes has been tried."""
        values = self.space.values
        for _ in range(PROPOSALS):
            asked = self.study.ask()
            places = tuple(asked.suggest_int(name, 0, len(values[name]) - 1) for name in values)
            if places not in self.proposed:
                self.proposed.add(places)
                chosen = {name: values[name][place] for name, place in zip(values, places, strict=True)}
                return asked, {**self.space.fixed, **chosen}
            self.study.tell(asked, state=self.states.FAIL)
        return None

    def run(self, asked: Any, settings: dict[str, Any], data: Ratings, options: dict[str, Any]) -> _Outcome:
        """Train with the settings proposed, and tell optuna what came of it."""
        history: list[Epoch] = []
        state, failure = "complete", None
        try:
            solver = make(SOLVERS, self.space.solver, **settings)
            watch = _watch(asked, history, solver.epochs, self.measure)
            fit(data, solver=solver, callback=watch, keep_seen=False, **options)
        except _Pruned:
            state = "pruned"
        except (FastMFError, MemoryError) as error:
            state, failure = "failed", error.with_traceback(None)  # which holds on to all that was trained
        value = _least(history, self.measure) if state == "complete" else None
        told = {"complete": self.states.COMPLETE, "pruned": self.states.PRUNED, "failed": self.states.FAIL}
        self.study.tell(asked, value, state=told[state])
        return _Outcome(state, history, failure)


def _watch(asked: Any, history: list[Epoch], epochs: int, measure: Measure) -> Callable[[Epoch], None]:
    """Make a callback that keeps the epochs, and ends the trial where optuna says so; the last epoch is the end."""

    def watch(epoch: Epoch) -> None:
        history.append(epoch)
        if epoch.number < epochs:
            asked.report(_least(history, measure), epoch.number)
            if asked.should_prune():
                raise _Pruned

    return watch


def _least(history: list[Epoch], measure: Measure) -> float:
    return min(map(measure.cost, history))


def _trials(
    studies: list[_Study],
    data: Ratings,
    options: dict[str, Any],
    trials: int,
    timeout: float | None,
    callback: Callable[[Trial], object] | None,
) -> list[Trial]:
    """Run the trials, the studies by turns, until they are enough or there is nothing left to try."""
    began, waiting = time.perf_counter(), deque(studies)
    done: list[Trial] = []
    failures: list[BaseException] = []
    while waiting and len(done) < trials:
        now = time.perf_counter()
        if done and timeout is not None and now - began >= timeout:
            break
        study = waiting.popleft()
        proposal = study.proposal()
        if proposal is None:
            continue
        waiting.append(study)
        outcome = study.run(*proposal, data, options)
        failures += [outcome.failure] if outcome.failure else []
        done.append(_trial(len(done) + 1, study, proposal[1], outcome, time.perf_counter() - now))
        if callback is not None:
            callback(done[-1])
    if not any(trial.state == "complete" for trial in done):
        raise type(failures[0])(f"none of {len(done)} trials was completed; the first that failed: {failures[0]}")
    return done


def _trial(number: int, study: _Study, settings: dict[str, Any], outcome: _Outcome, seconds: float) -> Trial:
    """Say as plain data what a trial was and has come to."""
    failure = outcome.failure
    found: dict[str, Any] = {}
    if not failure:
        best = min(outcome.history, key=study.measure.cost)
        found = {"best_epoch": best.number} | {figure.attribute: figure.of(best) for figure in (RMSE, MAE, NDCG)}
    return Trial(
        number=number,
        solver=study.space.solver,
        settings=settings,
        state=outcome.state,
        epochs=len(outcome.history),
        **found,
        seconds=seconds,
        error=str(failure) or type(failure).__name__ if failure else None,
    )


def _optuna() -> Any:
    """Import optuna, which only tuning needs."""
    try:
        import optuna
    except ImportError as error:
        raise ParameterError("tuning needs optuna, which is not installed: pip install 'fastmf[tune]'") from error
    return optuna


@contextlib.contextmanager
def _quiet_optuna() -> Iterator[Any]:
    """Import optuna, and keep it from logging what is said here; a caller's own studies log as before."""
    optuna = _optuna()
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield optuna
    finally:
        optuna.logging.set_verbosity(before)
