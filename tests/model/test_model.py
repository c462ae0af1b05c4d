import dataclasses

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import fastmf
from fastmf.data.ratings import Ratings
from fastmf.errors import DataError, DivergenceError, ModelFormatError, ParameterError, UnknownIdError
from fastmf.kernels.als import HALF_SWEEP, half_sweep_tasks
from fastmf.kernels.types import Penalty, Side, nothing_known
from fastmf.model.history import Epoch
from fastmf.model.learned import Baseline, Links
from fastmf.model.model import Model
from fastmf.runtime.device import resolve
from fastmf.runtime.launch import launch

USERS = ["", "ann", "bob", "cold", "dan", "eve", "ida"]
ITEMS = [-5, 0, 3, 7, 2**53 + 1, 2**60, 2**62, 2**63 - 1]
COLD_USER, COLD_ITEM = USERS.index("cold"), ITEMS.index(7)
SOLVER = {"name": "als", "k": 3, "reg": 0.05, "reg0": 2.0, "bias_reg": 3.0, "biases": True}


@pytest.fixture
def model():
    """Factors are multiples of a half, so that scores are exact in float32 and ties are frequent."""
    return exact_model()


def exact_model(**changes):
    rng = np.random.default_rng(0)
    rated = rng.random((len(USERS), len(ITEMS))) < 0.4
    rated[COLD_USER], rated[:, COLD_ITEM] = False, False
    rated[0] = np.arange(len(ITEMS)) != COLD_ITEM  # the first user has rated everything
    rated[1] = False
    rated[1, 0] = True
    factors = [rng.integers(-4, 5, (n, 3)).astype(np.float32) / 2 for n in rated.shape]
    biases = [rng.integers(-2, 3, n).astype(np.float32) / 4 for n in rated.shape]
    for values, row in zip([*factors, *biases], [COLD_USER, COLD_ITEM] * 2, strict=True):
        values[row] = 0
    fields = dict(
        user_ids=pa.array(USERS, pa.large_string()),
        item_ids=pa.array(ITEMS),
        user_factors=factors[0],
        item_factors=factors[1],
        user_bias=biases[0],
        item_bias=biases[1],
        user_counts=rated.sum(axis=1).astype(np.int32),
        item_counts=rated.sum(axis=0).astype(np.int32),
        mean=3.25,
        scale=1.5,
        rating_range=(1.0, 5.0),
        seen=(np.append(0, np.cumsum(rated.sum(axis=1))), np.nonzero(rated)[1].astype(np.int32)),
        solver=SOLVER,
        history=[Epoch(number=1, seconds=0.25, train_rmse=0.1), Epoch(number=2, seconds=0.5, train_rmse=1 / 3)],
        rows={"read": 9, "used": 9, "duplicates": 0},
    )
    return Model(**(fields | changes))


def seen_by(model, user):
    indptr, indices = model.seen
    return set(indices[indptr[user] : indptr[user + 1]].tolist())


def scores_of(model, user):
    return model.mean + model.user_bias[user] + model.item_bias + model.item_factors @ model.user_factors[user]


# predict


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
    users, items = [*range(len(USERS)), None], [*range(len(ITEMS)), None]
    grid = [(u, i) for u in users for i in items]
    user_ids = ["nobody" if u is None else USERS[u] for u, _ in grid]
    item_ids = [12345 if i is None else ITEMS[i] for _, i in grid]
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


def test_unknown_pairs_can_be_nan_or_refused(model):
    pairs = ["ann", "zoe", "ann", "cold", "eve"], [0, 0, 99, 0, 3]
    frame = model.predict(*pairs, on_unknown="nan")
    assert np.isnan(frame["prediction"]).tolist() == [False, True, True, True, False]
    assert frame.attrs == {"unknown_users": 2, "unknown_items": 1}
    with pytest.raises(UnknownIdError, match=r"^3 of 5 pairs .* the first user 'zoe', item 0:"):
        model.predict(*pairs, on_unknown="raise")
    known = model.predict(["ann", "eve"], [0, 3], on_unknown="raise")
    assert known["prediction"].tolist() == frame["prediction"][[0, 4]].tolist()
    with pytest.raises(ParameterError, match="on_unknown is 'drop': choose mean, nan or raise"):
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


