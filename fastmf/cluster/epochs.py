"""Epochs on a cluster: half-sweeps whose blocks are solved by their owners, and what is sent between them.

After a side has been solved, each block of the other side gets the rows that it needs, once. They serve the errors of
this epoch and the next half-sweep.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastmf.cluster import block as compute
from fastmf.cluster.data import Data
from fastmf.cluster.load import Scaling
from fastmf.cluster.workers import Workers
from fastmf.data.storage import Storage
from fastmf.kernels.types import Penalty, Scale
from fastmf.solvers.als import ALS, INIT_SIGMA
from fastmf.solvers.base import ExactOrCG, Solver
from fastmf.solvers.implicit import ImplicitALS

OTHER = {"user": "item", "item": "user"}
UNCLIPPED = Scale(0.0, -np.inf, np.inf)


class Sides:
    """The tables of both sides, in pieces, and the blocks that solve them.

    Parameters
    ----------
    data : the ratings. scaling : what to subtract from them, and to divide by.
    name : of the pieces in the storage: ``<name>.user0.<epoch>`` and so on.
    width : bytes of a row that is sent.
    """

    def __init__(
        self, workers: Workers, storage: Storage, data: Data, scaling: Scaling, name: str, width: int, epoch: int
    ) -> None:
        self.workers, self.storage, self.data, self.name, self.width = workers, storage, data, name, width
        self.scaling, self.epoch = scaling, epoch
        self.n_blocks = {side: data.n_blocks(side) for side in OTHER}
        self.blocks: dict[str, list[Any]] = {}
        self.pieces: dict[str, list[Any]] = {}
        self.rows: dict[str, list[Any]] = {}  # of the other side, by the side whose blocks need them
        self.before: list[Any] = []  # what users' blocks had of the items before their last change
        self.sent = 0  # bytes
        for side in OTHER:
            given = [(storage, f"{data.name}.{side}{b}", data.sections_of(side, b)) for b in self._each(side)]
            self.blocks[side] = [self._on(side, b, compute.load_block, *args, scaling) for b, args in enumerate(given)]
            self.load(side, epoch)

    def _each(self, side: str) -> range:
        return range(self.n_blocks[side])

    def _on(self, side: str, place: int, do: Any, *args: Any) -> Any:
        """Begin a task on the owner of a block."""
        return self.workers.submit(do, *args, on=self.workers.owner(place, self.n_blocks[side]))

    def _passing(self, side: str, place: int, do: Any, *args: Any) -> Any:
        """Begin a task whose result is only for tasks that begin while the future is referred to."""
        future = self._on(side, place, do, *args)
        self.workers.forget(future)
        return future

    def piece(self, side: str, place: int, epoch: int) -> str:
        """Return the name of a piece."""
        return f"{self.name}.{side}{place}.{epoch}"

    def names(self, side: str, epoch: int) -> list[str]:
        """Return the names of a side's pieces."""
        return [self.piece(side, place, epoch) for place in self._each(side)]

    def load(self, side: str, epoch: int) -> None:
        """Load a side's pieces, and let the last ones go."""
        self.workers.forget(*self.pieces.get(side, []))
        names = self.names(side, epoch)
        self.pieces[side] = [self._on(side, b, compute.load_piece, self.storage, name) for b, name in enumerate(names)]

    def send(self, side: str) -> list[Any]:
        """Send the blocks of a side the rows of the other that they need. Returns those that they had."""
        before, other, made = self.rows.get(side, []), OTHER[side], dict[Any, Any]()
        self.rows[side] = [self._gathered(side, block, other, made) for block in self._each(side)]
        self.sent += rows_sent_to(side, self.data, self.workers) * self.width
        return before

    def _gathered(self, side: str, block: int, other: str, made: dict[Any, Any]) -> Any:
        """Begin to gather what a block is sent; blocks of one worker that are sent the same share it.

        Other workers get pieces under another key: else Dask, which drops copies, may drop that of the owner.
        """
        to, sent, parts = self.workers.owner(block, self.n_blocks[side]), self.data.sent[side], list[Any]()
        for place, piece in enumerate(self.pieces[other]):
            if not sent.whole[block, place]:
                needs = f"{self.data.name}.{side}{block}.needs"
                parts.append(self._passing(other, place, compute.pick, piece, self.storage, needs, place))
            elif self.workers.owner(place, self.n_blocks[other]) == to:
                parts.append(piece)
            else:
                if (to, place) not in made:
                    made[to, place] = self._passing(other, place, compute.whole, piece)
                parts.append(made[to, place])
        same = to, *(part.key for part in parts)
        if same not in made:
            made[same] = self._on(side, block, compute.gather, *parts)
        return made[same]

    def solve(
        self,
        side: str,
        solver: ExactOrCG,
        penalty: Penalty,
        before: Sequence[Any] | None = None,
        momentum: float = 0.0,
        base: Any = None,
    ) -> int:
        """Solve a side for the next epoch, and load its pieces; return the number of singular rows."""
        names, tasks = self.names(side, self.epoch + 1), []
        for b in self._each(side):
            last = None if before is None else before[b]
            given = self.blocks[side][b], self.pieces[side][b], self.rows[side][b], last, momentum, solver, penalty
            tasks.append(self._on(side, b, compute.solve, *given, base, self.storage, names[b]))
        singular = sum(self.workers.results(tasks))
        self.load(side, self.epoch + 1)
        return int(singular)

    def base(self, side: str, all_pairs: float) -> Any:
        """Sum the products of a side's factors over all its rows; return a future of what equations share."""
        if not all_pairs:
            return None
        found = [
            self._passing(side, b, compute.grams, self.pieces[side][b], self.data.sections_of(side, b))
            for b in self._each(side)
        ]
        return self.workers.submit(compute.base_of, all_pairs, *found)

    def train_rmse(self) -> float:
        """Return the RMSE of unclipped predictions of all ratings."""
        tasks = [
            self._on("user", b, compute.errors, self.blocks["user"][b], self.pieces["user"][b], rows, UNCLIPPED)
            for b, rows in enumerate(self.rows["user"])
        ]
        squared, _ = np.concatenate(self.workers.results(tasks)).sum(axis=0)
        return float(np.sqrt(squared / len(self.data)))

    def biases(self, sweeps: int) -> None:
        """Solve biases without factors, users then items, so many times; see :mod:`fastmf.model.baseline`."""
        for sweep in range(1, sweeps + 1):
            for side in OTHER:
                self.workers.forget(*self.send(side))
                tasks = [
                    self._on(side, b, compute.solve_biases, self.blocks[side][b], rows, self.storage, name)
                    for b, (rows, name) in enumerate(zip(self.rows[side], self.names(side, sweep), strict=True))
                ]
                self.workers.results(tasks)
                self.load(side, sweep)

    def forget(self) -> None:
        """Let everything go, once it is there: a task that is let go while it runs is an entry in a worker's log."""
        for found in (self.blocks, self.pieces, self.rows):
            futures = [future for each in found.values() for future in each]
            self.workers.settle(futures)
            self.workers.forget(*futures)
            found.clear()


