"""The vector layer on its own, against NumPy, and the kernels on hosts with vectors of other widths."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastmf.kernels.compile import jit as compiled
from fastmf.kernels.vectors import WIDTH

pytestmark = pytest.mark.skipif(not WIDTH, reason="there are no vectors here: an unknown machine, or no JIT")

if WIDTH:
    from fastmf.kernels import lanes, simd

W, B = WIDTH, 4
TWICE = 2 * WIDTH


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_load_and_store_keep_rows_apart():
    @compiled
    def run(a, out, step):
        simd.store(simd.load(3, 2, simd.pointer(a, 5), step), simd.at(simd.pointer(out, 0), 1), TWICE)

    a, out = numbers(7 * W + 5), np.zeros(6 * W + 2, np.float32)
    run(a, out, 2 * W + 1)
    expected = np.concatenate([a[5 + r * (2 * W + 1) :][: 2 * W] for r in range(3)])
    np.testing.assert_array_equal(out, np.concatenate(([0], expected, [0])))


def test_zeros():
    @compiled
    def run(out):
        simd.store(simd.zeros(2, 1), simd.pointer(out, 0), WIDTH)

    out = numbers(3, W)
    last = out[2].copy()
    run(out)
    assert not out[:2].any()
    np.testing.assert_array_equal(out[2], last)


def test_add_outer_and_add_scaled():
    @compiled
    def run(a, b, out, scale):
        tile = simd.load(3, 2, simd.pointer(out, 0), TWICE)
        tile = simd.add_outer(tile, simd.at(simd.pointer(a, 0), 1), simd.pointer(b, 2))
        simd.store(tile, simd.pointer(out, 0), TWICE)
        row = simd.add_scaled(simd.load(1, 2, simd.pointer(out, 0), 0), scale, simd.pointer(b, 2))
        simd.store(row, simd.pointer(out, 0), 0)

    a, b, out = numbers(4), numbers(2 * W + 2, seed=1), numbers(3, 2 * W, seed=2)
    expected = out + np.outer(a[1:], b[2:])
    expected[0] += np.float32(0.5) * b[2:]
    run(a, b, out, np.float32(0.5))
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


def test_put_and_element_count_from_a_pointer_both_ways():
    @compiled
    def run(a, whole):
        middle = simd.pointer(a, 3)
        simd.put(middle, -2, simd.element(middle, 1) + np.float32(simd.element(simd.pointer(whole, 1), -1)))

    a, whole = numbers(6), np.array([7, 8], np.int32)
    expected = a.copy()
    expected[1] = a[4] + np.float32(7)
    run(a, whole)
    np.testing.assert_array_equal(a, expected)


def test_multiply_add():
    @compiled
    def run(a, b, out):
        total = simd.multiply_add(simd.load(2, 1, simd.pointer(out, 0), WIDTH), tile(a), tile(b))
        simd.store(total, simd.pointer(out, 0), WIDTH)

    @compiled
    def tile(a):
        return simd.load(2, 1, simd.pointer(a, 0), WIDTH)

    a, b, out = (numbers(2, W, seed=n) for n in range(3))
    expected = out + a * b
    run(a, b, out)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rows", [1, 3])
def test_total(rows):
    @compiled
    def run(a, shape):
        return simd.total(simd.load(shape, 2, simd.pointer(a, 0), TWICE))

    a = numbers(rows, TWICE)
    assert run(a, (0,) * rows) == pytest.approx(a.sum(), rel=1e-4, abs=1e-5)


def test_weighted_sum_and_dot():
    @compiled
    def run(a, b, out):
        x, y = simd.load(2, 1, simd.pointer(a, 0), WIDTH), simd.load(2, 1, simd.pointer(b, 0), WIDTH)
        simd.store(simd.weighted_sum(np.float32(0.5), x, np.float32(-2), y), simd.pointer(out, 0), WIDTH)
        return simd.dot(x, y)

    a, b, out = numbers(2, W), numbers(2, W, seed=1), np.empty((2, W), np.float32)
    assert run(a, b, out) == pytest.approx(np.sum(a * b), rel=1e-4, abs=1e-5)
    np.testing.assert_allclose(out, 0.5 * a - 2 * b, rtol=1e-5, atol=1e-6)


def test_a_tuple_says_how_many_vectors_by_its_length():
    @compiled
    def run(a, out, columns):
        simd.prefetch(columns, simd.pointer(a, 0), 0)
        simd.store(simd.load(1, columns, simd.pointer(a, 0), 0), simd.pointer(out, 0), 0)

    for n in (1, 3):
        a, out = numbers(4 * W), np.zeros(4 * W, np.float32)
        run(a, out, (0,) * n)
        np.testing.assert_array_equal(out, np.where(np.arange(4 * W) < n * W, a, 0))


def test_reaches_compares_each_row_with_its_limit():
    @compiled
    def run(a, limits):
        return simd.reaches(simd.load(3, 2, simd.pointer(a, 0), TWICE), simd.pointer(limits, 1))

    a = numbers(3, TWICE)
    highest = a.max(axis=1)
    above = np.nextafter(highest, np.float32(np.inf))
    assert not run(a, np.append(np.float32(-9), above))
    for row in range(3):
        assert run(a, np.append(np.float32(9), np.where(np.arange(3) == row, highest, above)))
    assert not run(np.full((3, TWICE), -np.inf, np.float32), np.full(4, np.finfo(np.float32).min))


def test_lanes_from_marks_elements_and_lowest_finds_them():
    @compiled
    def run(a, limit):
        return simd.lanes_from(simd.load(1, 2, simd.pointer(a, 1), 0), limit)

    @compiled
    def first(marks):
        return simd.lowest(marks)

    a = numbers(TWICE + 1)
    for limit in (*a[1:], np.float32(9), np.float32(-9)):
        assert run(a, limit) == sum(1 << n for n in np.flatnonzero(a[1:] >= limit).tolist())
    assert [first(1 << n | 1 << 40) for n in range(41)] == list(range(41))


def test_load_lanes_transposes():
    @compiled
    def run(a, out, step, row_step):
        simd.store(lanes.load_lanes(2, simd.pointer(a, 1), step, row_step), simd.pointer(out, 0), 4 * WIDTH)

    a = np.arange(W * 19 + 12, dtype=np.float32)
    out = np.empty((2, B, W), np.float32)
    run(a, out, 19, 7)
    expected = [[[a[1 + lane * 19 + row * 7 + c] for lane in range(W)] for c in range(B)] for row in range(2)]
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("columns", [1, 4])
def test_subtract_products(columns):
    @compiled
    def run_4(a, b, out):
        tile = lanes.subtract_products(
            simd.load(B, B, simd.pointer(out, 0), B * WIDTH), simd.pointer(a, 0), simd.pointer(b, 0)
        )
        simd.store(tile, simd.pointer(out, 0), B * WIDTH)

    @compiled
    def run_1(a, b, out):
        tile = lanes.subtract_products(
            simd.load(B, 1, simd.pointer(out, 0), WIDTH), simd.pointer(a, 0), simd.pointer(b, 0)
        )
        simd.store(tile, simd.pointer(out, 0), WIDTH)

    a, b, out = numbers(B, W), numbers(columns, W, seed=1), numbers(B, columns, W, seed=2)
    expected = out - a[:, None] * b[None]
    (run_1 if columns == 1 else run_4)(a, b, out)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


def test_small_systems_are_factored_and_solved_in_every_lane():
    @compiled
    def run(a, right, u, x, rest):
        matrix = lanes.factor(simd.load(B, B, simd.pointer(a, 0), B * WIDTH))
        simd.store(matrix, simd.pointer(u, 0), B * WIDTH)
        row = simd.load(1, B, simd.pointer(right, 0), 0)
        half = lanes.solve_lower(matrix, lanes.column(row))
        simd.store(lanes.solve_upper(matrix, half), simd.pointer(x, 0), WIDTH)
        left = lanes.subtract_dots(
            lanes.column(row), simd.load(B, B, simd.pointer(a, 0), B * WIDTH), lanes.solve_upper(matrix, half)
        )
        simd.store(left, simd.pointer(rest, 0), WIDTH)
        simd.store(lanes.diagonal(matrix), simd.pointer(right, 0), WIDTH)

    roots = numbers(W, B, 6)
    a = roots @ roots.transpose(0, 2, 1)
    right = numbers(W, B, seed=1)
    u, x, rest = np.empty((B, B, W), np.float32), np.empty((B, W), np.float32), np.empty((B, W), np.float32)
    kept = right.T.copy()
    run(a.transpose(1, 2, 0).copy(), kept, u, x, rest)
    upper = np.linalg.cholesky(a.astype(np.float64)).transpose(0, 2, 1)
    rows, columns = np.triu_indices(B, 1)
    np.testing.assert_allclose(u[rows, columns].T, upper[:, rows, columns], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(1 / kept, np.diagonal(upper, axis1=1, axis2=2).T, rtol=1e-3)
    np.testing.assert_allclose(
        x.T, np.linalg.solve(a.astype(np.float64), right[..., None])[..., 0], rtol=2e-2, atol=1e-3
    )
    np.testing.assert_allclose(rest, 0, atol=1e-3)


TESTS = [
    "als.py::test_half_sweep_equals_the_definition",
    "cg.py::test_half_sweep_equals_the_definition",
    "csr.py::test_compress_groups_by_row",
    "gibbs.py::test_draws_equal_the_definition",
    "gram.py",
    "links.py::test_gather_is_a_product_with_a_sparse_matrix_of_ones",
    "peak.py::test_every_sum_gets_every_multiply_add",
    "peak.py::test_everything_is_read",
    "residual.py::test_errors_equal_the_definition",
    "sgd.py::test_blocks_equal_the_definition",
    "simd.py",
    "topn.py::test_lists_equal_the_definition",
]
HOSTS = {f"{width} lanes": {"FASTMF_VECTOR_WIDTH": f"{width}"} for width in (4, 8, 16) if width != WIDTH}
HOSTS["an unknown machine"] = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}  # no vectors: plain Numba


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The tests of all hosts, begun at once: one alone leaves a core idle while it compiles."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    command += [f"tests/kernels/test_{test}" for test in TESTS]
    command += ["--deselect", "tests/kernels/test_simd.py::test_all_kernels_are_right_on"]
    root, folder, started = Path(__file__).parents[2], tmp_path_factory.mktemp("runs"), {}
    for number, (host, settings) in enumerate(HOSTS.items()):
        told = folder / f"{number}.txt"
        with told.open("w") as file:
            run = subprocess.Popen(command, env=os.environ | settings, cwd=root, stdout=file, stderr=file)
        started[host] = run, told
    yield started
    for run, _ in started.values():
        run.kill()
        run.wait()


@pytest.mark.skipif("FASTMF_VECTOR_WIDTH" in os.environ, reason="the width is forced already")
@pytest.mark.parametrize("host", HOSTS)
def test_all_kernels_are_right_on(host, runs):
    run, told = runs[host]
    assert run.wait(timeout=600) == 0, told.read_text(encoding="utf-8")[-3000:]