def test_pairs_that_are_none_are_refused(model):
    with pytest.raises(ParameterError, match="2 user ids and 1 item ids: give one of each"):
        model.predict(["ann", "bob"], [0])
    with pytest.raises(DataError, match="user ids are int64, but the model's are large_string"):
        model.predict([1], [0])
    with pytest.raises(DataError, match="item' has 1 ids that are null, the first in row 1"):
        model.predict(["ann", "bob"], [0, None])


# recommend


def expected_lists(model, users, n, out=lambda user, item: False):
    """Rank by sorting all items; out says which are left out."""
    lines = []
    for user in users:
        every = scores_of(model, user)
        left = [i for i in range(len(ITEMS)) if model.item_counts[i] and not out(user, i)]
        best = sorted(left, key=lambda i: (-every[i], i))[:n]
        lines += [(USERS[user], ITEMS[i], float(every[i]), rank + 1) for rank, i in enumerate(best)]
    return lines


def lines_of(frame):
    assert frame.columns.tolist() == ["user_id", "item_id", "score", "rank"]
    assert frame["score"].dtype == np.float32
    assert frame.index.tolist() == list(range(len(frame)))
    return list(frame.itertuples(index=False, name=None))


@pytest.mark.parametrize("n", [1, 3, 8, 100])
@pytest.mark.parametrize("users", [[4], [5, 1], [1, 5, 1, 1], list(range(len(USERS)))], ids=str)
def test_recommendations_are_the_order_of_all_unseen_items(model, n, users):
    expected = expected_lists(model, users, n, out=lambda user, item: item in seen_by(model, user))
    assert lines_of(model.recommend([USERS[u] for u in users], n)) == expected
    if len(users) == len(USERS):
        assert lines_of(model.recommend(n=n)) == expected
    if len(users) == 1:
        assert lines_of(model.recommend(USERS[users[0]], n)) == expected


@pytest.mark.parametrize("n", [2, 100])
def test_seen_items_come_too_when_asked_for(model, n):
    assert lines_of(model.recommend(n=n, include_seen=True)) == expected_lists(model, range(len(USERS)), n)


def test_lists_have_ties_and_scores_beyond_the_rating_range(model):
    scores = model.recommend(n=100, include_seen=True)["score"]
    assert scores.max() > 5
    assert scores.min() < 1
    frame = model.recommend(n=100, include_seen=True)
    assert frame.duplicated(["user_id", "score"]).any()


def test_who_has_rated_everything_gets_no_list_and_who_nothing_all_warm_items(model):
    assert model.recommend("").empty
    assert sorted(model.recommend("cold", 100)["item_id"]) == sorted(set(ITEMS) - {ITEMS[COLD_ITEM]})
    assert model.recommend([]).empty


@pytest.mark.parametrize(
    "exclude",
    [
        (["ann", "eve", "zoe", "ann"], [0, 3, 3, 12345]),
        pd.DataFrame({"user": ["ann", "ann", "eve"], "item": [0, 0, 3], "more": [[], {}, None]}),
        pa.table({"movieId": pa.array([3, 0], pa.int8()), "userId": ["eve", "ann"]}),
    ],
    ids=["arrays", "pandas", "Arrow"],
)
@pytest.mark.parametrize("include_seen", [True, False])
def test_excluded_pairs_are_left_out_beside_seen_ones(model, exclude, include_seen):
    excluded = {(USERS.index("ann"), ITEMS.index(0)), (USERS.index("eve"), ITEMS.index(3))}

    def out(user, item):
        return (user, item) in excluded or (not include_seen and item in seen_by(model, user))

    users = [1, 5, 1, 2, 6]
    frame = model.recommend([USERS[u] for u in users], 100, exclude=exclude, include_seen=include_seen)
    assert lines_of(frame) == expected_lists(model, users, 100, out)


