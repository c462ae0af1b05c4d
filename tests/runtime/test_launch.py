import functools
import os
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest

import fastmf
from fastmf.kernels.als import half_sweep_tasks
from fastmf.runtime import launch as launching
from fastmf.runtime.device import Device
from fastmf.runtime.launch import launch

TASKS = np.arange(0, 101, 10)
ONE, TWO = (Device(name="cpu", threads=threads) for threads in (1, 2))


def both(kernel):
    return {"numpy": kernel, "cpu": kernel}


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


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_launch_runs_every_task_once_and_adds_up_their_lines(device):
    taken = []

    def kernel(tasks, factor):
        taken.extend(pairwise(tasks.tolist()))
        return np.diff(tasks) * factor

    assert launch(both(kernel), Device(name=device, threads=2), TASKS, 3) == 300
    assert sorted(taken) == list(pairwise(TASKS.tolist()))


def test_launch_runs_the_version_of_its_device():
    kernel = {name: lambda tasks, n=n: np.full(len(tasks) - 1, n) for n, name in enumerate(("numpy", "cpu"))}
    assert launch(kernel, Device(name="numpy", threads=1), TASKS) == 0
    assert launch(kernel, Device(name="cpu", threads=1), TASKS) == 10


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_threads_do_not_change_the_sum(threads):
    # numbers whose sum depends on the order in which they are added
    lines = np.random.default_rng(0).lognormal(0, 12, (200, 2))
    calls = []

    def kernel(tasks):
        calls.append(tasks.tolist())
        return lines[tasks[:-1]]

    total = launch(both(kernel), Device(name="cpu", threads=threads), np.arange(201))
    assert total.tobytes() == lines.sum(axis=0).tobytes()
    assert [task for tasks in sorted(calls) for task in tasks[:-1]] == list(range(200))
    assert max(map(len, calls)) <= launching.MOST_TASKS + 1


def test_a_launch_uses_as_many_threads_as_the_device_has():
    for device, expected in ((ONE, 1), (TWO, 2), (Device(name="numpy", threads=2), 1)):
        names, meet = set(), threading.Barrier(expected)

        def kernel(tasks, names=names, meet=meet):
            if threading.current_thread().name not in names:
                names.add(threading.current_thread().name)
                meet.wait(30)  # so that no thread takes all
            return np.ones(len(tasks) - 1)

        assert launch(both(kernel), device, np.arange(41)) == 40
        assert len(names) == expected


def test_what_a_helper_raises_is_raised_and_ends_the_launch():
    main, calls = threading.current_thread(), []

    def kernel(tasks):
        calls.append(tasks)
        if threading.current_thread() is main:
            threading.Event().wait(0.05)
            return np.ones(len(tasks) - 1)
        raise ArithmeticError("no")

    with pytest.raises(ArithmeticError, match="no"):
        launch(both(kernel), TWO, np.arange(1001))
    assert len(calls) < 100


@pytest.mark.parametrize("error", [ArithmeticError, KeyboardInterrupt])
def test_what_the_caller_raises_ends_the_launch_when_its_helpers_have_done_their_tasks(error):
    main, begun, ended = threading.current_thread(), threading.Event(), []

    def kernel(tasks):
        if threading.current_thread() is main:
            begun.wait(30)
            raise error
        begun.set()
        threading.Event().wait(0.05)
        ended.append(tasks)
        return np.ones(len(tasks) - 1)

    with pytest.raises(error):
        launch(both(kernel), TWO, np.arange(1001))
    assert len(ended) == 1


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


def test_a_kernel_without_a_result_gives_zero():
    assert launch(both(lambda tasks: None), TWO, TASKS) == 0


