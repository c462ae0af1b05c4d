"""bench: how fast this machine trains, measured against the plain NumPy definitions of the same kernels.

A case is one data set, one solver, one device. Each runs in a process of its own, so that its peak memory is its own,
with an empty Numba cache, so that compile time is real, and with BLAS on as many threads as fastmf. In it the whole
path (read, split, fit, errors) runs twice on a few hundred ratings: what the first pass takes longer is the compile
time; then it runs once on the data. Nothing is trained but by ``fit``, and an epoch's seconds are those of its history.
"""

import builtins
import importlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastmf import errors
from fastmf.bench.machine import describe, limits, moved_bytes, peak_memory, useful_flops, versions
from fastmf.data.ratings import Ratings
from fastmf.data.write import write_parquet
from fastmf.datasets import movielens as datasets
from fastmf.errors import FastMFError, ParameterError, ResourceError
from fastmf.evaluation import evaluate as evaluation
from fastmf.kernels.compile import ENABLED
from fastmf.model.history import Epoch
from fastmf.runtime.device import resolve
from fastmf.solvers import SOLVERS as CLASSES
from fastmf.solvers import Solver, make
from fastmf.training.fit import fit

DATASETS = ("ml-latest-small", "ml-20m")
SOLVERS = ("als", "sgd")
DEVICES = ("numpy", "cpu")

# What a solver is called here: its name for fit, and the settings that make it another than the default.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "als": ("als", {}),
    "als-cg": ("als", {"method": "cg"}),
    "als-links": ("als-links", {}),
    "gibbs": ("gibbs", {"kept": 0}),
    "sgd": ("sgd", {}),
    "sgd-adaptive": ("sgd", {"adaptive": True, "lr": 0.1, "decay": 0.9}),
    "sgd-hogwild": ("sgd", {"schedule": "hogwild"}),
}

HELD_OUT = 0.1
SEED = 0

# What the NumPy reference runs: a few whole epochs on few training ratings; else one epoch of ALS, or a sample of SGD.
FEW_RATINGS = 200_000
NUMPY_EPOCHS = 3
SAMPLE = 200_000

