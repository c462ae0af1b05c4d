"""Encode the columns of a file as ratings: keys to indices, numbers to float32, rows chosen by a mask.

Keys are int32 or int64. A table has a place for each key from the lowest, ``low``, to the highest: key - low. Unsigned
64-bit keys come as int64; the difference may then wrap around, on purpose, and is still right.
"""

from itertools import pairwise

import numpy as np

from fastmf.kernels.region import region, taken


def mark_keys_numpy(tasks, keys, low, present):
    """Set ``present`` uint8 to 1 at the place of every key. Tasks may write the same place, but all write a 1."""
    present[keys[tasks[0] : tasks[-1]] - low] = 1


@region
def mark_keys_cpu(share, keys, low, present):
    """Mark the keys; see :func:`mark_keys_numpy`."""
    for task in taken(share):
        for n in range(np.uint64(share.tasks[task]), np.uint64(share.tasks[task + 1])):  # signed: tested for its sign
            place = np.uint64(keys[n] - low)
            if present[place] == 0:  # else the cores would take the place from each other's cache for nothing
                present[place] = 1


def look_up_numpy(tasks, keys, low, table, out):
    """Write ``table[key - low]`` into ``out``, both int32."""
    out[tasks[0] : tasks[-1]] = table[keys[tasks[0] : tasks[-1]] - low]


@region
def look_up_cpu(share, keys, low, table, out):
    """Look the keys up; see :func:`look_up_numpy`."""
    for task in taken(share):
        for n in range(np.uint64(share.tasks[task]), np.uint64(share.tasks[task + 1])):
            out[n] = table[np.uint64(keys[n] - low)]


def to_float32_numpy(tasks, numbers, out):
    """Write float32 or float64 ``numbers`` (n,) as float32 into ``out``.

    Returns (n_tasks,) int64: how many results of each task are not finite.
    """
    with np.errstate(over="ignore"):
        out[tasks[0] : tasks[-1]] = numbers[tasks[0] : tasks[-1]]
    return np.array([np.count_nonzero(~np.isfinite(out[start:stop])) for start, stop in pairwise(tasks)], np.int64)


@region
def _to_float32(share, numbers, out):
    for task in taken(share):
        bad = 0
        for n in range(np.uint64(share.tasks[task]), np.uint64(share.tasks[task + 1])):
            out[n] = np.float32(numbers[n])
            bad += not np.isfinite(out[n])
        share.found[task] = bad


def to_float32_cpu(tasks, numbers, out):
    """Write the numbers; see :func:`to_float32_numpy`."""
    return _to_float32(tasks, numbers, out, found=np.zeros(len(tasks) - 1, np.int64))


def keep_numpy(tasks, size, starts, chosen, rows, kept):
    """Copy the rows that an (n,) boolean mask chooses from each of three arrays ``rows`` to the arrays ``kept``.

    Tasks have ``size`` rows each; starts (all tasks,) int64 says where each task puts the rows it keeps.
    """
    for start, stop in pairwise(tasks):
        own = chosen[start:stop]
        place = slice(starts[start // size], starts[start // size] + np.count_nonzero(own))
        for array, to in zip(rows, kept, strict=True):
            to[place] = array[start:stop][own]


@region
def keep_cpu(share, size, starts, chosen, rows, kept):
    """Copy the chosen rows; see :func:`keep_numpy`."""
    for task in taken(share):
        place = np.uint64(starts[share.tasks[task] // size])
        for n in range(np.uint64(share.tasks[task]), np.uint64(share.tasks[task + 1])):
            if chosen[n]:
                kept[0][place] = rows[0][n]
                kept[1][place] = rows[1][n]
                kept[2][place] = rows[2][n]
                place += np.uint64(1)


MARK_KEYS = {"numpy": mark_keys_numpy, "cpu": mark_keys_cpu}
LOOK_UP = {"numpy": look_up_numpy, "cpu": look_up_cpu}
TO_FLOAT32 = {"numpy": to_float32_numpy, "cpu": to_float32_cpu}
KEEP = {"numpy": keep_numpy, "cpu": keep_cpu}