def rows_sent_to(side: str, data: Data, workers: Workers) -> int:
    """Return the number of rows that the blocks of a side are sent by other workers.

    A worker is sent what all of its blocks need whole only once.
    """
    other, sent = OTHER[side], data.sent[side]
    own, theirs = (
        [workers.owner(b, data.n_blocks(each)) for b in range(data.n_blocks(each))] for each in (side, other)
    )
    whole = {(place, own[b]) for b, place in zip(*np.nonzero(sent.whole), strict=True) if theirs[place] != own[b]}
    needed = [sent.needed[b, p] for b, p in zip(*np.nonzero(~sent.whole), strict=True) if theirs[p] != own[b]]
    return int(sum(np.diff(data.bounds[other])[place] for place, _ in whole) + sum(needed))


def begin_als(sides: Sides) -> None:
    """Send users' blocks the rows of the items, and those before their last change."""
    if sides.epoch:
        sides.load("item", sides.epoch - 1)
    sides.send("user")
    sides.before = sides.rows["user"]
    if sides.epoch:
        sides.load("item", sides.epoch)
        sides.send("user")


def als_epoch(sides: Sides, solver: Any, data: Data) -> int:
    """Run an epoch of :class:`fastmf.ALS`; return the number of singular rows."""
    singular = sides.solve("user", solver, solver.penalty, sides.before, solver.momentum)
    sides.workers.forget(*sides.send("item"))
    singular += sides.solve("item", solver, solver.penalty)
    sides.epoch += 1
    now = sides.send("user")
    sides.workers.forget(*(each for each in sides.before if each not in now))
    sides.before = now
    return singular


def implicit_epoch(sides: Sides, solver: Any, data: Data) -> int:
    """Run an epoch of :class:`fastmf.ImplicitALS`; return the number of singular rows."""
    singular, rules = 0, {"user": solver.user_rule(data), "item": solver.item_rule(data)}
    for side in ("item", "user"):
        rule, other = rules[side], OTHER[side]
        base = sides.base(other, rule.all_pairs)
        singular += sides.solve(side, solver, rule.penalty, base=base)
        sides.workers.forget(*([] if base is None else [base]), *sides.send(other))
    sides.epoch += 1
    return singular


def begin_implicit(sides: Sides) -> None:
    """Send items' blocks the rows of the users."""
    sides.send("item")


# By the class of the solver: which side is drawn at the start, with what deviation; what comes before the first epoch
# of a run; and an epoch.
STARTS: dict[type[Solver], Callable[[Any], tuple[str, float]]] = {
    ALS: lambda solver: ("item", INIT_SIGMA),
    ImplicitALS: lambda solver: ("user", solver.length / np.sqrt(solver.k)),
}
BEGINNINGS: dict[type[Solver], Callable[[Sides], None]] = {ALS: begin_als, ImplicitALS: begin_implicit}
RUNS: dict[type[Solver], Callable[[Sides, Any, Data], int]] = {ALS: als_epoch, ImplicitALS: implicit_epoch}


def kind_of(solver: Solver) -> type[Solver] | None:
    """Return the class above by which a solver runs on a cluster; None if it does not."""
    return next((kind for kind in STARTS if isinstance(solver, kind)), None)
