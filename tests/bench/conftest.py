"""Ratings to measure on, and benchmarks whose cases run in this process."""

import contextlib
import io
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from fastmf.bench import case, machine
from fastmf.data.write import write_parquet


@pytest.fixture(scope="session")
def file(tmp_path_factory):
    """800 ratings, of planted rank 1."""
    rng = np.random.default_rng(3)
    users, items = np.divmod(rng.permutation(40 * 50)[:800], 50)
    ratings = 3 + rng.standard_normal(40)[users] * rng.standard_normal(50)[items]
    path = tmp_path_factory.mktemp("bench") / "some.parquet"
    write_parquet({"user": users, "item": items, "rating": ratings.astype(np.float32)}, path)
    return str(path)


class Here:
    """Stands in for a child process: the case runs in this one, with its kernel cache and its BLAS threads."""

    returncode = 0

    def __init__(self, command, **_):
        with contextlib.redirect_stdout(io.StringIO()) as stdout:
            case.run_case(json.loads(Path(command[-1]).read_text(encoding="utf-8")))
        self.stdout = stdout.getvalue().splitlines()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def wait(self):
        pass


@pytest.fixture(scope="session")
def cases_here():
    """Return a context in which cases run in this process, and the limits of the machine take no time."""

    @contextlib.contextmanager
    def context():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(subprocess, "Popen", Here)
            patch.setattr(case, "pin_blas", lambda threads: None)
            patch.setattr(machine, "ARRAY", 1 << 20)
            patch.setattr(machine, "ITERATIONS", 4)
            patch.setattr(machine, "SIDE", 64)
            yield patch

    return context
