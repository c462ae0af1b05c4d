import numpy as np

from fastmf.evaluation import hits as hits_module
from fastmf.evaluation.hits import Wanted, fixed_sample, hits_of, wanted_of


def test_the_relevant_items_of_the_chosen_users_are_wanted():
    pairs = np.array([0, 1, 1, 2, 3]), np.array([0, 1, 2, 0, 1])
    found = wanted_of(pairs, np.array([1, 3]), np.array([7, 5, 6, -1]), np.array([9, -1, 4]))
    assert found.users.tolist() == [5, -1]
    assert found.lines.tolist() == [0, 0, 1]
    assert found.items.tolist() == [-1, 4, -1]
    assert found.counts.tolist() == [2, 1]


def test_hits_are_the_places_of_wanted_items():
    rng = np.random.default_rng(0)
    found = np.array([rng.permutation(30)[:6] for _ in range(8)])
    found[3, 2:] = -1
    lines, items = rng.integers(0, 8, 60), rng.integers(-1, 30, 60)
    lines[0], items[0] = 3, -1  # an unknown item is no hit in the empty places of a list
    hits = hits_of(found, Wanted(np.arange(8), lines, items, np.bincount(lines, minlength=8)), 30, 7)
    wanted = set(zip(lines.tolist(), items.tolist(), strict=True))
    expected = [[item >= 0 and (line, item) in wanted for item in row] + [False] for line, row in enumerate(found)]
    assert hits.tolist() == expected
    assert hits.any()


def test_nothing_wanted_is_never_hit():
    empty = np.empty(0, int)
    assert not hits_of(np.array([[0, 1]]), Wanted(np.array([0]), empty, empty, np.array([0])), 2, 2).any()


def test_a_sample_is_fixed_ordered_and_limited(monkeypatch):
    users = np.arange(0, 300, 3)
    assert fixed_sample(users).tolist() == users.tolist()
    monkeypatch.setattr(hits_module, "MOST_WATCHED", 10)
    sample = fixed_sample(users)
    assert sample.tolist() == fixed_sample(users).tolist() == sorted(set(sample.tolist()))
    assert len(sample) == 10
    assert set(sample) <= set(users)
