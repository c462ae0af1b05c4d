import numpy as np
import pandas as pd
import pytest

from fastmf.errors import ParameterError, UnknownIdError
from fastmf.model.similar import nearest


def cosines(factors, row):
    factors = factors.astype(np.float64)
    norms = np.linalg.norm(factors, axis=1)
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(factors @ factors[row] / (norms * norms[row])), norms == 0


@pytest.mark.parametrize(("n", "scale"), [(1, 1.0), (4, 1e-25), (4, 1e25), (30, 1.0)])
def test_nearest_is_the_order_of_all_cosines(n, scale):
    rng = np.random.default_rng(0)
    factors = (rng.standard_normal((20, 3)) * scale).astype(np.float32)
    factors[[4, 11]] = 0
    count = np.ones(20, np.int32)
    count[[2, 5]] = 0
    wanted = np.array([0, 19, 0, 4, 2])
    found, scores = nearest(factors, count, wanted, n)
    assert found.shape == scores.shape == (5, min(n, 20))
    assert not np.isnan(scores).any()
    for line, row in enumerate(wanted):
        cosine, without = cosines(factors, row)
        others = [i for i in range(20) if i != row and count[i]]
        taken = found[line][found[line] >= 0]
        assert len(taken) == len(set(taken)) == min(n, len(others))
        assert set(taken) <= set(others)
        np.testing.assert_allclose(scores[line, : len(taken)], cosine[taken], atol=1e-6)
        expected = sorted(others, key=lambda i: (without[i], -cosine[i]))[:n]
        np.testing.assert_allclose(cosine[taken], cosine[expected], atol=1e-6)
        assert without[taken].tolist() == without[expected].tolist()  # rows of zeros come last
        assert np.all(scores[line, len(taken) :] == -np.inf)


def test_rows_of_zeros_come_last_with_cosine_zero():
    factors = np.array([[1, 0], [0, 0], [-1, 0], [0, 0], [1, 1]], np.float32)
    found, scores = nearest(factors, np.ones(5, np.int32), np.array([0, 1]), 5)
    assert found.tolist() == [[4, 2, 1, 3, -1], [0, 2, 4, 3, -1]]
    np.testing.assert_allclose(scores, [[np.sqrt(0.5), -1, 0, 0, -np.inf], [0, 0, 0, 0, -np.inf]], rtol=1e-6)


def test_cosines_never_leave_their_range():
    factors = np.repeat(np.random.default_rng(0).standard_normal((40, 5)), 3, axis=0).astype(np.float32)
    _, scores = nearest(factors, np.ones(120, np.int32), np.arange(120), 119)
    scores = scores[np.isfinite(scores)]
    assert scores.max() <= 1
    assert scores.min() >= -1
    assert np.count_nonzero(scores > 1 - 1e-6) == 240


@pytest.mark.parametrize("side", ["item", "user"])
def test_frames_hold_the_nearest_rows_with_their_ids(model, side):
    factors, counts = getattr(model, f"{side}_factors"), getattr(model, f"{side}_counts")
    raw = getattr(model, f"{side}_ids").to_pylist()
    wanted = np.array([0, 4, 2, 0, raw.index({"user": "cold", "item": 7}[side])])
    ask = model.similar_items if side == "item" else model.similar_users
    frame = ask([raw[row] for row in wanted], 100)
    found, scores = nearest(factors, counts, wanted, 100)
    expected = [
        (raw[row], raw[other], score, rank + 1)
        for row, others, line in zip(wanted, found, scores, strict=True)
        for rank, (other, score) in enumerate(zip(others, line, strict=True))
        if other >= 0
    ]
    assert frame.columns.tolist() == [f"{side}_id", f"similar_{side}_id", "score", "rank"]
    assert list(frame.itertuples(index=False, name=None)) == expected
    assert len(frame) == sum(np.count_nonzero(counts) - (counts[row] > 0) for row in wanted)


def test_one_id_will_do_and_unknown_ones_are_refused(model):
    pd.testing.assert_frame_equal(model.similar_items(0, 3), model.similar_items([0], 3))
    pd.testing.assert_frame_equal(model.similar_users("ann", 3), model.similar_users(["ann"], 3))
    with pytest.raises(UnknownIdError, match="1 of 2 item ids are not in the model, the first 1:"):
        model.similar_items([0, 1])
    with pytest.raises(UnknownIdError, match="1 of 1 user ids"):
        model.similar_users("zoe")
    for n in (0, 2.5):
        with pytest.raises(ParameterError, match=f"n is {n}"):
            model.similar_items(0, n)
