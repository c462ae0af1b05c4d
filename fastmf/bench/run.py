"""A benchmark: every case in a process of its own, and the report.

A case is one data set, one solver, one device (:mod:`fastmf.bench.case`). Its process has a peak memory of its own, an
empty Numba cache (so that compile time is real), and as many threads for BLAS as for fastmf.
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
from fastmf.bench.machine import BLAS_VARIABLES, describe, versions
from fastmf.bench.report import add_speedups, notes
from fastmf.bench.sources import Say, find_source
from fastmf.errors import ParameterError, ResourceError
from fastmf.runtime.device import resolve
from fastmf.solvers import VARIANTS, make
from fastmf.solvers.base import Solver

DATASETS = ("ml-latest-small", "ml-20m")
DEFAULT_SOLVERS = ("als", "sgd")
DEVICES = ("numpy", "cpu")

STDERR_LINES = 12  # in the error, if a child fails

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
    dataset_names : names of MovieLens sets, or ratings files. A set that is not found is replaced by its twin.
    data_dir, download : where to look for sets first, and whether to fetch those that are not found.
    solvers, devices : labels of :data:`fastmf.solvers.VARIANTS`, and devices of fastmf.
    threads : of fastmf and of BLAS.
    epochs : the solver's own if left out. The numpy device then runs 3; on more than 200,000 training ratings always
        one epoch of ALS, or 200,000 updates of SGD.
    target_rmse : also report the seconds to this RMSE on the held-out ratings; ``rmse`` is then the best epoch's.
    progress : called with a line of text when something begins or ends.

    Returns
    -------
    A report of plain data, for JSON and :func:`fastmf.bench.report.table`: ``machine``, ``versions``, ``settings``,
    ``results`` (one dict per case; benchmarks/README.md describes the fields) and ``notes``.

    Raises
    ------
    FastMFError, OSError
        The error that stopped a case: of the type that :func:`fastmf.fit` raises, with the case named in front.
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
    """Run a case in a fresh process, which is killed if this call ends early."""
    with tempfile.TemporaryDirectory(dir=folder) as own:
        asked, answer, complaints = (Path(own) / name for name in ("request.json", "answer.json", "stderr"))
        request = {**request, "path": sys.path, "answer": os.fspath(answer)}
        asked.write_text(json.dumps(request), encoding="utf-8")
        threads = str(request["threads"])
        environment = os.environ | dict.fromkeys(BLAS_VARIABLES, threads)
        environment |= {"NUMBA_CACHE_DIR": os.fspath(Path(own) / "numba"), "NUMBA_NUM_THREADS": threads}
        command = [sys.executable, "-P", *(f"-W{option}" for option in sys.warnoptions), "-c", CHILD, os.fspath(asked)]
        pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "text": True}
        with (
            complaints.open("wb") as stderr,
            subprocess.Popen(command, env=environment, stderr=stderr, **pipes) as process,
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
            f"bench of {case}: the process was ended by signal {-status}, most likely for lack of memory; leave that"
            f" case out (--dataset, --solver, --device)\n{tail}".rstrip()
        )
    return RuntimeError(f"bench of {case}: the process ended with status {status}\n{tail}".rstrip())
