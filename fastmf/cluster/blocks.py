"""How a fit is shared out: each side is cut into blocks of whole sections, and each block belongs to a worker."""

import numpy as np

from fastmf.kernels import tasks

BLOCKS_PER_WORKER = 2  # of each side


def blocks(indptr: np.ndarray, n: int) -> np.ndarray:
    """Cut rows into n blocks of about equal cost: runs of whole :func:`fastmf.kernels.tasks.sections`.

    If there are fewer sections than n, each is a block. Returns (n_blocks + 1,) int64 bounds of rows.

    >>> blocks(np.arange(0, 1_000_001, 10), 4).tolist()
    [0, 25207, 50413, 75619, 100000]
    """
    bounds = tasks.sections(indptr)
    n = min(n, len(bounds) - 1)
    costs, steps = cost(indptr[bounds] - indptr[0], bounds), np.arange(1, n)
    nearest = np.searchsorted((costs[1:] + costs[:-1]) / 2, costs[-1] / n * steps)
    inner = np.clip(np.maximum.accumulate(nearest - steps), 0, len(bounds) - 1 - n) + steps  # no block is empty
    return bounds[np.concatenate(([0], inner, [len(bounds) - 1]))]


def cost(n_ratings: np.ndarray, n_rows: np.ndarray) -> np.ndarray:
    """Return the cost of rows and their ratings, as sections count it."""
    return n_ratings + tasks.ROW * n_rows


def expected_sections(n_ratings: int, n_rows: int) -> int:
    """Return the number of sections, if no row has more than a section's share of the ratings.

    >>> expected_sections(10**9, 10**7), expected_sections(100_836, 610)
    (277, 4)
    """
    total, size = n_ratings + tasks.ROW * n_rows, tasks.LEAST
    while total > tasks.SECTIONS * size:
        size *= 2
    return min(-(-total // size), n_rows)


def owners(n_blocks: int, workers: int) -> np.ndarray:
    """Return the worker that each block belongs to, (n_blocks,) int64 in ascending order.

    >>> owners(6, 3).tolist(), owners(2, 4).tolist()
    ([0, 0, 1, 1, 2, 2], [0, 2])
    """
    return np.arange(n_blocks, dtype=np.int64) * workers // n_blocks