BLAS_VARIABLES = (
    "BLIS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
STDERR_LINES = 12  # of a child that has failed, in the error

CHILD = """
import json, pathlib, sys
request = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
sys.path[:] = request["path"]
from fastmf.bench.run import run_case
run_case(request)
"""

Say = Callable[[str], object]


class Source(NamedTuple):
    """A data set to measure: what it was asked for as, its file, "real", "twin (seed 0)" or "file", and its terms."""

    name: str
    path: str
    data: str
    note: str


def run(
    dataset_names: Sequence[str] = DATASETS,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
    k: int = 32,
    solvers: Sequence[str] = SOLVERS,
    devices: Sequence[str] = DEVICES,
    threads: int | None = None,
    epochs: int | None = None,
    target_rmse: float | None = None,
    progress: Say | None = None,
) -> dict[str, Any]:
    """Measure data sets x solvers x devices.

    Parameters
    ----------
    dataset_names : names of MovieLens sets, or ratings files. A set that the search does not find
        is replaced by its synthetic twin, and labelled so.
    data_dir : where to look for the sets first.
    download : fetch a set that is not at hand.
    k : number of factors.
    solvers : of :data:`VARIANTS`.
    devices : of "numpy", "cpu", "cuda" (or "cuda:1" and so on) and "auto".
    threads : of fastmf and of BLAS; all there are when left out.
    epochs : of the solver, its own default when left out. On more than 200,000 training ratings the numpy device
        runs one epoch of ALS and times 200,000 updates of SGD; on fewer 3 epochs, or ``epochs`` where given.
    target_rmse : say how many seconds of the solver it took to reach this RMSE of the held-out ratings; the RMSE
    reported
        is then that of the best epoch.
    progress : called with a line of text when something begins or ends.

    Returns
    -------
    A report of plain data, for JSON and :func:`table`: ``machine``, ``versions``, ``settings``, ``results`` (one dict a
    case; benchmarks/README.md says what each field means) and ``notes`` that belong beside the figures.

    Raises
    ------
    FastMFError, OSError
        What stopped a case, of the type it has in :func:`fastmf.fit`, with the case in front.
    ResourceError
        If the process of a case was killed.
    RuntimeError
        If the process of a case failed otherwise; with the end of its stderr.
    """
    say: Say = progress or (lambda line: None)
    chosen = {name: _solver(name, k, epochs) for name in solvers}
    places = list(dict.fromkeys(resolve(device, threads).label for device in devices))
    threads = resolve("cpu", threads).threads
    results = []
    with tempfile.TemporaryDirectory(prefix="fastmf-bench-") as directory:
        folder = Path(directory)
        sources = [_find(name, data_dir, download, folder, say) for name in dict.fromkeys(dataset_names)]
        for source, label, device in itertools.product(sources, chosen, places):
            case = {"dataset": source.name, "data": source.data, "solver": label, "device": device, "threads": threads}
            request = {"file": source.path, "settings": chosen[label].settings, "epochs": epochs, **case}
            request["target_rmse"] = target_rmse
            results.append(case | _in_child(request, f"{source.name}, {label}, {device}", folder, say))
    _add_speedups(results)
    settings: dict[str, Any] = {"k": k, "threads": threads, "epochs": epochs, "held_out": HELD_OUT, "seed": SEED}
    settings |= {"target_rmse": target_rmse, "solvers": {label: solver.settings for label, solver in chosen.items()}}
    return {
        "machine": describe(),
        "versions": versions(),
        "settings": settings,
        "results": results,
        "notes": _notes(sources, results),
    }


def _solver(label: str, k: int, epochs: int | None) -> Solver:
    if label not in VARIANTS:
        raise ParameterError(f"unknown solver {label!r}: choose from {', '.join(VARIANTS)}")
    name, settings = VARIANTS[label]
    solver = make(CLASSES, name, k=k, seed=SEED, **settings)
    return solver if epochs is None else _running(solver, epochs)


def _running(solver: Any, epochs: int) -> Any:
    """Let a solver run so many epochs; one that throws some away throws away none."""
    return replace(solver, **({"epochs": epochs} if "epochs" in solver.settings else {"burn": 0, "samples": epochs}))


def _find(name: str, data_dir: str | os.PathLike[str] | None, download: bool, folder: Path, say: Say) -> Source:
    """Find the file of a data set, or write its twin into ``folder``."""
    if data_dir is not None and not Path(data_dir).is_dir():
        raise FileNotFoundError(f"there is no folder {os.fspath(data_dir)} to look for data sets in")
    if name not in datasets.MOVIELENS:
        if "://" not in name and not Path(name).exists():
            known = ", ".join(datasets.MOVIELENS)
            raise FileNotFoundError(f"{name} is neither a file nor a data set: give a path, or one of {known}")
        return Source(name, name, "file", "")
    try:
        found = datasets.find(name, data_dir, download=download)
        return Source(name, os.fspath(found.path), "real", found.note)
    except FileNotFoundError:
        if name not in datasets.TWINS:
            raise
    say(f"{name} is not at hand: drawing its synthetic twin")
    twin = datasets.write_twin(folder / f"{name}-twin.parquet", name, seed=SEED)
    return Source(name, os.fspath(twin.path), f"twin (seed {SEED})", "not the real data: " + twin.note)


def _in_child(request: dict[str, Any], case: str, folder: Path, say: Say) -> dict[str, Any]:
    """Run a case in a fresh process; whatever ends this call early ends that process too."""
    with tempfile.TemporaryDirectory(dir=folder) as own:
        asked, answer, complaints = (Path(own) / name for name in ("request.json", "answer.json", "stderr"))
        request = {**request, "path": sys.path, "answer": os.fspath(answer)}
        asked.write_text(json.dumps(request), encoding="utf-8")
        threads = str(request["threads"])
        environment = os.environ | dict.fromkeys(BLAS_VARIABLES, threads)
        environment |= {"NUMBA_CACHE_DIR": os.fspath(Path(own) / "numba"), "NUMBA_NUM_THREADS": threads}
        command = [sys.executable, "-P", *(f"-W{option}" for option in sys.warnoptions), "-c", CHILD, os.fspath(asked)]
        with (
            complaints.open("wb") as stderr,
            subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, text=True
            ) as process,
        ):
            try:
                for line in process.stdout or ():
                    say(f"{case}: {line.strip()}")
                process.wait()
            except BaseException:
                process.kill()
                raise
        if not answer.exists():
            raise _failure(case, process.returncode, complaints.read_text(encoding="utf-8", errors="replace"))
        result: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    if "error" in result:
        kind: Any = getattr(errors, result["error"], None) or getattr(builtins, result["error"], OSError)
        raise kind(f"bench of {case}: {result['message']}")
    return result


