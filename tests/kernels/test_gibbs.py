"""Draws of rows: against their definition, and the definition against what the distribution must be."""

import numpy as np
import pytest

from fastmf.kernels import gibbs
from fastmf.kernels.gibbs import AVERAGE, DRAW, WEIGH, Chance, Prior, Weighted
from fastmf.kernels.tasks import even
from fastmf.kernels.types import Compressed, Side
from fastmf.kernels.vectors import aligned, whole
from fastmf.runtime.device import Device
from fastmf.runtime.launch import launch

CPU, NUMPY = Device(name="cpu", threads=2), Device(name="numpy", threads=1)
COUNTS = [0, 1, 4, 17, 0, 9, 30, 2, 3, 11, 5, 8, 2, 2, 6, 7, 1, 25, 3]  # more than the rows that are solved at once
N_COLUMNS = 31


def problem(k, counts=COUNTS, biases=True, seed=0):
    """Entries, the other side, and a prior, all by chance."""
    rng = np.random.default_rng(seed)
    columns = [np.sort(rng.choice(N_COLUMNS, n, replace=False)) for n in counts]
    indptr = np.append(0, np.cumsum(counts))
    values = rng.standard_normal(indptr[-1]).astype(np.float32)
    entries = Compressed(indptr, np.concatenate(columns).astype(np.int32), values)
    roots = np.sqrt(rng.gamma(5, 0.2, N_COLUMNS)).astype(np.float32)
    factors = aligned(N_COLUMNS, whole(k))
    factors[:, :k] = rng.standard_normal((N_COLUMNS, k)) * roots[:, None]
    other = Weighted(factors, 0.3 * rng.standard_normal(N_COLUMNS).astype(np.float32), roots)
    a = rng.standard_normal((k, k + 4))
    precision = (a @ a.T).astype(np.float32)
    pull = (precision @ rng.standard_normal(k)).astype(np.float32)[None]
    p, of_biases = (3.0, 0.5) if biases else (np.inf, 0.0)
    return entries, other, Prior(precision, pull, p, np.array([of_biases]))


def drawn(device, entries, other, prior, chance, k, tasks=None):
    n = len(entries.indptr) - 1
    side = Side(np.full((n, k), 7, np.float32), np.full(n, 7, np.float32))
    precisions = np.linspace(0.5, 2, n).astype(np.float32)
    tasks = even(n, 5) if tasks is None else np.asarray(tasks)
    total = launch(DRAW, device, tasks, entries, side, precisions, other, prior, chance)
    return side, precisions, float(total)


def chance(stream=7, learn=True, draw=True, seed=5):
    return Chance(np.uint64(seed), np.uint64(stream), 1.3, learn, draw)


