"""bench: how fast this machine trains, measured against the plain NumPy definitions of the same kernels.

A case is one data set, one solver, one device (:mod:`fastmf.bench.case`). Each runs in a process of its own, so that
its peak memory is its own, with an empty Numba cache, so that compile time is real, and with BLAS on as many threads as
fastmf.
"""

import builtins
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastmf import errors
from fastmf.bench.case import HELD_OUT, SEED
from fastmf.bench.machine import describe, versions
from fastmf.bench.report import add_speedups, notes
from fastmf.bench.sources import Say, find_source
from fastmf.errors import ParameterError, ResourceError
from fastmf.runtime.device import resolve
from fastmf.solvers import SOLVERS, make
from fastmf.solvers.base import Solver

DATASETS = ("ml-latest-small", "ml-20m")
DEFAULT_SOLVERS = ("als", "sgd")
DEVICES = ("numpy", "cpu")

# The solvers measured: a label, the solver's name, and its settings. What ranks is measured elsewhere.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    label: (name, dict(settings))
    for name, solver in SOLVERS.items()
    if not solver.implicit
    for label, settings in solver.variants.items()
}

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
from fastmf.bench.case import run_case
run_case(request)
"""


def run(
    dataset_names: Sequence[str] = DATASETS,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
    k: int = 32,
    solvers: Sequence[str] = DEFAULT_SOLVERS,
    devices: Sequence[str] = DEVICES,
    threads: int | None = None,
    epochs: int | None = None,
    target_rmse: float | None = None,
    progress: Say | None = None,
) -> dict[str, Any]:
    """Measure data sets x solvers x devices.

    Parameters
    ----------
    dataset_names : names of MovieLens sets, or ratings files. A set that is not at hand is replaced by its synthetic
        twin, and labelled so.
    data_dir : where to look for the sets first.
    download : fetch a set that is not at hand.
    k : number of factors.
    solvers : of :data:`VARIANTS`.
    devices : of "numpy", "cpu", "cuda" (or "cuda:1" and so on) and "auto".
    threads : of fastmf and of BLAS; all there are when left out.
    epochs : of the solver, its own default when left out. On more than 200,000 training ratings the numpy device
        runs one epoch of ALS and times 200,000 updates of SGD; on fewer 3 epochs, or ``epochs`` where given.
    target_rmse : also report the seconds that the solver took to reach this RMSE of the held-out ratings; the RMSE
        reported is then that of the best epoch.
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
        sources = [find_source(name, data_dir, download, folder, say) for name in dict.fromkeys(dataset_names)]
        for source, label, device in itertools.product(sources, chosen, places):
            case = {"dataset": source.name, "data": source.data, "solver": label, "device": device, "threads": threads}
            request = {"file": source.path, "epochs": epochs, "target_rmse": target_rmse, **case}
            request |= {"name": chosen[label].name, "settings": chosen[label].settings}
            results.append(case | _in_child(request, f"{source.name}, {label}, {device}", folder, say))
    add_speedups(results)
    settings: dict[str, Any] = {"k": k, "threads": threads, "epochs": epochs, "held_out": HELD_OUT, "seed": SEED}
    settings |= {"target_rmse": target_rmse, "solvers": {label: solver.settings for label, solver in chosen.items()}}
    report = {"machine": describe(), "versions": versions(), "settings": settings}
    return {**report, "results": results, "notes": notes(sources, results)}


def _solver(label: str, k: int, epochs: int | None) -> Solver:
    if label not in VARIANTS:
        raise ParameterError(f"unknown solver {label!r}: choose from {', '.join(VARIANTS)}")
    name, settings = VARIANTS[label]
    solver = make(name, k=k, seed=SEED, **settings)
    return solver if epochs is None else solver.with_epochs(epochs)


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
