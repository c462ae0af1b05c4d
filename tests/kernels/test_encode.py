import numpy as np
import pytest

from fastmf.data import csr as grouping
from fastmf.data.csr import keep
from fastmf.kernels.encode import KEEP, LOOK_UP, MARK_KEYS, TO_FLOAT32
from fastmf.runtime.device import Device
from fastmf.runtime.launch import launch, results

TASKS = np.array([0, 3, 3, 8])
TWO = {device: Device(name=device, threads=2) for device in ("numpy", "cpu")}

# keys and the lowest of them; the last are unsigned keys of 64 bits seen as signed ones
KEYS = {
    "int32": (np.array([5, 9, 5, 7, 12, 5, 7, 9], np.int32), 5),
    "negative": (np.array([-5, -1, -5, -3, 2, -5, -3, -1], np.int32), -5),
    "unsigned": ((np.array([0, 4, 0, 2, 7, 0, 2, 4], np.uint64) + np.uint64(2**63 - 3)).astype(np.int64), 2**63 - 3),
}


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("device", MARK_KEYS)
def test_keys_are_marked_and_looked_up(device, name):
    keys, low = KEYS[name]
    present, out = np.zeros(8, np.uint8), np.empty(8, np.int32)
    table = np.arange(100, 108, dtype=np.int32)
    launch(MARK_KEYS, TWO[device], TASKS, keys, np.int64(low), present)
    assert present.tolist() == [1, 0, 1, 0, 1, 0, 0, 1]
    launch(LOOK_UP, TWO[device], TASKS, keys, np.int64(low), table, out)
    assert out.tolist() == [100, 104, 100, 102, 107, 100, 102, 104]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("device", TO_FLOAT32)
def test_numbers_become_float32_and_those_that_are_not_finite_are_counted(device, dtype):
    with np.errstate(over="ignore"):
        numbers = np.array([0.1, -2, np.nan, 1e39, 5, -np.inf, 1e-50, 3], dtype)
    out = np.empty(8, np.float32)
    assert results(TO_FLOAT32, TWO[device], TASKS, numbers, out).tolist() == [1, 0, 2]
    np.testing.assert_array_equal(out, np.array([0.1, -2, np.nan, np.inf, 5, -np.inf, 0, 3], np.float32))


@pytest.mark.parametrize(("n", "share"), [(0, 1), (1, 0), (700, 0.3), (700, 1)])
@pytest.mark.parametrize("device", KEEP)
def test_rows_of_a_mask_are_kept_in_order(monkeypatch, device, n, share):
    monkeypatch.setattr(grouping, "FEWEST", 50)
    chosen = np.random.default_rng(0).random(n) < share
    rows = np.arange(n, dtype=np.int32), np.arange(n, dtype=np.int32)[::-1].copy(), np.arange(n, dtype=np.float32)
    for kept, array in zip(keep(chosen, rows, TWO[device]), rows, strict=True):
        np.testing.assert_array_equal(kept, array[chosen])
        assert kept.dtype == array.dtype
