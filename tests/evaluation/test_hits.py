import numpy as np

from fastmf.evaluation import hits as hits_module
from fastmf.evaluation.hits import Wanted, fixed_sample, hits_of, quality, ranked_hits, wanted_of


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


def by_score(scores):
    """Rank all items by the scores (n_lists, n_items), ties by lower index."""

    def rank(lists, n):
        found = np.argsort(-scores[lists], axis=1, kind="stable")[:, :n]
        return found, np.take_along_axis(scores[lists], found, axis=1)

    return rank


def test_a_wanted_item_comes_after_all_others_of_its_score():
    rng = np.random.default_rng(0)
    n_lists, n_items = 200, 12
    for n in (1, 3, 11, 12, 15):
        scores = rng.integers(0, 4, (n_lists, n_items)).astype(np.float32)
        want = rng.random((n_lists, n_items)) < rng.random((n_lists, 1))
        lines, items = np.nonzero(want)
        wanted = Wanted(np.arange(n_lists), lines, items, want.sum(axis=1))
        found, hits = ranked_hits(by_score(scores), wanted, n_items, n)
        assert found.shape == (n_lists, min(n, n_items))
        for line in range(n_lists):
            worst = sorted(range(n_items), key=lambda i: (-scores[line, i], want[line, i]))[:n]
            assert hits[line].tolist() == [bool(want[line, i]) for i in worst] + [False] * (n - len(worst))


def test_a_constant_score_is_worth_nothing_while_others_could_fill_the_list():
    wanted = Wanted(np.arange(2), np.array([0, 0, 1]), np.array([0, 1, 2]), np.array([2, 1]))
    assert quality(by_score(np.zeros((2, 30), np.float32)), wanted, 30) == 0
    assert quality(by_score(-np.arange(60, dtype=np.float32).reshape(2, 30)), wanted, 30) > 0.7
