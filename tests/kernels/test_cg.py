import numpy as np
import pytest

from fastmf.kernels.cg import HALF_SWEEP_CG, half_sweep_cg_numpy, half_sweep_cg_tasks
from fastmf.kernels.types import Compressed, Penalty, Side, nothing_known
from fastmf.runtime.device import Device
from fastmf.runtime.launch import launch

PENALTIES = [Penalty(0.03, 1.0, 3.0), Penalty(0.2, 0.5, 0.5), Penalty(0.0, 2.0, np.inf), Penalty(0.1, 0.0, 2.0, 0.7)]
N_USERS, N_ITEMS, EMPTY = 14, 11, 3


def problem(k, penalty, seed=0):
    """Half a dense matrix, a row without entries, and both sides."""
    rng = np.random.default_rng(seed)
    mask = rng.random((N_USERS, N_ITEMS)) < 0.5
    mask[EMPTY] = False
    indptr = np.append(0, np.cumsum(mask.sum(axis=1)))
    values = rng.standard_normal(indptr[-1]).astype(np.float32)
    users, items = (
        Side(*(rng.normal(0, 0.5, shape).astype(np.float32) for shape in ((n, k), n))) for n in (N_USERS, N_ITEMS)
    )
    if not np.isfinite(penalty.bias_reg):
        users.bias[:] = 0
    return Compressed(indptr, np.nonzero(mask)[1].astype(np.int32), values), users, items


def moved(device, entries, users, items, penalty, steps, threads=2, tasks=None, known=None):
    """The users' side after half a sweep."""
    users = Side(users.factors.copy(), users.bias.copy())
    tasks = half_sweep_cg_tasks(entries.indptr, users.factors.shape[1], steps) if tasks is None else tasks
    known = nothing_known(items.factors.shape[1]) if known is None else known
    launch(HALF_SWEEP_CG, Device(name=device, threads=threads), tasks, entries, users, items, penalty, known, steps)
    return users


@pytest.mark.parametrize("k", [1, 5, 16, 33])
@pytest.mark.parametrize(
    ("penalty", "steps", "more"),
    [
        (PENALTIES[0], 2, "pull"),
        (PENALTIES[1], 5, "base"),
        (PENALTIES[2], 1, "base, weights"),
        (PENALTIES[3], 3, "weights"),
    ],
    ids=str,
)
def test_half_sweep_equals_the_definition(k, penalty, steps, more):
    entries, users, items = problem(k, penalty)
    weights = np.random.default_rng(2).uniform(0.1, 5, len(entries.values)).astype(np.float32)
    entries = entries._replace(weights=weights if "weights" in more else None)
    known = nothing_known(k)
    if "base" in more:
        known = known._replace(base=0.1 * items.factors.T @ items.factors)
    if "pull" in more:
        known = known._replace(pull=users.factors[::-1].copy(), bias=users.bias[::-1].copy())
    found = moved("cpu", entries, users, items, penalty, steps, known=known)
    half_sweep_cg_numpy(np.array([0, N_USERS]), entries, users, items, penalty, known, steps)
    np.testing.assert_allclose(found.factors, users.factors, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found.bias, users.bias, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("k", "penalty"), list(zip((5, 1, 5, 9), PENALTIES, strict=True)), ids=str)
@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_as_many_steps_as_unknowns_solve_the_equations(device, k, penalty):
    entries, users, items = problem(k, penalty)
    found = moved(device, entries, users, items, penalty, steps=k + 1)
    biased = np.isfinite(penalty.bias_reg)
    for row in range(N_USERS):
        rated = slice(*entries.indptr[row : row + 2])
        columns = entries.indices[rated]
        if row == EMPTY:
            assert found.factors[row].tobytes() == users.factors[row].tobytes()
            continue
        w = np.column_stack([items.factors[columns], np.full(len(columns), biased)]).astype(np.float64)
        ridge = np.diag(
            [penalty.reg * len(columns) + penalty.reg0 + penalty.root_reg * len(columns) ** 0.5] * k
            + [penalty.bias_reg if biased else 1.0]
        )
        expected = np.linalg.solve(w.T @ w + ridge, w.T @ (entries.values[rated] - items.bias[columns]))
        np.testing.assert_allclose(np.append(found.factors[row], found.bias[row]), expected, atol=2e-4)


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_a_solved_row_stays_where_it_is(device):
    entries, users, items = problem(5, PENALTIES[0])
    solved = moved(device, entries, users, items, PENALTIES[0], steps=12)
    again = moved(device, entries, solved, items, PENALTIES[0], steps=2)
    np.testing.assert_allclose(again.factors, solved.factors, atol=1e-5)
    nothing = Compressed(entries.indptr, entries.indices, np.zeros_like(entries.values))
    zero = Side(np.zeros_like(users.factors), np.zeros_like(users.bias))
    still = moved(device, nothing, zero, Side(items.factors, np.zeros_like(items.bias)), PENALTIES[0], steps=2)
    assert not still.factors.any()  # no direction to go in: nothing is divided by zero
    assert not still.bias.any()


