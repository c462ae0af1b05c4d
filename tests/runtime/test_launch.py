import ctypes
import importlib
import os
import pkgutil
import subprocess
import sys
import textwrap
import threading
from itertools import pairwise

import numpy as np
import pytest

import fastmf
from fastmf import kernels
from fastmf.bench.machine import limits
from fastmf.kernels.compile import ENABLED
from fastmf.kernels.region import LIMIT, TAKEN, done, new_share, parallel_loop, region, take, taken, wait_for
from fastmf.runtime import launch as launching
from fastmf.runtime.device import Device
from fastmf.runtime.launch import Engine, engine, launch, results

TASKS = np.arange(0, 101, 10)
ONE, TWO = (Device(name="cpu", threads=threads) for threads in (1, 2))


def run_script(script, **environment):
    """Run Python source in a process of its own; it must end well. Returns what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@region
def _add(share, lines):
    for task in taken(share):
        for n in range(share.tasks[task], share.tasks[task + 1]):
            for column in range(lines.shape[1]):
                share.found[task, column] += lines[n, column]


@region
def _double(share, numbers):
    for task in taken(share):
        for n in range(share.tasks[task], share.tasks[task + 1]):
            numbers[n] *= 2


@region
def _in_turn(share, order, places, size):
    """Write the order in which tasks run; a group of ``size`` tasks starts when those before it are done."""
    for task in taken(share):
        wait_for(share, task // size * size)
        order[take(places)] = task
        done(share)


def add_numpy(tasks, lines):
    return np.array([lines[start:stop].sum(axis=0) for start, stop in pairwise(tasks)])


def double_numpy(tasks, numbers):
    numbers[tasks[0] : tasks[-1]] *= 2


def add_cpu(tasks, lines):
    return _add(tasks, lines, found=np.zeros((len(tasks) - 1, lines.shape[1])))


ADD = {"numpy": add_numpy, "cpu": add_cpu}
DOUBLE = {"numpy": double_numpy, "cpu": _double}
HARD = np.random.default_rng(0).lognormal(0, 12, (1000, 2))  # their sum depends on the order in which they are added


@pytest.fixture
def slices(monkeypatch):
    """Record the slices of launches: the tasks of each, and its threads."""
    seen = []

    def run_slice(work, share, threads):
        seen.append((int(share.counters[TAKEN]), int(share.counters[LIMIT]), threads))
        return real(work, share, threads)

    real = launching._run_slice
    monkeypatch.setattr(launching, "_run_slice", run_slice)
    return seen


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_launch_runs_every_task_once_and_adds_up_their_results(device):
    numbers = np.ones(100)
    assert launch(DOUBLE, Device(name=device, threads=2), TASKS, numbers) == 0
    assert numbers.tolist() == [2] * 100
    assert launch(ADD, Device(name=device, threads=2), TASKS, HARD[:100]) == pytest.approx(HARD[:100].sum(axis=0))
    assert results(ADD, Device(name=device, threads=2), TASKS, HARD[:100]).shape == (10, 2)


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_threads_do_not_change_the_sum(threads):
    tasks = np.arange(0, 1001, 5)
    lines = np.array([add_numpy(tasks[n : n + 2], HARD)[0] for n in range(200)])
    found = [launch(ADD, Device(name="cpu", threads=threads), tasks, HARD) for _ in range(20)]
    assert {sums.tobytes() for sums in found} == {found[0].tobytes()}
    np.testing.assert_allclose(found[0], lines.sum(axis=0), rtol=1e-12)


@region(allocates=True)
def _ask_too_much(share, numbers):
    room = np.empty(1 << 50)
    for task in taken(share):
        numbers[share.tasks[task]] = room[0]


@pytest.mark.skipif(not ENABLED, reason="the JIT is off")
@pytest.mark.parametrize("device", [ONE, TWO], ids=["one", "two"])
def test_a_worker_without_memory_is_an_error(device):
    _ask_too_much.pace = np.inf
    with pytest.raises(MemoryError):
        launch({"cpu": _ask_too_much}, device, TASKS, np.ones(100))


def test_tasks_that_wait_run_after_those_they_wait_for():
    tasks = np.arange(201)
    for threads in (1, 2, 7):
        order, places = np.full(200, -1), new_share(tasks, np.empty(0))
        places.counters[LIMIT] = 200
        launch({"cpu": _in_turn}, Device(name="cpu", threads=threads), tasks, order, places, 8)
        groups = order // 8
        assert sorted(order) == list(range(200))
        assert np.all(np.diff(groups) >= 0)


@pytest.mark.skipif(not ENABLED, reason="the JIT is off")
def test_a_launch_uses_as_many_threads_as_the_device_has_if_they_are_worth_starting(slices):
    for pace, device, expected in ((1.0, ONE, 1), (1.0, TWO, 2), (1e-9, TWO, 1), (np.inf, TWO, 2)):
        slices.clear()
        _double.pace = pace
        launch(DOUBLE, device, TASKS, np.ones(100))
        assert slices == [(0, 10, expected)]
        assert 0 < _double.pace < 1


def test_slices_are_as_long_as_tasks_allow(slices, monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(launching.time, "perf_counter", lambda: float(next(clock)))  # every slice takes a second
    numbers = np.ones(400)
    launch(DOUBLE, TWO, np.arange(401), numbers)
    most = 2 * launching.FIRST
    assert slices[0][:2] == (0, most)
    assert slices[1][:2] == (most, most + int(launching.SLICE * most))
    assert slices[-1][1] == 400
    assert all(one[1] == other[0] for one, other in pairwise(slices))
    assert numbers.tolist() == [2] * 400


def test_a_signal_between_two_slices_ends_the_launch(monkeypatch):
    monkeypatch.setattr(launching, "FIRST", 1)
    ran = []

    def run_slice(work, share, threads):
        ran.append(threads)
        raise KeyboardInterrupt

    monkeypatch.setattr(launching, "_run_slice", run_slice)
    with pytest.raises(KeyboardInterrupt):
        launch(DOUBLE, TWO, TASKS, np.ones(100))
    assert len(ran) == 1


def test_a_gpu_takes_all_tasks_at_once_and_may_return_any_number_of_lines():
    class Elsewhere(Device):
        host = ONE

    gpu, calls = Elsewhere(name="cuda", threads=2), []

    def kernel(tasks, lines):
        calls.append(tasks.tolist())
        return lines

    assert launch({"cuda": kernel}, gpu, TASKS, np.ones((3, 2))).tolist() == [3, 3]
    assert launch({"cuda": kernel}, gpu, TASKS, None) == 0
    assert calls == [TASKS.tolist()] * 2


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_launch_without_tasks_is_zero(device):
    assert np.all(launch(ADD, Device(name=device, threads=2), np.array([0]), HARD) == 0)


def tables():
    """Yield the name and the table of every kernel."""
    for module in pkgutil.iter_modules(kernels.__path__):
        if not module.name.endswith("_cuda"):
            for name, table in vars(importlib.import_module(f"fastmf.kernels.{module.name}")).items():
                if isinstance(table, dict) and {"numpy", "cpu"} <= set(table):
                    yield f"{module.name}.{name}", table


@pytest.mark.skipif(not ENABLED, reason="the JIT is off")
def test_every_cpu_kernel_runs_as_a_parallel_region(monkeypatch):
    """A launch of any kernel in any table is one call of the ``@njit(parallel=True)`` loop, here on two threads."""
    assert parallel_loop().targetoptions["parallel"]
    found, launched, calls = dict(tables()), {}, []

    def recorded(name, cpu):
        def kernel(tasks, *args):
            work = cpu(tasks, *args)
            launched.setdefault(work.region, name)
            return work

        return kernel

    def run_region(run, share, threads, args):
        calls.append(run)
        return real_region(run, share, threads, args)

    def run_slice(work, share, threads):  # on two threads, even if there is one task
        n_calls = len(calls)
        real_slice(work, share, 2)
        assert calls[n_calls:] == [work.region.run]

    real_region, real_slice = launching._run_region, launching._run_slice
    monkeypatch.setattr(launching, "_run_region", run_region)
    monkeypatch.setattr(launching, "_run_slice", run_slice)
    for name, table in found.items():
        monkeypatch.setitem(table, "cpu", recorded(name, table["cpu"]))
    fastmf.warmup(k=5)
    monkeypatch.setattr("fastmf.bench.machine.ARRAY", 1 << 20)
    limits(TWO)
    assert set(found) == set(launched.values())


def test_a_fit_may_begin_when_the_main_thread_has_ended():
    script = """
        import threading
        from fastmf import fit  # what fit needs is imported now: pandas cannot be, when the main thread has ended
        def late():
            threading.main_thread().join()
            model = fit((["a", "a", "b", "b"], [1, 2, 1, 3], [5.0, 3.0, 4.0, 1.0]), k=2, epochs=1)
            print(len(model.user_ids), flush=True)
        threading.Thread(target=late).start()
    """
    assert run_script(script).strip() == "2"


def together(functions):
    """Run functions in threads of their own, all at once; all must come to an end."""
    threads = [threading.Thread(target=function, daemon=True) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a thread does not come to an end"


def everything(rows, **settings):
    """Return what fits by two solvers, lists, predictions and an evaluation give."""
    model = fastmf.fit(rows, k=3, epochs=3, solver="als", **settings)
    other = fastmf.fit(rows, k=3, epochs=3, solver="sgd", **settings)
    lists = model.recommend(n=5)
    predictions = model.predict(rows[0], rows[1])["prediction"].tolist()
    rmse = fastmf.evaluate(model, rows)["rmse"]
    return model.content_hash, other.content_hash, lists.to_dict(), predictions, rmse


def test_threads_get_at_once_what_they_would_alone(planted):
    rows = planted()
    settings = [{}, {"seed": 1}, {"threads": 1}, {}]
    alone = [everything(rows, **setting) for setting in settings]
    found = {}

    def again(n):
        found[n] = [everything(rows, **settings[n]) for _ in range(2)]

    together([lambda n=n: again(n) for n in range(len(settings))])
    assert [found[n] for n in range(len(settings))] == [[one, one] for one in alone]


@pytest.mark.skipif(not ENABLED, reason="the JIT is off")
def test_the_engine_falls_back_where_a_layer_is_not_safe(monkeypatch):
    _engine = launching._engine
    monkeypatch.setattr(launching, "_engine", lambda: Engine("region", "Numba's threading layer is workqueue"))
    monkeypatch.setattr(launching, "_layer", lambda: "workqueue")
    monkeypatch.setattr(launching, "alone", lambda: False)
    assert engine().name == "threads"
    assert "abort" in engine().reason
    numbers = np.ones(100)
    launch(DOUBLE, TWO, TASKS, numbers)
    assert numbers.tolist() == [2] * 100
    monkeypatch.setattr(launching, "alone", lambda: True)
    assert engine().name == "region"
    monkeypatch.setattr(launching, "_engine", lambda: _engine.__wrapped__())
    monkeypatch.setattr(launching, "_forked", True)
    assert engine() == ("threads", "Numba's threads were started before, perhaps by a parent of this process")
    monkeypatch.setattr(launching, "_forked", False)
    monkeypatch.setattr("fastmf.kernels.compile.ENABLED", False)
    assert engine().name == "serial"


LAYERS = ["omp", "workqueue", "tbb"]
ROWS = """
import numpy as np, fastmf
rng = np.random.default_rng(0)
chosen = rng.permutation(200 * 100)[:9000]
rows = chosen // 100, chosen % 100, rng.integers(1, 6, 9000).astype(float)
"""


def run_under(layer, script, **environment):
    """Run a script in a process of its own, under one of Numba's threading layers."""
    if layer == "tbb":
        try:
            ctypes.CDLL("libtbb.so.12")
        except OSError:
            pytest.skip("TBB is not installed, or not on the library path")
    return run_script(script, NUMBA_THREADING_LAYER=layer, **environment)


