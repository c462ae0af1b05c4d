"""GPU kernels against their definitions: on a GPU if there is one, else in Numba's simulator if that is on.

The simulator runs each thread of a block as a Python thread, so the cases are small: a row or two for each path.
"""

import contextlib

import numpy as np
import pytest

from fastmf.kernels import als, blocks, cg, peak, residual, sgd, topn
from fastmf.kernels.gram import GRAM
from fastmf.kernels.sgd import Step
from fastmf.kernels.tasks import even
from fastmf.kernels.types import Compressed, Pairs, Penalty, Scale, Side, Triples, nothing_known
from fastmf.kernels.vectors import LINE
from fastmf.runtime.device import resolve, unavailable
from fastmf.runtime.launch import launch

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(bool(unavailable("cuda")), reason="no GPU")]

PLAIN = Penalty(0.03, 2.0, 3.0, 0.5)
NO_BIASES = Penalty(0.03, 2.0, np.inf)
NOTHING = Penalty(0.0, 0.0, 3.0)


@pytest.fixture
def devices():
    return resolve("numpy"), resolve("cuda")


def problem(counts, n_other, k, seed=0):
    """Draw entries of rows with the given counts, in random order within a row, and another side."""
    rng = np.random.default_rng(seed)
    columns = [rng.choice(n_other, count, replace=False) for count in counts]
    indptr = np.append(0, np.cumsum(counts))
    values = rng.standard_normal(indptr[-1]).astype(np.float32)
    entries = Compressed(indptr, np.concatenate(columns).astype(np.int32), values)
    factors = (0.5 * rng.standard_normal((n_other, k))).astype(np.float32)
    return entries, Side(factors, (0.3 * rng.standard_normal(n_other)).astype(np.float32))


def half_swept(kernel, device, entries, other, penalty, *more):
    n, k = len(entries.indptr) - 1, other.factors.shape[1]
    side = Side(np.full((n, k), 7, np.float32), np.full(n, 7, np.float32))
    given = device.put((entries, side, other))
    more = more or (nothing_known(k),)
    more = tuple(each if isinstance(each, int) else device.put(each) for each in more)
    count = launch(kernel, device, even(n, 4), *given, penalty, *more)
    return device.get(given[1]), int(count)


def assert_same_sweep(devices, entries, other, penalty, kernel=als.HALF_SWEEP, more=()):
    (expected, count), (found, also) = (half_swept(kernel, d, entries, other, penalty, *more) for d in devices)
    assert also == count
    size = np.abs(expected.factors).max()
    np.testing.assert_allclose(found.factors, expected.factors, rtol=0, atol=1e-4 * size)
    np.testing.assert_allclose(found.bias, expected.bias, rtol=0, atol=1e-4 * max(np.abs(expected.bias).max(), size))
    return count


# ALS


def base(k):
    """Draw a matrix that could be a sum of x x'."""
    x = np.random.default_rng(2).standard_normal((k + 3, k))
    return (0.1 * x.T @ x).astype(np.float32)


def test_half_sweep_with_a_base(devices):
    known = nothing_known(5)._replace(base=base(5))
    assert_same_sweep(devices, *problem([0, 1, 9, 20], 30, 5), NO_BIASES, more=(known,))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("penalty", [PLAIN, NO_BIASES], ids=["biases", "no biases"])
def test_entries_with_weights(devices, als_cuda, monkeypatch, penalty):
    entries, other = problem([0, 1, 9, 20], 30, 5)
    entries = entries._replace(weights=np.random.default_rng(3).uniform(0.1, 5, 30).astype(np.float32))
    assert_same_sweep(devices, entries, other, penalty)
    assert_same_sweep(devices, entries, other, penalty, cg.HALF_SWEEP_CG, (nothing_known(5)._replace(base=base(5)), 2))
    monkeypatch.setattr(als_cuda, "SPLIT", 8)  # in pieces
    als_cuda.compiled.cache_clear()
    assert_same_sweep(devices, entries, other, penalty)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("n", [0, 1, 13, 40])