def _failure(case: str, status: int, stderr: str) -> Exception:
    tail = "\n".join(stderr.rstrip().splitlines()[-STDERR_LINES:])
    if status < 0:
        return ResourceError(
            f"bench of {case}: the process was ended by signal {-status}, most likely for want of memory; leave that"
            f" case out (--dataset, --solver, --device)\n{tail}".rstrip()
        )
    return RuntimeError(f"bench of {case}: the process ended with status {status}\n{tail}".rstrip())


def run_case(request: dict[str, Any]) -> None:
    """Measure one case, in this process, and write the result to ``request["answer"]``; one stage a line on stdout."""
    try:
        result = _measure_case(request)
    except (FastMFError, OSError) as error:
        result = {"error": type(error).__name__, "message": str(error)}
    whole = Path(request["answer"] + ".part")
    whole.write_text(json.dumps(result), encoding="utf-8")
    whole.replace(request["answer"])


def _measure_case(request: dict[str, Any]) -> dict[str, Any]:
    solver = CLASSES[VARIANTS[request["solver"]][0]](**request["settings"])
    blas = _pin_blas(request["threads"])
    _tell("compiling")
    tiny = _write_tiny(Path(request["answer"]).parent)
    first, again = (_measure(tiny, _running(solver, 1), request)["seconds"] for _ in range(2))
    _tell("measuring")
    result = _measure(request["file"], solver, request)
    peak = peak_memory()  # before an array is read that is larger than the caches
    where = resolve(request["device"], request["threads"])
    most = limits(resolve("cpu" if ENABLED else "numpy", where.threads) if where.on_host else where)
    rows = result["users"] + result["items"]
    flops = useful_flops(request["solver"], solver.k, result["training_ratings"], rows)
    moved = moved_bytes(request["solver"], solver.k, result["training_ratings"])
    _tell(f"{result['epoch_seconds_median']:.3g} s an epoch, {result.pop('seconds'):.3g} s in all")
    return {
        **result,
        "limits": most,
        "flops_per_second": flops / result["epoch_seconds_median"],
        "share_of_peak": flops / result["epoch_seconds_median"] / most["flops_per_second"],
        "share_of_bandwidth": moved / result["epoch_seconds_median"] / most["bytes_per_second"],
        "compile_seconds": max(first - again, 0.0),
        "peak_memory_bytes": peak,
        "blas": blas,
    }


def _tell(stage: str) -> None:
    sys.stdout.write(stage + "\n")
    sys.stdout.flush()


def _write_tiny(folder: Path) -> str:
    """Write 600 ratings that walk the same path through the kernels as any others."""
    users, places = np.divmod(np.arange(600), 20)
    rows = {"user": users, "item": (7 * users + 3 * places) % 61, "rating": np.float32(1 + (users * places) % 5)}
    write_parquet(rows, folder / "tiny.parquet")
    return os.fspath(folder / "tiny.parquet")


def _measure(file: str, solver: Any, request: dict[str, Any]) -> dict[str, Any]:
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
        solver=_running(solver, epochs) if epochs != solver.epochs else solver,
        device=request["device"],
        threads=request["threads"],
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
        "rmse": evaluation.errors(model, held_out)["rmse"] if sample is None else None,
        "seconds": time.perf_counter() - began,
    }


def _seconds_to(target: float, history: Sequence[Epoch]) -> float | None:
    """Add up the seconds of the epochs until the validation RMSE was reached; None if it never was."""
    for n, epoch in enumerate(history):
        if epoch.validation_rmse is not None and epoch.validation_rmse <= target:
            return sum(epoch.seconds for epoch in history[: n + 1])
    return None


def _share(solver: Any, request: dict[str, Any], n_ratings: int) -> tuple[int, int | None]:
    """Say how many epochs to run, and on a sample of how many ratings (None: on all)."""
    if request["device"] != "numpy":
        return solver.epochs, None
    if n_ratings <= FEW_RATINGS:
        return solver.epochs if request["epochs"] else min(solver.epochs, NUMPY_EPOCHS), None
    return 1, SAMPLE if solver.name == "sgd" else None