def test_a_launch_does_not_wait_for_the_helpers_of_others(monkeypatch):
    monkeypatch.setattr(launching, "_helpers", functools.cache(lambda: ThreadPoolExecutor(1)))
    release = threading.Event()

    def slow(tasks):
        release.wait(60)
        return np.ones(len(tasks) - 1)

    long = threading.Thread(target=lambda: launch(both(slow), TWO, np.arange(41)))
    long.start()  # it takes the only helper there is
    try:
        assert launch(both(lambda tasks: np.diff(tasks)), TWO, TASKS) == 100
        assert long.is_alive()
    finally:
        release.set()
        long.join()


def test_without_any_helper_the_caller_does_it_all(monkeypatch):
    class Ended:
        def submit(self, work):
            raise RuntimeError("cannot schedule new futures after shutdown")

    monkeypatch.setattr(launching, "_helpers", Ended)
    assert launch(both(lambda tasks: np.diff(tasks)), TWO, TASKS) == 100


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


def test_launch_without_tasks_is_zero():
    assert launch(both(lambda tasks: 1 / 0), TWO, np.array([0])) == 0


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


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="fork is missing or unsafe here")
def test_a_forked_child_works_before_any_launch_and_after_one():
    script = """
        import os, fastmf
        rows = [1, 1, 2, 2], [1, 2, 1, 3], [5.0, 3.0, 4.0, 1.0]

        def fit():
            return fastmf.fit(rows, k=2, epochs=1, threads=2).content_hash

        def in_a_child(expected):
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

        first = in_a_child(None)
        here = fit()
        print(len(here) > 8, first == here, in_a_child(here) == here, fit() == here)
    """
    assert run_script(script).split() == ["True"] * 4


def test_a_thread_never_takes_more_than_a_slice_at_a_time():
    # A user with 20,000 ratings and a million with 20. A core does 5e9 operations a second in plain Numba, and ten
    # times as many in vectors. A row is never cut: with many more ratings, or factors, it takes longer than a slice.
    indptr = np.append(0, np.cumsum(np.append(20_000, np.full(10**6, 20))))
    for k in (8, 32, 128, 256):
        tasks = half_sweep_tasks(indptr, k)
        cost = indptr[tasks] * k * (k + 1.0) + tasks * (k**3 / 3 + 2 * k**2)
        takes = [cost[stop] - cost[start] for start, stop in launching._parts(len(tasks) - 1, 2)]
        assert sum(takes) == cost[-1]
        assert max(takes) / 5e10 < 0.1
        assert k > 128 or max(takes) / 5e9 < 0.5


def test_more_threads_than_cores_keep_every_bit_and_none_is_numbas():
    script = """
        import threading
        import numba, numpy as np, fastmf
        from fastmf.runtime.device import resolve
        from fastmf.runtime.launch import launch

        rng = np.random.default_rng(0)
        lines = rng.lognormal(0, 12, (300, 2))  # their sum depends on the order in which they are added
        names = set()

        def kernel(tasks):
            names.add(threading.current_thread().name)
            threading.Event().wait(0.001)  # so that all threads get some
            return lines[tasks[:-1]]

        chosen = rng.permutation(60 * 40)[:900]
        rows = chosen // 40, chosen % 40, rng.integers(1, 6, 900).astype(float)
        sums, models = set(), set()
        for threads in (1, 2, 3, 4, 16):
            device = resolve("cpu", threads)
            names.clear()
            sums.add(launch({"cpu": kernel}, device, np.arange(301)).tobytes())
            assert 1 <= len(names) <= device.threads == threads, (names, device)
            models.add(fastmf.fit(rows, k=4, epochs=2, threads=threads).content_hash)
            models.add(fastmf.fit(rows, k=4, epochs=2, threads=threads, solver="sgd").content_hash)
        assert sums == {lines.sum(axis=0).tobytes()}
        try:
            layer = numba.threading_layer()
        except ValueError:  # none is initialized
            layer = "none"
        print(len(names), len(models), layer)
    """
    n_names, n_models, layer = run_script(script, NUMBA_NUM_THREADS="16").split()
    assert int(n_names) > 2  # of 16
    assert n_models == "2"
    assert layer == "none"
