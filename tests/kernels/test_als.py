from itertools import cycle

import numpy as np
import pytest

from fastmf.kernels.als import EXTRAPOLATE, HALF_SWEEP, half_sweep_numpy, half_sweep_tasks
from fastmf.kernels.types import Compressed, Penalty, Side, nothing_known
from fastmf.kernels.vectors import whole
from fastmf.runtime.device import Device
from fastmf.runtime.launch import launch

PENALTIES = [Penalty(0.03, 1.0, 3.0), Penalty(0.2, 0.0, 0.5), Penalty(0.0, 2.0, np.inf), Penalty(0.1, 0.0, 2.0, 0.7)]
KS = [1, 2, 5, 16, 33]
EMPTY, ONE = 0, 1  # the row without entries and the row with one of them


def compressed(mask, values):
    """The entries of a dense matrix where mask is set, as Compressed."""
    indptr = np.append(0, np.cumsum(mask.sum(axis=1))).astype(np.int64)
    return Compressed(indptr, np.nonzero(mask)[1].astype(np.int32), values[mask].astype(np.float32))


def side(n, k, rng, sigma=0.5):
    return Side(*(rng.normal(0, sigma, shape).astype(np.float32) for shape in ((n, k), n)))


class Problem:
    """A small matrix with an empty row, an empty column and a one-entry row, and factors to start from."""

    def __init__(self, k, *, n_users=14, n_items=11, density=0.5, seed=0):
        rng = np.random.default_rng(seed)
        self.mask = rng.random((n_users, n_items)) < density
        self.mask[EMPTY] = self.mask[:, EMPTY] = False
        self.mask[ONE] = np.arange(n_items) == 4
        self.values = rng.standard_normal((n_users, n_items)).astype(np.float32)
        self.users, self.items = side(n_users, k, rng), side(n_items, k, rng)
        self.by_user = compressed(self.mask, self.values)
        self.by_item = compressed(self.mask.T, self.values.T)
        self.tasks = half_sweep_tasks(self.by_user.indptr, k)

    def solved_users(self, device, penalty, tasks=None, threads=2, known=None):
        """The users' side after half a sweep, and the number of rows that were singular."""
        users = Side(*(array.copy() for array in self.users))
        if penalty.bias_reg == np.inf:
            users.bias[:] = 0
        where = Device(name=device, threads=threads)
        tasks = self.tasks if tasks is None else tasks
        known = nothing_known(users.factors.shape[1]) if known is None else known
        singular = launch(HALF_SWEEP, where, tasks, self.by_user, users, self.items, penalty, known)
        return users, singular


def objective(mask, values, users, items, penalty):
    """What is minimised, in float64, term by term."""
    (x, b), (y, c) = ([array.astype(np.float64) for array in one] for one in (users, items))
    total = sum((values[u, i] - b[u] - c[i] - x[u] @ y[i]) ** 2 for u, i in zip(*np.nonzero(mask), strict=True))
    for counts, factors, bias in ((mask.sum(axis=1), x, b), (mask.sum(axis=0), y, c)):
        total += sum(
            (penalty.reg * n + penalty.reg0 + penalty.root_reg * n**0.5) * row @ row
            for n, row in zip(counts, factors, strict=True)
        )
        total += penalty.bias_reg * bias @ bias if np.isfinite(penalty.bias_reg) else 0
    return total


def gradient(row, mask, values, users, items, penalty):
    """Half the derivatives of the objective to one user's factors and bias, in float64."""
    (x, b), (y, c) = ([array.astype(np.float64) for array in one] for one in (users, items))
    rated = np.flatnonzero(mask[row])
    e = values[row, rated] - b[row] - c[rated] - y[rated] @ x[row]
    by_bias = penalty.bias_reg * b[row] - e.sum() if np.isfinite(penalty.bias_reg) else b[row]
    return (penalty.reg * len(rated) + penalty.reg0 + penalty.root_reg * len(rated) ** 0.5) * x[row] - e @ y[
        rated
    ], by_bias


