"""A fit on a Dask cluster: the model that :func:`fastmf.fit` makes in memory, bit for bit.

Workers read, shuffle and keep the ratings, in blocks of whole sections of users and of items. Each block is solved by
its owner, with the rows of the other side that it needs. What has been made is written to a folder that all see, so
that a block that is lost with a worker is made again elsewhere. This process adds up, decides, and makes the model; it
holds no ratings but what users have seen, which is part of the model.
"""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fastmf.cluster import block as compute
from fastmf.cluster import epochs, held, load
from fastmf.cluster.blocks import BLOCKS_PER_WORKER
from fastmf.cluster.data import counts_of, in_blocks, kept, read, scale_of_weights, scaling_of
from fastmf.cluster.epochs import Sides
from fastmf.cluster.load import Keep, Scaling
from fastmf.cluster.remote import Remote
from fastmf.cluster.workers import Workers, connected
from fastmf.data.files import called, is_location
from fastmf.data.kept import origin_of
from fastmf.data.rows import Asked
from fastmf.data.storage import Storage
from fastmf.data.weights import WeightScale
from fastmf.errors import DataError, ParameterError, counted
from fastmf.kernels.types import Scale
from fastmf.model.baseline import SWEEPS
from fastmf.model.history import Epoch
from fastmf.model.learned import Baseline, Choice
from fastmf.model.model import Model
from fastmf.runtime.device import Device, resolve
from fastmf.runtime.memory import size as size_of
from fastmf.solvers.factors import Factors
from fastmf.training.checkpoint import Checkpoint, has_checkpoint
from fastmf.training.choice import EPOCHS, Chooser
from fastmf.training.fit import model_of, warn_of_lost_factors
from fastmf.training.loop import Run
from fastmf.training.objective import warn_of_coarseness
from fastmf.training.plan import Plan

FOLDER = "cluster"  # in that of a checkpoint
SOURCE = "source"
BLOCKS, FACTORS = "blocks", "factors"  # how the names begin of what a fit can go on from

Tell = Callable[[str], object]


def fit_on_cluster(
    plan: Plan,
    cluster: Any,
    place: str | os.PathLike[str] | None = None,
    callback: Callable[[Epoch], object] | None = None,
    tell: Tell | None = None,
) -> Model:
    """Fit as a plan says, on the workers of a cluster; see :func:`fastmf.cluster.workers.connected`.

    ``place`` is a folder, or a URI, that all workers see. ``tell`` is called with a line about what was read, and about
    what is sent in an epoch.
    """
    require_able(plan)
    with connected(cluster) as workers, _stored(plan, place, workers) as storage:
        fit = Fit(plan, workers, storage)
        if tell is not None:
            for line in fit.described():
                tell(line)
        return fit.model(callback)


def require_able(plan: Plan) -> None:
    """Raise a ParameterError for what a cluster cannot do."""
    if epochs.kind_of(plan.solver) is None:
        able = " or ".join(each.name for each in epochs.STARTS)
        raise ParameterError(f"solver {plan.solver.name!r} does not run on a cluster: use {able}")
    given = {
        "init": plan.init is not None,
        "a table of features": bool(plan.features),
        "blend": plan.blend,
        "a checkpoint of a frame": plan.checkpoint is not None and not is_location(plan.source),
        "half_life": plan.weighing.get("half_life") is not None,
        "a core (min_user_ratings, min_item_ratings)": plan.core is not None,
        "spill": plan.spilling is not None,
        "negative_to": plan.solver.negative_to is not None,
        f"device {plan.device.name}": plan.device.name != "cpu",
    }
    unable = next((name for name, there in given.items() if there), None)
    if unable is not None:
        raise ParameterError(f"{unable} does not go with a cluster: leave it out, or fit on one machine")


