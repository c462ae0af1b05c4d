"""The loops over ratings: arrays in, arrays out, numba and numpy only.

Every algorithm is written once per device under one signature and listed in a table,
``NAME = {"numpy": the definition, "cpu": parallel Numba}``, which only :func:`fastmf.runtime.launch` indexes.

A kernel's first argument ``tasks`` is a (n_tasks + 1,) int64 array of bounds: task t covers rows (or ratings, or users)
``tasks[t]`` to ``tasks[t + 1]``. Tasks are independent of one another, a kernel returns one line of results per
task, and the bounds never depend on the number of threads: so the runtime may hand a kernel any run of tasks, on any
number of threads, and the sums it makes of the results keep their bits.

Kernels assume valid input and never raise: what fails inside comes back as a count.
"""
