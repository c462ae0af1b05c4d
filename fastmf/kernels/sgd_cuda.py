"""Updates by stochastic gradient descent on a GPU: a group of lanes for a rating (cuMF_SGD, Xie et al. 2017).

The rows of a rating are read past the cache that blocks have of their own, which would hold what others have long
changed, and stay in registers from the error to the update. A group goes through one run of ratings after another
(hogwild), or through a block of a stratum (blocks), where the order is that of the CPU.

The floor is what an update moves, 4 (2 k + 5) bytes read and 4 (2 k + 2) written, of which the second-level cache holds
most: 530 bytes at k = 32, so 8,000 M updates a second of an H200's 4.3 TB/s memory.
"""

import functools
import math

import numpy as np
from numba import cuda

from fastmf.kernels.groups_cuda import (
    MOST_BLOCKS,
    WARP,
    block_size,
    fresh,
    group_sum,
    group_sync,
    inlined,
    kernel,
    lanes,
    shared,
)
from fastmf.kernels.sgd import ROUNDS, RUN, positions, round_keys
from fastmf.kernels.sgd_plain import BIAS, BIAS_RHO, RHO, SQUARES, error_slope
from fastmf.kernels.vectors import LINE


@inlined
def _shuffled(place, n, keys):
    """Say which of range(n) stands at a place; see :func:`fastmf.kernels.sgd.shuffle_numpy`. For n below 2^31."""
    width = 1
    while (1 << width) < n:
        width += 1
    mask, half, z = (1 << width) - 1, (width + 1) // 2, np.int64(place)
    for turn in range(ROUNDS):
        z = ((z + keys[turn]) & mask) * ((keys[turn] & mask) | 1) & mask
        z ^= z >> half
    return z


_error_slope = shared(error_slope)


@inlined
def _update(j, triples, users, items, width, step, rows, lane, group, each):
    """Update both sides by rating j; rows are two arrays for what the lane holds of them."""
    (users_of, items_of, values), (lr, biases, adaptive, absolute, k), (x, y) = triples, step, rows
    u, i, dot = np.int64(users_of[j]) * width, np.int64(items_of[j]) * width, np.float32(0)
    for q in range(each):
        f, x[q], y[q] = lane + q * group, np.float32(0), np.float32(0)
        if f < width - LINE:
            x[q], y[q] = fresh(users, u + f), fresh(items, i + f)
            dot += x[q] * y[q]
    u_end, i_end = u + width, i + width
    b, c = fresh(users, u_end + BIAS), fresh(items, i_end + BIAS)
    rho_u, rho_i = users[u_end + RHO], items[i_end + RHO]
    g = _error_slope(values[j] - b - c - group_sum(dot, group), absolute)
    lr_u = lr_i = lr
    if adaptive:
        squares_u, squares_i = fresh(users, u_end + SQUARES), fresh(items, i_end + SQUARES)
        lr_u, lr_i = lr / math.sqrt(squares_u), lr / math.sqrt(squares_i)
        sum_u = sum_i = np.float32(0)
        for q in range(each):
            sum_u += (g * y[q] - rho_u * x[q]) ** 2
            sum_i += (g * x[q] - rho_i * y[q]) ** 2
        sum_u, sum_i = group_sum(sum_u, group), group_sum(sum_i, group)
        if lane == 0:
            users[u_end + SQUARES], items[i_end + SQUARES] = squares_u + sum_u / k, squares_i + sum_i / k
    for q in range(each):
        f = lane + q * group
        if f < width - LINE:
            users[u + f] = x[q] + lr_u * (g * y[q] - rho_u * x[q])
            items[i + f] = y[q] + lr_i * (g * x[q] - rho_i * y[q])
    if biases and lane == 0:
        users[u_end + BIAS] = b + lr_u * (g - users[u_end + BIAS_RHO] * b)
        items[i_end + BIAS] = c + lr_i * (g - items[i_end + BIAS_RHO] * c)
    group_sync(group)


