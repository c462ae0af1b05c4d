"""The search behind tuning: which settings of a solver are tried, and trials that optuna proposes and prunes.

Each solver has its own trials, since an epoch of one says little about an epoch of another. The first trial has the
solver's defaults. Optuna's tree-structured Parzen estimator (Bergstra et al. 2011) proposes the other trials. After a
quarter of its epochs, and again after three quarters, a trial continues only if it is in the best third of the trials
that got that far (Li et al. 2020, as implemented in optuna: without waiting for the others).
"""

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from fastmf.errors import FastMFError, ParameterError
from fastmf.model.history import Epoch
from fastmf.solvers import SOLVERS, make
from fastmf.solvers.base import Solver
from fastmf.training.fit import LOST, train
from fastmf.training.plan import Plan
from fastmf.training.room import Data, require_room

# Values of a weight: from a sixth of its default to six times its default, in 24 steps each way, rounded to two digits.
SPAN, STEPS = 6.0, 24
FEWEST_K = (8, 12)  # values of k: these two, and each doubled repeatedly

# At a quarter of the epochs, settings are nearly in their final order: on ml-latest-small rankings then and at the end
# correlate at .96 for ALS, .9 for SGD and .97 for implicit; after one epoch, .8 for ALS and not at all for implicit.
FIRST_RUNG, REDUCTION = 4, 3
RANDOM_TRIALS = 5  # of each solver, before optuna has enough to learn from

PROPOSALS = 100  # after so many in a row that have been tried already, nothing is left to try

SAMPLER_SEEDS = 2**32  # NumPy's RandomState takes only seeds below this


class Space(NamedTuple):
    """The settings of a solver to search: those that are fixed, the values of the others, and the first trial."""

    solver: str
    fixed: dict[str, Any]
    values: dict[str, list[Any]]
    start: Solver


def space_of(name: str, max_k: int, fixed: dict[str, Any], featured: bool = False) -> Space:
    """Return the settings of a solver to search, with k at most ``max_k``; ``featured``: there are side features."""
    usual, values = make(name, **fixed).settings, {}
    start: dict[str, Any] = {}
    if "k" not in fixed:
        start["k"] = min(usual["k"], max_k)
        doubled = {fewest << times for fewest in FEWEST_K for times in range(max_k.bit_length())}
        values["k"] = sorted({k for k in doubled if k <= max_k} | {start["k"]})
    kind = SOLVERS[name]
    for weight in kind.tuned + (kind.tuned_with_features if featured else ()):
        if weight not in fixed and usual[weight]:
            start[weight] = usual[weight]
            around = (usual[weight] * SPAN ** (step / STEPS) for step in range(-STEPS, STEPS + 1))
            values[weight] = sorted({float(f"{value:.2g}") for value in around} | {usual[weight]})
    return Space(name, fixed, values, make(name, **fixed, **start))


class _Pruned(Exception):  # noqa: N818  nothing is wrong
    """Ends a trial that has fallen behind."""


Outcome = tuple[str, list[Epoch], BaseException | None]  # how a trial ended, the epochs it ran, why it failed


class Study:
    """The trials of one solver. Optuna proposes positions in the lists of values, and minimises the cost."""

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
        solver = make(self.space.solver, **settings)

        def lowest_cost() -> float:
            return min(map(self.measure.cost, history))

        def watch(epoch: Epoch) -> None:
            history.append(epoch)
            if epoch.number < solver.epochs:
                asked.report(lowest_cost(), epoch.number)
                if asked.should_prune():
                    raise _Pruned

        try:
            require_room(solver, plan.device, plan.memory_limit, data)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", LOST)  # some trials do: their figure says how good they are
                train(replace(plan, solver=solver, choice=False), data, watch)
        except _Pruned:
            self.study.tell(asked, state=self.states.PRUNED)
            return "pruned", history, None
        except (FastMFError, MemoryError) as error:
            self.study.tell(asked, state=self.states.FAIL)
            return "failed", history, error.with_traceback(None)  # its traceback would keep the factors alive
        self.study.tell(asked, lowest_cost())
        return "complete", history, None


def require_optuna() -> Any:
    """Import optuna; raise a ParameterError if it is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise ParameterError(
            "tuning needs optuna, which is not installed: pip install optuna (fastmf's extra 'tune')"
        ) from error
    return optuna


@contextlib.contextmanager
def quiet_optuna() -> Iterator[Any]:
    """Import optuna and silence its log within the block; afterwards it logs as before."""
    optuna = require_optuna()
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield optuna
    finally:
        optuna.logging.set_verbosity(before)