def test_excluded_pairs_are_read_from_parquet_too(model, tmp_path):
    best = model.recommend(n=1)
    best.to_parquet(tmp_path / "best.parquet")
    again = model.recommend(n=1, exclude=tmp_path / "best.parquet")
    assert not set(zip(best["user_id"], best["item_id"], strict=True)) & set(
        zip(again["user_id"], again["item_id"], strict=True)
    )
    with pytest.raises(DataError, match="no column for the items"):
        model.recommend(exclude=best[["user_id"]])


def test_what_cannot_be_recommended_is_refused(model):
    with pytest.raises(ParameterError, match="n is 0: give an integer of at least 1"):
        model.recommend("ann", 0)
    with pytest.raises(UnknownIdError, match=r"2 of 3 user ids are not in the model, the first 'x': .*folded in"):
        model.recommend(["x", "ann", "y"])
    with pytest.raises(UnknownIdError, match=r"1 of 1 user ids .* the first 'zoe'"):
        model.recommend("zoe")
    with pytest.raises(DataError, match="user ids are int64"):
        model.recommend(5)


# similar_items and similar_users


@pytest.mark.parametrize("n", [2, 100])
@pytest.mark.parametrize("side", ["item", "user"])
def test_similar_rows_are_the_order_of_all_cosines(side, n):
    model = exact_model()
    factors = getattr(model, f"{side}_factors")
    factors[4] = 0  # warm, but without direction
    count, raw = getattr(model, f"{side}_counts"), {"user": USERS, "item": ITEMS}[side]
    wanted = [0, 4, 2, 0, {"user": COLD_USER, "item": COLD_ITEM}[side]]
    ask = model.similar_items if side == "item" else model.similar_users
    frame = ask([raw[row] for row in wanted], n)
    assert frame.columns.tolist() == [f"{side}_id", f"similar_{side}_id", "score", "rank"]
    assert not frame["score"].isna().any()
    norms = np.linalg.norm(factors, axis=1)
    start = 0
    for row in wanted:
        others = [i for i in range(len(raw)) if i != row and count[i]]
        cosine = factors @ factors[row] / np.maximum(norms * norms[row], 1e-9)
        expected = sorted(others, key=lambda i: (norms[i] == 0, -cosine[i]))[:n]
        lines = frame[start : start + len(expected)]
        start += len(expected)
        assert (lines[f"{side}_id"] == raw[row]).all()
        assert lines["rank"].tolist() == list(range(1, len(expected) + 1))
        taken = [raw.index(key) for key in lines[f"similar_{side}_id"]]
        assert len(set(taken)) == len(taken)
        assert set(taken) <= set(others)
        np.testing.assert_allclose(lines["score"], cosine[taken], atol=1e-6)
        np.testing.assert_allclose(lines["score"], cosine[expected], atol=1e-6)
        if 4 in taken:
            assert taken[-1] == 4
    assert start == len(frame)


def test_similar_takes_one_id_and_refuses_unknown_ones(model):
    pd.testing.assert_frame_equal(model.similar_items(0, 3), model.similar_items([0], 3))
    pd.testing.assert_frame_equal(model.similar_users("ann", 3), model.similar_users(["ann"], 3))
    with pytest.raises(UnknownIdError, match="1 of 2 item ids are not in the model, the first 1:"):
        model.similar_items([0, 1])
    with pytest.raises(UnknownIdError, match="1 of 1 user ids"):
        model.similar_users("zoe")
    with pytest.raises(ParameterError, match="n is 0"):
        model.similar_items(0, 0)


# fold_in

NEW = ["x", "x", "x", "y", "z", "z", "w"], [0, 3, 2**60, -5, 0, 77, 77], [5.0, 1.5, 3.0, 4.0, 2.0, 5.0, 1.0]


