"""What all tests share: the mark of the big ones, and small seeded ratings."""

import os
import sys

os.environ.setdefault("NUMBA_NUM_THREADS", "2")  # so that one thread against two means something on any machine

import numpy as np
import pytest


def pytest_configure(config):
    config.addinivalue_line("markers", "big: takes over 1,000 ratings; left out without the JIT")


def pytest_collection_modifyitems(items):
    if os.environ.get("NUMBA_DISABLE_JIT", "0") in ("", "0"):
        return
    for item in items:
        if item.get_closest_marker("big"):
            item.add_marker(pytest.mark.skip(reason="over 1,000 ratings: too slow without the JIT"))


SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")


@pytest.fixture(scope="session", autouse=SIMULATED)
def whole_shared_arrays():
    """Give all threads of a block the same shared array: the CUDA simulator now and then makes one for each of two.

    It looks for the array of a line, and if there is none, makes one and keeps it, without a lock.
    """
    from numba.cuda.np.numpy_support import as_dtype
    from numba.cuda.simulator.kernelapi import FakeCUDAShared
    from numba.types import Type

    def array(self, shape, dtype):
        line = sys._getframe(1)
        new = np.empty(shape, as_dtype(dtype) if isinstance(dtype, Type) else dtype)
        return self._allocations.setdefault((line.f_code.co_filename, line.f_lineno), new)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeCUDAShared, "array", array)
        yield


@pytest.fixture(scope="session", autouse=SIMULATED)
def quick_switches():
    """Let waiting threads run soon: the main thread of the CUDA simulator spins until they are done."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(usual)


@pytest.fixture(scope="session")
def planted():
    """Draw (user ids, item ids, ratings) of a known rank: unique pairs in random order, ids that are no indices."""

    def draw(n_users=30, n_items=20, n=300, *, rank=2, noise=0.3, seed=0):
        rng = np.random.default_rng(seed)
        users, items = np.divmod(rng.permutation(n_users * n_items)[:n], n_items)
        x, y = rng.standard_normal((n_users, rank)), rng.standard_normal((n_items, rank))
        ratings = 3 + np.sum(x[users] * y[items], axis=1) + noise * rng.standard_normal(n)
        return users * 3 + 100, items + 1000, ratings

    return draw


@pytest.fixture
def als_cuda(monkeypatch):
    """The module whose kernels are compiled anew for whatever a test changes in it."""
    module = pytest.importorskip("fastmf.kernels.als_cuda")
    module.compiled.cache_clear()
    yield module
    monkeypatch.undo()
    module.layout.cache_clear()
    module.compiled.cache_clear()


@pytest.fixture
def small_blocks(als_cuda, monkeypatch):
    """Blocks of 8 and 16 threads for the simulator, which is a good deal faster with them."""
    if pytest.importorskip("fastmf.kernels.groups_cuda").SIMULATED:
        monkeypatch.setattr(als_cuda, "SMALL", (8, 2, 4))
        monkeypatch.setattr(als_cuda, "LARGE", (16, 4, 4))
        als_cuda.layout.cache_clear()
