"""Updates by stochastic gradient descent on a GPU: one group of lanes per rating (cuMF_SGD, Xie et al. 2017).

Reads of rows bypass a block's own cache, which may hold values that other blocks have since changed. Rows stay in
registers from the error to the update. A group visits one run of ratings after another (hogwild), or one block of a
stratum in the CPU's order (blocks).

The floor is the traffic of an update: 4 (2 k + 5) bytes read and 4 (2 k + 2) written, most of them in the second-level
cache. That is 530 bytes at k = 32, so 8,000 M updates a second at the 4.3 TB/s of an H200.
"""

import functools
import math
from itertools import pairwise

import numpy as np
from numba import cuda

from fastmf.kernels.groups_cuda import block_size, fresh, grid, group_sum, group_sync, inlined, kernel, lanes, shared
from fastmf.kernels.sgd import NO_PULLS, ROUNDS, RUN, at_place, epoch_key, new_shuffle, positions
from fastmf.kernels.sgd_plain import BIAS, BIAS_PULL, BIAS_RHO, RHO, SQUARES, error_slope
from fastmf.kernels.vectors import LINE

_error_slope, _at_place = shared(error_slope), shared(at_place)


@inlined
def _gap(value, pulled, pulls, place):
    """Return how far a value is from what it is pulled to: zero unless it is pulled."""
    return value - pulls[place] if pulled else value


@inlined
def _update(j, triples, users, items, pulls, pulled, width, step, rows, lane, group, each):
    """Update both sides with rating j.

    ``rows`` are scratch arrays for the lane's factors of the two rows, and for how far they are from what pulls them.
    """
    (users_of, items_of, values, weights), (lr, biases, adaptive, absolute, k), (x, y, dx, dy) = triples, step, rows
    u, i, dot, kp = np.int64(users_of[j]) * width, np.int64(items_of[j]) * width, np.float32(0), width - LINE
    for q in range(each):
        f, x[q], y[q] = lane + q * group, np.float32(0), np.float32(0)
        if f < kp:
            x[q], y[q] = fresh(users, u + f), fresh(items, i + f)
            dot += x[q] * y[q]
        dx[q] = _gap(x[q], pulled[0] and f < kp, pulls[0], np.int64(users_of[j]) * kp + f)
        dy[q] = _gap(y[q], pulled[1] and f < kp, pulls[1], np.int64(items_of[j]) * kp + f)
    u_end, i_end = u + width, i + width
    b, c = fresh(users, u_end + BIAS), fresh(items, i_end + BIAS)
    weight = weights[j] if weights.shape[0] > 0 else np.float32(1)
    rho_u, rho_i = weight * users[u_end + RHO], weight * items[i_end + RHO]
    g = weight * _error_slope(values[j] - b - c - group_sum(dot, group), absolute)
    lr_u = lr_i = lr
    if adaptive:
        squares_u, squares_i = fresh(users, u_end + SQUARES), fresh(items, i_end + SQUARES)
        lr_u, lr_i = lr / math.sqrt(squares_u), lr / math.sqrt(squares_i)
        sum_u = sum_i = np.float32(0)
        for q in range(each):
            sum_u += (g * y[q] - rho_u * dx[q]) ** 2
            sum_i += (g * x[q] - rho_i * dy[q]) ** 2
        sum_u, sum_i = group_sum(sum_u, group), group_sum(sum_i, group)
        if lane == 0:
            users[u_end + SQUARES], items[i_end + SQUARES] = squares_u + sum_u / k, squares_i + sum_i / k
    for q in range(each):
        f = lane + q * group
        if f < kp:
            users[u + f] = x[q] + lr_u * (g * y[q] - rho_u * dx[q])
            items[i + f] = y[q] + lr_i * (g * x[q] - rho_i * dy[q])
    if biases and lane == 0:
        db = _gap(b, pulled[0], users, u_end + BIAS_PULL)
        dc = _gap(c, pulled[1], items, i_end + BIAS_PULL)
        users[u_end + BIAS] = b + lr_u * (g - weight * users[u_end + BIAS_RHO] * db)
        items[i_end + BIAS] = c + lr_i * (g - weight * items[i_end + BIAS_RHO] * dc)
    group_sync(group)