def test_gram_matrices(devices, n):
    x = np.random.default_rng(0).standard_normal((n, 5)).astype(np.float32)
    for device in devices:
        found = launch(GRAM, device, even(n, 4) if n else np.array([0, 0]), device.put(x), 5)
        np.testing.assert_allclose(found, x.astype(np.float64).T @ x, rtol=1e-6, atol=1e-6)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("penalty", [PLAIN, NO_BIASES], ids=["biases", "no biases"])
def test_half_sweep_of_empty_tiny_and_longer_rows(devices, penalty):
    assert_same_sweep(devices, *problem([0, 1, 2, 17, 0, 40], 45, 3), penalty)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("counts", [[0, 1, 5], [40]])
def test_half_sweep_of_rows_with_a_pull(devices, counts):
    pull = np.random.default_rng(1).standard_normal((len(counts), 5)).astype(np.float32)
    known = nothing_known(3)._replace(pull=pull, bias=pull[:, 0].copy())
    assert_same_sweep(devices, *problem(counts, 45, 3), PLAIN, more=(known,))
    assert_same_sweep(devices, *problem(counts, 45, 3), PLAIN, cg.HALF_SWEEP_CG, (known, 2))


@pytest.mark.parametrize(("k", "count"), [(32, 20), (31, 3), (35, 5), (65, 1)])
def test_half_sweep_in_full_size_blocks(devices, k, count):
    assert_same_sweep(devices, *problem([count], 30, k), PLAIN)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("k", [1, 7, 8, 9, 16, 23])
def test_half_sweep_of_any_k(devices, k):
    assert_same_sweep(devices, *problem([5, 20], 30, k), PLAIN)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("more", [1, 2])
def test_half_sweep_of_several_squares_in_turns(devices, als_cuda, monkeypatch, more):
    monkeypatch.setattr(als_cuda, "MOST_GROUPS", 2)  # of 3 squares, or of 6
    als_cuda.layout.cache_clear()
    k = more * als_cuda.LARGE[0] + 3
    assert (als_cuda.layout(k).tiles, als_cuda.layout(k).groups) == (1 + more, 2)
    assert_same_sweep(devices, *problem([9], 30, k), PLAIN)


@pytest.mark.usefixtures("small_blocks")
def test_half_sweep_with_equations_outside_shared_memory(devices, als_cuda, monkeypatch):
    monkeypatch.setattr(als_cuda, "SHARED", 1024)
    monkeypatch.setattr(als_cuda, "SLOTS", 2)  # blocks, which then solve several rows each
    als_cuda.layout.cache_clear()
    assert als_cuda.layout(17).kept == 1
    assert_same_sweep(devices, *problem([4, 0, 3, 1], 30, 17), PLAIN)


@pytest.mark.usefixtures("small_blocks")
def test_rows_of_many_entries_are_summed_in_pieces(devices, als_cuda, monkeypatch):
    monkeypatch.setattr(als_cuda, "SPLIT", 8)
    als_cuda.compiled.cache_clear()
    assert_same_sweep(devices, *problem([25, 3, 8, 9], 30, 4), PLAIN)


@pytest.mark.usefixtures("small_blocks")
def test_rows_of_very_many_entries_are_summed_in_float64(devices, als_cuda, monkeypatch):
    monkeypatch.setattr(als_cuda, "SPLIT", 8)
    monkeypatch.setattr(als_cuda, "LONG", 20)
    als_cuda.compiled.cache_clear()
    used = []
    compiled = als_cuda.compiled
    monkeypatch.setattr(als_cuda, "compiled", lambda form: used.append(form.wide) or compiled(form))
    assert_same_sweep(devices, *problem([25, 12, 3], 30, 4), PLAIN)
    assert used == [True, True, False, False]  # pieces and rows, of the long ones and of the others