@contextlib.contextmanager
def _stored(plan: Plan, place: str | os.PathLike[str] | None, workers: Workers) -> Iterator[Storage]:
    """Yield what all workers see; at the end, leave there what a fit can go on from, if there is a checkpoint."""
    if place is not None:
        where = str(place) if "://" in str(place) else str(Path(place).absolute())
        folder = f"{where}/{workers.run if plan.checkpoint is None else FOLDER}"
    elif plan.checkpoint is not None:
        folder = str(Path(plan.checkpoint).absolute() / FOLDER)
    elif workers.are_here():
        folder = tempfile.mkdtemp(prefix="fastmf-")
    else:
        raise ParameterError(
            "the workers are on other machines: give a folder or a URI that all of them see, with --storage (storage=)"
        )
    storage = Storage(folder)
    try:
        yield storage
    finally:
        workers.leave()
        storage.clear(lambda name: plan.checkpoint is not None and name.startswith((BLOCKS, f"{FACTORS}.")))


class Fit:
    """A fit on some workers.

    It is what :class:`fastmf.training.loop.Run` and :func:`fastmf.training.fit.model_of` take for an objective; see
    :class:`fastmf.training.objective.Objective` for the attributes.
    """

    def __init__(self, plan: Plan, workers: Workers, storage: Storage) -> None:
        self.plan, self.workers, self.storage, self.solver = plan, workers, storage, plan.solver
        how = dict(plan.how)
        self.drop = how.pop("bad_rows", "error") == "drop"
        roles = {role: how.pop(role, None) for role in ("user", "item", "rating")}
        roles["weight"] = plan.weighing.get("weight")
        names = {"positive_from": "counting", **{name: name for name in ("duplicates", "unrated", "keep_values")}}
        given = {names[name]: how.pop(name) for name in names if name in how}
        text = next((name for name, value in how.items() if value), None)
        if text is not None:
            raise ParameterError(f"{text} is for text, and workers read Parquet: leave it out")
        source = plan.source
        if hasattr(source, "to_parquet") and hasattr(source, "npartitions"):  # a frame of Dask
            source = f"{storage.place}/{SOURCE}"
            with workers.client.as_current():
                plan.source.to_parquet(source, write_index=False)
        asked = Asked(called(plan.source, "the frame"), roles, **given)
        self.read = read(workers, storage, source, asked, self.drop, {})
        self.n_blocks, self.counts = self._number_of_blocks(), dict[str, int]()
        self.held: held.Held | None = None
        self.given = "read" if plan.validation is None else self._held_out()
        self._divide()
        self.remote = Remote(self.solver, workers, storage, self.ratings, self.scaling, FACTORS)

    def _number_of_blocks(self) -> int:
        """Return the number of blocks of a side: as a checkpoint has it, or for the workers that there are now."""
        resumed = self.plan.checkpoint is not None and has_checkpoint(self.plan.checkpoint)
        if not (resumed and self.storage.has(BLOCKS)):
            self.storage.save(BLOCKS, n=np.array([BLOCKS_PER_WORKER * len(self.workers.addresses)]))
        return int(self.storage.load(BLOCKS)["n"][0])

    def described(self) -> Iterator[str]:
        """Say what was read, how it is shared out, and what an epoch sends."""
        size = f"{counted(self.read.rows['used'], 'rating')} of {counted(len(self.read.item_ids), 'item')}"
        columns = ", ".join(dict.fromkeys(filter(None, self.read.columns)))
        what, n_users = called(self.plan.source, "the frame"), len(self.read.user_ids)
        yield f"{what}: {size} by {counted(n_users, 'user')} (columns {columns})"
        n = {side: self.ratings.n_blocks(side) for side in epochs.OTHER}
        blocks = f"{counted(n['user'], 'block')} of users and {n['item']:,} of items"
        sent = size_of(self.remote.bytes_an_epoch())
        yield f"{counted(len(self.workers.addresses), 'worker')}, {blocks}; an epoch sends {sent} between workers"

    def _held_out(self) -> str:
        """Hold validation ratings out, or read them; return the name of the training ratings."""
        storage, validation, n_ranges = self.storage, self.plan.validation, self.read.n_ranges
        if not isinstance(validation, float | int):
            how = {**self.plan.how, "text": True}
            found = self.workers.map(held.read_held, [(storage, validation, how)])[0]
            self.held = held.Held(*found)
            return "read"
        counts = [int(storage.load(f"read.{place}")["counts"].sum()) for place in range(n_ranges)]
        n, firsts = sum(counts), np.append(0, np.cumsum(counts))
        n_held = round(n * validation)
        if not 0 < n_held < n:
            raise ParameterError(f"a fraction of {validation} of {n:,} ratings leaves one side empty: give another")
        self.workers.map(load.hold_out, [(storage, n, n_held, self.solver.seed)])
        for name, is_held in (("rest", False), ("held", True)):
            keeps = [Keep(held=is_held, first=int(firsts[place])) for place in range(n_ranges)]
            kept(self.workers, storage, "read", name, keeps)
        self.workers.map(held.join_held, [(storage, "held", self.read.n_ranges)])
        self.held = held.Held(n_held, {})
        return "rest"

    def _divide(self) -> None:
        """Observe the ratings that count, and cut them into blocks."""
        observed, least = self.given, self.solver.positive_from
        if least is not None:
            observed = "observed"
            keeps = [Keep(least=least, ones=True)] * self.read.n_ranges
            kept(self.workers, self.storage, self.given, observed, keeps)
        self.ratings = self.interests = in_blocks(self.workers, self.storage, observed, self.read, self.n_blocks)
        self.scaling, self.range = Scaling(0.0, 1.0), (0.0, 1.0)
        if self.solver.implicit:
            self.counts["observed"] = len(self.ratings)
            given = self.workers, self.storage, self.ratings, self.read.ranges
            self.scaling = Scaling(0.0, 1.0, scale_of_weights(*given, self.solver.weight_scale))
            if self.held is not None:
                wanted = self.storage, self.given, self.read.ranges, least, self.ratings.user_counts
                if not self.workers.map(held.find_wanted, [wanted])[0]:
                    raise DataError("no validation user has training ratings: give other validation ratings, or none")
            return
        self.scaling = scaling_of(self.workers, self.storage, self.ratings, self.read.ranges)
        self.range = self.ratings.range
        warn_of_coarseness(self.range, self.scaling.scale)
        if self.held is not None:
            self.workers.map(held.standardise_held, [(self.storage, self.scaling)])

    @property
    def mean(self) -> float:
        """The mean of the training ratings."""
        return self.scaling.mean

    @property
    def weight_scale(self) -> WeightScale | None:
        """How the weights of implicit feedback are scaled."""
        return self.scaling.weights

    @property
    def scale(self) -> float:
        """The standard deviation of the training ratings."""
        return self.scaling.scale

    @property
    def figure(self) -> str:
        """What the training figure is."""
        return "the distance of observed pairs' scores from 1" if self.solver.implicit else "the RMSE of the ratings"

    def missed(self, train_rmse: float) -> str:
        """Say how far the factors are from what they are trained on."""
        return f"{self.figure} is {train_rmse:.3g}"

    def furthest(self) -> str:
        """Say nothing of the rating furthest from the mean: nobody here knows whose it is."""
        return ""

    def train_rmse(self, factors: Factors, device: Device) -> float:
        """Return the RMSE of unclipped predictions of what is trained on, on the standardised scale."""
        return self.remote.train_rmse()

    def validate(self, factors: Factors, device: Device) -> dict[str, float]:
        """Return RMSE and MAE of the validation ratings, on the rating scale, or the nDCG of lists."""
        if self.held is None:
            return {}
        epoch = int(factors.users.factors[0, 0])
        names = self.remote.names("user", epoch), self.remote.names("item", epoch)
        if self.solver.implicit:
            given = self.storage, names, self.ratings.item_counts
            return {"validation_ndcg": self.workers.map(held.measure_lists, [given])[0]}
        clipped = Scale(0.0, *((limit - self.mean) / self.scale for limit in self.range))
        squared, absolute = self.workers.map(held.measure_errors, [(self.storage, names, clipped)])[0]
        rmse, mae = float(np.sqrt(squared / self.held.n)), float(absolute / self.held.n)
        return {"validation_rmse": rmse * self.scale, "validation_mae": mae * self.scale}

    @property
    def seen(self) -> tuple[np.ndarray, np.ndarray]:
        """The items that each user has rated: (indptr, indices)."""
        ranges = [f"{self.given}.{place}" for place in range(self.read.n_ranges)]
        indptr = np.append(0, np.cumsum(counts_of(self.storage, self.given, self.read.n_ranges)))
        return indptr, np.concatenate([self.storage.load(name)["items"] for name in ranges])

    def baseline(self) -> Baseline | None:
        """Fit biases alone, on the rating scale."""
        if self.solver.implicit:
            return None
        given = self.workers, self.storage, self.ratings, self.scaling, "bias"
        biases = Remote(self.solver, *given)
        for side in epochs.OTHER:
            bounds = self.ratings.bounds[side]
            self.workers.map(compute.start_pieces, [(self.storage, None, bounds, 0, 0.0, 0, biases.names(side, 0))])
        sides = Sides(*given, 4, 0)
        sides.biases(SWEEPS)
        sides.forget()
        users, items = biases.factors(SWEEPS)[:2]
        return Baseline(users.bias * np.float32(self.scale), items.bias * np.float32(self.scale))

    def model(self, callback: Callable[[Epoch], object] | None) -> Model:
        """Train, and make the model."""
        plan = self.plan
        checkpoint = None
        if plan.checkpoint is not None:
            checkpoint = Checkpoint(plan.checkpoint, self._fingerprint(), plan.every)
        run = Run(self.remote, self, resolve("cpu"), plan.patience, checkpoint)  # type: ignore[arg-type]
        self.remote.kept = lambda: {run.best_epoch, len(run.history) // plan.every * plan.every}
        run.train(callback)
        factors = self.remote.factors(int(run.result().users.factors[0, 0]))
        self.remote.forget()
        rows = self.read.rows | ({} if self.held is None else self._rows_with(self.held))
        model = model_of(self, self.solver, factors, rows, plan.keep_seen)  # type: ignore[arg-type]
        model = replace(model, history=run.history, best_epoch=run.best_epoch)
        if self.solver.implicit:
            warn_of_lost_factors(model, self.solver)
        return replace(model, choice=self._choice()) if plan.choice else model

    def _rows_with(self, found: held.Held) -> dict[str, int]:
        """Return the counts of rows, those of validation ratings included."""
        first, used = self.read.rows, self.read.rows["used"] - (found.n if self.given == "rest" else 0)
        both = {name: first.get(name, 0) + found.rows.get(name, 0) for name in first | found.rows}
        return {**both, "used": used, "validation": found.n}

    def _choice(self) -> Choice:
        """Fit vectors to who has chosen what; see :func:`fastmf.training.choice.fit_choice`."""
        keeps = [Keep(scaling=self.scaling, ones=True)] * self.read.n_ranges
        kept(self.workers, self.storage, self.given, "chosen", keeps)
        picked = in_blocks(self.workers, self.storage, "chosen", self.read, self.n_blocks)
        solver = Chooser(k=self.solver.k, seed=self.solver.seed, epochs=EPOCHS, method="exact")
        chooser = Remote(solver, self.workers, self.storage, picked, Scaling(0.0, 1.0), "choice")
        for _ in chooser.run(picked, chooser.start(picked), resolve("cpu")):
            pass
        chooser.forget()
        factors, rule = chooser.factors(EPOCHS), solver.user_rule(picked)  # type: ignore[arg-type]
        items = factors.items.factors.copy()
        items[(self.ratings.item_counts > 0) & (picked.item_counts == 0)] = 0
        return Choice(factors.users.factors, items, np.array([rule.reg, rule.reg0, rule.all_pairs], np.float32))

    def _fingerprint(self) -> dict[str, Any]:
        """Return what identifies the fit: solver, settings, and the files of the ratings."""
        plan = self.plan
        how = {**plan.weighing, **plan.how}
        settings = {**self.solver.settings, "epochs": self.solver.epochs, "patience": plan.patience}
        data = {"ratings": origin_of(plan.source, how)}
        validation = plan.validation if isinstance(plan.validation, float | int | None) else str(plan.validation)
        return {"solver": self.solver.name, **settings, "device": "cluster", **data, "validation": validation}
