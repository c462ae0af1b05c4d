"""Links: every kernel against a plain product of matrices, on every device."""

import numpy as np
import pytest

from fastmf.kernels import links
from fastmf.kernels.links import gather_tasks, link_weights
from fastmf.kernels.tasks import even
from fastmf.kernels.types import Compressed, Side
from fastmf.kernels.vectors import aligned, whole
from fastmf.runtime.device import Device, resolve, unavailable
from fastmf.runtime.launch import launch

DEVICES = [
    Device(name="numpy", threads=1),
    Device(name="cpu", threads=2),
    pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(bool(unavailable("cuda")), reason="no GPU")]),
]
devices = pytest.mark.parametrize("device", DEVICES, ids=["numpy", "cpu", "cuda"])
COUNTS = [0, 1, 3, 12, 0, 7, 25, 1]
N_COLUMNS = 26


def drawn(counts=COUNTS, n_columns=N_COLUMNS, k=5, seed=0):
    """Entries of rows, the matrix of ones they are, and random tables of their rows and columns."""
    rng = np.random.default_rng(seed)
    columns = [np.sort(rng.choice(n_columns, n, replace=False)) for n in counts]
    dense = np.zeros((len(counts), n_columns))
    for row, own in enumerate(columns):
        dense[row, own] = 1
    indptr = np.append(0, np.cumsum(counts))
    entries = Compressed(indptr, np.concatenate(columns).astype(np.int32), np.zeros(indptr[-1], np.float32))
    return entries, dense, table(len(counts), k, rng), table(n_columns, k, rng)


def table(n, k, rng):
    """A table as solvers make it: random, and filled up with zeros."""
    found = aligned(n, whole(k))
    found[:, :k] = rng.standard_normal((n, k))
    return found


def run(name, device, tasks, *args, out):
    """Launch a kernel on copies; return what it wrote, and its sums."""
    given = device.put(args), device.put(out.copy())
    sums = launch(getattr(links, name), device, tasks, *given[0], given[1])
    return device.get(given[1]), sums


@devices
@pytest.mark.parametrize("k", [5, 16, 33])
def test_gather_is_a_product_with_a_sparse_matrix_of_ones(device, k):
    device = resolve(device)
    entries, dense, out, y = drawn(k=k)
    weights = np.random.default_rng(1).random(len(COUNTS), np.float32)
    found, sums = run("GATHER", device, gather_tasks(entries.indptr, k), entries, weights, y, out=out)
    expected = weights[:, None] * (dense @ y)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(sums, np.sum(expected**2, axis=0), rtol=1e-4, atol=1e-5)


