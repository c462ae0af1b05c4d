import numpy as np
import pytest

from fastmf.kernels.sgd import (
    BLOCK_EPOCH,
    HOGWILD_EPOCH,
    RUN,
    Step,
    block_epoch_numpy,
    hogwild_epoch_numpy,
    new_learner,
    positions,
    shuffle_numpy,
)
from fastmf.kernels.sgd_plain import BIAS, BIAS_PULL, CLIP, SQUARES
from fastmf.kernels.tasks import even
from fastmf.kernels.types import Triples
from fastmf.kernels.vectors import LINE, aligned
from fastmf.runtime.device import Device
from fastmf.runtime.launch import launch

TERMS = slice(BIAS, SQUARES + 1)


def step_of(lr=0.05, *, biases=True, adaptive=False, absolute=False, k=5, seed=3, epoch=1, stratum=5):
    return Step(lr, biases, adaptive, absolute, k, seed, epoch, stratum)


STEPS = {
    "squared": step_of(),
    "absolute": step_of(absolute=True),
    "no biases": step_of(biases=False),
    "adaptive": step_of(adaptive=True),
    "adaptive, absolute, no biases": step_of(adaptive=True, absolute=True, biases=False),
}
BLOCKS = np.array([0, 14, 14, 15, 40, 60])  # bounds of five blocks: an empty one, and one of one rating
PER_BLOCK = 5  # users and items of a block; no other block has any of them


def learner(n, k, rng, sigma=0.5):
    side = new_learner(n, k)
    side[:, :k] = rng.normal(0, sigma, (n, k))
    side[:, TERMS] = rng.uniform(0.01, 0.3, (n, 4)) * (sigma > 0, 1, 1, 1)
    side[:, SQUARES] += 1
    return side


def blank(n, k=1):
    """A side of zeros that nothing pulls back."""
    return new_learner(n, k)


def copied(side):
    copy = new_learner(len(side), side.shape[1] - LINE)
    copy[:] = side
    return copy


def problem(k, seed=0):
    """Ratings in blocks that share no user and no item, and both sides."""
    rng = np.random.default_rng(seed)
    block = np.repeat(np.arange(len(BLOCKS) - 1), np.diff(BLOCKS))
    users, items = ((block * PER_BLOCK + rng.integers(0, PER_BLOCK, len(block))).astype(np.int32) for _ in range(2))
    n = PER_BLOCK * (len(BLOCKS) - 1)
    values = rng.standard_normal(len(block)).astype(np.float32)
    return Triples(users, items, values), learner(n, k, rng), learner(n, k, rng)


