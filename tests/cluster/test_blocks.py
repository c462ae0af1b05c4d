"""Blocks: whole sections, as many as asked for if there are enough, of about equal cost."""

import numpy as np
import pytest

from fastmf.cluster.blocks import blocks, cost, expected_sections, owners
from fastmf.kernels import tasks
from fastmf.kernels.tasks import sections


def indptr_of(counts):
    return np.append(0, np.cumsum(counts, dtype=np.int64))


@pytest.fixture
def skewed():
    return indptr_of(np.random.default_rng(0).zipf(1.6, 20_000).clip(1, 20_000))


@pytest.mark.parametrize("n", [1, 2, 3, 7, 16, 64, 1000])
def test_blocks_are_runs_of_whole_sections(skewed, monkeypatch, n):
    monkeypatch.setattr(tasks, "LEAST", 1 << 8)
    whole, bounds = sections(skewed), blocks(skewed, n)
    assert bounds[0] == 0
    assert bounds[-1] == len(skewed) - 1
    assert len(bounds) - 1 == min(n, len(whole) - 1)
    assert (np.diff(bounds) > 0).all()
    assert set(bounds) <= set(whole)


def test_blocks_cost_about_the_same():
    indptr = indptr_of(np.random.default_rng(0).integers(1, 100, 300_000))
    bounds = blocks(indptr, 16)
    costs = np.diff(cost(indptr[bounds], bounds))
    section = np.diff(cost(indptr[sections(indptr)], sections(indptr))).max()
    assert np.ptp(costs) <= 2 * section  # each bound is at most half a section off


def test_a_row_that_outweighs_all_others_leaves_no_block_empty(monkeypatch):
    monkeypatch.setattr(tasks, "LEAST", 1 << 5)
    indptr = indptr_of([*[1] * 8, 1000, *[1] * 8])
    assert len(blocks(indptr, 4)) == 5
    assert (np.diff(blocks(indptr, 4)) > 0).all()


def test_a_part_of_a_larger_indptr_is_cut_as_if_alone(skewed):
    np.testing.assert_array_equal(blocks(skewed + 10**6, 4), blocks(skewed, 4))


@pytest.mark.parametrize(("counts", "n"), [(np.full(300_000, 20), 400), (np.full(610, 165), 4), (np.ones(2, int), 1)])
def test_the_expected_sections_are_those_of_equal_rows(counts, n):
    found = expected_sections(int(counts.sum()), len(counts))
    assert found == len(sections(indptr_of(counts))) - 1
    assert abs(found - n) < n / 4 + 1


@pytest.mark.parametrize(("n_blocks", "workers"), [(32, 16), (7, 3), (2, 5), (1, 1)])
def test_blocks_are_shared_out_evenly_and_in_order(n_blocks, workers):
    whose = owners(n_blocks, workers)
    assert (np.diff(whose) >= 0).all()
    assert whose[-1] < workers
    counts = np.bincount(whose, minlength=workers)
    assert counts.max() - counts.min() <= 1
