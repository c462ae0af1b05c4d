"""Plans: what they count, against counting one pair of blocks at a time, and what the pages say of them."""

import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from fastmf.cluster.blocks import BLOCKS_PER_WORKER, blocks, owners
from fastmf.cluster.plan import Counted, Expected, Machines, bytes_of_one, bytes_per_row, plan
from fastmf.data.ratings import Ratings
from fastmf.datasets.twins import synthesize
from fastmf.errors import ParameterError
from fastmf.kernels import tasks
from fastmf.solvers import make

LARGE = Expected(users=10**8, items=10**7, ratings=10**9)
SCALE = Path(__file__).parents[2] / "docs" / "scale.md"


@pytest.fixture(scope="module")
def ratings():
    """A twin of 100,000 ratings, in (user, item) order."""
    twin = synthesize("ml-latest-small")
    return Ratings.from_arrays(twin.users, twin.items, twin.ratings)


@pytest.fixture
def many_sections(monkeypatch):
    """Cut sections so small that 64 workers have something to do."""
    monkeypatch.setattr(tasks, "LEAST", 1 << 8)


def brute_force(ratings, workers):
    """Count rows sent, pair of blocks by pair of blocks: as whole tables, as needed rows, as the smaller of both."""
    views = ratings.by_user, ratings.by_item
    cuts = [blocks(view.indptr, BLOCKS_PER_WORKER * workers) for view in views]
    total = {"whole": 0, "needed": 0, "sent": 0}
    for this, other in ((0, 1), (1, 0)):
        own, theirs = (owners(len(cut) - 1, workers) for cut in (cuts[this], cuts[other]))
        distinct = [
            np.unique(views[this].indices[views[this].indptr[first] : views[this].indptr[end]])
            for first, end in zip(cuts[this][:-1], cuts[this][1:], strict=True)
        ]
        for worker in range(workers):
            mine = np.flatnonzero(own == worker)
            for block in np.flatnonzero(theirs != worker):
                first, end = cuts[other][block : block + 2]
                needed = sum(int(((first <= distinct[b]) & (distinct[b] < end)).sum()) for b in mine)
                whole = int(end - first) if len(mine) else 0
                for name, rows in (("whole", whole), ("needed", needed), ("sent", min(whole, needed))):
                    total[name] += rows
    return total


@pytest.mark.parametrize("workers", [1, 2, 3, 5, 16, 64])
@pytest.mark.parametrize("solver", ["als", "implicit"])
def test_counted_bytes_are_those_of_each_pair_of_blocks(ratings, many_sections, workers, solver):
    chosen = make(solver, k=12)
    found, rows = plan(chosen, Counted(ratings), Machines(workers=workers)), brute_force(ratings, workers)
    for name, n in rows.items():
        assert getattr(found, f"epoch_bytes_{name}") == n * bytes_per_row(chosen), name
    assert found.epoch_bytes_sent <= min(found.epoch_bytes_whole, found.epoch_bytes_needed)


@pytest.mark.parametrize("workers", [2, 3, 16])
def test_whole_tables_go_to_every_other_worker(ratings, many_sections, workers):
    for data in (LARGE, Counted(ratings)):
        found = plan(make("als", k=64), data, Machines(workers=workers))
        assert found.epoch_bytes_whole == 4 * 65 * (data.users + data.items) * (workers - 1)


def test_one_worker_sends_nothing(ratings):
    found = plan(make("als"), Counted(ratings), Machines(workers=1))
    assert (found.epoch_bytes_whole, found.epoch_bytes_needed, found.epoch_bytes_sent) == (0, 0, 0)
    assert found.epoch_seconds == pytest.approx(found.one_epoch_seconds)
    assert found.worker_ratings_by_user == found.worker_ratings_by_item == len(ratings)
    assert (found.worker_users, found.worker_items) == (ratings.n_users, ratings.n_items)
    assert found.worker_bytes < bytes_of_one(make("als"), found)  # which holds the ratings as they were read, too


@pytest.mark.parametrize("workers", [2, 5, 16])
def test_the_expected_number_of_needed_rows_is_that_of_uniform_draws(many_sections, workers):
    rng = np.random.default_rng(1)
    pairs = np.unique(rng.integers(0, [2_000, 900], (30_000, 2)), axis=0)
    ratings = Ratings.from_arrays(*pairs.T, np.ones(len(pairs), np.float32))
    solver, machines = make("als", k=8), Machines(workers=workers)
    counted = plan(solver, Counted(ratings), machines)
    given = Expected(users=ratings.n_users, items=ratings.n_items, ratings=len(ratings))
    expected = plan(solver, given, machines)
    assert expected.epoch_bytes_needed == pytest.approx(counted.epoch_bytes_needed, rel=0.02)
    assert expected.epoch_bytes_sent == pytest.approx(counted.epoch_bytes_sent, rel=0.02)
    assert expected.worker_bytes == pytest.approx(counted.worker_bytes, rel=0.05)