def hogwild_tasks(n, n_tasks=4):
    places = positions(-(-n // RUN))
    return even(places, -(-places // n_tasks))


def trained(kernel, device, tasks, triples, users, items, step, threads=2, pulls=None):
    """Both sides after an epoch."""
    users, items, more = copied(users), copied(items), () if pulls is None else (pulls,)
    launch(kernel, Device(name=device, threads=threads), tasks, triples, users, items, step, *more)
    return users, items


def pulled(users, items, k, pulls):
    """Draw pulls of both sides, one or none; return both sides with pulls of biases, and the pulls."""
    rng, found = np.random.default_rng(6), []
    for name, side in (("users", users), ("items", items)):
        array = aligned(len(side), side.shape[1] - LINE)
        array[:, :k], side[:, BIAS_PULL] = rng.normal(0, 2, (len(side), k)), rng.normal(0, 2, len(side))
        found.append(array if pulls in ("both", name) else None)
    return users, items, tuple(found)


def assert_close(found, expected):
    for side, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(side, wanted, rtol=1e-4, atol=2e-5)


def bits(sides):
    return [side.tobytes() for side in sides]


@pytest.mark.parametrize(("k", "step"), list(zip((1, 2, 5, 16, 33), STEPS, strict=True)))
def test_blocks_equal_the_definition(k, step):
    triples, users, items = problem(k)
    found = trained(BLOCK_EPOCH, "cpu", BLOCKS, triples, users, items, STEPS[step])
    block_epoch_numpy(BLOCKS, triples, users, items, STEPS[step])
    assert_close(found, (users, items))


@pytest.mark.parametrize("step", ["squared", "adaptive", "no biases"])
def test_large_errors_count_as_the_clip_everywhere(step):
    triples, users, items = problem(5)
    values = triples.values.copy()
    values[::7] = [1e6, -400, 20, 17, np.float32(3e38), -1e30, 1000, 40, -16.5]
    tasks, found = hogwild_tasks(len(values)), ()
    for size in (values, np.clip(values, -100, 100)):  # both are beyond the clip, whatever the estimate
        found = trained(BLOCK_EPOCH, "cpu", BLOCKS, triples._replace(values=size), users, items, STEPS[step])
        expected = copied(users), copied(items)
        block_epoch_numpy(BLOCKS, triples._replace(values=size), *expected, STEPS[step])
        assert_close(found, expected)
        raced = trained(HOGWILD_EPOCH, "cpu", tasks, triples._replace(values=size), users, items, STEPS[step], 1)
        expected = copied(users), copied(items)
        hogwild_epoch_numpy(tasks, triples._replace(values=size), *expected, STEPS[step])
        assert_close(raced, expected)
    clipped = trained(BLOCK_EPOCH, "cpu", BLOCKS, triples._replace(values=values), users, items, STEPS[step])
    assert bits(clipped) == bits(found)
    assert np.isfinite(clipped[0]).all()


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_a_clipped_update_by_hand_and_a_lost_value_stays_visible(device):
    for rating, slope in ((1e6, CLIP), (-1e6, -CLIP), (15.0, 15.0), (np.nan, np.nan)):
        triples = Triples(*np.zeros((2, 1), np.int32), np.array([rating], np.float32))
        users, items = trained(BLOCK_EPOCH, device, np.array([0, 1]), triples, blank(1), blank(1), step_of(0.5, k=1))
        np.testing.assert_array_equal([users[0, BIAS], items[0, BIAS]], [np.float32(0.5) * slope] * 2)


def weighed(triples):
    weights = np.random.default_rng(4).uniform(0.1, 3, len(triples.values)).astype(np.float32)
    return triples._replace(weights=weights)


@pytest.mark.parametrize(("k", "step"), list(zip((1, 2, 5, 16, 33), STEPS, strict=True)))
def test_blocks_of_weighted_ratings_equal_the_definition(k, step):
    triples, users, items = problem(k)
    plain = trained(BLOCK_EPOCH, "cpu", BLOCKS, triples, users, items, STEPS[step])
    found = trained(BLOCK_EPOCH, "cpu", BLOCKS, weighed(triples), users, items, STEPS[step])
    block_epoch_numpy(BLOCKS, weighed(triples), users, items, STEPS[step])
    assert_close(found, (users, items))
    assert np.abs(found[0] - plain[0]).max() > 0.01
    ones = np.ones(len(triples.values), np.float32)
    same = trained(BLOCK_EPOCH, "cpu", BLOCKS, triples._replace(weights=ones), *problem(k)[1:], STEPS[step])
    assert_close(same, plain)


@pytest.mark.parametrize(("k", "step"), list(zip((33, 16, 5, 2, 1), STEPS, strict=True)))
def test_hogwild_on_one_thread_equals_the_definition(k, step):
    triples, users, items = problem(k)
    tasks = hogwild_tasks(len(triples.values))
    found = trained(HOGWILD_EPOCH, "cpu", tasks, triples, users, items, STEPS[step], threads=1)
    hogwild_epoch_numpy(tasks, triples, users, items, STEPS[step])
    assert_close(found, (users, items))


@pytest.mark.parametrize("pulls", ["both", "users", "items", "neither"])
@pytest.mark.parametrize(("k", "step"), list(zip((1, 2, 5, 16, 33), STEPS, strict=True)))
def test_blocks_of_pulled_rows_equal_the_definition(k, step, pulls):
    triples, *sides = problem(k)
    users, items, given = pulled(*sides, k, pulls)
    plain = trained(BLOCK_EPOCH, "cpu", BLOCKS, triples, *sides, STEPS[step])
    found = trained(BLOCK_EPOCH, "cpu", BLOCKS, weighed(triples), users, items, STEPS[step], pulls=given)
    alone = trained(BLOCK_EPOCH, "cpu", BLOCKS, weighed(triples), users, items, STEPS[step], 1, given)
    assert bits(found) == bits(alone)
    block_epoch_numpy(BLOCKS, weighed(triples), users, items, STEPS[step], given)
    assert_close(found, (users, items))
    if pulls == "neither":  # a pull of the bias is part of its side's pulls
        again = trained(BLOCK_EPOCH, "cpu", BLOCKS, triples, *problem(k)[1:], STEPS[step])
        for one, other in zip(again, plain, strict=True):
            assert one[:, :BIAS_PULL].tobytes() == other[:, :BIAS_PULL].tobytes()


@pytest.mark.parametrize("pulls", ["both", "users", "items"])
def test_hogwild_of_pulled_rows_equals_the_definition(pulls):
    triples, *sides = problem(5)
    users, items, given = pulled(*sides, 5, pulls)
    tasks = hogwild_tasks(len(triples.values))
    found = trained(HOGWILD_EPOCH, "cpu", tasks, triples, users, items, STEPS["adaptive"], 1, given)
    hogwild_epoch_numpy(tasks, triples, users, items, STEPS["adaptive"], given)
    assert_close(found, (users, items))


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_rows_without_gradients_go_where_they_are_pulled(device):
    # one rating that is always predicted exactly: rows move to z by lr rho, biases to theirs by lr bias_rho
    triples = Triples(np.zeros(1, np.int32), np.zeros(1, np.int32), np.array([2.75], np.float32))
    users, items = one_row(2.0, 0.5, 0.1, 0.2, 1.0), one_row(1.0, 0.25, 0.3, 0.4, 1.0)
    z = aligned(1, users.shape[1] - LINE)
    z[0, 0], users[0, BIAS_PULL] = 5.0, 1.5
    users, items = trained(BLOCK_EPOCH, device, np.array([0, 1]), triples, users, items, step_of(0.5), 1, (z, None))
    np.testing.assert_allclose(users[0, [0, BIAS]], (2 + 0.5 * 0.1 * (5 - 2), 0.5 + 0.5 * 0.2 * (1.5 - 0.5)), rtol=1e-6)
    np.testing.assert_allclose(items[0, [0, BIAS]], (1 - 0.5 * 0.3 * 1, 0.25 - 0.5 * 0.4 * 0.25), rtol=1e-6)


def one_row(*numbers):
    """A side of one row of one factor, its bias, rho, bias_rho and G."""
    side = new_learner(1, 1)
    side[0, 0], side[0, TERMS] = numbers[0], numbers[1:]
    return side


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_one_update_by_hand(device):
    # e = 3 - .5 - .25 - 2 * 1 = .25, and every change starts from the values before
    triples = Triples(np.zeros(1, np.int32), np.zeros(1, np.int32), np.array([3], np.float32))
    sides = one_row(2.0, 0.5, 0.1, 0.2, 4.0), one_row(1.0, 0.25, 0.3, 0.4, 16.0)
    for absolute, g in ((False, 0.25), (True, 0.5)):
        for adaptive, lr_u, lr_i in ((False, 0.1, 0.1), (True, 0.05, 0.025)):
            step = step_of(0.1, absolute=absolute, adaptive=adaptive, k=2)
            users, items = trained(BLOCK_EPOCH, device, np.array([0, 1]), triples, *sides, step)
            toward_u, toward_i = g * 1 - 0.1 * 2, g * 2 - 0.3 * 1
            np.testing.assert_allclose(users[0, 0], 2 + lr_u * toward_u, rtol=1e-5)
            np.testing.assert_allclose(items[0, 0], 1 + lr_i * toward_i, rtol=1e-5)
            np.testing.assert_allclose(users[0, BIAS], 0.5 + lr_u * (g - 0.2 * 0.5), rtol=1e-5)
            np.testing.assert_allclose(items[0, BIAS], 0.25 + lr_i * (g - 0.4 * 0.25), rtol=1e-5)
            np.testing.assert_allclose(users[0, SQUARES], 4 + adaptive * toward_u**2 / 2, rtol=1e-5)
            np.testing.assert_allclose(items[0, SQUARES], 16 + adaptive * toward_i**2 / 2, rtol=1e-5)


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_a_weight_multiplies_the_gradient(device, absolute):
    # without adaptive steps, weight 2.5 at lr is weight 1 at 2.5 lr
    triples, *sides = problem(5)
    heavy = triples._replace(weights=np.full(len(triples.values), 2.5, np.float32))
    found = trained(BLOCK_EPOCH, device, BLOCKS, heavy, *sides, step_of(0.02, absolute=absolute))
    assert_close(found, trained(BLOCK_EPOCH, device, BLOCKS, triples, *sides, step_of(0.05, absolute=absolute)))


@pytest.mark.parametrize(("device", "k"), [("numpy", 5), ("cpu", 5), ("cpu", 33)])
def test_what_fills_up_the_vectors_stays_zero(device, k):
    triples, *sides = problem(k)
    for step in STEPS.values():
        for side in trained(BLOCK_EPOCH, device, BLOCKS, triples, *sides, step):
            assert not side[:, k:-LINE].any()


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_biases_stay_unless_they_are_learned(device):
    triples, users, items = problem(3)
    found = trained(BLOCK_EPOCH, device, BLOCKS, triples, users, items, STEPS["no biases"])
    assert found[0][:, TERMS].tobytes() == users[:, TERMS].tobytes()
    assert found[1][:, TERMS].tobytes() == items[:, TERMS].tobytes()


@pytest.mark.parametrize(("device", "k"), [("numpy", 5), ("cpu", 5), ("cpu", 33)])
def test_slices_and_threads_do_not_change_a_bit_of_blocks(device, k):
    triples, *sides = problem(k)
    whole = trained(BLOCK_EPOCH, device, BLOCKS, triples, *sides, STEPS["squared"], threads=1)
    parallel = trained(BLOCK_EPOCH, device, BLOCKS, triples, *sides, STEPS["squared"], threads=2)
    assert bits(whole) == bits(parallel)
    cut = [copied(side) for side in sides]
    for first in (3, 0, 1, 2, 4):  # blocks of a stratum may come in any order
        launch(BLOCK_EPOCH, Device(name=device, threads=1), BLOCKS[first : first + 2], triples, *cut, STEPS["squared"])
    assert bits(whole) == bits(cut)


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_slices_do_not_change_a_bit_of_hogwild_on_one_thread(device):
    triples, *sides = problem(5)
    n = len(triples.values)
    whole = trained(HOGWILD_EPOCH, device, hogwild_tasks(n, 1), triples, *sides, STEPS["squared"], threads=1)
    cut = trained(HOGWILD_EPOCH, device, hogwild_tasks(n, 7), triples, *sides, STEPS["squared"], threads=1)
    assert bits(whole) == bits(cut)


@pytest.mark.parametrize("n", [1, 3, 100, 256, 257])
@pytest.mark.parametrize("schedule", ["blocked", "hogwild"])
@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_every_rating_is_used_exactly_once(device, schedule, n):
    # each user has one rating, nothing is penalised and the step is tiny: so every bias moves by lr x its own rating
    rng = np.random.default_rng(n)
    values = rng.uniform(1, 2, n).astype(np.float32)
    triples = Triples(rng.permutation(n).astype(np.int32), (np.arange(n) % 3).astype(np.int32), values)
    users, items = blank(n, 2), blank(3, 2)
    kernel, tasks = (BLOCK_EPOCH, np.array([0, n])) if schedule == "blocked" else (HOGWILD_EPOCH, hogwild_tasks(n))
    users, items = trained(kernel, device, tasks, triples, users, items, step_of(1e-6), 1)
    np.testing.assert_allclose(users[triples.users, BIAS], 1e-6 * values, rtol=1e-3)
    np.testing.assert_allclose(users[:, BIAS].sum(), items[:, BIAS].sum(), rtol=1e-3)
    np.testing.assert_allclose(items[:, BIAS].sum(), 1e-6 * values.sum(), rtol=1e-3)


@pytest.mark.parametrize("kernel", [BLOCK_EPOCH, HOGWILD_EPOCH], ids=["blocked", "hogwild"])
def test_every_device_visits_in_the_order_of_the_shuffle(kernel):
    # each visit of the one rated item halves what is left of its error: the last one visited shows in the bias
    n_runs, short = 9, 5
    n = n_runs * RUN - short  # the last run is short
    triples = Triples(np.arange(n, dtype=np.int32), np.zeros(n, np.int32), np.arange(n, dtype=np.float32))
    sides = blank(n), blank(1)
    tasks = np.array([0, n]) if kernel is BLOCK_EPOCH else np.array([0, positions(n_runs)])
    orders = set()
    for epoch in range(5):
        expected = np.float32(0)
        for run in shuffle_numpy(np.arange(positions(n_runs)), n_runs, 3, epoch, 0):
            for value in range(run * RUN, min((run + 1) * RUN, n)) if run < n_runs else ():
                expected += np.float32(0.5) * (np.float32(value) - expected)
        orders.add(float(expected))
        for device in ("numpy", "cpu"):
            _, items = trained(kernel, device, tasks, triples, *sides, step_of(0.5, epoch=epoch), threads=1)
            np.testing.assert_allclose(items[0, BIAS], expected, rtol=1e-5)
    assert len(orders) >= 3


def permutation(n, seed, epoch, block):
    drawn = shuffle_numpy(np.arange(positions(n)), n, seed, epoch, block)
    assert sorted(drawn) == list(range(positions(n)))
    return drawn[drawn < n]


def test_shuffle_is_a_permutation():
    for n in (*range(1, 70), 100, 127, 128, 129, 1000, 4097):
        for seed, epoch, block in ((0, 0, 0), (2**40 + 1, 7, 10**9), (3, -1, n)):
            assert sorted(permutation(n, seed, epoch, block)) == list(range(n))


def test_shuffle_in_pieces_is_the_whole_shuffle():
    pieces = [shuffle_numpy(np.arange(a, b), 100, 0, 0, 0) for a, b in ((0, 1), (1, 50), (50, 128))]
    np.testing.assert_array_equal(np.concatenate(pieces), shuffle_numpy(np.arange(128), 100, 0, 0, 0))


def test_shuffles_differ_between_epochs_blocks_and_seeds():
    places = [(seed, epoch, block) for seed in range(4) for epoch in range(-1, 3) for block in (0, 50, 100, 1000)]
    assert len({tuple(permutation(50, *place)) for place in places}) == 64


def test_shuffles_send_every_rating_everywhere():
    # mean of 400 places of one rating: n / 2 = 32 +- 18.5 / 20, so five deviations are 4.6; neighbours do not stay so
    n = 64
    orders = np.array([permutation(n, 0, epoch, 0) for epoch in range(400)])
    assert np.all(np.abs(orders.mean(axis=0) - (n - 1) / 2) < 4.6)
    beside = np.mean(np.abs(np.diff(orders, axis=1)) == 1)
    assert beside < 2 * 2 / n


def test_positions_are_the_power_of_two_at_or_above():
    assert [positions(n) for n in (1, 2, 3, 4, 5, 1024, 1025)] == [2, 2, 4, 4, 8, 1024, 2048]
