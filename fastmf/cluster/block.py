"""What workers compute: pure functions of blocks of ratings and pieces of the tables of factors.

A piece is a side's rows of one block. It is written to the storage by the function that makes it, and loaded again for
what follows, so that a piece that is lost with a worker is read, not computed.
"""

import threading
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from fastmf import kernels
from fastmf.cluster.load import Scaling
from fastmf.data.standardise import standardised
from fastmf.data.storage import Storage
from fastmf.kernels.bias import BIAS, bias_tasks
from fastmf.kernels.residual import ERRORS
from fastmf.kernels.types import Compressed, Known, Pairs, Penalty, Scale, Side, nothing_known
from fastmf.model.baseline import REG
from fastmf.runtime.device import Device, resolve
from fastmf.runtime.launch import launch, results
from fastmf.solvers.base import ExactOrCG

_at_work = threading.Lock()  # one block at a time: its kernel uses all threads of the worker


class Block(NamedTuple):
    """A block of one side's rows in memory.

    entries : its ratings; columns are places among the rows of the other side that the block needs. sections : bounds
    of the block's sections, from 0.
    """

    entries: Compressed
    sections: np.ndarray


def load_block(storage: Storage, name: str, sections: np.ndarray, scaling: Scaling) -> Block:
    """Read a block, standardised."""
    rows, needs = storage.load(name), storage.load(f"{name}.needs")
    values = standardised(rows["values"], *scaling[:2])
    weights = None if "weights" not in rows else np.array(rows["weights"])
    if weights is not None and scaling.weights is not None:
        weights = scaling.weights.scaled(weights)
    entries = Compressed(np.array(rows["indptr"]), np.array(needs["places"]), values, weights)
    return Block(entries, sections - sections[0])


def save_piece(storage: Storage, name: str, piece: Side) -> None:
    """Write a piece."""
    storage.save(name, factors=piece.factors, bias=piece.bias)


def load_piece(storage: Storage, name: str) -> Side:
    """Read a piece."""
    arrays = storage.load(name)
    factors = kernels.vectors.aligned(*arrays["factors"].shape)
    factors[:] = arrays["factors"]
    return Side(factors, np.array(arrays["bias"]))


def start_pieces(
    storage: Storage,
    counts: np.ndarray | None,
    bounds: np.ndarray,
    k: int,
    sigma: float,
    seed: int,
    names: Sequence[str],
) -> None:
    """Write the pieces that a side starts from: those of :func:`fastmf.solvers.base.draw`, or zeros without sigma."""
    rng = np.random.default_rng(seed)
    for name, (first, last) in zip(names, pairwise(bounds), strict=True):
        factors = kernels.vectors.aligned(int(last - first), k)
        if counts is not None:
            rng.standard_normal(out=factors, dtype=np.float32)
            factors *= np.float32(sigma)
            factors[counts[first:last] == 0] = 0
        save_piece(storage, name, Side(factors, np.zeros(len(factors), np.float32)))


def pick(piece: Side, storage: Storage, needs: str, block: int) -> Side:
    """Return the rows of a piece that a block needs."""
    rows = storage.load(needs)[f"rows{block}"]
    return Side(piece.factors[rows], piece.bias[rows])


def whole(piece: Side) -> Side:
    """Return a piece as it is."""
    return piece


def gather(*picked: Side) -> Side:
    """Join the rows that a block needs, padded to whole vectors."""
    factors = np.concatenate([each.factors for each in picked])
    table = kernels.vectors.aligned(len(factors), kernels.vectors.whole(factors.shape[1]))
    table[:, : factors.shape[1]] = factors
    return Side(table, np.concatenate([each.bias for each in picked]))


def extrapolated(now: Side, before: Side, momentum: float) -> Side:
    """Extrapolate rows along their last change; see :func:`fastmf.kernels.als.extrapolate_numpy`."""
    found = []
    for new, old in zip(now, before, strict=True):
        ahead = kernels.vectors.aligned(*new.shape)
        np.subtract(new, old, out=ahead)
        ahead *= np.float32(momentum)
        ahead += new
        found.append(ahead)
    return Side(*found)


def solve(
    block: Block,
    own: Side,
    other: Side,
    before: Side | None,
    momentum: float,
    solver: ExactOrCG,
    penalty: Penalty,
    base: np.ndarray | None,
    storage: Storage,
    name: str,
) -> int:
    """Solve a block's rows with the rows of the other side fixed, and write them; return how many were singular.

    With ``before``, the other side is extrapolated. ``base`` is what all rows' equations share, or None.
    """
    with _at_work:
        own = Side(_copied(own.factors), own.bias.copy())
        if before is not None:
            other = extrapolated(other, before, momentum)
        known: Known = nothing_known(solver.k)
        known = known if base is None else known._replace(base=base)
        singular = solver.solve(device(), solver.tasks(block.entries.indptr), block.entries, own, other, penalty, known)
        save_piece(storage, name, own)
    return singular


def errors(block: Block, own: Side, other: Side, scale: Scale) -> np.ndarray:
    """Return the sums of squared and of absolute errors of a block of users, a row for each section."""
    indptr, items, values, _ = block.entries
    users = np.repeat(np.arange(len(indptr) - 1, dtype=np.int32), np.diff(indptr))
    factors = other.factors[:, : own.factors.shape[1]]
    with _at_work:
        given = Pairs(users, items), values, own, Side(np.ascontiguousarray(factors), other.bias), scale
        found = results(ERRORS, device(), indptr[block.sections], *given)
    return np.empty((0, 2)) if found is None else found


def grams(piece: Side, sections: np.ndarray) -> np.ndarray:
    """Return sum x x' over each section of a piece, (n_sections, k, k) float64."""
    table = kernels.vectors.padded(piece).factors
    with _at_work:
        found = results(kernels.gram.GRAM, device(), sections - sections[0], table, piece.factors.shape[1])
    return np.empty((0, 0, 0)) if found is None else found


def base_of(all_pairs: float, *found: np.ndarray) -> np.ndarray:
    """Return the term that all rows' equations share, given the Gram matrices of all sections in order."""
    return np.asarray((all_pairs * np.concatenate(found).sum(axis=0)).astype(np.float32))


def solve_biases(block: Block, other: Side, storage: Storage, name: str) -> None:
    """Solve the biases of a block's rows without factors, and write them; see :mod:`fastmf.model.baseline`."""
    out = np.zeros(len(block.entries.indptr) - 1, np.float32)
    with _at_work:
        launch(BIAS, device(), bias_tasks(block.entries.indptr), block.entries, other.bias, REG, out)
    save_piece(storage, name, Side(np.empty((len(out), 0), np.float32), out))


def device() -> Device:
    """Return the CPU, with the threads of this worker."""
    from distributed import get_worker

    return resolve("cpu", min(get_worker().state.nthreads, resolve("cpu").threads))


def _copied(factors: np.ndarray) -> np.ndarray:
    out = kernels.vectors.aligned(*factors.shape)
    out[:] = factors
    return out


def joined(storage: Storage, names: Sequence[str]) -> Side:
    """Return the table that pieces are of."""
    pieces = [storage.load(name) for name in names]
    return Side(*(np.concatenate([piece[field] for piece in pieces]) for field in Side._fields))