@functools.cache
def compiled(group, each):
    """Compile the kernel for groups of lanes that hold so many factors each.

    Group number ``own`` visits the places first + own, first + own + apart, … below last of the block of ratings that
    bounds[own] to bounds[own + 1] bound, or bounds[0] to bounds[1] if all work on one.
    """
    threads = block_size(group)

    @kernel(threads)
    def epoch(bounds, keys, one, first, last, of_users, of_items, values, users, items, width, lr, flags, k):
        lane, own = cuda.threadIdx.x % group, cuda.grid(1) // group
        rows = cuda.local.array(each, np.float32), cuda.local.array(each, np.float32)
        step, triples = (lr, flags[0], flags[1], flags[2], k), (of_users, of_items, values)
        block, apart = (0, cuda.gridsize(1) // group) if one else (own, 1)
        if block < bounds.shape[0] - 1:
            start, stop = bounds[block], bounds[block + 1]
            n_runs, places = (stop - start + RUN - 1) // RUN, 2
            while places < n_runs:
                places *= 2
            for place in range(first + own if one else 0, last if one else places, apart):
                run = _shuffled(place, n_runs, keys[block])
                if run < n_runs:
                    for j in range(start + run * RUN, min(start + (run + 1) * RUN, stop)):
                        _update(j, triples, users, items, width, step, rows, lane, group, each)

    return epoch


def _run(bounds, keys, workers, places, triples, users, items, step):
    """Launch the kernel; places are (first, last) where all groups work on one block, else None."""
    width, group = users.shape[1], lanes(users.shape[1] - LINE)
    threads, each = block_size(group), -(-(width - LINE) // group)
    blocks = -(-workers // (threads // group))
    flags = step.biases, step.adaptive, step.absolute
    tail = width, np.float32(step.lr), flags, np.float32(step.k)
    given = *triples, users.reshape(-1), items.reshape(-1), *tail
    ours = cuda.to_device(np.asarray(bounds, np.int64)), cuda.to_device(keys)
    compiled(group, each)[blocks, threads](*ours, places is not None, *(places or (0, 0)), *given)


def _keys(step, blocks):
    """Key the shuffles of some blocks; (n, ROUNDS) int64, of which :func:`_shuffled` uses no more than the low bits."""
    return (round_keys(step.seed, step.epoch, blocks) & np.uint64(2**31 - 1)).astype(np.int64)


def block_epoch_cuda(tasks, triples, users, items, step):
    """Update by some blocks, a group of lanes for each; see :func:`fastmf.kernels.sgd.block_epoch_numpy`."""
    _run(tasks, _keys(step, tasks[:-1]), len(tasks) - 1, None, triples, users, items, step)
    return np.diff(tasks)


def hogwild_epoch_cuda(tasks, triples, users, items, step):
    """Update by stretches of all ratings, a run to a group; see :func:`fastmf.kernels.sgd.hogwild_epoch_numpy`."""
    n, places = triples.values.shape[0], (int(tasks[0]), int(tasks[-1]))
    places = places[0], min(places[1], positions(-(-n // RUN)))
    _run([0, n], _keys(step, [0]), places[1] - places[0], places, triples, users, items, step)
    return np.array([n], np.int64)


@cuda.jit
def _collect(rows, learner, factors, bias, squares):
    k = factors.shape[1]
    for t in range(cuda.grid(1), rows.shape[0] * k, cuda.gridsize(1)):
        row, f = t // k, t % k
        learned = learner[rows[row]]
        end = learner.shape[1]
        factors[row, f] = learned[f]
        if f == 0:
            bias[row] = learned[end + BIAS]
            if squares.shape[0]:
                squares[row] = learned[end + SQUARES]


def collect_cuda(tasks, rows, learner, factors, bias, squares):
    """Copy learned rows back; see :func:`fastmf.kernels.blocks.collect_numpy`."""
    threads = block_size(WARP)
    blocks = min(-(-factors.shape[0] * factors.shape[1] // threads), MOST_BLOCKS)
    _collect[blocks, threads](rows, learner, factors, bias, squares)
    return np.diff(tasks)
