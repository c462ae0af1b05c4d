import numpy as np
import pytest

from fastmf.kernels.bias import BIAS, bias_tasks
from fastmf.kernels.types import Compressed
from fastmf.runtime.device import Device
from fastmf.runtime.launch import launch


@pytest.mark.parametrize("device", BIAS)
def test_biases_are_damped_means_of_what_the_other_side_leaves(device):
    indptr, indices = np.array([0, 2, 2, 5]), np.array([0, 1, 0, 1, 2], np.int32)
    entries = Compressed(indptr, indices, np.array([3, 1, 2, 2, 5], np.float32))
    other, out = np.array([1, 0, -1], np.float32), np.full(3, 7, np.float32)
    launch(BIAS, Device(name=device, threads=2), np.array([0, 1, 3]), entries, other, 2.0, out)
    np.testing.assert_allclose(out, [(2 + 1) / 4, 0, (1 + 2 + 6) / 5], rtol=1e-6)


@pytest.mark.parametrize("device", BIAS)
def test_a_weight_counts_as_so_many_entries(device):
    entries = Compressed(np.array([0, 2, 2, 3]), np.array([0, 1, 0], np.int32), np.array([3, 1, 2], np.float32))
    entries = entries._replace(weights=np.array([2, 0.5, 3], np.float32))
    other, out = np.array([1, 0], np.float32), np.full(3, 7, np.float32)
    launch(BIAS, Device(name=device, threads=2), np.array([0, 1, 3]), entries, other, 2.0, out)
    np.testing.assert_allclose(out, [(2 * 2 + 0.5) / 4.5, 0, 3 / 5], rtol=1e-6)


def test_tasks_cover_the_rows():
    assert bias_tasks(np.array([0, 2, 2, 5])).tolist() == [0, 3]
