"""Gram matrices: sum x x' over the rows of a table, in tasks of fixed bounds: no thread count changes the bits."""

from itertools import pairwise

import numpy as np

from fastmf.kernels.compile import lazy
from fastmf.kernels.vectors import WIDTH

if WIDTH:
    from fastmf.kernels.gram_simd import gram
else:
    from fastmf.kernels.gram_plain import gram


def gram_numpy(tasks, table, k):
    """Sum x x' over the rows of a table (n, k or more) float32, of its first k columns.

    Returns (n_tasks, k, k) float64.
    """
    parts = (table[start:stop, :k].astype(np.float64) for start, stop in pairwise(tasks))
    return np.array([part.T @ part for part in parts])


def gram_cpu(tasks, table, k):
    """Sum x x'; see :func:`gram_numpy`. The table is filled up with zeros to whole vectors."""
    return gram(tasks, table, k)


GRAM = {"numpy": gram_numpy, "cpu": gram_cpu, "cuda": lazy("gram_cuda", "gram_cuda")}
