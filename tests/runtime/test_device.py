import importlib.util
import os
import types
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

import fastmf.runtime.device
from fastmf.errors import DeviceUnavailableError, ParameterError
from fastmf.kernels.types import Side
from fastmf.runtime.device import CudaDevice, Device, resolve, unavailable
from fastmf.runtime.threads import max_threads


def test_a_device_is_found_by_name():
    assert resolve() == Device(name="cpu", threads=max_threads())
    assert resolve("numpy", 1) == Device(name="numpy", threads=1)


def test_auto_takes_a_device_that_is_there():
    device = resolve("auto")
    assert device.name == ("cpu" if unavailable("cuda") else "cuda")
    assert unavailable(device.label) is None


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


@pytest.mark.parametrize("name", ["gpu", "", "CPU", "cpu:1", "cuda:", "cuda:x", "cuda:-1", 3])
def test_an_unknown_name_is_a_parameter_error_that_lists_the_known(name):
    with pytest.raises(ParameterError, match="cpu, numpy, cuda, cuda:<number>, auto"):
        resolve(name)


def test_cuda_says_why_it_cannot_be_used():
    reason = unavailable("cuda")
    if reason is None:
        pytest.skip("there is a GPU")
    with pytest.raises(DeviceUnavailableError) as caught:
        resolve("cuda")
    assert reason in str(caught.value)
    assert "--device cpu" in str(caught.value)
    assert caught.value.exit_code == 6


def test_cuda_without_its_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DeviceUnavailableError, match=r"numba-cuda is not installed: pip install 'fastmf\[cu13\]'"):
        resolve("cuda")
    assert resolve("auto").name == "cpu"


def test_a_broken_installation_of_cuda_is_a_reason(monkeypatch):
    def broken():
        raise ImportError("Error at driver init:\n\n libfoo.so cannot be opened.\nSee")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(fastmf.runtime.device, "_cuda", broken)
    assert unavailable("cuda").startswith("CUDA does not start (libfoo.so cannot be opened): pip install")


@pytest.mark.gpu
@pytest.mark.skipif(bool(unavailable("cuda")), reason="no GPU")
def test_a_gpu_that_is_not_there_is_named():
    with pytest.raises(DeviceUnavailableError, match=r"'cuda:99' cannot be used: there are \d+ GPUs, numbered from 0"):
        resolve("cuda:99")


def test_a_gpu_is_described_by_its_name(monkeypatch):
    cards = types.SimpleNamespace(gpus=[None, types.SimpleNamespace(name=b"NVIDIA H200")])
    monkeypatch.setattr(fastmf.runtime.device, "_cuda", lambda: cards)
    assert CudaDevice(name="cuda", threads=1, index=1).describe() == "cuda:1, NVIDIA H200"


@pytest.mark.filterwarnings("ignore:.*fork")  # of which Python 3.12 warns where there are threads
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on Windows")
def test_a_child_forked_after_the_gpu_was_used_says_so(monkeypatch):
    monkeypatch.setattr(fastmf.runtime.device, "_used", True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            CudaDevice(name="cuda", threads=1).put(np.zeros(1))
        except DeviceUnavailableError as error:
            os.write(writing, f"{error}\n{unavailable('cuda')}".encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    said = os.read(reading, 1000).decode().splitlines()
    assert len(said) == 2
    assert all("forked" in line and "spawn" in line for line in said)


def test_arrays_stay_where_they_are_on_the_host():
    side = Side(np.zeros((2, 3), np.float32), np.zeros(2, np.float32))
    device = resolve()
    assert device.put(side) is side
    assert device.get(side) is side
    assert device.copy(side).factors is not side.factors


def test_a_device_is_frozen_and_keyword_only():
    with pytest.raises(TypeError):
        Device("cpu", 1)
    with pytest.raises(FrozenInstanceError):
        resolve().threads = 3
