from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from fastmf.device import NAMES, Device, max_threads, resolve, unavailable
from fastmf.errors import DeviceUnavailableError, ParameterError
from fastmf.kernels.als import Side


def test_a_device_is_found_by_name():
    assert resolve() == Device(name="cpu", threads=max_threads())
    assert resolve("numpy", 1) == Device(name="numpy", threads=1)


def test_auto_takes_a_device_that_is_there():
    device = resolve("auto")
    assert device.name in set(NAMES) - {"auto"}
    assert unavailable(device.name) is None


def test_a_device_passes_through():
    device = Device(name="numpy", threads=1)
    assert resolve(device) is device


def test_more_threads_than_there_are_are_cut_down():
    with pytest.warns(UserWarning, match=f"using {max_threads()}"):
        assert resolve("cpu", 10**6).threads == max_threads()
    assert resolve("cpu", 1).threads == 1


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2"])
def test_a_number_of_threads_that_is_none_is_a_parameter_error(threads):
    with pytest.raises(ParameterError, match=f"threads is {threads}: give at least 1"):
        resolve("cpu", threads)


@pytest.mark.parametrize("name", ["gpu", "", "CPU"])
def test_an_unknown_name_is_a_parameter_error_that_lists_the_known(name):
    with pytest.raises(ParameterError, match="cpu, numpy, cuda, auto"):
        resolve(name)


def test_cuda_says_why_it_cannot_be_used():
    reason = unavailable("cuda")
    if reason is None:
        pytest.skip("there is a GPU")
    with pytest.raises(DeviceUnavailableError, match=reason) as caught:
        resolve("cuda")
    assert caught.value.exit_code == 6


def test_arrays_stay_where_they_are_on_the_host():
    side = Side(np.zeros((2, 3), np.float32), np.zeros(2, np.float32))
    device = resolve()
    assert device.put(side) is side
    assert device.get(side) is side


def test_a_device_is_frozen_and_keyword_only():
    with pytest.raises(TypeError):
        Device("cpu", 1)
    with pytest.raises(FrozenInstanceError):
        resolve().threads = 3