@devices
@pytest.mark.parametrize("k", [1, 33])
def test_respond_is_the_residual_of_the_ridge_regression_scaled(device, k):
    device = resolve(device)
    entries, dense, w, gap = drawn(k=k)
    rng = np.random.default_rng(2)
    weights, squares, ridge = (rng.random(n, np.float32) + 0.5 for n in (N_COLUMNS, len(COUNTS), w.shape[1]))
    given = device.put((entries, weights, gap, ridge[None], w, squares, np.zeros_like(w)))
    sums = launch(links.RESPOND, device, even(len(COUNTS), 3), *given)
    residual, scale = dense @ (weights[:, None] * gap) - ridge * w, squares[:, None] + ridge
    np.testing.assert_allclose(device.get(given[-1]), residual / scale, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(sums, np.sum(residual**2 / scale, axis=0), rtol=1e-4, atol=1e-5)


@devices
def test_dense_kernels_do_what_their_definitions_say(device):
    device, rng, k = resolve(device), np.random.default_rng(3), 5
    n, kp = 10, whole(k)
    a, b, c = (table(n, k, rng) for _ in range(3))
    per_column, per_row = rng.standard_normal(kp).astype(np.float32), rng.random(n, np.float32)
    per_row[3] = 0
    x, bias = a[:, :k].copy(), rng.random(n, np.float32)
    tasks, tight = even(n, 4), {"rtol": 1e-5, "atol": 1e-6}

    def ran(kernel, *args):
        given = [
            device.put(arg) if isinstance(arg, tuple) or np.ndim(arg) == 2 or len(arg) == n else arg for arg in args
        ]
        sums = launch(kernel, device, tasks, *given)
        return device.get(given[-1]), sums

    for ridge in (np.full((1, kp), 3, np.float32), rng.random((n, kp)).astype(np.float32)):
        turned, squares = ran(links.TURN, per_column, a, ridge, b.copy())
        np.testing.assert_allclose(turned, a + per_column * b, **tight)
        np.testing.assert_allclose(squares, np.sum(ridge * turned.astype(float) ** 2, axis=0), **tight)
    spread = ran(links.SPREAD, per_row, a)[1]
    np.testing.assert_allclose(spread, per_row @ a.astype(float) ** 2, **tight)
    np.testing.assert_allclose(ran(links.ADVANCE, per_column, a, b.copy())[0], b + per_column * a, **tight)
    departed = ran(links.DEPART, x, b, c.copy())[0]
    np.testing.assert_allclose(departed[:, :k], x - b[:, :k], **tight)
    np.testing.assert_array_equal(departed[:, k:], c[:, k:])
    np.testing.assert_allclose(
        ran(links.ATTRACT, a, per_row, per_column, b.copy())[0], a + np.outer(per_row, per_column), **tight
    )
    np.testing.assert_allclose(
        launch(links.TOTAL, device, tasks, device.put(per_row), device.put(x)), per_row @ x, **tight
    )
    mean = per_column[:k].copy()
    centred = ran(links.CENTRE, per_row, x, mean, x.copy())[0]
    np.testing.assert_allclose(centred, np.where(per_row[:, None] > 0, x - mean, 0), **tight)
    np.testing.assert_allclose(ran(links.ABSORB, Side(x, bias), mean, bias.copy())[0], bias + x @ mean, **tight)


@pytest.mark.parametrize("cut", [[0, 8], [0, 1, 4, 8], list(range(9))])
def test_tasks_do_not_change_a_bit(cut):
    device = Device(name="cpu", threads=1)
    entries, _, out, y = drawn(k=16, counts=[26] * 8)
    weights = np.ones(8, np.float32)
    whole_run, _ = run("GATHER", device, np.array([0, 8]), entries, weights, y, out=out)
    cut_run, _ = run("GATHER", device, np.array(cut), entries, weights, y, out=out)
    np.testing.assert_array_equal(cut_run, whole_run)


def test_sums_in_blocks_of_columns_are_the_same(monkeypatch):
    # CACHED is a constant of the compiled kernel: many columns make many blocks
    n_columns = 3 * links.CACHED // 16
    entries, dense, out, y = drawn(counts=[900] * 3, n_columns=n_columns, k=16)
    assert n_columns * 16 // links.CACHED > 1
    found, _ = run(
        "GATHER", Device(name="cpu", threads=1), np.array([0, 3]), entries, np.ones(3, np.float32), y, out=out
    )
    np.testing.assert_allclose(found, dense @ y, rtol=1e-3, atol=1e-3)


def test_link_weights_fade_in():
    weights, shares = link_weights(np.array([0, 1, 20, 400]), 20.0)
    np.testing.assert_allclose(shares, [20 / 21, 20 / 21, 0.5, 20 / 420], rtol=1e-6)
    np.testing.assert_allclose(weights, (1 - shares) / np.sqrt([1, 1, 20, 400]), rtol=1e-6)
    found = link_weights(np.array([0, 4, 4]), 20.0, np.array([0.0, 4.0, 20.0]))
    np.testing.assert_allclose(found, [[1 / 21, 1 / 12, 1 / 4], [20 / 21, 5 / 6, 1 / 2]], rtol=1e-6)
    full, none = link_weights(np.array([4, 9]), 0.0)
    np.testing.assert_allclose(full, [1 / 2, 1 / 3])
    np.testing.assert_array_equal(none, 0)