def _sampled(ratings: Ratings, n: int) -> Ratings:
    """Take n ratings at random, and all ids: what an update costs depends on how far apart its rows are."""
    chosen = np.zeros(len(ratings), bool)
    chosen[np.random.default_rng(SEED).choice(len(ratings), n, replace=False)] = True
    return ratings.take(chosen)


def _pin_blas(threads: int) -> list[dict[str, Any]] | None:
    """Give every BLAS in the process this many threads. Returns what is loaded, or None without threadpoolctl."""
    try:
        threadpoolctl = importlib.import_module("threadpoolctl")
    except ImportError:
        return None
    threadpoolctl.threadpool_limits(threads, user_api="blas")
    found = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    return [{"library": f"{pool['internal_api']} {pool['version']}", "threads": pool["num_threads"]} for pool in found]


def _add_speedups(results: list[dict[str, Any]]) -> None:
    """Add speedup_over_numpy and speedup_over_cpu, their median seconds an epoch over the case's own, or None."""
    seconds = {(r["dataset"], r["solver"], r["device"]): r["epoch_seconds_median"] for r in results}
    for result in results:
        own = result["dataset"], result["solver"]
        for other, of in (("numpy", ("cpu", "cuda")), ("cpu", ("cuda",))):
            reference = seconds.get((*own, other)) if result["device"].partition(":")[0] in of else None
            result[f"speedup_over_{other}"] = reference / result["epoch_seconds_median"] if reference else None


def _notes(sources: Sequence[Source], results: Sequence[dict[str, Any]]) -> list[str]:
    """Say what the figures do not: what the data are, and where a case did less than a whole run."""
    notes = []
    for source in sources:
        of = next((result for result in results if result["dataset"] == source.name), None)
        size = of and (
            f": {of['users']:,} users, {of['items']:,} items, {of['ratings']:,} ratings, {of['training_ratings']:,} of"
            " them trained on"
        )
        notes.append(f"{source.name}: {source.data}{size or ''}" + (f". {source.note}" if source.note else ""))
    for result in results:
        case = f"{result['dataset']}, {result['solver']}, {result['device']}"
        if result["sampled_ratings"]:
            notes.append(
                f"{case}: timed on a random sample of {result['sampled_ratings']:,} of {result['training_ratings']:,}"
                " training ratings; the seconds are scaled up to a whole epoch, and there is no RMSE"
            )
        elif result["epochs"] != result["full_epochs"]:
            notes.append(f"{case}: RMSE after {result['epochs']} of the solver's {result['full_epochs']} epochs")
    if any(result["blas"] is None for result in results):
        notes.append(
            "BLAS threads could not be pinned: threadpoolctl is not installed (pip install threadpoolctl);"
            " environment variables asked for as many as fastmf has"
        )
    if not ENABLED or os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        notes.append("NUMBA_DISABLE_JIT is set: nothing was compiled, and the figures say nothing about fastmf")
    return notes


HEADER = (
    "data set", "solver", "device", "compile s", "load s", "epochs", "s/epoch", "min", "M ratings/s", "of peak",
    "vs NumPy", "vs CPU", "RMSE", "s to RMSE", "peak MiB",
)  # fmt: skip


def table(report: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Write a report's results as text. Returns the header and one row a case; "-" stands for what was not measured."""
    return list(HEADER), [_row(result) for result in report["results"]]


def _row(result: dict[str, Any]) -> list[str]:
    sampled, rmse, peak = (result[name] for name in ("sampled_ratings", "rmse", "peak_memory_bytes"))
    early = "" if result["epochs"] == result["full_epochs"] else f" (epoch {result['epochs']})"
    return [
        f"{result['dataset']} {result['data']}",
        result["solver"],
        result["device"],
        _number(result["compile_seconds"]),
        _number(result["load_seconds"]),
        f"{sampled:,} ratings" if sampled else str(result["epochs"]),
        _number(result["epoch_seconds_median"]),
        _number(result["epoch_seconds_min"]),
        _number(result["ratings_per_second"] / 1e6),
        f"{100 * result['share_of_peak']:.2g} %",
        *(
            f"{_number(ratio)}x" if ratio else "-"
            for ratio in (result["speedup_over_numpy"], result["speedup_over_cpu"])
        ),
        "-" if rmse is None else f"{rmse:.4f}{early}",
        "-" if result["seconds_to_rmse"] is None else _number(result["seconds_to_rmse"]),
        "-" if peak is None else f"{peak / 2**20:,.0f}",
    ]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
