"""Features: every kernel against its definition, on every device; sums over entries with values, in test_links."""

import numpy as np
import pytest

from fastmf.kernels import features, links
from fastmf.kernels.links import gather_tasks
from fastmf.kernels.tasks import even
from fastmf.kernels.types import Compressed, Side
from fastmf.kernels.vectors import aligned, whole
from fastmf.runtime.device import Device, resolve, unavailable
from fastmf.runtime.launch import launch

DEVICES = [
    Device(name="cpu", threads=2),
    pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(bool(unavailable("cuda")), reason="no GPU")]),
]
N = 7


def drawn(k, seed=0):
    """A side, tables of its rows, and masks of them."""
    rng = np.random.default_rng(seed)
    side = Side(*(rng.standard_normal(shape).astype(np.float32) for shape in ((N, k), N)))
    tables = []
    for _ in range(3):
        tables.append(aligned(N, whole(k + 1)))
        tables[-1][:, : k + 1] = rng.standard_normal((N, k + 1))
    masks = [rng.integers(0, 2, N).astype(np.float32) for _ in range(2)]
    means = rng.standard_normal((2, whole(k + 1))).astype(np.float32)
    return side, tables, masks, means


def assert_as_defined(device, name, args, written):
    """Launch on copies with a device and with NumPy; the arguments at the places ``written`` must agree."""
    found = []
    for where in (resolve(device), Device(name="numpy", threads=1)):
        own = where.put(tuple(type(a)(*map(np.copy, a)) if isinstance(a, tuple) else a.copy() for a in args))
        launch(getattr(features, name), where, even(N, 3), *own)
        found.append([where.get(own[place]) for place in written])
    for left, right in zip(*found, strict=True):
        pairs = zip(left, right, strict=True) if isinstance(left, tuple) else [(left, right)]
        for one, other in pairs:
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("device", DEVICES, ids=["cpu", "cuda"])
@pytest.mark.parametrize("k", [1, 5, 16])
@pytest.mark.parametrize("linked", [True, False], ids=["links", "no links"])
def test_kernels_equal_their_definitions(device, k, linked):
    side, (expected, out, more), (inside, counts), means = drawn(k)
    of_links = more if linked else np.empty((0, k), np.float32)
    assert_as_defined(device, "LEAVE", (side, of_links, expected, out), [3])
    assert_as_defined(device, "WEIGH", (counts, expected, means[0], out), [3])
    assert_as_defined(
        device, "PULL", (expected, of_links, inside, means[0], side, counts, np.zeros(N, np.float32)), [0, 4, 6]
    )
    assert_as_defined(device, "JOIN", (expected, more, side.factors.copy()), [2])
    assert_as_defined(device, "SQUARE", (expected, out), [1])


@pytest.mark.parametrize("device", ["numpy", *DEVICES], ids=["numpy", "cpu", "cuda"])
@pytest.mark.parametrize("k", [3, 16])
def test_entries_with_values_are_a_sparse_matrix(device, k):
    rng, device = np.random.default_rng(4), resolve(device)
    dense = (rng.standard_normal((N, 9)) * (rng.random((N, 9)) < 0.4)).astype(np.float32)
    roots, table = rng.random(N).astype(np.float32), rng.standard_normal((9, whole(k))).astype(np.float32)
    out, other = aligned(N, whole(k)), aligned(9, whole(k))
    ridge, squares = rng.random((9, whole(k))).astype(np.float32), np.full(9, 2.0, np.float32)
    rows, columns = device.put((compressed(dense), compressed(dense.T)))
    roots, table, out, other, ridge, squares = device.put((roots, table, out, other, ridge, squares))
    launch(links.GATHER, device, gather_tasks(compressed(dense).indptr, k), rows, roots, table, out)
    tasks = gather_tasks(compressed(dense.T).indptr, k)
    launch(links.RESPOND, device, tasks, columns, roots, out, ridge, table, squares, other)
    roots, table, out, other, ridge = device.get((roots, table, out, other, ridge))
    np.testing.assert_allclose(out, roots[:, None] * (dense @ table), rtol=1e-5, atol=1e-5)
    residual = dense.T @ (roots[:, None] * out) - ridge * table
    np.testing.assert_allclose(other, residual / (2 + ridge), rtol=1e-4, atol=1e-5)


def compressed(dense):
    rows, columns = np.nonzero(dense)
    indptr = np.append(0, np.cumsum(np.bincount(rows, minlength=len(dense))))
    weights = dense[rows, columns].astype(np.float32)
    return Compressed(indptr, columns.astype(np.int32), np.empty(0, np.float32), weights)
