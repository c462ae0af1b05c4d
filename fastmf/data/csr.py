"""Group entries by row, count them, keep some: triples in any order to compressed rows, in parallel, no comparing."""

from itertools import pairwise

import numpy as np

from fastmf.kernels.csr import COUNT, DEAL, SORT_BUCKETS, Words
from fastmf.kernels.encode import KEEP
from fastmf.kernels.tasks import balanced, even, packed
from fastmf.kernels.types import Compressed
from fastmf.runtime.device import Device
from fastmf.runtime.launch import launch

# A bucket of about 2^15 entries, and a copy of it, stay in a core's second cache.
BUCKET_BITS = 15
# At most 2^12 rows a bucket: as many counters fit into a core's first cache.
ROW_BITS = 12

CHUNKS = 32  # parts of the entries, each of which is counted on its own
FEWEST = 1 << 16  # entries of a chunk that outweigh what starting it costs


def compress(
    rows: np.ndarray,
    columns: np.ndarray,
    values: np.ndarray,
    shape: tuple[int, int],
    device: Device,
    *,
    by_column: bool = False,
) -> Compressed:
    """Group entries by row; within a row by column if ``by_column``, and else in the order they came in.

    rows and columns (n,) int32 within ``shape`` (n_rows, n_columns), values (n,) float32. Entries of the same row and
    column keep their order. Beside the result it takes 8 bytes an entry.
    """
    n, n_rows = len(rows), shape[0]
    width, shift = _layout(n, *shape)
    counts, tasks, size = _counted(rows, shift, (n_rows >> shift) + 1, device)
    bounds, places = packed(counts)
    dealt = Words(np.empty(n, np.uint32), np.empty(n, np.float32))
    launch(DEAL, device, tasks, size, rows, columns, values, (width, shift), places, dealt)

    found = Compressed(np.zeros(n_rows + 1, np.int64), np.empty(n, np.int32), np.empty(n, np.float32))
    launch(
        SORT_BUCKETS, device, balanced(bounds, 1, 1 << shift), bounds, _digits(width, shift, by_column), dealt, found
    )
    return found


def count(rows: np.ndarray, n_rows: int, device: Device) -> np.ndarray:
    """Count the entries of each row, (n,) int32. Returns (n_rows,) int64."""
    return np.asarray(_counted(rows, 0, n_rows, device)[0].sum(axis=0))


def _counted(rows: np.ndarray, shift: int, n_buckets: int, device: Device) -> tuple[np.ndarray, np.ndarray, int]:
    """Count the entries of each bucket chunk by chunk. Returns the counts, the chunks, and the entries of a chunk."""
    size = max(-(-len(rows) // CHUNKS), n_buckets, FEWEST)  # counts take less memory than the entries
    tasks = even(len(rows), size)
    counts = np.empty((len(tasks) - 1, n_buckets), np.int64)
    launch(COUNT, device, tasks, size, rows, shift, counts)
    return counts, tasks, size


def _layout(n: int, n_rows: int, n_columns: int) -> tuple[int, int]:
    """Choose how many bits of a word hold the column, and how many the row within its bucket: 32 at most together."""
    width = (n_columns - 1).bit_length()
    shift = (n_rows - 1).bit_length() - max(0, n.bit_length() - BUCKET_BITS)
    return width, max(0, min(shift, ROW_BITS, 32 - width))


def _digits(width: int, shift: int, by_column: bool) -> np.ndarray:
    """List what to sort words by: the column's lower and upper bits, if at all, then the row. (n, 3) uint32.

    Columns take two turns whatever they are, so that with the row's there is an odd number.
    """
    half = (width + 1) // 2
    column = [(0, half, 32), (half, width - half, 32)] if by_column else []
    digits = [*column, (width, shift, width)]
    return np.array([(first, (1 << bits) - 1, (1 << kept) - 1) for first, bits, kept in digits], np.uint32)


def keep(chosen: np.ndarray, rows: tuple[np.ndarray, ...], device: Device) -> tuple[np.ndarray, ...]:
    """Keep the rows that a (n,) boolean mask chooses. Returns the arrays without the others."""
    tasks = even(len(chosen), FEWEST)
    counts = [np.count_nonzero(chosen[start:stop]) for start, stop in pairwise(tasks)]
    kept = tuple(np.empty(sum(counts), array.dtype) for array in rows)
    launch(KEEP, device, tasks, FEWEST, np.cumsum([0, *counts]), chosen, rows, kept)
    return kept
