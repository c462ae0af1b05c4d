import math

import numpy as np
import pandas as pd
import pytest

from fastmf.errors import ParameterError
from fastmf.evaluation.metrics import RANKING, mae, novelty, reach, rmse


def test_errors_of_hand_examples():
    assert rmse([1.0, 2.0, 3.0], [1.0, 4.0, 2.0]) == pytest.approx(math.sqrt(5 / 3))
    assert mae([1.0, 2.0, 3.0], [1.0, 4.0, 2.0]) == 1.0
    assert rmse(np.array([3], np.int8), pd.Series([3])) == 0.0
    assert mae(np.float32([1e8, 1]), np.float32([1e8, 2])) == 0.5  # in float64


@pytest.mark.parametrize("pair", [([1.0], [1.0, 2.0]), ([], []), ([[1.0]], [1.0]), ([1.0, 2.0], [1.0])])
def test_arrays_that_do_not_pair_up_are_refused(pair):
    for metric in (rmse, mae):
        with pytest.raises(ParameterError, match="give two non-empty arrays of the same length"):
            metric(*pair)


@pytest.mark.parametrize(
    ("hits", "n_relevant", "expected"),
    [
        ([1, 1, 1, 1], 4, (1, 1, 1, 1, 1, 1)),
        ([1, 1, 1, 1], 9, (1, 4 / 9, 1, 1, 1, 1)),
        ([1, 1, 0, 0], 2, (1 / 2, 1, 1, 1, 1, 1)),
        ([0, 0, 0, 0], 3, (0, 0, 0, 0, 0, 0)),
        ([0, 1, 0, 0], 1, (1 / 4, 1, 1 / math.log2(3), 1 / 2, 1 / 2, 1)),
        ([1, 0, 1, 0], 3, (1 / 2, 2 / 3, 1.5 / (1.5 + 1 / math.log2(3)), (1 + 2 / 3) / 3, 1, 1)),
    ],
)
def test_ranking_metrics_of_hand_examples(hits, n_relevant, expected):
    for (name, metric), value in zip(RANKING.items(), expected, strict=True):
        result = metric(np.array([hits], bool), np.array([n_relevant]))
        assert result.dtype == np.float64
        assert result.tolist() == pytest.approx([value]), name


def test_ranking_metrics_follow_their_definitions(naive):
    rng = np.random.default_rng(0)
    for n in (1, 2, 7):
        hits = rng.random((50, n)) < 0.4
        n_relevant = np.maximum(hits.sum(axis=1) + rng.integers(0, 4, 50), 1)
        users = []
        for line, count in zip(hits, n_relevant, strict=True):
            relevant = {*np.flatnonzero(line).tolist(), *range(100, 100 + count - line.sum())}
            users.append(naive(list(range(n)), relevant, n))
        for name, metric in RANKING.items():
            np.testing.assert_allclose(metric(hits, n_relevant), [user[name] for user in users], rtol=1e-12)


def test_reach_and_novelty_of_a_hand_example():
    lists, counts = np.array([[0, 1], [1, -1]]), np.array([8, 2, 4, 0])
    assert reach(lists, counts) == pytest.approx(2 / 3)
    assert novelty(lists, counts, 8) == pytest.approx((0 + 2 + 2) / 3)


def test_empty_lists_reach_nothing():
    lists, counts = np.full((2, 3), -1), np.array([1, 2])
    assert (reach(lists, counts), novelty(lists, counts, 2)) == (0.0, 0.0)
    assert reach(lists, np.zeros(2, int)) == 0.0