@pytest.mark.big
def test_sums_of_a_very_long_row_keep_their_digits(devices):
    rng, n = np.random.default_rng(5), 4_000_000
    other = Side((1 + 0.1 * rng.standard_normal((50, 2))).astype(np.float32), np.zeros(50, np.float32))
    columns, truth = rng.integers(0, 50, n).astype(np.int32), np.array([0.5, -0.25])
    values = (other.factors[columns].astype(np.float64) @ truth + 1).astype(np.float32)
    entries = Compressed(np.array([0, n]), columns, values)
    found, _ = half_swept(als.HALF_SWEEP, devices[1], entries, other, Penalty(0.0, 1e-3, 1e-3))
    np.testing.assert_allclose(found.factors[0], truth, atol=1e-4)
    np.testing.assert_allclose(found.bias[0], 1, atol=1e-4)


@pytest.mark.usefixtures("small_blocks")
def test_rows_too_ill_conditioned_for_float32_are_solved_in_float64(devices):
    rng, k, n = np.random.default_rng(4), 4, 40
    flat = rng.standard_normal((n, 2)) @ rng.standard_normal((2, k)) + 1e-4 * rng.standard_normal((n, k))
    other = Side(flat.astype(np.float32), np.zeros(n, np.float32))
    values = rng.standard_normal(n).astype(np.float32)
    entries = Compressed(np.array([0, n]), np.arange(n, dtype=np.int32), values)
    found, singular = half_swept(als.HALF_SWEEP, devices[1], entries, other, Penalty(0.0, 1e-6, np.inf))
    y = other.factors.astype(np.float64)
    expected = np.linalg.solve(y.T @ y + 1e-6 * np.eye(k), y.T @ values)
    assert singular == 0
    np.testing.assert_allclose(found.factors[0], expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


@pytest.mark.usefixtures("small_blocks")
def test_singular_rows_are_solved_with_a_jitter_and_counted(devices):
    assert assert_same_sweep(devices, *problem([1, 2, 20, 0], 30, 5), NOTHING) == 2


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.filterwarnings("ignore:.*invalid value")
def test_rows_that_cannot_be_solved_become_nan(devices):
    entries, other = problem([3, 4], 10, 2)
    other.factors[entries.indices[0]] = np.inf
    found, count = half_swept(als.HALF_SWEEP, devices[1], entries, other, PLAIN)
    lost = [entries.indices[0] in row for row in np.split(entries.indices, entries.indptr[1:-1])]
    assert np.isnan(found.factors).all(axis=1).tolist() == lost
    assert np.isnan(found.bias).tolist() == lost
    assert count == sum(lost)


@pytest.mark.usefixtures("small_blocks")
def test_half_sweep_of_no_entries_changes_nothing(devices):
    entries, other = problem([0, 0], 5, 2)
    found, count = half_swept(als.HALF_SWEEP, devices[1], entries, other, PLAIN)
    assert count == 0
    assert (found.factors == 7).all()


@pytest.mark.parametrize(("counts", "most"), [([5, 0, 9, 1], 4), ([3], 3), ([0, 0], 2), ([8, 8], 100)])
def test_cut_covers_every_entry_once(als_cuda, counts, most):
    indptr = np.append(0, np.cumsum(counts))
    rows, pieces = als_cuda.cut(indptr, most)
    assert sorted(rows[:, 0]) == np.flatnonzero(counts).tolist()
    assert np.array_equal(rows[:, 1:3], indptr[np.stack([rows[:, 0], rows[:, 0] + 1], 1)])
    assert (np.diff(rows[:, 2] - rows[:, 1]) <= 0).all()
    for row, first, last, piece in rows:
        if last - first <= most:
            assert piece == -1
            continue
        own = pieces[piece : piece + -(-(last - first) // most)]
        assert (own[:, 0] == row).all()
        assert [first, *own[:, 2]] == [*own[:, 1], last]
        assert (own[:, 2] - own[:, 1] <= most).all()


@pytest.mark.parametrize("penalty", [PLAIN, NO_BIASES], ids=["biases", "no biases"])
def test_conjugate_gradients(devices, penalty):
    known = nothing_known(5)._replace(base=base(5))
    assert_same_sweep(devices, *problem([0, 1, 9, 20], 30, 5), penalty, cg.HALF_SWEEP_CG, (known, 2))


def test_conjugate_gradients_of_several_factors_a_lane(devices):
    known = nothing_known(40)._replace(base=base(40))
    assert_same_sweep(devices, *problem([6, 3], 30, 40), PLAIN, cg.HALF_SWEEP_CG, (known, 3))


@pytest.mark.parametrize("k", [1, 5])
def test_extrapolate(devices, k):
    rng = np.random.default_rng(0)
    now, before = (Side(*(rng.standard_normal(s).astype(np.float32) for s in ((7, k), 7))) for _ in "ab")
    results = []
    for device in devices:
        ahead = Side(np.zeros((7, k + 3), np.float32), np.zeros(7, np.float32))
        given = device.put((now, device.host.copy(before), ahead))
        launch(als.EXTRAPOLATE, device, even(7, 4), *given, 0.3)
        results.append(device.get(given[1:]))
    for expected, found in zip(*results, strict=True):
        np.testing.assert_allclose(found.factors, expected.factors, rtol=1e-6)
        np.testing.assert_allclose(found.bias, expected.bias, rtol=1e-6)


# residuals


@pytest.mark.parametrize("k", [1, 5, 40])
def test_predictions_and_errors(devices, k):
    rng = np.random.default_rng(0)
    sides = [Side(*(rng.standard_normal(s).astype(np.float32) for s in ((6, k), 6))) for _ in "ui"]
    pairs = Pairs(*(rng.integers(-1, 6, 23).astype(np.int32) for _ in "ui"))
    values, scale = rng.standard_normal(23).astype(np.float32), Scale(0.5, -2.0, 2.0)
    results = []
    for device in devices:
        out = np.zeros(23, np.float32)
        given = device.put((pairs, values, *sides, out))
        launch(residual.ESTIMATE, device, even(23, 10), given[0], given[2], given[3], scale, given[4])
        sums = launch(residual.ERRORS, device, even(23, 10), *given[:4], scale)
        results.append((device.get(given[4]), sums))
    np.testing.assert_allclose(results[1][0], results[0][0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(results[1][1], results[0][1], rtol=1e-6)


def test_nan_factors_give_nan_errors(devices):
    side = Side(np.full((1, 2), np.nan, np.float32), np.zeros(1, np.float32))
    pairs = Pairs(np.zeros(1, np.int32), np.zeros(1, np.int32))
    given = devices[1].put((pairs, np.zeros(1, np.float32), side, side))
    assert np.isnan(launch(residual.ERRORS, devices[1], even(1, 1), *given, Scale(0.0, -1.0, 1.0))).all()


# SGD


def learners(k, n, seed=0):
    rng = np.random.default_rng(seed)
    sides = [sgd.new_learner(n, k) for _ in "ui"]
    for side in sides:
        side[:, :k] = 0.3 * rng.standard_normal((n, k))
        side[:, sgd.BIAS], side[:, sgd.RHO], side[:, sgd.BIAS_RHO], side[:, sgd.SQUARES] = 0.1, 0.05, 0.02, 1.5
        side[:, sgd.BIAS_PULL] = 0.7
    return sides


def assert_same_learners(devices, kernel, tasks, triples, step, n=6, pulled=(False, False)):
    results = []
    for device in devices:
        pulls = tuple(learners(step.k, n, 1)[0][:, :-LINE] if pull else None for pull in pulled)
        given, sides, pulls = device.put((triples, tuple(learners(step.k, n)), pulls))
        launch(kernel, device, tasks, given, *sides, step, pulls)
        results.append(device.get(sides))
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)


@contextlib.contextmanager
def few_to_a_run(monkeypatch):
    """Make runs of 4 ratings, so that few ratings make several; compile the kernels anew before and after."""
    sgd_cuda = pytest.importorskip("fastmf.kernels.sgd_cuda")
    with monkeypatch.context() as patch:
        patch.setattr(sgd, "RUN", 4)
        patch.setattr(sgd_cuda, "RUN", 4)
        sgd_cuda.compiled.cache_clear()
        yield
    sgd_cuda.compiled.cache_clear()


@pytest.mark.parametrize("absolute", [False, True], ids=["squared", "absolute"])
@pytest.mark.parametrize("adaptive", [False, True], ids=["fixed", "adaptive"])
@pytest.mark.parametrize(("k", "biases"), [(3, True), (40, False)])
def test_updates_of_a_block_are_those_of_the_definition(devices, k, biases, adaptive, absolute):
    rng = np.random.default_rng(0)
    rows, values = rng.integers(0, 6, (2, 12)).astype(np.int32), rng.standard_normal(12).astype(np.float32)
    step = Step(0.1, biases, adaptive, absolute, k, 5, 2)
    for weights in (None, rng.uniform(0.1, 3, 12).astype(np.float32)):
        values[5] = 3 if weights is None else 1e6  # an error beyond the clip
        assert_same_learners(devices, sgd.BLOCK_EPOCH, np.array([0, 12]), Triples(*rows, values, weights), step)


@pytest.mark.parametrize("adaptive", [False, True], ids=["fixed", "adaptive"])
@pytest.mark.parametrize("pulled", [(True, True), (False, True), (True, False)])
def test_updates_of_pulled_rows_are_those_of_the_definition(devices, pulled, adaptive):
    rng = np.random.default_rng(0)
    rows, values = rng.integers(0, 6, (2, 12)).astype(np.int32), rng.standard_normal(12).astype(np.float32)
    step, triples = Step(0.1, True, adaptive, False, 9, 5, 2), Triples(*rows, values)
    assert_same_learners(devices, sgd.BLOCK_EPOCH, np.array([0, 12]), triples, step, pulled=pulled)


def test_hogwild_visits_every_rating_once(devices, monkeypatch):
    n = 21  # ratings that share no row, so that their order does not matter
    rows, values = np.random.default_rng(0).permuted(np.tile(np.arange(n, dtype=np.int32), (2, 1)), axis=1), np.ones(n)
    step = Step(0.1, True, False, False, 3, 5, 2)
    with few_to_a_run(monkeypatch):
        tasks = even(sgd.positions(-(-n // 4)), 3)
        assert_same_learners(devices, sgd.HOGWILD_EPOCH, tasks, Triples(*rows, values.astype(np.float32)), step, n)


def test_blocks_are_visited_in_the_order_of_the_definition(devices, monkeypatch):
    rng, n, bounds = np.random.default_rng(0), 40, np.array([0, 13, 13, 40])  # blocks that share no row; one is empty
    later = np.arange(n) >= 13
    rows, values = rng.integers(0, 3, (2, n)) + 3 * later, rng.standard_normal(n).astype(np.float32)
    step = Step(0.1, True, False, False, 3, 5, 2)
    with few_to_a_run(monkeypatch):
        assert_same_learners(devices, sgd.BLOCK_EPOCH, bounds, Triples(*rows.astype(np.int32), values), step)


@pytest.mark.parametrize("squares", [0, 6])
def test_collect(devices, squares):
    learner, rows = learners(3, 6)[0], np.random.default_rng(1).permutation(6).astype(np.int32)
    results = []
    for device in devices:
        empty = Side(np.zeros((6, 3), np.float32), np.zeros(6, np.float32)), np.zeros(squares, np.float32)
        (side, kept), *given = device.put((empty, rows, learner))
        launch(blocks.COLLECT, device, even(6, 4), *given, *side, kept)
        results.append(device.get((*side, kept)))
    for one, other in zip(*results, strict=True):
        assert np.array_equal(one, other)


def test_deal_rows(devices):
    results = []
    for device in devices:
        learner, expected, pulls = learners(3, 6)[0], *(table[:, :16] for table in learners(4, 6, seed=1))
        learner[2, sgd.RHO] = 0
        side = Side(np.ones((6, 3), np.float32), np.ones(6, np.float32))
        rows, side, given = device.put((np.arange(6, dtype=np.int32)[::-1], side, (expected, learner, pulls)))
        launch(blocks.DEAL_ROWS, device, even(6, 4), rows, side, *given, 0.3)
        results.append(device.get((*side, *given)))
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-6, atol=1e-7)


# top-n


def ranked(device, users, items, seen, n):
    out = np.zeros((len(users.bias), n), np.int32), np.zeros((len(users.bias), n), np.float32)
    launch(topn.TOPN, device, even(len(users.bias), 3), users, topn.catalogue(items, users.factors), seen, *out)
    return out


def ranking_problem(n_users, n_items, k, seed=0):
    """Draw seen items, and sides of whole numbers: scores are the same on any device, and many are equal."""
    rng = np.random.default_rng(seed)
    users, items = (
        Side(rng.integers(-2, 3, (n, k)).astype(np.float32), rng.integers(-2, 3, n).astype(np.float32))
        for n in (n_users, n_items)
    )
    items.bias[1] = -np.inf
    counts = rng.integers(0, n_items, n_users)
    indptr = np.append(0, np.cumsum(counts))
    seen = np.concatenate([rng.choice(n_items, count, replace=False) for count in counts])
    return users, items, Compressed(indptr, seen.astype(np.int32), np.empty(0, np.float32))


@pytest.mark.parametrize(
    ("n_users", "n_items", "k", "n"), [(5, 20, 3, 4), (3, 10, 2, 10), (66, 70, 18, 5), (1, 1, 1, 1)]
)
def test_lists_are_those_of_the_definition(devices, n_users, n_items, k, n):
    users, items, seen = ranking_problem(n_users, max(n_items, 2), k)
    expected, found = (ranked(device, users, items, seen, n) for device in devices)
    assert np.array_equal(found[0], expected[0])
    assert np.array_equal(found[1], expected[1])


def test_batches_of_users_halve_if_memory_is_short(devices, monkeypatch):
    topn_cuda = pytest.importorskip("fastmf.kernels.topn_cuda")
    problem, batches, whole = ranking_problem(9, 12, 3), [], topn_cuda._rank_batch

    def short(start, stop, *given):
        if stop - start > 2:
            raise RuntimeError("[CUresult.CUDA_ERROR_OUT_OF_MEMORY]")
        batches.append((start, stop))
        whole(start, stop, *given)

    monkeypatch.setattr(topn_cuda, "MOST_USERS", 5)
    monkeypatch.setattr(topn_cuda, "_rank_batch", short)
    expected, found = (ranked(device, *problem, 4) for device in devices)
    assert batches == [(0, 2), (2, 4), (4, 6), (6, 8), (8, 9)]
    assert np.array_equal(found[0], expected[0])


def test_peak_kernels_count_their_work(devices, monkeypatch):
    peak_cuda = pytest.importorskip("fastmf.kernels.peak_cuda")
    monkeypatch.setattr(peak_cuda, "BLOCKS", 2)
    monkeypatch.setattr(peak_cuda, "PASSES", 3)
    monkeypatch.setattr(peak_cuda, "READS", 2)
    assert launch(peak.MULTIPLY_ADD, devices[1], even(2, 1)) > 0
    array = np.arange(50, dtype=np.float32)
    assert launch(peak.READ, devices[1], even(50, 20), devices[1].put(array)).tolist() == [400, array.sum()]
