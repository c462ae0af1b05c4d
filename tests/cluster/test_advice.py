"""Advice: given where something is out of proportion, and nowhere else; its numbers are those of the plans it names."""

import re

import pytest

from fastmf.cluster.advice import advice, seconds
from fastmf.cluster.plan import Expected, Machines, plan
from fastmf.solvers import make

LARGE = Expected(users=10**8, items=10**7, ratings=10**9)
SMALL = Expected(users=138_493, items=26_744, ratings=20_000_263)


def advised(data=LARGE, solver="als", k=64, method=None, **how):
    chosen, machines = make(solver, k=k, method=method), Machines(**how)
    return advice(chosen, data, machines, plan(chosen, data, machines))


def test_nothing_is_said_if_all_is_well():
    assert advised(workers=16) == []
    assert advised(workers=16, memory=64 * 2**30) == []
    assert advised(workers=1) == []


def test_one_machine_is_enough_for_few_ratings():
    (line,) = (each for each in advised(SMALL, k=32, workers=4) if each.startswith("one machine"))
    assert line.endswith("fit without a cluster")
    assert re.search(r"takes 1\.\d s an epoch and .* MiB with --spill|or .* with --spill", line)


def test_one_machine_may_need_to_spill():
    spilling = advised(SMALL, k=32, workers=4, memory=200 * 2**20)
    assert any(line.startswith("one machine") and "fit with --spill without a cluster" in line for line in spilling)
    assert not any(line.startswith("one machine") for line in advised(SMALL, k=32, workers=4, memory=2**20))


def test_a_cluster_slower_than_one_machine_is_named():
    assert advised(workers=4, gigabit=0.1)[0].startswith("one machine is enough: it takes 377 s an epoch")


def test_workers_without_work_are_counted():
    (line,) = advised(workers=400, gigabit=1000)[:1]
    assert line == (
        "90 workers have nothing to do while users are solved, which make 310 sections: use at most 310 workers"
    )
    assert any("123 workers" in each and "items" in each for each in advised(workers=400, gigabit=1000))


def test_a_slow_network_is_told_with_the_alternatives():
    (line,) = advised(workers=64, gigabit=5)
    half, full = (plan(make("als", k=64), LARGE, Machines(workers=n, gigabit=5)) for n in (32, 64))
    assert f"(32 take {seconds(half.epoch_seconds)} an epoch, 64 take {seconds(full.epoch_seconds)})" in line
    assert "k = 128 would cost 6.0 times the computing and 2.0 times the sending" in line


@pytest.mark.parametrize("workers", [16, 32])
def test_too_little_memory_is_told_with_the_workers_that_have_enough(workers):
    lines = advised(workers=workers, memory=16 * 2**30)
    (line,) = (each for each in lines if each.startswith("a worker needs"))
    assert "and has 16.00 GiB: 64 workers need 14.10 GiB each; or use a smaller k" in line
    assert lines[-1].startswith("the client needs 58.56 GiB, more than a worker has")


def test_no_number_of_workers_may_be_enough():
    assert any("no number of workers is enough; use a smaller k" in each for each in advised(workers=4, memory=2**20))
