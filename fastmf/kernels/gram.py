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
    """Sum x x' over the rows of a table (n, k filled up with zeros to whole vectors) float32.

    Returns (n_tasks, k, k) float64.
    """
    parts = (table[start:stop, :k].astype(np.float64) for start, stop in pairwise(tasks))
    return np.array([part.T @ part for part in parts])


GRAM = {"numpy": gram_numpy, "cpu": gram, "cuda": lazy("gram_cuda", "gram_cuda")}