@pytest.mark.parametrize("workers", [2, 5, 16])
def test_skewed_ratings_need_fewer_rows_than_expected(ratings, many_sections, workers):
    solver, machines = make("als", k=8), Machines(workers=workers)
    given = Expected(users=ratings.n_users, items=ratings.n_items, ratings=len(ratings))
    counted, expected = plan(solver, Counted(ratings), machines), plan(solver, given, machines)
    assert counted.epoch_bytes_needed < expected.epoch_bytes_needed


def test_needed_rows_follow_the_formula():
    users, items = LARGE.blocks(31)  # 310 and 277 sections
    hit = 1e7 * (1 - np.exp(-1e9 / 31 / 1e7))
    np.testing.assert_allclose(users.needed.sum(axis=1), hit)
    assert items.needed.sum() == pytest.approx(31 * 1e8 * (1 - np.exp(-1e9 / 31 / 1e8)), rel=0.01)


@pytest.mark.parametrize("k", [64, 128])
def test_computing_and_sending_are_shared_by_the_workers(k):
    solver, machines = make("als", k=k), Machines(workers=5, threads=8, gflops=40, gigabit=25)
    found = plan(solver, LARGE, machines)  # 310 sections of users are shared evenly by 5, and those of items nearly
    operations = solver.operations(10**9, 110_000_000)
    assert found.epoch_seconds_computing == pytest.approx(operations / 5 / (8 * 40e9), rel=0.02)
    assert found.epoch_seconds_sending == pytest.approx(8 * found.epoch_bytes_sent / 5 / 25e9, rel=0.02)
    assert found.one_epoch_seconds == pytest.approx(operations / (8 * 40e9))


def test_conjugate_gradients_cost_by_their_steps():
    exact, few, many = (
        plan(make("als", k=128, **how), LARGE, Machines(workers=16))
        for how in ({}, {"method": "cg"}, {"method": "cg", "steps": 5})
    )
    assert many.epoch_seconds_computing == pytest.approx(2 * few.epoch_seconds_computing)
    assert few.epoch_seconds_computing < exact.epoch_seconds_computing / 5
    assert few.epoch_bytes_sent == exact.epoch_bytes_sent


def test_memory_holds_ratings_tables_and_scratch(ratings, many_sections):
    solver = make("als", k=12)
    found = plan(solver, Counted(ratings), Machines(workers=2, threads=3))
    n = found.worker_ratings_by_user + found.worker_ratings_by_item
    rows = found.worker_users + found.worker_items
    most = 8 * n + 8 * rows + 2 * 52 * (ratings.n_users + ratings.n_items) + 3 * solver.bytes_per_thread
    assert 0.8 * most < found.worker_bytes <= most
    assert found.client_bytes > (4 * 25 + 12) * (ratings.n_users + ratings.n_items) + 4 * len(ratings)
    implicit = plan(make("implicit", k=12), Counted(ratings), Machines(workers=2))
    assert implicit.client_bytes < found.client_bytes


def test_plans_are_plain_numbers(ratings):
    for data in (LARGE, Counted(ratings)):
        found = asdict(plan(make("als"), data, Machines(workers=3)))
        assert {type(value) for value in found.values()} <= {str, int, float, bool}


def test_all_sections_are_shared_out_if_there_are_fewer_than_workers(ratings):
    found = plan(make("als"), Counted(ratings), Machines(workers=16))
    assert found.user_blocks == found.user_sections < 16
    assert found.worker_ratings_by_user < len(ratings)


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda: Machines(workers=0), "workers is 0: give an integer"),
        (lambda: Machines(workers=2, threads=0), "threads is 0: give an integer"),
        (lambda: Machines(workers=2, gigabit=0), "gigabit is 0: give a number above 0"),
        (lambda: Machines(workers=2, gflops=float("nan")), "gflops is nan: give a number above 0"),
        (lambda: Expected(users=0, items=1, ratings=1), "users is 0: give an integer"),
        (lambda: Expected(users=1.5, items=1, ratings=1), "users is 1.5: give an integer"),
        (lambda: Expected(users=10, items=5, ratings=51), "make only 50 pairs: give fewer ratings"),
        (lambda: Expected(users=10, items=5, ratings=9), "at least 10 users or items have one each: give more ratings"),
    ],
)
def test_impossible_numbers_are_refused(make_it, message):
    with pytest.raises(ParameterError, match=re.escape(message)):
        make_it()


def test_the_table_of_the_pages_is_what_plans_say():
    """The lines of docs/scale.md with k, workers, whole tables, needed rows and sent GB, memory and seconds."""
    lines = re.findall(r"^\| (64|128) \| (16|64) \| (.*) \|$", SCALE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(lines) == 4
    for k, workers, rest in lines:
        found = plan(make("als", k=int(k)), LARGE, Machines(workers=int(workers)))
        sent = [f"{n / 1e9:,.0f}" for n in (found.epoch_bytes_whole, found.epoch_bytes_needed, found.epoch_bytes_sent)]
        times = [f"{found.epoch_seconds_computing:.0f} s", f"{found.epoch_seconds_sending:.0f} s"]
        assert rest.split(" | ") == [*sent, f"{found.worker_bytes / 2**30:.0f} GiB", *times]