@pytest.mark.parametrize(("k", "penalty"), list(zip(KS, cycle(PENALTIES), strict=False)), ids=str)
def test_half_sweep_equals_the_definition(k, penalty):
    problem = Problem(k)
    expected, _ = problem.solved_users("numpy", penalty)
    users, singular = problem.solved_users("cpu", penalty)
    assert singular == 0
    np.testing.assert_allclose(users.factors, expected.factors, rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(users.bias, expected.bias, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize(("k", "penalty"), list(zip((5, 1, 33, 17), PENALTIES, strict=True)), ids=str)
@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_every_solved_row_satisfies_its_normal_equations(device, k, penalty):
    problem = Problem(k)
    for _ in range(2):
        problem.users, singular = problem.solved_users(device, penalty)
        assert singular == 0
        for row in range(len(problem.mask)):
            if row != EMPTY:
                by_factors, by_bias = gradient(row, problem.mask, problem.values, problem.users, problem.items, penalty)
                assert np.abs(by_factors).max() < 3e-5
                assert abs(by_bias) < 3e-5
        problem = transposed(problem)


def transposed(problem):
    """The same problem with users and items swapped: the next half-sweep."""
    other = object.__new__(Problem)
    other.mask, other.values = problem.mask.T, problem.values.T
    other.users, other.items = problem.items, problem.users
    other.by_user, other.by_item = problem.by_item, problem.by_user
    other.tasks = half_sweep_tasks(other.by_user.indptr, other.users.factors.shape[1])
    return other


@pytest.mark.parametrize("penalty", PENALTIES[1:], ids=str)
@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_the_objective_never_rises(device, penalty):
    problem = Problem(4)
    if penalty.bias_reg == np.inf:
        problem.users.bias[:] = problem.items.bias[:] = 0
    before = first = objective(problem.mask, problem.values, problem.users, problem.items, penalty)
    for _ in range(12):
        problem.users, _ = problem.solved_users(device, penalty)
        after = objective(problem.mask, problem.values, problem.users, problem.items, penalty)
        assert after <= before * (1 + 1e-6)
        before, problem = after, transposed(problem)
    assert before < 0.9 * first


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_rows_without_entries_are_left_as_they_are(device):
    problem = Problem(5)
    users, _ = problem.solved_users(device, PENALTIES[0])
    np.testing.assert_array_equal(users.factors[EMPTY], problem.users.factors[EMPTY])
    assert users.bias[EMPTY] == problem.users.bias[EMPTY]
    assert not np.array_equal(users.factors[ONE], problem.users.factors[ONE])


@pytest.mark.parametrize(("k", "penalty"), list(zip((1, 5, 33, 9), PENALTIES, strict=True)), ids=str)
@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_a_weight_counts_as_so_many_entries(device, k, penalty):
    problem, several = Problem(k), Problem(k)
    times = np.random.default_rng(9).integers(1, 4, len(problem.by_user.values))
    problem.by_user = problem.by_user._replace(weights=times.astype(np.float32))
    indptr = np.append(0, np.cumsum(times))[problem.by_user.indptr]
    several.by_user = Compressed(indptr, *(np.repeat(column, times) for column in problem.by_user[1:3]))
    found, expected = (each.solved_users(device, penalty)[0] for each in (problem, several))
    np.testing.assert_allclose(found.factors, expected.factors, rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(found.bias, expected.bias, rtol=2e-4, atol=2e-5)
    plain, _ = Problem(k).solved_users(device, penalty)
    assert np.abs(plain.factors - found.factors).max() > 0.01


@pytest.mark.parametrize("k", [5, 17])
@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_a_base_is_like_more_ratings_of_zero_where_there_are_no_biases(device, k):
    # B = Z'Z: every row has rated the columns of Z, too, and has given them 0
    problem, rng = Problem(k), np.random.default_rng(3)
    more = (0.5 * rng.standard_normal((7, k))).astype(np.float32)
    penalty = Penalty(0.0, 0.4, np.inf)
    found, singular = problem.solved_users(device, penalty, known=nothing_known(k)._replace(base=more.T @ more))
    assert singular == 0
    y, c = problem.items
    for row in np.flatnonzero(problem.mask.any(axis=1)):
        rated = problem.mask[row]
        w = np.concatenate([y[rated], more]).astype(np.float64)
        t = np.append(problem.values[row, rated] - c[rated], np.zeros(7))
        exact = np.linalg.solve(w.T @ w + 0.4 * np.eye(k), w.T @ t)
        np.testing.assert_allclose(found.factors[row], exact, rtol=2e-3, atol=2e-3)
    empty = ~problem.mask.any(axis=1)
    np.testing.assert_array_equal(found.factors[empty], problem.users.factors[empty])


@pytest.mark.parametrize(("k", "penalty"), list(zip((1, 5, 17, 9), PENALTIES, strict=True)), ids=str)
@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_a_pull_is_what_is_left_without_it(device, k, penalty):
    # x = z + d: what z leaves of the ratings is solved for d, which is pulled to zero
    problem, rng = Problem(k), np.random.default_rng(8)
    pull = np.zeros((len(problem.mask), whole(k)), np.float32)
    pull[:, :k] = rng.standard_normal((len(pull), k))
    bias = rng.standard_normal(len(pull)).astype(np.float32) * np.float32(np.isfinite(penalty.bias_reg))
    known = nothing_known(k)._replace(pull=pull)
    known = known._replace(bias=bias) if np.isfinite(penalty.bias_reg) else known
    found, singular = problem.solved_users(device, penalty, known=known)
    assert singular == 0
    left = problem.values - (pull[:, :k] @ problem.items.factors.T).astype(np.float32) - bias[:, None]
    problem.by_user = compressed(problem.mask, left)
    rest, _ = problem.solved_users(device, penalty)
    rated = problem.mask.any(axis=1)
    np.testing.assert_allclose(found.factors[rated], (rest.factors + pull[:, :k])[rated], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found.bias[rated], (rest.bias + bias)[rated], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_a_row_with_one_entry_by_hand(device):
    # k = 1, y = 2, t = 3, bias_reg = 1, rho = .5: b = (3 - 2 x) / 2 leaves (4 - 2 + .5) x = 6 - 3, so x = 1.2, b = .3
    entries = Compressed(np.array([0, 1]), np.array([0], np.int32), np.array([4], np.float32))
    users = Side(np.zeros((1, 1), np.float32), np.zeros(1, np.float32))
    items = Side(np.full((1, 1), 2, np.float32), np.ones(1, np.float32))
    given = entries, users, items, Penalty(0.2, 0.3, 1.0), nothing_known(1)
    launch(HALF_SWEEP, Device(name=device, threads=1), np.array([0, 1]), *given)
    np.testing.assert_allclose([users.factors[0, 0], users.bias[0]], [1.2, 0.3], rtol=1e-6)


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_infinite_bias_reg_pins_biases_to_zero(device):
    problem = Problem(3)
    problem.items.bias[:] = 0
    users, _ = problem.solved_users(device, Penalty(0.03, 1.0, np.inf))
    assert not users.bias.any()


@pytest.mark.parametrize(("k", "bias_reg"), [(4, 3.0), (7, 3.0), (5, np.inf)])
@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_singular_rows_are_counted_and_solved_all_the_same(device, k, bias_reg):
    # Without a penalty, two ratings for more factors leave pivots that are nothing but rounding errors, of either sign.
    # (With almost as many ratings as factors such an error may pass for a pivot: float32 cannot tell.)
    problem = Problem(k, n_users=200)
    for row in range(2, 190):
        problem.mask[row] = np.isin(np.arange(11), np.random.default_rng(row).permutation(10)[:2] + 1)
    problem.mask[190:, 1:] = True
    problem.by_user = compressed(problem.mask, problem.values)
    counts = problem.mask.sum(axis=1)
    short = (counts > 0) & (counts <= 2)
    users, singular = problem.solved_users(device, Penalty(0.0, 0.0, bias_reg), np.arange(201))
    assert singular == short.sum() == 189
    left = problem.values - users.bias[:, None] - problem.items.bias - users.factors @ problem.items.factors.T
    if bias_reg == np.inf:  # else the bias is not free
        assert np.abs(np.where(problem.mask, left, 0)[short]).max() < 1e-3
    rated = [problem.items.factors[problem.mask[row]] for row in range(200)]
    for row in np.flatnonzero(short):  # the shortest of all solutions is a sum of the factors of what was rated
        _, remainder, *_ = np.linalg.lstsq(rated[row].T.astype(np.float64), users.factors[row], rcond=None)
        assert np.sum(remainder) < 1e-6
    assert np.all(users.factors[190:] != problem.users.factors[190:])
    assert np.isfinite(users.factors).all()


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_rows_without_any_solution_become_nan(device):
    problem = Problem(5)
    problem.items.factors[4] = np.inf
    with np.errstate(all="ignore"):
        users, singular = problem.solved_users(device, PENALTIES[0])
    lost = problem.mask[:, 4]
    assert singular == lost.sum() > 1
    np.testing.assert_array_equal(np.isnan(users.factors), np.repeat(lost[:, None], 5, axis=1))
    np.testing.assert_array_equal(np.isnan(users.bias), lost)


@pytest.mark.parametrize(("device", "k"), [("numpy", 5), ("cpu", 1), ("cpu", 16), ("cpu", 33)])
def test_tasks_and_threads_do_not_change_a_bit(device, k):
    problem = Problem(k, n_users=40)
    n = len(problem.mask)
    whole, _ = problem.solved_users(device, PENALTIES[0], np.array([0, n]), threads=1)
    for tasks in (np.arange(n + 1), np.array([0, 3, 4, 21, n]), problem.tasks):
        for threads in (1, 2):
            cut, _ = problem.solved_users(device, PENALTIES[0], tasks, threads)
            assert whole.factors.tobytes() == cut.factors.tobytes()
            assert whole.bias.tobytes() == cut.bias.tobytes()


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_relabelling_users_and_items_permutes_the_result(device):
    problem, other = Problem(5), Problem(5)
    rng = np.random.default_rng(1)
    user_of, item_of = rng.permutation(len(problem.mask)), rng.permutation(problem.mask.shape[1])
    other.by_user = compressed(problem.mask[user_of][:, item_of], problem.values[user_of][:, item_of])
    other.users = Side(*(array[user_of] for array in problem.users))
    other.items = Side(*(array[item_of] for array in problem.items))
    expected, _ = problem.solved_users(device, PENALTIES[0])
    users, _ = other.solved_users(device, PENALTIES[0])
    np.testing.assert_allclose(users.factors, expected.factors[user_of], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(users.bias, expected.bias[user_of], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_a_planted_rank_is_recovered(device):
    problem = Problem(2, n_users=30, n_items=20)
    rng = np.random.default_rng(2)
    problem.values = (rng.standard_normal((30, 2)) @ rng.standard_normal((2, 20))).astype(np.float32)
    problem.users.bias[:] = problem.items.bias[:] = 0
    problem.by_user = compressed(problem.mask, problem.values)
    problem.by_item = compressed(problem.mask.T, problem.values.T)
    penalty = Penalty(0.0, 1e-4, np.inf)
    for _ in range(60):
        problem.users, _ = problem.solved_users(device, penalty)
        problem = transposed(problem)
    errors = (problem.values - problem.users.factors @ problem.items.factors.T)[problem.mask]
    assert np.sqrt(np.mean(errors**2)) < 1e-3


def test_tasks_are_a_function_of_the_data_and_cover_the_rows():
    problem = Problem(5)
    assert (problem.tasks[0], problem.tasks[-1]) == (0, len(problem.mask))
    alone = half_sweep_numpy(
        problem.tasks, problem.by_user, problem.users, problem.items, PENALTIES[0], nothing_known(5)
    )
    assert alone.shape == (len(problem.tasks) - 1,)


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_rows_too_ill_conditioned_for_float32_are_solved_all_the_same(device):
    rng = np.random.default_rng(4)
    k, n = 8, 400
    nearly_flat = rng.standard_normal((n, 3)) @ rng.standard_normal((3, k)) + 1e-4 * rng.standard_normal((n, k))
    other = Side(nearly_flat.astype(np.float32), np.zeros(n, np.float32))
    values = rng.standard_normal(n).astype(np.float32)
    entries = Compressed(np.array([0, n]), np.arange(n, dtype=np.int32), values)
    side = Side(np.zeros((1, k), np.float32), np.zeros(1, np.float32))
    given = entries, side, other, Penalty(0.0, 1e-6, np.inf), nothing_known(k)
    singular = launch(HALF_SWEEP, Device(name=device, threads=1), np.array([0, 1]), *given)
    y = other.factors.astype(np.float64)
    expected = np.linalg.solve(y.T @ y + 1e-6 * np.eye(k), y.T @ values)
    assert singular == 0
    np.testing.assert_allclose(side.factors[0], expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


@pytest.mark.big
@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_sums_of_a_very_long_row_keep_their_digits(device):
    rng = np.random.default_rng(5)
    k, n = 2, 4_000_000
    other = Side((1 + 0.1 * rng.standard_normal((50, k))).astype(np.float32), np.zeros(50, np.float32))
    columns = rng.integers(0, 50, n).astype(np.int32)
    truth = np.array([0.5, -0.25])
    values = (other.factors[columns].astype(np.float64) @ truth + 1).astype(np.float32)
    side = Side(np.zeros((1, k), np.float32), np.zeros(1, np.float32))
    entries = Compressed(np.array([0, n]), columns, values)
    for weights in (None, rng.uniform(0.5, 2, n).astype(np.float32)):
        given = entries._replace(weights=weights), side, other, Penalty(0.0, 1e-3, 1e-3), nothing_known(k)
        assert launch(HALF_SWEEP, Device(name=device, threads=1), np.array([0, 1]), *given) == 0
        # float32 sums of the whole row are off by .02; the products are rounded to float32 all the same
        np.testing.assert_allclose(side.factors[0], truth, atol=1e-4)
        np.testing.assert_allclose(side.bias[0], 1, atol=1e-4)


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_a_side_is_moved_on_along_its_last_change(device):
    rng = np.random.default_rng(0)
    now, before, ahead = side(6, 3, rng), side(6, 3, rng), side(6, 4, rng)
    expected, rest = [new + 0.5 * (new - old) for new, old in zip(now, before, strict=True)], ahead.factors[:, 3].copy()
    launch(EXTRAPOLATE, Device(name=device, threads=2), np.array([0, 2, 6]), now, before, ahead, 0.5)
    np.testing.assert_allclose(ahead.factors[:, :3], expected[0], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(ahead.bias, expected[1], rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(ahead.factors[:, 3], rest)
    for new, old in zip(now, before, strict=True):
        np.testing.assert_array_equal(old, new)
