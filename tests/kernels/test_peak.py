import numpy as np
import pytest

from fastmf.kernels.peak import MULTIPLY_ADD, READ
from fastmf.runtime.device import Device
from fastmf.runtime.launch import launch


@pytest.mark.big
@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_multiply_adds_are_counted(device):
    where = Device(name=device, threads=2)
    once = launch(MULTIPLY_ADD, where, np.array([0, 1]))
    assert once > 1e5
    assert launch(MULTIPLY_ADD, where, np.array([0, 1, 3])) == 3 * once


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_everything_is_read(device):
    array = np.arange(100, dtype=np.float32)
    assert launch(READ, Device(name=device, threads=2), np.array([0, 7, 100]), array).tolist() == [400, 4950]
