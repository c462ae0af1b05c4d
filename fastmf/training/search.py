"""The search behind tuning: where to look for a solver's settings, and its trials, proposed and pruned by optuna.

Each solver has its own trials, since an epoch of one says little about an epoch of another. They begin with its
defaults. Optuna's tree-structured Parzen estimator (Bergstra et al. 2011) proposes the others. After a quarter of its
epochs, and again after three quarters, a trial goes on only if it is in the best third of those that got so far (Li et
al. 2020, as optuna has it: without waiting for the others).
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from fastmf.errors import FastMFError, ParameterError
from fastmf.model.history import Epoch, Measure
from fastmf.solvers import SOLVERS, make
from fastmf.solvers.base import Solver
from fastmf.training.fit import train
from fastmf.training.plan import Data, Plan, require_room

# The values tried of a weight: from a sixth of the default to six times it, in 24 steps each way, rounded to two
# digits. The values tried of k: these and their doubles.
SPAN, STEPS = 6.0, 24
FEWEST_K = (8, 12)

# At a quarter of the epochs, settings are nearly in their final order: on ml-latest-small the ranks correlate by .96
# for ALS, .9 for SGD and .97 for implicit; after the first epoch by .8 for ALS, and for implicit not at all.
FIRST_RUNG, REDUCTION = 4, 3
RANDOM_TRIALS = 5  # of each solver, before there is something to learn from

PROPOSALS = 100  # in a row that have been tried already: then there is nothing left to try

SAMPLER_SEEDS = 2**32  # NumPy's RandomState takes none beyond


class Space(NamedTuple):
    """Where to look for a solver's settings: those that are fixed, the values to choose from, and the first trial."""

    solver: str
    fixed: dict[str, Any]
    values: dict[str, list[Any]]
    start: Solver


def space_of(name: str, max_k: int, fixed: dict[str, Any]) -> Space:
    """Return where to look for the settings of a solver, k at most ``max_k``."""
    usual, values = make(name, **fixed).settings, {}
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
    return Space(name, fixed, values, make(name, **fixed, **start))


class _Pruned(Exception):  # noqa: N818  nothing is wrong
    """Ends a trial that has fallen behind."""


class Outcome(NamedTuple):
    """How a trial ended, the epochs it ran, and why it failed."""

    state: str
    history: list[Epoch]
    failure: BaseException | None


class Study:
    """The trials of one solver. Optuna proposes places in the lists of values, and looks for the least cost."""

    def __init__(self, space: Space, optuna: Any, seed: int) -> None:
        self.space, self.measure, self.states = space, space.start.measure, optuna.trial.TrialState
        self.proposed: set[tuple[int, ...]] = set()
        start = space.start.settings
        rung = max(space.start.epochs // FIRST_RUNG, 1)
        self.study = optuna.create_study(
            sampler=optuna.samplers.TPESampler(seed=seed % SAMPLER_SEEDS, n_startup_trials=RANDOM_TRIALS),
            pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=rung, reduction_factor=REDUCTION),
        )
        self.study.enqueue_trial({name: values.index(start[name]) for name, values in space.values.items()})

    def proposal(self) -> tuple[Any, dict[str, Any]] | None:
        """Return optuna's next trial and its settings; None if everything it proposes has been tried."""
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

    def run(self, asked: Any, settings: dict[str, Any], data: Data, plan: Plan) -> Outcome:
        """Train with the proposed settings, and tell optuna the result."""
        history: list[Epoch] = []
        state, failure = "complete", None
        try:
            solver = make(self.space.solver, **settings)
            watch = _watch(asked, history, solver.epochs, self.measure)
            require_room(solver, plan.device, plan.memory_limit, data)
            train(replace(plan, solver=solver), data, watch)
        except _Pruned:
            state = "pruned"
        except (FastMFError, MemoryError) as error:
            state, failure = "failed", error.with_traceback(None)  # its traceback would keep the factors alive
        value = _least(history, self.measure) if state == "complete" else None
        told = {"complete": self.states.COMPLETE, "pruned": self.states.PRUNED, "failed": self.states.FAIL}
        self.study.tell(asked, value, state=told[state])
        return Outcome(state, history, failure)


def _watch(asked: Any, history: list[Epoch], epochs: int, measure: Measure) -> Callable[[Epoch], None]:
    """Return a callback that keeps the epochs and ends the trial if optuna says so."""

    def watch(epoch: Epoch) -> None:
        history.append(epoch)
        if epoch.number < epochs:
            asked.report(_least(history, measure), epoch.number)
            if asked.should_prune():
                raise _Pruned

    return watch


def _least(history: list[Epoch], measure: Measure) -> float:
    return min(map(measure.cost, history))


def require_optuna() -> Any:
    """Import optuna; raise a ParameterError if it is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise ParameterError("tuning needs optuna, which is not installed: pip install 'fastmf[tune]'") from error
    return optuna


@contextlib.contextmanager
def quiet_optuna() -> Iterator[Any]:
    """Import optuna and silence its log within the block; a caller's own studies log as before."""
    optuna = require_optuna()
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield optuna
    finally:
        optuna.logging.set_verbosity(before)
