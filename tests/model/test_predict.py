import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import fastmf
from fastmf.errors import DataError, ParameterError, UnknownIdError
from fastmf.kernels.types import Pairs
from fastmf.model.predict import error_sums, estimates


def expected_prediction(model, user, item):
    """The formula, one pair at a time; None is an unknown id."""
    user = None if user is None or model.user_counts[user] == 0 else user
    item = None if item is None or model.item_counts[item] == 0 else item
    estimate = model.mean
    if user is not None:
        estimate += float(model.user_bias[user])
    if item is not None:
        estimate += float(model.item_bias[item])
    if user is not None and item is not None:
        estimate += float(model.user_factors[user].astype(np.float64) @ model.item_factors[item].astype(np.float64))
    return min(max(estimate, model.rating_range[0]), model.rating_range[1])


def test_predictions_follow_the_formula_for_all_pairs_known_or_not(model):
    own = model.user_ids.to_pylist(), model.item_ids.to_pylist()
    users, items = [*range(len(own[0])), None], [*range(len(own[1])), None]
    grid = [(u, i) for u in users for i in items]
    user_ids = ["nobody" if u is None else own[0][u] for u, _ in grid]
    item_ids = [12345 if i is None else own[1][i] for _, i in grid]
    frame = model.predict(user_ids, item_ids)
    assert frame.columns.tolist() == ["user_id", "item_id", "prediction"]
    assert frame["user_id"].tolist() == user_ids
    assert frame["item_id"].tolist() == item_ids
    assert frame["prediction"].dtype == np.float32
    expected = [expected_prediction(model, u, i) for u, i in grid]
    np.testing.assert_allclose(frame["prediction"], expected, rtol=1e-6)
    assert min(expected) == 1.0  # some are clipped, at both ends
    assert max(expected) == 5.0
    assert frame.attrs == {"unknown_users": 2 * len(items), "unknown_items": 2 * len(users)}  # cold ones count too


def test_predictions_of_a_fit_follow_the_formula(planted):
    users, items, ratings = planted(n=150)
    model = fastmf.fit((users, items, ratings), k=3, epochs=3, reg0=0.5)
    frame = model.predict(users[:50], items[:50])
    at = np.searchsorted(model.user_ids.to_numpy(), users[:50]), np.searchsorted(model.item_ids.to_numpy(), items[:50])
    expected = [expected_prediction(model, u, i) for u, i in zip(*at, strict=True)]
    np.testing.assert_allclose(frame["prediction"], expected, rtol=1e-5)
    assert np.std(expected) > 0.1
    assert model.rating_range == (np.float32(min(ratings)), np.float32(max(ratings)))


def test_dense_pairs_are_predicted_alike_and_their_errors_summed(model):
    pairs = Pairs(np.array([1, -1, 5], np.int32), np.array([1, 2, -1], np.int32))
    found = estimates(model, pairs)
    np.testing.assert_array_equal(found, model.predict(["ann", "x", "eve"], [0, 3, 12345])["prediction"])
    values = np.array([1, 2, 5], np.float32)
    errors = values.astype(np.float64) - found
    sums = error_sums(model, pairs, values, (model.user_side, model.item_side))
    assert sums == pytest.approx((np.sum(errors**2), np.sum(np.abs(errors))))


def test_unknown_pairs_can_be_nan_or_refused(model):
    pairs = ["ann", "zoe", "ann", "cold", "eve"], [0, 0, 99, 0, 3]
    frame = model.predict(*pairs, on_unknown="nan")
    assert np.isnan(frame["prediction"]).tolist() == [False, True, True, True, False]
    assert frame.attrs == {"unknown_users": 2, "unknown_items": 1}
    with pytest.raises(UnknownIdError, match=r"^3 of 5 pairs .* the first with user 'zoe' and item 0:"):
        model.predict(*pairs, on_unknown="raise")
    known = model.predict(["ann", "eve"], [0, 3], on_unknown="raise")
    assert known["prediction"].tolist() == frame["prediction"][[0, 4]].tolist()
    with pytest.raises(ParameterError, match="on_unknown is 'drop': choose mean or nan or raise"):
        model.predict(*pairs, on_unknown="drop")


def test_pairs_come_in_any_container(model):
    expected = model.predict(["ann", "eve"], [0, 3])["prediction"].tolist()
    for users, items in (
        (np.array(["ann", "eve"]), np.array([0, 3], ">i2")),
        (pd.Series(["ann", "eve"], index=[9, 4]), pd.Series([0, 3], dtype="category")),
        (pa.chunked_array([["ann"], ["eve"]]), pa.array([0, 3], pa.uint64())),
        (pa.array(["ann", "eve"]).dictionary_encode(), (0, 3)),
    ):
        assert model.predict(users, items)["prediction"].tolist() == expected
    assert model.predict([], []).empty


def test_one_id_goes_with_each_of_the_others(model):
    items = [0, 3, 7, 12345]
    expected = model.predict(["ann"] * 4, items)
    for user in ("ann", ["ann"], np.array(["ann"]), np.str_("ann"), pa.array(["ann"])):
        pd.testing.assert_frame_equal(model.predict(user, items), expected)
    assert expected.attrs == model.predict("ann", items).attrs
    users = ["ann", "bob", "nobody"]
    pd.testing.assert_frame_equal(model.predict(users, 3), model.predict(users, [3] * 3))
    pd.testing.assert_frame_equal(model.predict(users, np.int8(3)), model.predict(users, np.full(3, 3, np.int8)))
    pd.testing.assert_frame_equal(model.predict("ann", 3), model.predict(["ann"], [3]))
    assert model.predict("ann", []).empty
    assert model.predict([], 3).empty


def test_bad_pairs_are_refused(model):
    with pytest.raises(ParameterError, match="2 user ids and 3 item ids: give one of each per pair, or one for all"):
        model.predict(["ann", "bob"], [0, 3, 7])
    with pytest.raises(ParameterError, match="0 user ids and 2 item ids"):
        model.predict([], [0, 3])
    with pytest.raises(DataError, match="user ids of type int64 cannot be found among ids of type large_string"):
        model.predict([1], [0])
    with pytest.raises(DataError, match="item' has 1 null id, the first in row 1"):
        model.predict(["ann", "bob"], [0, None])