def solved(model, items, ratings):
    """The row equations, in float64, bias and factors in one system: minimise
    sum (r - c - b - x.y)^2 + (reg n + reg0) |x|^2 + bias_reg b^2 over standardised r."""
    n, k = len(items), model.k
    y = model.item_factors[items].astype(np.float64)
    target = (np.array(ratings) - model.mean) / model.scale - model.item_bias[items] / model.scale
    design = np.column_stack([y, np.ones(n)])
    penalty = np.full(k + 1, model.solver["reg"] * n + model.solver["reg0"])
    penalty[k] = model.solver["bias_reg"]
    if not model.solver["biases"]:
        design, penalty = design[:, :k], penalty[:k]
    solution = np.linalg.solve(design.T @ design + np.diag(penalty), design.T @ target) * model.scale
    return solution[:k], solution[k] if model.solver["biases"] else 0.0


@pytest.mark.parametrize("biases", [True, False])
def test_new_users_are_the_solution_of_their_equations(biases):
    model = exact_model(solver=SOLVER | {"biases": biases})
    if not biases:
        model.item_bias[:] = 0
    folded = model.fold_in(NEW)
    assert folded.user_ids.to_pylist() == ["w", "x", "y", "z"]
    known = {"x": ([0, 3, 2**60], [5.0, 1.5, 3.0]), "y": ([-5], [4.0]), "z": ([0], [2.0])}
    for row, user in enumerate(["w", "x", "y", "z"]):
        if user == "w":  # has rated nothing the model knows
            factors, bias = np.zeros(3), 0.0
        else:
            factors, bias = solved(model, [ITEMS.index(item) for item in known[user][0]], known[user][1])
            assert np.abs(factors).max() > 0.01
        np.testing.assert_allclose(folded.user_factors[row], factors, atol=2e-6)
        np.testing.assert_allclose(folded.user_bias[row], bias, atol=2e-6)
        assert (bias != 0) == (biases and user != "w")
    assert folded.user_factors.dtype == folded.user_bias.dtype == np.float32


def test_folding_in_keeps_the_items_and_counts_what_was_unknown(model):
    before = model.content_hash
    folded = model.fold_in(NEW)
    assert model.content_hash == before
    assert folded.rows == {"read": 7, "used": 5, "duplicates": 0, "unknown_items": 2}
    assert folded.user_counts.tolist() == [0, 3, 1, 1]
    for name in ("item_ids", "item_factors", "item_bias", "item_counts", "mean", "scale", "rating_range", "solver"):
        assert getattr(folded, name) is getattr(model, name)
    cold = model.fold_in((["x", "x"], [0, ITEMS[COLD_ITEM]], [1.0, 5.0]))
    assert cold.rows["unknown_items"] == 1
    np.testing.assert_array_equal(cold.user_factors, model.fold_in((["x"], [0], [1.0])).user_factors)


def test_new_users_get_predictions_and_lists_without_what_they_rated(model, tmp_path):
    folded = model.fold_in(NEW)
    lists = folded.recommend(n=100)
    rated = {"x": {0, 3, 2**60}, "y": {-5}, "z": {0}, "w": set()}
    for user, own in rated.items():
        assert set(lists["item_id"][lists["user_id"] == user]) == set(ITEMS) - {ITEMS[COLD_ITEM]} - own
    row = folded.user_ids.to_pylist().index("x")
    estimate = (
        folded.mean + folded.user_bias[row] + folded.item_bias[1] + folded.user_factors[row] @ folded.item_factors[1]
    )
    assert folded.predict(["x"], [0])["prediction"][0] == pytest.approx(estimate, rel=1e-6)
    folded.save(tmp_path / "folded")
    pd.testing.assert_frame_equal(fastmf.load(tmp_path / "folded").recommend(n=100), lists)
    unseen = dataclasses.replace(model, seen=None).fold_in(NEW)  # what new users rated is known all the same
    pd.testing.assert_frame_equal(unseen.recommend(n=100), lists)