@pytest.mark.parametrize(("device", "k"), [("numpy", 5), ("cpu", 5), ("cpu", 33)])
def test_tasks_and_threads_do_not_change_a_bit(device, k):
    entries, users, items = problem(k, PENALTIES[0])
    expected = moved(device, entries, users, items, PENALTIES[0], 2, threads=1)
    for threads, tasks in ((2, None), (2, np.arange(N_USERS + 1)), (1, np.array([0, 1, 9, N_USERS]))):
        found = moved(device, entries, users, items, PENALTIES[0], 2, threads, tasks)
        assert found.factors.tobytes() == expected.factors.tobytes()
        assert found.bias.tobytes() == expected.bias.tobytes()


@pytest.mark.parametrize(("device", "k"), [("numpy", 2), ("cpu", 2), ("cpu", 33)])
def test_steps_beyond_the_solution_do_no_harm(device, k):
    entries, users, items = problem(k, PENALTIES[0])
    enough, many = (moved(device, entries, users, items, PENALTIES[0], steps) for steps in (k + 1, 500))
    np.testing.assert_allclose(many.factors, enough.factors, atol=2e-4)
    np.testing.assert_allclose(many.bias, enough.bias, atol=2e-4)


@pytest.mark.parametrize("reg0", [1e6, 1e18])
@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_a_huge_weight_pins_the_factors_and_leaves_the_bias_free(device, reg0):
    penalty = Penalty(0.03, reg0, 3.0)
    entries, users, items = problem(5, penalty)
    found = moved(device, entries, users, items, penalty, steps=2)
    target = entries.values - items.bias[entries.indices]
    for row in set(range(N_USERS)) - {EMPTY}:
        rated = slice(*entries.indptr[row : row + 2])
        assert np.abs(found.factors[row]).max() < 1e-4
        expected = target[rated].sum() / (rated.stop - rated.start + 3.0)
        np.testing.assert_allclose(found.bias[row], expected, rtol=1e-2, atol=1e-3)


@pytest.mark.big
def test_a_long_row_loses_no_digits_that_matter():
    rng, n, k = np.random.default_rng(0), 1 << 20, 5
    items = Side(rng.normal(0.1, 0.3, (50, k)).astype(np.float32), rng.normal(0, 0.3, 50).astype(np.float32))
    columns, values = rng.integers(0, 50, n).astype(np.int32), rng.normal(1, 1, n).astype(np.float32)
    entries = Compressed(np.array([0, n]), columns, values)
    found = Side(np.zeros((1, k), np.float32), np.zeros(1, np.float32))
    given = entries, found, items, PENALTIES[0], nothing_known(k), k + 1
    launch(HALF_SWEEP_CG, Device(name="cpu", threads=1), np.array([0, 1]), *given)
    w = np.column_stack([items.factors, np.ones(50)]).astype(np.float64)
    counts = np.bincount(entries.indices, minlength=50)
    targets = np.bincount(entries.indices, entries.values - items.bias[entries.indices], minlength=50)
    ridge = np.diag([PENALTIES[0].reg * n + PENALTIES[0].reg0] * k + [PENALTIES[0].bias_reg])
    expected = np.linalg.solve((w * counts[:, None]).T @ w + ridge, w.T @ targets)
    np.testing.assert_allclose(np.append(found.factors, found.bias), expected, atol=1e-4)