@pytest.mark.skipif(not ENABLED, reason="the JIT is off")
@pytest.mark.parametrize("layer", [*LAYERS, "unknown"])
def test_threads_may_launch_at_once_under_any_layer(layer):
    script = """
        import threading

        def everything():
            model = fastmf.fit(rows, k=8, epochs=3)
            other = fastmf.fit(rows, k=8, epochs=2, solver="sgd")
            lists, predictions = model.recommend(n=5), model.predict(*rows[:2])
            return model.content_hash, other.content_hash, lists.to_json(), predictions.to_json()

        alone, found = everything(), []
        threads = [threading.Thread(target=lambda: found.extend(everything() for _ in range(3))) for _ in range(4)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print(len(found), set(found) == {alone})
    """
    assert run_under(layer, ROWS + textwrap.dedent(script)).split() == ["12", "True"]


@pytest.mark.skipif(not ENABLED, reason="the JIT is off")
@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="fork is missing or unsafe here")
@pytest.mark.parametrize("layer", LAYERS)
def test_a_forked_child_works_before_any_launch_and_after_one(layer):
    script = """
        import os

        def fit():
            return fastmf.fit(rows, k=8, epochs=2, threads=2).content_hash

        def in_a_child():
            reading, writing = os.pipe()
            child = os.fork()
            if not child:
                try:
                    os.write(writing, fit().encode())
                finally:
                    os._exit(0)
            os.close(writing)
            os.waitpid(child, 0)
            return os.read(reading, 1000).decode()

        first = in_a_child()
        here = fit()
        print(len(here) > 8, first == here, in_a_child() == here, fit() == here)
    """
    assert run_under(layer, ROWS + textwrap.dedent(script)).split() == ["True"] * 4


