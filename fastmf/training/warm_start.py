"""Warm start: the rows of an earlier model, where they would be if it had been fitted to these ratings' scale.

Ids are matched by value. A row that the model does not know is folded in from its ratings: first users from the items
the model knows, then items from all users known by then.
"""

import os
import warnings
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from fastmf.data import csr, ids
from fastmf.data.ratings import Ratings
from fastmf.errors import ParameterError
from fastmf.kernels.types import Side
from fastmf.model.fold_in import known_entries
from fastmf.model.frame import Frame, frame_of
from fastmf.model.grow import rearranged, solved_into
from fastmf.model.learned import Expected, Links
from fastmf.model.model import Model
from fastmf.model.state import State
from fastmf.runtime.device import resolve
from fastmf.solvers.base import Solver
from fastmf.solvers.factors import Start


class Scaling(NamedTuple):
    """The mean and the deviation of the ratings to train on."""

    mean: float
    scale: float


def read_init(init: Any, solver: Solver) -> State | None:
    """Return the model to start from, or None for None; load it if it is given as a path.

    Raises
    ------
    ParameterError
        If it is no model, has another k, or is for another kind of feedback than the solver.
    OSError, ModelFormatError
        If there is no such file, or it is not a model.
    """
    if init is None:
        return None
    found = Model.load(init) if isinstance(init, str | os.PathLike) else init
    if not isinstance(found, State):
        raise ParameterError(f"init is {init!r}: give a model, or the path of its file")
    if found.k != solver.k:
        raise ParameterError(
            f"k is {solver.k:,}, but the model to start from has {found.k:,} factors: give --k {found.k} (k=), or"
            " leave out --init (init=)"
        )
    if found.implicit != solver.implicit:
        kinds = {True: "implicit feedback", False: "ratings"}
        raise ParameterError(
            f"solver {solver.name!r} is for {kinds[solver.implicit]}, but the model to start from is of"
            f" {kinds[found.implicit]} (solver {found.solver.get('name')!r}): give another --init (init=), or solver"
        )
    return found


def start_of(init: State, ratings: Ratings, to: Scaling) -> tuple[Start, dict[str, int]]:
    """Return where to start, and counts of the rows that the model knows and of those folded in.

    ``ratings`` are those to train on, before they are standardised by ``to``.

    Raises
    ------
    DataError
        If ids are of another kind than the model's.
    """
    state = replace(init, samples=None, choice=None, baseline=None, seen=None)
    counts = {}
    for side in ("user", "item"):
        row_ids = getattr(ratings, f"{side}_ids")
        source = state.known_users(row_ids) if side == "user" else state.known_items(row_ids)
        source = np.where(getattr(ratings, f"{side}_counts") > 0, source, -1)
        counts[f"init_{side}s"] = int(np.count_nonzero(source >= 0))
        state = rearranged(state, side, row_ids, source)
    for side in ("user", "item"):
        state, n = _folded_in(state, side, ratings)
        counts[f"folded_in_{side}s"] = n
    known = state.user_counts > 0, state.item_counts > 0
    return Start(*_rescaled(state, to), *known, *_frame_and_links(state, to), _expected(init, ratings, to)), counts


def _expected(init: State, ratings: Ratings, to: Scaling) -> dict[str, Expected]:
    """Return what the model has learned about features on another scale, in the order of the ratings' features.

    Features are matched by their names; the weights of those that the model does not have are zero.
    """
    ratio, found = np.float32(init.scale / to.scale), {}
    for side, unit in (("user", ratio), ("item", np.float32(1))):
        theirs, ours = getattr(init, f"{side}_features"), getattr(ratings, f"{side}_features")
        if theirs is not None and ours is not None:
            places = ours.encoding.places_in(theirs.encoding)
            lost = np.flatnonzero(theirs.encoding.places_in(ours.encoding) < 0)
            if len(lost):
                warnings.warn(
                    f"{len(lost):,} of {theirs.encoding.n_features:,} {side} features of the model to start from are"
                    f" not in the table, the first {theirs.encoding.names[int(lost[0])].as_py()!r}: what it learned of"
                    " them is lost",
                    stacklevel=5,
                )
            weights, intercept, bias_weights, bias_intercept = getattr(init, f"{side}_expected")
            there = (places >= 0).astype(np.float32)
            weights, bias_weights = weights[places] * there[:, None] * unit, bias_weights[places] * there * ratio
            found[side] = Expected(weights, intercept * unit, bias_weights, bias_intercept * ratio)
    return found


def _folded_in(state: State, side: str, ratings: Ratings) -> tuple[State, int]:
    """Solve the rows that have no counts, but ratings of rows that have; return how many there are."""
    name = f"{side}_counts"
    if getattr(state, f"{side}_rule") is None:
        return state, 0
    entries = known_entries(replace(state, weight_scale=None), ratings, side)  # their weights are scaled already
    chosen = (getattr(state, name) == 0) & (np.diff(entries.indptr) > 0)
    rows = np.flatnonzero(chosen)
    if not len(rows):
        return state, 0
    entries = csr.select(entries, chosen)
    grown = getattr(state, name).copy()
    grown[rows] = np.diff(entries.indptr)
    return replace(solved_into(state, side, rows, entries, resolve("cpu")), **{name: grown}), len(rows)


def _rescaled(state: State, to: Scaling) -> tuple[Side, Side]:
    """Return the sides whose standardised predictions are those of the model; the items' biases take the mean."""
    unit, warm = np.float32(1 / to.scale), state.item_counts > 0
    bias = (state.item_bias + np.float32(state.mean - to.mean) * warm) * unit
    return Side(state.user_factors * unit, state.user_bias * unit), Side(state.item_factors, bias)


def _frame_and_links(state: State, to: Scaling) -> tuple[Frame, Links | None]:
    """Return the model's frame and links on another scale: users take it, because predictions are products."""
    ratio, frame, links = state.scale / to.scale, frame_of(state), state.links
    moved = Frame(frame.user_origin * np.float32(ratio), frame.item_origin)
    if links is None:
        return moved, None
    return moved, links._replace(items=links.items * np.float32(ratio), origin=links.origin * np.float32(ratio))


def warn_of_known_pairs(init: State, validation: Ratings) -> None:
    """Warn of validation pairs that the model to start from has been fitted to."""
    if init.seen is None:
        return
    users = ids.lookup(init.arrow_ids("user"), validation.user_ids, "validation user")[validation.users]
    items = ids.lookup(init.arrow_ids("item"), validation.item_ids, "validation item")[validation.items]
    n = csr.count_common(init.seen, users, items, len(init.item_ids))
    if n:
        warnings.warn(
            f"the model to start from was fitted to {n:,} of {len(validation):,} validation pairs, which flatters"
            " the validation figures: hold out ratings that it has not seen",
            stacklevel=5,
        )
