"""Gram matrices against their definition."""

import numpy as np
import pytest

from fastmf.kernels.gram import GRAM
from fastmf.kernels.tasks import even
from fastmf.kernels.vectors import aligned, whole
from fastmf.runtime.device import Device
from fastmf.runtime.launch import launch

NUMPY, CPU = (Device(name=name, threads=2) for name in ("numpy", "cpu"))


def table(n, k, seed=0):
    """Rows by chance, filled up with zeros to whole vectors."""
    x = aligned(n, whole(k))
    x[:, :k] = np.random.default_rng(seed).standard_normal((n, k))
    return x


@pytest.mark.parametrize(("n", "size", "k"), [(0, 4, 5), (1, 4, 33), (11, 4, 1), (11, 4, 48), (1100, 700, 16)])
def test_the_definition_is_the_sum_of_the_outer_products_and_the_kernel_equals_it(n, size, k):
    x = table(n, k)
    tasks = even(n, size) if n else np.array([0, 0])
    found, defined = (launch(GRAM, device, tasks, x, k) for device in (CPU, NUMPY))
    exact = x[:, :k].astype(np.float64).T @ x[:, :k]
    np.testing.assert_allclose(defined, exact, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-5 * max(n, 1))
    np.testing.assert_array_equal(found, found.T)
    assert found.dtype == np.float64


def test_threads_do_not_change_a_bit():
    x = table(1000, 7)
    one, other = (launch(GRAM, Device(name="cpu", threads=n), even(1000, 70), x, 7) for n in (1, 2))
    np.testing.assert_array_equal(one, other)