@pytest.mark.skipif(not ENABLED, reason="the JIT is off")
@pytest.mark.skipif(sys.platform != "linux", reason="what /proc holds")
def test_a_child_of_a_host_that_had_started_numbas_threads_works():
    script = """
        import os, numba
        numba.set_num_threads(2)  # the host's own launches start the threads, before fastmf is imported

        @numba.njit(parallel=True)
        def host(n):
            total = 0
            for i in numba.prange(n):
                total += i
            return total

        host(100)
        child = os.fork()
        if not child:
            import threading
            threading.Thread(target=threading.Event().wait, daemon=True).start()  # no sign that there was no fork
            import fastmf
            from fastmf.runtime.launch import engine
            rows = [1, 1, 2, 2], [1, 2, 1, 3], [5.0, 3.0, 4.0, 1.0]
            fastmf.fit(rows, k=2, epochs=1)
            print(engine().name, flush=True)
            os._exit(0)
        print(os.waitpid(child, 0)[1], host(100))
    """
    assert run_under("omp", script).split() == ["threads", "0", "4950"]


@pytest.mark.skipif(not ENABLED, reason="the JIT is off")
@pytest.mark.parametrize("layer", LAYERS)
def test_the_number_of_threads_is_a_launchs_own_and_the_hosts_settings_stay(layer):
    script = """
        import numba
        from fastmf.runtime.device import resolve

        numba.set_num_threads(3)
        models = set()
        for threads in (1, 2, 3, 4, 16):
            assert resolve("cpu", threads).threads == threads
            models.add(fastmf.fit(rows, k=8, epochs=2, threads=threads).content_hash)
            models.add(fastmf.fit(rows, k=8, epochs=2, threads=threads, solver="sgd").content_hash)
            assert numba.get_num_threads() == 3
        print(len(models), numba.threading_layer(), numba.config.THREADING_LAYER)
    """
    assert run_under(layer, ROWS + textwrap.dedent(script), NUMBA_NUM_THREADS="16").split() == ["2", layer, layer]
