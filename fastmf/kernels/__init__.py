"""The loops over ratings: arrays in, arrays out; numba, numpy and our own errors only.

Every algorithm is written once per device under one signature and listed in a table, ``NAME = {"numpy": the definition,
"cpu": compiled by Numba, "cuda": compiled for a GPU}``, which only :func:`fastmf.runtime.launch` indexes. Where it
pays, the cpu version has two bodies, ``<name>_plain.py`` and ``<name>_simd.py``: the second works in vectors
(:mod:`fastmf.kernels.simd`) and is taken where the machine's are known and the JIT is on. The cuda version is in
``<name>_cuda.py``, which is imported when it is first launched.

A kernel's first argument ``tasks`` is a (n_tasks + 1,) int64 array of bounds: task t covers rows (or ratings, or users)
``tasks[t]`` to ``tasks[t + 1]``. Tasks are independent of one another, a kernel returns one line of results per task
(on a GPU, which takes all tasks at once, as many lines as it likes with the same sum), and the bounds never depend on
the number of threads: so the runtime may hand runs of tasks to any number of threads, and the sums it makes of the
results keep their bits. Kernels run without the interpreter's lock and start no threads.

Kernels assume valid input and never raise: what fails inside comes back as a count.
"""