@functools.cache
def compiled(group, each, pulled=(False, False)):
    """Compile the kernel for groups of lanes that hold ``each`` factors; ``pulled`` tells which sides have pulls.

    Block b of the ratings is bounds[b] to bounds[b + 1]. With ``one``, all groups share the only block: group g visits
    the places first + g, first + g + n_groups, … below last. Otherwise group g visits all places of block g.
    ``weights`` are empty if all ratings count the same.
    """

    @kernel(block_size(group))
    def epoch(
        bounds, shuffles, one, first, last, of_users, of_items, values, weights, users, items, z, t, width, lr, flags, k
    ):
        lane, own = cuda.threadIdx.x % group, cuda.grid(1) // group
        rows = (
            cuda.local.array(each, np.float32),
            cuda.local.array(each, np.float32),
            cuda.local.array(each, np.float32),
            cuda.local.array(each, np.float32),
        )
        step, triples = (lr, flags[0], flags[1], flags[2], k), (of_users, of_items, values, weights)
        block, apart = (0, cuda.gridsize(1) // group) if one else (own, 1)
        if block < bounds.shape[0] - 1:
            start, stop = bounds[block], bounds[block + 1]
            shuffle = shuffles[block]
            n_runs, places = (stop - start + RUN - 1) // RUN, np.int64(shuffle[0]) + 1
            for place in range(first + own if one else 0, last if one else places, apart):
                run = _at_place(place, shuffle)
                if run < n_runs:
                    for j in range(start + run * RUN, min(start + (run + 1) * RUN, stop)):
                        _update(j, triples, users, items, (z, t), pulled, width, step, rows, lane, group, each)

    return epoch


def _launch(bounds, groups, places, triples, users, items, step, pulls):
    """Launch ``groups`` groups; ``places`` is (first, last) if they share one block of ratings, else None."""
    width, group = users.shape[1], lanes(users.shape[1] - LINE)
    threads, each = block_size(group), -(-(width - LINE) // group)
    key = np.uint64(epoch_key(step.seed, step.epoch))
    with np.errstate(over="ignore"):
        keyed = [(-(-(stop - start) // RUN), key + np.uint64(start * ROUNDS)) for start, stop in pairwise(bounds)]
    shuffles = np.array([new_shuffle(n_runs, of_block) for n_runs, of_block in keyed], np.uint64)
    shuffles &= np.uint64(2**31 - 1)  # no more bits count for fewer than 2^31 runs, and products do not overflow
    on_gpu = cuda.to_device(np.asarray(bounds, np.int64)), cuda.to_device(shuffles)
    weights, *pulled = (
        cuda.device_array(0, np.float32) if array is None else array.reshape(-1) for array in (triples.weights, *pulls)
    )
    tail = width, np.float32(step.lr), (step.biases, step.adaptive, step.absolute), np.float32(step.k)
    given = (
        *on_gpu,
        places is not None,
        *(places or (0, 0)),
        *triples[:3],
        weights,
        users.reshape(-1),
        items.reshape(-1),
        *pulled,
        *tail,
    )
    compiled(group, each, tuple(rows is not None for rows in pulls))[-(-groups // (threads // group)), threads](*given)


def block_epoch_cuda(tasks, triples, users, items, step, pulls=NO_PULLS):
    """Update with blocks, one group of lanes each; see :func:`fastmf.kernels.sgd.block_epoch_numpy`."""
    for start in range(0, len(tasks) - 1, step.stratum):
        bounds = tasks[start : start + step.stratum + 1]
        _launch(bounds, len(bounds) - 1, None, triples, users, items, step, pulls)


def hogwild_epoch_cuda(tasks, triples, users, items, step, pulls=NO_PULLS):
    """Update with stretches of all ratings, one group per run; see :func:`fastmf.kernels.sgd.hogwild_epoch_numpy`."""
    n = triples.values.shape[0]
    first, last = int(tasks[0]), min(int(tasks[-1]), positions(-(-n // RUN)))
    _launch([0, n], last - first, (first, last), triples, users, items, step, pulls)


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
    _collect[grid(factors.size)](rows, learner, factors, bias, squares)


@cuda.jit
def _deal_rows(rows, factors, bias, expected, learner, pulls, square):
    k = factors.shape[1]
    for t in range(cuda.grid(1), rows.shape[0] * k, cuda.gridsize(1)):
        row, f = t // k, t % k
        place, end = rows[row], learner.shape[1]
        rho = learner[place, end + RHO]
        if rho > 0:
            factors[row, f] += rho / (square + rho) * (expected[row, f] - pulls[place, f])
        learner[place, f], pulls[place, f] = factors[row, f], expected[row, f]
        if f == 0:
            learner[place, end + BIAS], learner[place, end + BIAS_PULL] = bias[row], expected[row, k]


def deal_rows_cuda(tasks, rows, side, expected, learner, pulls, square):
    """Copy rows and what they are pulled to; see :func:`fastmf.kernels.blocks.deal_rows_numpy`."""
    _deal_rows[grid(side.factors.size)](rows, *side, expected, learner, pulls, np.float32(square))