@pytest.mark.parametrize("settings", [{}, {"biases": False}, {"reg": 0.0, "reg0": 1.0}, {"solver": "sgd", "lr": 0.02}])
def test_folding_in_the_training_users_is_the_half_sweep_of_the_users(planted, settings):
    ratings = Ratings.from_arrays(*planted(n=200))
    model = fastmf.fit(ratings, k=3, epochs=3, **{"reg0": 0.5} | settings)
    standardised = ratings.with_values(((ratings.values - model.mean) / model.scale).astype(np.float32))
    users = Side(np.zeros((ratings.n_users, 3), np.float32), np.zeros(ratings.n_users, np.float32))
    items = Side(model.item_factors, model.item_bias / np.float32(model.scale))
    weights = model.solver
    penalty = Penalty(weights["reg"], weights["reg0"], weights["bias_reg"] if weights["biases"] else np.inf)
    tasks = half_sweep_tasks(ratings.by_user.indptr, 3)
    assert launch(HALF_SWEEP, resolve("cpu"), tasks, standardised.by_user, users, items, penalty, nothing_known(3)) == 0
    folded = model.fold_in(ratings)
    np.testing.assert_allclose(folded.user_factors, users.factors * model.scale, atol=1e-5)
    np.testing.assert_allclose(folded.user_bias, users.bias * model.scale, atol=1e-5)
    assert folded.rows["unknown_items"] == 0
    np.testing.assert_array_equal(folded.seen[0], model.seen[0])
    np.testing.assert_array_equal(folded.seen[1], model.seen[1])


def test_folding_in_the_training_users_of_a_converged_fit_finds_them_again(planted):
    users, items, ratings = planted(n=200)
    model = fastmf.fit((users, items, ratings), k=2, epochs=80, momentum=0.0, reg0=0.5)
    folded = model.fold_in((users, items, ratings))
    assert np.abs(model.user_factors).max() > 0.5
    np.testing.assert_allclose(folded.user_factors, model.user_factors, atol=2e-3)
    np.testing.assert_allclose(folded.user_bias, model.user_bias, atol=2e-3)


def test_what_cannot_be_folded_in_is_refused(model):
    with pytest.raises(DataError, match="item ids are large_string, but the model's are int64"):
        model.fold_in((["x"], ["0"], [3.0]))
    with pytest.raises(DataError, match="repeat a"):
        model.fold_in((["x", "x"], [0, 0], [3.0, 4.0]))
    with pytest.raises(ParameterError, match="solver 'own' has no reg, bias_reg: it cannot fold in"):
        dataclasses.replace(model, solver={"name": "own", "reg0": 1.0}).fold_in(NEW)
    singular = dataclasses.replace(model, solver={"name": "als", "reg": 0.0, "reg0": 0.0, "bias_reg": 0.0})
    with pytest.warns(UserWarning, match="the equations of 1 users were singular"):
        folded = singular.fold_in((["x"], [0], [3.0]))
    assert abs(folded.predict("x", 0)["prediction"][0] - 3) < 1e-3
    wide = fastmf.fit(
        ([1, 1, 2, 2, 3], [0, 1, 0, 1, 1], [1e30, 2e30, 3e30, 4e30, 5e30]), k=3, epochs=2, reg=0, reg0=1e-6
    )
    wide = dataclasses.replace(wide, item_factors=wide.item_factors * np.float32(1e-3))
    with pytest.raises(DivergenceError, match="1 users have ratings that lead beyond float32, the first 'x'"):
        wide.fold_in((["x", "x"], [0, 1], [3e38, -3e38]))


# models without what users have seen


