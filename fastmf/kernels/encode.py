"""Columns as they are read to what ratings hold: keys to dense indices, numbers to float32, rows chosen by a mask.

Keys are int32 or int64. ``low`` is the lowest, and key - low the place of a key in a table as long as the keys' range.
The difference runs over on purpose for unsigned keys of 64 bits, which come as int64: it is right all the same.
"""

from itertools import pairwise

import numpy as np

from fastmf.kernels.compile import jit


def mark_keys_numpy(tasks, keys, low, present):
    """Set ``present`` uint8 to 1 at the place of every key. Returns (n_tasks,) int64: the keys of each task."""
    for start, stop in pairwise(tasks):
        present[keys[start:stop] - low] = 1
    return np.diff(tasks)


def look_up_numpy(tasks, keys, low, table, out):
    """Write ``table[key - low]`` into ``out``, both int32. Returns (n_tasks,) int64: the keys of each task."""
    for start, stop in pairwise(tasks):
        out[start:stop] = table[keys[start:stop] - low]
    return np.diff(tasks)


def to_float32_numpy(tasks, numbers, out):
    """Write float32 or float64 ``numbers`` (n,) as float32 into ``out``.

    Returns (n_tasks,) int64: how many of each task are not finite then.
    """
    with np.errstate(over="ignore"):
        out[tasks[0] : tasks[-1]] = numbers[tasks[0] : tasks[-1]]
    return np.array([np.count_nonzero(~np.isfinite(out[start:stop])) for start, stop in pairwise(tasks)], np.int64)


def keep_numpy(tasks, size, starts, chosen, rows, kept):
    """Copy what a (n,) boolean mask chooses from each of the arrays ``rows`` to the arrays ``kept``.

    Tasks are of ``size`` rows, and starts (all tasks,) int64 says where what is kept of each goes. Returns (n_tasks,)
    int64, the rows kept.
    """
    done = np.zeros(len(tasks) - 1, np.int64)
    for task, (start, stop) in enumerate(pairwise(tasks)):
        done[task] = np.count_nonzero(chosen[start:stop])
        place = slice(starts[start // size], starts[start // size] + done[task])
        for array, to in zip(rows, kept, strict=True):
            to[place] = array[start:stop][chosen[start:stop]]
    return done


@jit  # tasks may write to the same place, but all of them write a 1
def _mark_keys(tasks, keys, low, present):
    for task in range(tasks.shape[0] - 1):
        for n in range(np.uint64(tasks[task]), np.uint64(tasks[task + 1])):  # a signed index is tested for its sign
            place = np.uint64(keys[n] - low)
            if present[place] == 0:  # else the cores would take the place from each other's cache for nothing
                present[place] = 1


@jit  # each key is written once
def _look_up(tasks, keys, low, table, out):
    for task in range(tasks.shape[0] - 1):
        for n in range(np.uint64(tasks[task]), np.uint64(tasks[task + 1])):
            out[n] = table[np.uint64(keys[n] - low)]


@jit  # each number is written once
def _to_float32(tasks, numbers, out, bad):
    for task in range(tasks.shape[0] - 1):
        for n in range(np.uint64(tasks[task]), np.uint64(tasks[task + 1])):
            out[n] = np.float32(numbers[n])
            bad[task] += not np.isfinite(out[n])


@jit  # each task writes from its own place on
def _keep(tasks, size, starts, chosen, users, items, values, kept_users, kept_items, kept_values):
    done = np.empty(tasks.shape[0] - 1, np.int64)
    for task in range(done.shape[0]):
        start = np.uint64(starts[tasks[task] // size])
        place = start
        for n in range(np.uint64(tasks[task]), np.uint64(tasks[task + 1])):
            if chosen[n]:
                kept_users[place] = users[n]
                kept_items[place] = items[n]
                kept_values[place] = values[n]
                place += np.uint64(1)
        done[task] = np.int64(place - start)
    return done


def mark_keys_cpu(tasks, keys, low, present):
    """Mark the keys in parallel; see :func:`mark_keys_numpy`."""
    with np.errstate(over="ignore"):  # NumPy warns of what runs over when the JIT is off
        _mark_keys(tasks, keys, low, present)
    return np.diff(tasks)


def look_up_cpu(tasks, keys, low, table, out):
    """Look the keys up in parallel; see :func:`look_up_numpy`."""
    with np.errstate(over="ignore"):
        _look_up(tasks, keys, low, table, out)
    return np.diff(tasks)


def to_float32_cpu(tasks, numbers, out):
    """Write the numbers in parallel; see :func:`to_float32_numpy`."""
    bad = np.zeros(len(tasks) - 1, np.int64)
    with np.errstate(over="ignore"):
        _to_float32(tasks, numbers, out, bad)
    return bad


def keep_cpu(tasks, size, starts, chosen, rows, kept):
    """Keep rows in parallel; see :func:`keep_numpy`."""
    return _keep(tasks, size, starts, chosen, *rows, *kept)


MARK_KEYS = {"numpy": mark_keys_numpy, "cpu": mark_keys_cpu}
LOOK_UP = {"numpy": look_up_numpy, "cpu": look_up_cpu}
TO_FLOAT32 = {"numpy": to_float32_numpy, "cpu": to_float32_cpu}
KEEP = {"numpy": keep_numpy, "cpu": keep_cpu}
