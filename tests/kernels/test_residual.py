import numpy as np
import pytest

from fastmf.kernels.residual import ERRORS, ESTIMATE, errors_numpy, estimate_numpy
from fastmf.kernels.tasks import even
from fastmf.kernels.types import Pairs, Scale, Side
from fastmf.runtime.device import Device
from fastmf.runtime.launch import launch, results

SCALES = [Scale(3.5, 2.5, 4.5), Scale(0.0, -np.inf, np.inf)]
N = 60
CUTS = [np.array([0, N]), np.arange(N + 1), np.array([0, 1, 37, N])]


def problem(k, seed=0):
    """Pairs, of which every fourth user and every fifth item is unknown; their ratings; both sides."""
    rng = np.random.default_rng(seed)
    users, items = rng.integers(0, 9, N).astype(np.int32), rng.integers(0, 7, N).astype(np.int32)
    users[::4] = items[::5] = -1
    sides = [
        Side(rng.standard_normal((n, k), dtype=np.float32), rng.standard_normal(n, dtype=np.float32)) for n in (9, 7)
    ]
    return Pairs(users, items), rng.normal(3, 1, N).astype(np.float32), *sides


def estimates(device, tasks, pairs, user_side, item_side, scale, threads=2):
    out = np.full(len(pairs.users), np.nan, np.float32)
    launch(ESTIMATE, Device(name=device, threads=threads), tasks, pairs, user_side, item_side, scale, out)
    return out


@pytest.mark.parametrize("scale", SCALES, ids=["clipped", "unclipped"])
@pytest.mark.parametrize("k", [1, 5, 16, 33])
def test_estimates_equal_the_definition(k, scale):
    pairs, _, *sides = problem(k)
    expected = np.empty(N, np.float32)
    estimate_numpy(even(N, 25), pairs, *sides, scale, expected)
    np.testing.assert_allclose(estimates("cpu", even(N, 25), pairs, *sides, scale), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", SCALES, ids=["clipped", "unclipped"])
@pytest.mark.parametrize("k", [1, 5, 16, 33])
def test_errors_equal_the_definition(k, scale):
    pairs, values, *sides = problem(k)
    expected = errors_numpy(even(N, 25), pairs, values, *sides, scale)
    found = results(ERRORS, Device(name="cpu", threads=2), even(N, 25), pairs, values, *sides, scale)
    assert found.shape == (3, 2)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_estimate_by_hand_with_unknown_ids(device):
    users = Side(np.array([[1, 2]], np.float32), np.array([0.5], np.float32))
    items = Side(np.array([[3, -1]], np.float32), np.array([0.25], np.float32))
    pairs = Pairs(np.array([0, 0, -1, -1], np.int32), np.array([0, -1, 0, -1], np.int32))
    tasks = np.array([0, 4])
    assert estimates(device, tasks, pairs, users, items, Scale(3.0, 1.0, 9.0)).tolist() == [4.75, 3.5, 3.25, 3.0]
    assert estimates(device, tasks, pairs, users, items, Scale(3.0, 3.125, 4.5)).tolist() == [4.5, 3.5, 3.25, 3.125]


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_errors_by_hand(device):
    users = Side(np.array([[1], [2]], np.float32), np.zeros(2, np.float32))
    items = Side(np.array([[1]], np.float32), np.zeros(1, np.float32))
    pairs = Pairs(np.array([0, 1, 1], np.int32), np.array([0, 0, 0], np.int32))
    values = np.array([3, 2, -1], np.float32)  # errors 2, 0 and -3
    found = results(ERRORS, Device(name=device, threads=2), np.array([0, 2, 3]), pairs, values, users, items, SCALES[1])
    assert found.dtype == np.float64
    assert found.tolist() == [[4, 2], [9, 3]]


@pytest.mark.parametrize("scale", SCALES, ids=["clipped", "unclipped"])
@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_nan_comes_through(device, scale):
    pairs, values, users, items = problem(3)
    users.factors[pairs.users[1], 2] = np.nan
    assert np.isnan(estimates(device, np.array([0, N]), pairs, users, items, scale)[1])
    assert np.isnan(
        results(ERRORS, Device(name=device, threads=2), np.array([0, N]), pairs, values, users, items, scale)
    ).all()


@pytest.mark.parametrize(("device", "k"), [("numpy", 5), ("cpu", 5), ("cpu", 33)])
def test_tasks_and_threads_do_not_change_a_bit_of_the_estimates(device, k):
    pairs, _, *sides = problem(k)
    whole = estimates(device, CUTS[0], pairs, *sides, SCALES[0], threads=1)
    for tasks in CUTS:
        for threads in (1, 2):
            assert estimates(device, tasks, pairs, *sides, SCALES[0], threads).tobytes() == whole.tobytes()


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_errors_do_not_depend_on_threads_and_hardly_on_the_tasks(device):
    pairs, values, *sides = problem(5)
    whole = results(ERRORS, Device(name=device, threads=2), CUTS[0], pairs, values, *sides, SCALES[0])[0]
    for tasks in CUTS:
        sums = [launch(ERRORS, Device(name=device, threads=t), tasks, pairs, values, *sides, SCALES[0]) for t in (1, 2)]
        assert sums[0].tobytes() == sums[1].tobytes()
        np.testing.assert_allclose(sums[0], whole, rtol=1e-12)
