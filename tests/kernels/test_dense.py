"""Small dense matrices, against NumPy's LAPACK."""

import numpy as np
import pytest

from fastmf.kernels import dense
from fastmf.kernels.tasks import even
from fastmf.runtime.device import Device
from fastmf.runtime.launch import launch

SIZES = [1, 2, 3, 8, 33]


def spd(k, seed=0, spread=1.0):
    """A positive definite matrix whose eigenvalues span 10^spread."""
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.standard_normal((k, k)))
    return (basis * 10 ** np.linspace(0, spread, k)) @ basis.T


@pytest.mark.parametrize("k", SIZES)
@pytest.mark.parametrize("spread", [0.0, 3.0, 8.0])
def test_factors_and_solutions(k, spread):
    matrix, rng = spd(k, spread=spread), np.random.default_rng(1)
    lower = dense.cholesky(matrix)
    np.testing.assert_allclose(lower, np.linalg.cholesky(matrix), rtol=1e-6, atol=1e-9 * 10**spread)
    np.testing.assert_array_equal(lower, np.tril(lower))
    right = rng.standard_normal((k, 5))
    np.testing.assert_allclose(lower @ dense.solve_lower(lower, right), right, atol=1e-11)
    np.testing.assert_allclose(lower.T @ dense.solve_upper(lower, right[:, 0].copy()), right[:, 0], atol=1e-11)


@pytest.mark.parametrize("k", SIZES)
@pytest.mark.parametrize("spread", [0.0, 3.0, 8.0])
def test_eigenvectors_are_orthonormal_and_rebuild_the_matrix(k, spread):
    matrix = spd(k, spread=spread)
    values, vectors = dense.principal(dense.cholesky(matrix))
    np.testing.assert_allclose(np.sort(values), np.linalg.eigvalsh(matrix), rtol=1e-7)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(k), atol=1e-12)
    np.testing.assert_allclose((vectors * values) @ vectors.T, matrix, rtol=1e-10, atol=1e-12 * 10**spread)


def test_equal_eigenvalues_and_a_diagonal_matrix():
    for matrix in (np.eye(4), np.diag([1.0, 4.0, 4.0, 9.0])):
        values, vectors = dense.principal(dense.cholesky(matrix))
        np.testing.assert_allclose((vectors * values) @ vectors.T, matrix, atol=1e-14)


@pytest.mark.parametrize("matrix", [[[1.0, 2.0], [2.0, 1.0]], [[np.nan, 0.0], [0.0, 1.0]], [[0.0, 0.0], [0.0, 1.0]]])
def test_what_is_not_positive_definite_gives_nan(matrix):
    lower = dense.cholesky(np.array(matrix))
    assert np.isnan(lower).any()
    assert np.isnan(dense.principal(lower)[0]).any()


@pytest.mark.parametrize(("n", "k", "m"), [(0, 3, 3), (1, 1, 1), (30, 5, 5), (30, 4, 9)])
def test_products_equal_the_definition_on_any_number_of_threads(n, k, m):
    rng = np.random.default_rng(0)
    rows, matrix = rng.standard_normal((n, k)), rng.standard_normal((k, m))
    found = []
    for name, threads in (("numpy", 1), ("cpu", 1), ("cpu", 2)):
        found.append(np.full((n, m), np.nan))
        tasks = even(n, 7) if n else np.array([0, 0])
        launch(dense.MULTIPLY, Device(name=name, threads=threads), tasks, rows, matrix, found[-1])
    np.testing.assert_allclose(found[0], rows @ matrix, atol=1e-13)
    np.testing.assert_allclose(found[1], found[0], atol=1e-13)
    np.testing.assert_array_equal(found[1], found[2])
