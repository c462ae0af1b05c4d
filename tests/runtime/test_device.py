import importlib.util
import os
import sys
import types
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

import fastmf.runtime.device
from fastmf.errors import DeviceUnavailableError, ParameterError, ResourceError
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


def test_a_number_of_threads_that_is_none_is_a_parameter_error():
    for threads in (0, -1, 1.5, "2", True):
        with pytest.raises(ParameterError, match=f"threads is {threads!r}: give at least 1"):
            resolve("cpu", threads)


def test_an_unknown_name_is_a_parameter_error_that_lists_the_known():
    for name in ("gpu", "", "CPU", "cpu:1", "cuda:", "cuda:x", "cuda:-1", 3):
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
    with pytest.raises(DeviceUnavailableError, match=r"numba-cuda is not installed: pip install 'numba-cuda\[cu13\]'"):
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
    with pytest.raises(DeviceUnavailableError, match=r"'cuda:99' cannot be used: GPUs here: \d+, numbered from 0"):
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


def test_arrays_may_be_none_or_nested_in_tuples():
    nested = Side(np.zeros(1), np.ones(1)), None, (np.full(1, 2.0),)
    copied = resolve().copy(nested)
    assert isinstance(copied[0], Side)
    assert [copied[0].bias.tolist(), copied[1], copied[2][0].tolist()] == [[1], None, [2]]
    assert copied[2][0] is not nested[2][0]


def test_the_host_is_its_own_host_and_prepares_for_a_gpu():
    cpu, gpu = Device(name="cpu", threads=2), CudaDevice(name="cuda", threads=2, index=1)
    assert cpu.on_host
    assert not gpu.on_host
    assert gpu.host == cpu
    assert (cpu.label, gpu.label, CudaDevice(name="cuda", threads=2).label) == ("cpu", "cuda:1", "cuda")
    assert cpu.describe() == "cpu, 2 threads"
    assert cpu.wait() is None
    assert cpu.require(10**9, 1e30, "it") is None
    with cpu.active():
        pass


class Card:
    """A GPU that there is not: what CudaDevice asks of numba.cuda, with arrays that are NumPy's."""

    def __init__(self, fails=None):
        self.gpus, self.fails, self.entered = [self], fails, 0

    def __enter__(self):
        self.entered += 1

    def __exit__(self, *_):
        self.entered -= 1

    def to_device(self, array):
        if self.fails:
            raise self.fails
        return array.view(OnCard)

    def device_array(self, shape, dtype):
        return np.empty(shape, dtype).view(OnCard)

    def synchronize(self):
        assert self.entered

    def current_context(self):
        return types.SimpleNamespace(get_memory_info=lambda: (2**30, 2**31), deallocations=[1])


class OnCard(np.ndarray):
    def copy_to_host(self):
        return np.array(self)

    def copy_to_device(self, other):
        self[:] = other


@pytest.fixture
def card(monkeypatch):
    monkeypatch.setattr(fastmf.runtime.device, "_thread", types.SimpleNamespace())
    monkeypatch.setattr(fastmf.runtime.device, "_used", False)

    def insert(**how):
        found = Card(**how)
        monkeypatch.setattr(fastmf.runtime.device, "_cuda", lambda: found)
        return found

    return insert


def test_arrays_go_to_a_gpu_and_back(card):
    found, gpu = card(), CudaDevice(name="cuda", threads=1)
    side = Side(np.arange(6.0).reshape(3, 2).T, np.ones(2))
    there = gpu.put((side, None))
    assert isinstance(there[0].factors, OnCard)
    copied = gpu.copy(there)
    copied[0].bias[:] = 7
    back = gpu.get(there)
    assert type(back[0].factors) is np.ndarray
    np.testing.assert_array_equal(back[0].factors, side.factors)
    assert back[0].bias.tolist() == [1, 1]
    gpu.wait()
    assert found.entered == 1  # for good, so that arrays can be freed


def test_a_gpu_refuses_what_it_cannot_take(card):
    card()
    gpu = CudaDevice(name="cuda", threads=1)
    gpu.require(1024, 2**30, "it")
    with pytest.raises(ParameterError, match="k is 1,025: a GPU takes at most 1,024 factors here; use --device cpu"):
        gpu.require(1025, 0, "it")
    with pytest.raises(ResourceError, match=r"it takes at least 2\.00 GiB of the GPU's memory, of which 1\.00 GiB are"):
        gpu.require(8, 2**31, "it")


def test_a_gpu_out_of_memory_is_a_resource_error_and_other_errors_stay(card, monkeypatch):
    groups = types.ModuleType("groups")
    groups.is_out_of_memory = lambda error: "OUT_OF_MEMORY" in str(error)
    monkeypatch.setitem(sys.modules, "fastmf.kernels.groups_cuda", groups)
    gpu = CudaDevice(name="cuda", threads=1)
    card(fails=RuntimeError("CUDA_ERROR_OUT_OF_MEMORY"))
    with pytest.raises(ResourceError, match="the GPU is out of memory: use fewer factors"):
        gpu.put(np.zeros(1))
    card(fails=RuntimeError("another"))
    with pytest.raises(RuntimeError, match="another"):
        gpu.put(np.zeros(1))


def test_no_gpu_is_a_reason_with_a_remedy(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    for there, reason in (
        ({"is_available": lambda: False}, r"no GPU that CUDA can use \(no driver found\): see nvidia-smi; pip install"),
        ({"is_available": lambda: False, "cuda_error": lambda: "old driver."}, r"can use \(old driver\)"),
        ({"is_available": lambda: True, "gpus": [0, 1]}, "GPUs here: 2, numbered from 0"),
    ):
        monkeypatch.setattr(fastmf.runtime.device, "_cuda", lambda there=there: types.SimpleNamespace(**there))
        with pytest.raises(DeviceUnavailableError, match=f"'cuda:2' cannot be used: .*{reason}.*--device cpu"):
            resolve("cuda:2")
    assert resolve("cuda:1", 1) == resolve("auto", 1).__class__(name="cuda", threads=1, index=1)
