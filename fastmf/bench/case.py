"""One case of the benchmark, measured in this process: one data set, one solver, one device.

The whole path (read, split, fit, errors) runs twice on a few hundred ratings: the second run is faster by the
compile time. Then it runs once on the data. The seconds of an epoch are those in the history of ``fit``.
"""

import importlib
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastmf.bench.machine import blas, limits, peak_memory
from fastmf.data.atomic import write_json
from fastmf.data.ratings import Ratings
from fastmf.data.write import write_parquet
from fastmf.errors import FastMFError
from fastmf.evaluation.evaluate import measure_errors
from fastmf.kernels.compile import ENABLED
from fastmf.model.history import Epoch
from fastmf.runtime.device import resolve
from fastmf.solvers import SOLVERS
from fastmf.solvers.base import Solver
from fastmf.training.fit import fit

HELD_OUT = 0.1
SEED = 0

# NumPy runs NUMPY_EPOCHS on up to FEW_RATINGS training ratings; on more, one epoch of ALS, or of SGD on a sample.
FEW_RATINGS = 200_000
NUMPY_EPOCHS = 3
SAMPLE = 200_000


def run_case(request: dict[str, Any]) -> None:
    """Measure one case, and write the result to ``request["answer"]``; print a line on stdout for each stage."""
    try:
        result = _measure_case(request)
    except (FastMFError, OSError) as error:
        result = {"error": type(error).__name__, "message": str(error)}
    write_json(result, request["answer"], overwrite=False)


def _measure_case(request: dict[str, Any]) -> dict[str, Any]:
    solver = SOLVERS[request["name"]](**request["settings"])
    pools = pin_blas(request["threads"])
    _tell("compiling")
    tiny = _write_tiny(Path(request["answer"]).parent)
    first, again = (_measure(tiny, solver.with_epochs(1), request)["seconds"] for _ in range(2))
    _tell("measuring")
    result = _measure(request["file"], solver, request)
    peak = peak_memory()  # before limits() takes memory for its own measurements
    where = resolve(request["device"], request["threads"])
    most = limits(resolve("cpu" if ENABLED else "numpy", where.threads) if where.on_host else where)
    n, seconds = result["training_ratings"], result["epoch_seconds_median"]
    flops = solver.operations(n, result["users"] + result["items"]) / seconds
    _tell(f"{seconds:.3g} s an epoch, {result.pop('seconds'):.3g} s in all")
    return {
        **result,
        "limits": most,
        "flops_per_second": flops,
        "share_of_peak": flops / most["flops_per_second"],
        "share_of_bandwidth": solver.traffic(n) / seconds / most["bytes_per_second"],
        "compile_seconds": max(first - again, 0.0),
        "peak_memory_bytes": peak,
        "blas": pools,
    }


def _tell(stage: str) -> None:
    sys.stdout.write(stage + "\n")
    sys.stdout.flush()


def _write_tiny(folder: Path) -> str:
    """Write 600 ratings that run through the same kernels as any other ratings."""
    users, places = np.divmod(np.arange(600), 20)
    rows = {"user": users, "item": (7 * users + 3 * places) % 61, "rating": np.float32(1 + (users * places) % 5)}
    write_parquet(rows, folder / "tiny.parquet")
    return os.fspath(folder / "tiny.parquet")


def _measure(file: str, solver: Solver, request: dict[str, Any]) -> dict[str, Any]:
    """Read, split, fit and measure the errors, once."""
    began = time.perf_counter()
    ratings = Ratings.read(file)
    views = ratings.by_user, ratings.by_item
    loaded = time.perf_counter()
    where = resolve(request["device"], request["threads"])
    where.put(views)
    where.wait()
    there = time.perf_counter()
    train, held_out = ratings.split(HELD_OUT, seed=SEED)
    epochs, sample = _share(solver, request, len(train))
    watched = held_out if request["target_rmse"] is not None and request["device"] != "numpy" else None
    model = fit(
        train if sample is None else _sampled(train, sample),
        solver=solver if epochs == solver.epochs else solver.with_epochs(epochs),  # Gibbs: no burn-in
        device=where,
        validation=watched,
    )
    whole = 1.0 if sample is None else len(train) / sample
    seconds = [epoch.seconds * whole for epoch in model.history]
    median = statistics.median(seconds)
    return {
        "users": ratings.n_users,
        "items": ratings.n_items,
        "ratings": len(ratings),
        "training_ratings": len(train),
        "load_seconds": loaded - began,
        "transfer_seconds": None if where.on_host else there - loaded,
        "epochs": epochs,
        "full_epochs": solver.epochs,
        "sampled_ratings": sample,
        "epoch_seconds": seconds,
        "epoch_seconds_median": median,
        "epoch_seconds_min": min(seconds),
        "ratings_per_second": len(train) / median,
        "seconds_to_rmse": _seconds_to(request["target_rmse"], model.history) if watched is not None else None,
        "rmse": measure_errors(model, held_out)["rmse"] if sample is None else None,
        "seconds": time.perf_counter() - began,
    }


def _seconds_to(target: float, history: Sequence[Epoch]) -> float | None:
    """Return the seconds of training until the validation RMSE is at most ``target``; None if it never is."""
    for n, epoch in enumerate(history):
        if epoch.validation_rmse is not None and epoch.validation_rmse <= target:
            return sum(epoch.seconds for epoch in history[: n + 1])
    return None


def _share(solver: Solver, request: dict[str, Any], n_ratings: int) -> tuple[int, int | None]:
    """Return the number of epochs to run, and the number of ratings to sample (None: all)."""
    if request["device"] != "numpy":
        return solver.epochs, None
    if n_ratings <= FEW_RATINGS:
        return solver.epochs if request["epochs"] else min(solver.epochs, NUMPY_EPOCHS), None
    return 1, SAMPLE if solver.per_rating else None


def _sampled(ratings: Ratings, n: int) -> Ratings:
    """Draw n ratings at random and keep all ids: the cost of an update depends on how far apart its rows are."""
    chosen = np.zeros(len(ratings), bool)
    chosen[np.random.default_rng(SEED).choice(len(ratings), n, replace=False)] = True
    return ratings.take(chosen)


def pin_blas(threads: int) -> list[dict[str, Any]] | None:
    """Limit every BLAS library in the process to this many threads; return them, or None without threadpoolctl."""
    try:
        threadpoolctl = importlib.import_module("threadpoolctl")
    except ImportError:
        return None
    threadpoolctl.threadpool_limits(threads, user_api="blas")
    return blas()