@pytest.mark.parametrize(
    ("k", "biases", "how"),
    [
        (1, True, {"learn": False, "draw": False}),
        (3, True, {}),
        (16, False, {"learn": False}),
        (21, True, {"learn": False}),
        (21, False, {}),
    ],
)
def test_draws_equal_the_definition(k, biases, how):
    given = problem(k, biases=biases)
    (one, own, total), (other, also, same) = (drawn(device, *given, chance(**how), k) for device in (NUMPY, CPU))
    np.testing.assert_allclose(other.factors, one.factors, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(other.bias, one.bias, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(also, own, rtol=1e-3)
    assert same == pytest.approx(total, rel=1e-3)
    empty = np.diff(given[0].indptr) == 0
    assert np.all(one.factors[empty] == 7)
    assert np.all(other.bias[empty] == 7)


@pytest.mark.parametrize(("k", "biases"), [(3, True), (21, False)])
def test_a_weight_counts_as_so_many_entries(k, biases):
    entries, *given = problem(k, biases=biases)
    times = np.random.default_rng(9).integers(1, 4, len(entries.values))
    several = Compressed(
        np.append(0, np.cumsum(times))[entries.indptr], *(np.repeat(column, times) for column in entries[1:3])
    )
    weighed = entries._replace(weights=times.astype(np.float32))
    for device in (NUMPY, CPU):
        one, own, total = drawn(device, weighed, *given, chance(), k)
        for other, also, same in (drawn(CPU, several, *given, chance(), k), drawn(NUMPY, weighed, *given, chance(), k)):
            np.testing.assert_allclose(other.factors, one.factors, rtol=2e-3, atol=2e-4)
            np.testing.assert_allclose(other.bias, one.bias, rtol=2e-3, atol=2e-4)
            np.testing.assert_allclose(also, own, rtol=2e-3)
            assert same == pytest.approx(total, rel=1e-3)


@pytest.mark.parametrize("tasks", [[0, 19], [0, 1, 2, 19], list(range(20))])
def test_neither_tasks_nor_threads_change_a_bit(tasks):
    given = problem(5)
    expected, precisions, total = drawn(CPU, *given, chance(), 5)
    found, also, same = drawn(Device(name="cpu", threads=1), *given, chance(), 5, tasks)
    np.testing.assert_array_equal(found.factors, expected.factors)
    np.testing.assert_array_equal(also, precisions)
    assert same == pytest.approx(total, rel=1e-6)


def joint(entries, other, prior, q):
    """Mean and covariance of the factors and bias of row 0: all k + 1 unknowns at once, in float64."""
    k, columns = len(prior.precision), entries.indices
    roots = other.roots[columns].astype(np.float64)
    design = np.column_stack([other.factors[columns, :k], roots])
    t = roots * (entries.values - other.bias[columns])
    precision = design.T @ design / q
    precision[:k, :k] += prior.precision
    precision[k, k] += prior.bias_precision
    covariance = np.linalg.inv(precision)
    return covariance @ (design.T @ t / q + np.append(prior.pull[0], prior.bias_pull[0])), covariance


@pytest.mark.parametrize("device", [NUMPY, CPU], ids=["numpy", "cpu"])
def test_means_are_those_of_all_unknowns_at_once(device):
    entries, other, prior = problem(4, counts=[9])
    side, _, _ = drawn(device, entries, other, prior, chance(learn=False, draw=False), 4)
    mean, _ = joint(entries, other, prior, q=1 / (1.3 * 0.5))
    np.testing.assert_allclose(side.factors[0], mean[:4], rtol=1e-4, atol=1e-5)
    assert side.bias[0] == pytest.approx(mean[4], rel=1e-4)


@pytest.mark.big
def test_draws_have_the_mean_and_covariance_of_the_conditional():
    entries, other, prior = problem(3, counts=[6])
    found = np.array(
        [
            np.append(*(a[0] for a in drawn(CPU, entries, other, prior, chance(stream, learn=False), 3)[0]))
            for stream in range(4000)
        ]
    )
    mean, covariance = joint(entries, other, prior, q=1 / (1.3 * 0.5))
    deviations = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose((found.mean(axis=0) - mean) / deviations, 0, atol=0.07)  # 4 of 1 / sqrt(4000)
    scale = np.outer(deviations, deviations)
    np.testing.assert_allclose(np.cov(found.T) / scale, covariance / scale, atol=0.1)  # the bias has its own noise, too


@pytest.mark.parametrize("device", [NUMPY, CPU], ids=["numpy", "cpu"])
def test_precisions_are_drawn_by_the_errors_that_are_left(device):
    entries, other, prior = problem(3, counts=[12])
    roots, columns, found = other.roots[entries.indices], entries.indices, []
    for stream in range(60):
        side, precisions, total = drawn(device, entries, other, prior, chance(stream), 3)
        t = roots * (entries.values - other.bias[columns] - side.bias[0])
        left = np.sum((t - other.factors[columns, :3] @ side.factors[0]) ** 2)
        assert total == pytest.approx(precisions[0] * left, rel=1e-3)
        found.append(precisions[0] * (gibbs.SHAPE + 0.5 * 1.3 * left))
    assert np.mean(found) == pytest.approx(gibbs.SHAPE + 6, abs=4 * np.sqrt((gibbs.SHAPE + 6) / 60))


@pytest.mark.filterwarnings("ignore:(invalid value|overflow):RuntimeWarning")
def test_rows_without_any_solution_become_nan():
    entries, other, prior = problem(3)
    lost = [row for row in range(len(COUNTS)) if 4 in entries.indices[slice(*entries.indptr[row : row + 2])]]
    other.factors[4] = np.inf
    side, _, total = drawn(CPU, entries, other, prior, chance(), 3)
    assert np.flatnonzero(np.isnan(side.factors).all(axis=1)).tolist() == lost != []
    assert np.flatnonzero(np.isnan(side.bias)).tolist() == lost
    assert np.isnan(total)


def test_rows_too_long_or_unsure_for_float32_are_drawn_all_the_same(monkeypatch):
    module = pytest.importorskip("fastmf.kernels.gibbs_simd") if gibbs.WIDTH else None
    entries, other, prior = problem(3, counts=[20, 25])
    expected, own, total = drawn(NUMPY, entries, other, prior, chance(), 3)
    if module is None:
        return
    batch, found, precisions = module.new_batch(3, whole(3)), Side(*(np.zeros_like(a) for a in expected)), own.copy()
    precisions[:] = np.linspace(0.5, 2, 2)
    given = entries, found, precisions, other, prior, chance(), batch
    same = sum(module._draw_exactly(row, *given) for row in range(2))
    monkeypatch.setattr(module, "LONG", 10)  # which is read here, not compiled
    precisions[:] = np.linspace(0.5, 2, 2)
    again = sum(module._draw_exactly(row, *given) for row in range(2))
    assert (same, again) == pytest.approx((total, total), rel=1e-4)
    np.testing.assert_allclose(found.factors, expected.factors, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("device", [NUMPY, CPU], ids=["numpy", "cpu"])
def test_dense_kernels_do_what_their_definitions_say(device):
    rng, n, k = np.random.default_rng(0), 11, 5
    x, b, p = (rng.random(shape, np.float32) + 0.5 for shape in ((n, k), n, n))
    out = Weighted(aligned(n, whole(k)), np.zeros(n, np.float32), np.zeros(n, np.float32))
    launch(WEIGH, device, even(n, 4), Side(x, b), p, out)
    np.testing.assert_allclose(out.factors[:, :k], x * np.sqrt(p)[:, None], rtol=1e-6)
    np.testing.assert_array_equal(out.bias, b)
    mean = x.copy() * 2, b * 3
    for now, moved in zip((x, b), mean, strict=True):
        launch(AVERAGE, device, even(n, 4), 0.25, now, moved)
    np.testing.assert_allclose(mean[0], 1.75 * x, rtol=1e-6)
    np.testing.assert_allclose(mean[1], 2.5 * b, rtol=1e-6)


@pytest.mark.parametrize("device", [NUMPY, CPU], ids=["numpy", "cpu"])
def test_each_row_has_its_own_pulls_if_there_are_as_many(device):
    rng, k, n = np.random.default_rng(3), 3, len(COUNTS)
    entries, other, prior = problem(k)
    pulls, bias_pulls = rng.standard_normal((n, k)).astype(np.float32), rng.standard_normal(n)
    side, precisions, _ = drawn(device, entries, other, Prior(prior.precision, pulls, 3.0, bias_pulls), chance(), k)
    for row in np.flatnonzero(COUNTS):
        alone = Prior(prior.precision, pulls[row : row + 1], 3.0, float(bias_pulls[row]))
        expected, own, _ = drawn(device, entries, other, alone, chance(), k)
        np.testing.assert_allclose(side.factors[row], expected.factors[row], rtol=1e-4, atol=1e-5)
        assert (side.bias[row], precisions[row]) == pytest.approx((expected.bias[row], own[row]), rel=1e-4)