def test_without_seen_lists_have_to_be_asked_for(planted, tmp_path):
    users, items, ratings = planted(n=60)
    with_seen = fastmf.fit((users, items, ratings), k=2, epochs=2, reg0=0.5)
    fitted = fastmf.fit((users, items, ratings), k=2, epochs=2, reg0=0.5, keep_seen=False)
    fitted.save(tmp_path / "model")
    for model in (fitted, fastmf.load(tmp_path / "model")):
        assert model.seen is None
        assert model.content_hash == with_seen.content_hash
        with pytest.raises(ParameterError, match=r"keep_seen=False\): pass include_seen=True"):
            model.recommend(n=3)
        everything = with_seen.recommend(n=3, include_seen=True)
        pd.testing.assert_frame_equal(model.recommend(n=3, include_seen=True), everything)
        excluded = model.recommend(n=3, include_seen=True, exclude=(users, items))
        pd.testing.assert_frame_equal(excluded, with_seen.recommend(n=3))
        pd.testing.assert_frame_equal(model.predict(users, items), with_seen.predict(users, items))


# the content hash, and the file


def test_the_content_hash_follows_what_was_computed_and_nothing_else(model, tmp_path):
    changed = {
        "user_factors": model.user_factors + np.float32(1e-7) * (np.arange(3) == 1),
        "item_factors": -model.item_factors,
        "user_bias": model.user_bias[::-1],
        "item_bias": model.item_bias + np.float32(1e-7),
        "user_ids": pa.array(["!", *USERS[1:]], pa.large_string()),
        "item_ids": pa.array([-6, *ITEMS[1:]]),
        "mean": np.nextafter(model.mean, 4),
        "scale": np.nextafter(model.scale, 4),
        "history": model.history[:1],
        "baseline": Baseline(model.user_bias, model.item_bias),
        "links": Links(model.item_factors, model.item_factors[0]),
    }
    hashes = {name: dataclasses.replace(model, **{name: value}).content_hash for name, value in changed.items()}
    assert len({model.content_hash, *hashes.values()}) == len(hashes) + 1
    slower = [dataclasses.replace(epoch, seconds=9.0) for epoch in model.history]
    same = {"history": slower, "seen": None, "rows": {}, "best_epoch": 1}
    assert dataclasses.replace(model, **same).content_hash == model.content_hash
    model.save(tmp_path / "model")
    assert fastmf.load(tmp_path / "model").content_hash == model.content_hash


def test_everything_comes_back_from_the_file(model, tmp_path):
    model = dataclasses.replace(model, best_epoch=2, mean=1 / 3, scale=2**0.5, rating_range=(0.1, 0.7))
    model.save(tmp_path / "model")
    loaded = Model.load(tmp_path / "model")
    for field in dataclasses.fields(Model):
        ours, theirs = getattr(model, field.name), getattr(loaded, field.name)
        if field.name in ("user_ids", "item_ids"):
            assert theirs.equals(ours)
        elif isinstance(ours, np.ndarray):
            np.testing.assert_array_equal(theirs, ours)
            assert theirs.dtype == ours.dtype
        elif field.name == "seen":
            np.testing.assert_array_equal(theirs[0], ours[0])
            np.testing.assert_array_equal(theirs[1], ours[1])
        else:
            assert theirs == ours
    pd.testing.assert_frame_equal(loaded.recommend(n=4), model.recommend(n=4))
    assert loaded.k == 3


def test_an_existing_file_is_replaced_only_when_asked_for(model, tmp_path):
    path = tmp_path / "model"
    model.save(str(path))
    with pytest.raises(FileExistsError):
        model.save(path)
    assert fastmf.load(path).content_hash == model.content_hash
    other = exact_model(mean=2.0)
    other.save(path, overwrite=True)
    assert fastmf.load(str(path)).content_hash == other.content_hash
    with pytest.raises(FileNotFoundError):
        model.save(tmp_path / "missing" / "model")
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


def test_loading_what_is_not_there_or_no_model(tmp_path):
    with pytest.raises(FileNotFoundError):
        fastmf.load(tmp_path / "missing")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ModelFormatError):
        fastmf.load(tmp_path / "text")
