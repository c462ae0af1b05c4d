import dataclasses
import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import fastmf
import fastmf.evaluation.evaluate as evaluate_module
from fastmf import ImplicitALS
from fastmf.errors import DataError, ParameterError, ResourceError
from fastmf.evaluation.evaluate import reading_for
from fastmf.evaluation.metrics import RANKING, mae, rmse
from fastmf.model.learned import Baseline
from fastmf.model.model import Model
from fastmf.runtime import memory

N_USERS, N_ITEMS = 12, 9
COLD_USER, COLD_ITEM = 5, 3


@pytest.fixture
def model():
    """Users 0 to 11 and items "i0" to "i8", one of each cold; scores are exact in float32 and tie."""
    rng = np.random.default_rng(0)
    rated = rng.random((N_USERS, N_ITEMS)) < 0.3
    rated[0] = np.arange(N_ITEMS) > 1  # whose list has one item
    rated[COLD_USER], rated[:, COLD_ITEM] = False, False
    rated[1, 0] = True
    side = {}
    for name, axis, cold in (("user", 0, COLD_USER), ("item", 1, COLD_ITEM)):
        side[f"{name}_factors"] = rng.integers(-4, 5, (rated.shape[axis], 2)).astype(np.float32) / 2
        side[f"{name}_bias"] = rng.integers(-4, 5, rated.shape[axis]).astype(np.float32) / 4
        side[f"{name}_factors"][cold], side[f"{name}_bias"][cold] = 0, 0
        side[f"{name}_counts"] = np.sum(rated, axis=1 - axis).astype(np.int32)
    side["user_counts"][side["user_counts"] == 0] = 1
    side["user_counts"][COLD_USER] = 0
    return Model(
        user_ids=pa.array(range(N_USERS)),
        item_ids=pa.array([f"i{i}" for i in range(N_ITEMS)], pa.large_string()),
        mean=3.0,
        scale=1.0,
        rating_range=(1.0, 5.0),
        seen=(np.append(0, np.cumsum(rated.sum(axis=1))), np.nonzero(rated)[1].astype(np.int32)),
        solver={"name": "als"},
        **side,
    )


def held_out(seed=0, n=80):
    """Pairs of users -2 to 13 and items "i-1" to "i10", in random order; the model knows some."""
    rng = np.random.default_rng(seed)
    pairs = rng.permutation(16 * 12)[:n]
    ratings = rng.integers(1, 11, n) / 2
    return [(int(p // 12 - 2), int(p % 12 - 1), float(r)) for p, r in zip(pairs, ratings, strict=True)]


def columns(rows):
    return [u for u, _, _ in rows], [f"i{i}" for _, i, _ in rows], [r for _, _, r in rows]


def explicit(naive, model, rows, n, relevant_from=None):
    """All that evaluate gives, one pair and one user at a time."""
    user_counts = dict(enumerate(model.user_counts))
    item_counts = dict(enumerate(model.item_counts))
    seen = [set(model.seen[1][a:b]) for a, b in zip(model.seen[0][:-1], model.seen[0][1:], strict=True)]

    def score(user, item):
        estimate = model.mean
        if user_counts.get(user, 0):
            estimate += model.user_bias[user]
        if item_counts.get(item, 0):
            estimate += model.item_bias[item]
        if user_counts.get(user, 0) and item_counts.get(item, 0):
            estimate += model.user_factors[user] @ model.item_factors[item]
        return estimate

    errors = [rating - min(max(score(user, item), 1.0), 5.0) for user, item, rating in rows]
    relevant = {}
    for user, item, rating in rows:
        if relevant_from is None or rating >= relevant_from:
            relevant.setdefault(user, set()).add(item)
    per_user, popular, lists, most_rated = [], [], [], []
    for user, items in relevant.items():
        known = user if user_counts.get(user, 0) else None
        left = [i for i in range(N_ITEMS) if item_counts[i] and (known is None or i not in seen[user])]
        for key, shown, measured in (
            (lambda i, user=user: -score(user, i), lists, per_user),
            (lambda i: -item_counts[i], most_rated, popular),
        ):
            shown.append(sorted(left, key=lambda i: (key(i), i))[:n])
            worst = sorted(left, key=lambda i: (key(i), i in items))[:n]  # ties count against the model
            measured.append(naive(worst, items, n))
    bands = {"0": (0, 0), "1 to 5": (1, 5), "6 to 20": (6, 20), "21 to 100": (21, 100), "101 and more": (101, 10**9)}
    by_activity = {}
    for name, (low, high) in bands.items():
        own = [e for e, (user, _, _) in zip(errors, rows, strict=True) if low <= user_counts.get(user, 0) <= high]
        if own:
            rmse = pytest.approx(math.sqrt(sum(e * e for e in own) / len(own)), rel=1e-6)
            by_activity[name] = {"pairs": len(own), "rmse": rmse, "rmse_of_biases": None}
    return {
        "pairs": len(rows),
        "by_activity": by_activity,
        "rmse": math.sqrt(sum(e * e for e in errors) / len(rows)),
        "mae": sum(abs(e) for e in errors) / len(rows),
        "trained_pairs": sum(0 <= user < len(seen) and item in seen[user] for user, item, _ in rows),
        "unknown_users": sum(not user_counts.get(user, 0) for user, _, _ in rows),
        "unknown_items": sum(not item_counts.get(item, 0) for _, item, _ in rows),
        "n": n,
        "ranked_users": len(relevant),
        "users_without_relevant": len({user for user, _, _ in rows}) - len(relevant),
        **of_lists(per_user, lists, model),
        "popularity": of_lists(popular, most_rated, model),
    }


def of_lists(per_user, lists, model):
    """The means over users, how much of the catalogue is shown, and how little known that is."""
    shown, n_users = [item for line in lists for item in line], np.count_nonzero(model.user_counts)
    return {
        **{name: float(np.mean([user[name] for user in per_user])) for name in RANKING},
        "reach": len(set(shown)) / np.count_nonzero(model.item_counts),
        "novelty": float(np.mean([math.log2(n_users / model.item_counts[item]) for item in shown])),
    }


@pytest.mark.parametrize(("n", "relevant_from"), [(1, None), (3, None), (3, 3.5), (20, 5.0)])
def test_evaluate_is_the_explicit_computation(naive, model, n, relevant_from):
    rows = held_out()
    result = fastmf.evaluate(model, tuple(columns(rows)), n=n, relevant_from=relevant_from)
    expected = explicit(naive, model, rows, n, relevant_from)
    assert (result.pop("by_activity"), result.pop("rmse_of_biases")) == (expected.pop("by_activity"), None)
    assert result.pop("popularity") == pytest.approx(expected.pop("popularity"), rel=1e-6)
    assert result == pytest.approx(expected, rel=1e-6)
    assert expected["unknown_users"] > 5
    assert expected["unknown_items"] > 5
    assert expected["recall"] > 0 or n == 1
    assert (expected["users_without_relevant"] > 0) == (relevant_from is not None)


def test_evaluate_of_a_fit_is_the_explicit_computation(naive, planted):
    users, items, ratings = planted(n=250)
    model = fastmf.fit((users[:200], items[:200], ratings[:200]), k=2, epochs=5, reg0=0.5)
    rest = users[200:], items[200:], ratings[200:]
    result = fastmf.evaluate(model, rest, n=5)
    predicted = model.predict(*rest[:2])["prediction"]
    assert result["rmse"] == pytest.approx(rmse(np.float32(rest[2]), predicted), rel=1e-6)
    assert result["mae"] == pytest.approx(mae(np.float32(rest[2]), predicted), rel=1e-6)
    per_user = []
    for user in sorted(set(rest[0])):
        ranked = model.recommend(user, 5)["item_id"].tolist()
        per_user.append(naive(ranked, set(rest[1][rest[0] == user]), 5))
    for name in RANKING:
        assert result[name] == pytest.approx(np.mean([line[name] for line in per_user]))
        assert 0 < result[name] < 1


def test_a_list_shorter_than_n_counts_as_misses(model):
    assert model.recommend(0, 5)["item_id"].tolist() in (["i0", "i1"], ["i1", "i0"])
    result = fastmf.evaluate(model, ([0, 0], ["i0", "i1"], [3.0, 3.0]), n=5)
    assert (result["precision"], result["recall"], result["ndcg"], result["map"]) == (2 / 5, 1, 1, 1)
    longer_than_all_items = fastmf.evaluate(model, ([0, 0], ["i0", "i1"], [3.0, 3.0]), n=50)
    assert longer_than_all_items["precision"] == pytest.approx(2 / 50)


def test_a_very_long_list_takes_no_more_memory_than_the_catalogue(model, monkeypatch):
    given = ([0, 0], ["i0", "i1"], [3.0, 3.0])
    lengths, measure = [], evaluate_module.ranked_hits

    def watched(rank, wanted, n_items, n):
        lengths.append(n)
        return measure(rank, wanted, n_items, n)

    monkeypatch.setattr(evaluate_module, "ranked_hits", watched)
    far, near = (fastmf.evaluate(model, given, n=n) for n in (10**6, 50))
    assert set(lengths) == {9}
    assert far["precision"] == pytest.approx(2 / 10**6)
    assert (far["n"], far["ndcg"], far["map"]) == (10**6, near["ndcg"], near["map"])


def test_a_constant_score_has_no_hits_on_any_order_of_ids(planted):
    users, items, ratings = planted(n=250)
    fitted = fastmf.fit((users, items, ratings), k=1, epochs=1)
    blank = {name: np.zeros_like(getattr(fitted, name)) for name in ("user_factors", "item_factors", "item_bias")}
    constant = dataclasses.replace(
        fitted, **blank, choice=None, seen=(np.zeros_like(fitted.seen[0]), fitted.seen[1][:0])
    )
    for item in (fitted.item_ids[0], fitted.item_ids[-1]):
        found = fastmf.evaluate(constant, ([users[0]], [item], [5.0]), n=3)
        assert (found["ndcg"], found["hit_rate"], found["ranked_users"]) == (0, 0, 1)


def test_unknown_and_cold_users_are_ranked_by_item_bias(model):
    best = max((i for i in range(N_ITEMS) if i != COLD_ITEM), key=lambda i: (model.item_bias[i], -i))
    for user in (99, COLD_USER):
        result = fastmf.evaluate(model, ([user], [f"i{best}"], [3.0]), n=1)
        assert result["precision"] == 1.0
        assert result["unknown_users"] == result["ranked_users"] == 1


def test_an_item_the_model_does_not_know_is_relevant_and_never_found(model):
    result = fastmf.evaluate(model, ([99, 99], [f"i{COLD_ITEM}", "i99"], [3.0, 3.0]), n=9)
    assert [result[name] for name in RANKING] == [0.0] * 6
    assert result["unknown_items"] == 2
    best = max((i for i in range(N_ITEMS) if i != COLD_ITEM), key=lambda i: (model.item_bias[i], -i))
    half = fastmf.evaluate(model, ([99, 99], [f"i{best}", "i99"], [3.0, 3.0]), n=9)
    assert half["recall"] == 0.5


def test_without_relevant_items_there_is_nothing_to_rank(model):
    result = fastmf.evaluate(model, tuple(columns(held_out())), relevant_from=6.0)
    assert [result[name] for name in RANKING] == [None] * 6
    assert result["ranked_users"] == 0
    assert result["users_without_relevant"] == len({u for u, _, _ in held_out()})
    assert result["pairs"] == 80


def test_a_model_that_does_not_know_what_was_seen_is_not_ranked(model):
    rows = tuple(columns(held_out()))
    result = fastmf.evaluate(dataclasses.replace(model, seen=None), rows)
    assert [result[name] for name in RANKING] == [None] * 6
    assert result["rmse"] == fastmf.evaluate(model, rows)["rmse"]


def test_evaluate_takes_what_ratings_take_and_is_the_same_for_any_order(naive, model, tmp_path):
    rows = held_out()
    expected = fastmf.evaluate(model, tuple(columns(rows)))
    frame = pd.DataFrame(dict(zip(("user", "item", "rating"), columns(rows[::-1]), strict=True)))
    frame.to_parquet(tmp_path / "held_out.parquet")
    for source in (frame, tmp_path / "held_out.parquet", fastmf.Ratings.read(frame)):
        assert fastmf.evaluate(model, source) == expected
    held = fastmf.Ratings.read(frame).split(0.3)[1]  # some of whose ids have no rows
    by_hand = [(u, i, r) for u, i, r in rows if (u, i) in pairs_of(held)]
    found, expected = fastmf.evaluate(model, held, n=4), explicit(naive, model, by_hand, 4)
    assert (found.pop("by_activity"), found.pop("rmse_of_biases")) == (expected.pop("by_activity"), None)
    assert found.pop("popularity") == pytest.approx(expected.pop("popularity"), rel=1e-6)
    assert found == pytest.approx(expected, rel=1e-6)


def pairs_of(ratings):
    users, items = ratings.user_ids.to_pylist(), ratings.item_ids.to_pylist()
    return {(users[u], int(items[i][1:])) for u, i in zip(ratings.users, ratings.items, strict=True)}


def test_bad_ratings_and_settings_are_refused(model):
    with pytest.raises(DataError, match="user ids of type large_string"):
        fastmf.evaluate(model, (["0"], ["i0"], [3.0]))
    with pytest.raises(DataError, match="repeat a"):
        fastmf.evaluate(model, ([0, 0], ["i0", "i0"], [3.0, 4.0]))
    with pytest.raises(ParameterError, match="n is 0: give an integer of at least 1"):
        fastmf.evaluate(model, ([0], ["i0"], [3.0]), n=0)
    with pytest.raises(ParameterError, match="relevant_from is nan: give a rating"):
        fastmf.evaluate(model, ([0], ["i0"], [3.0]), relevant_from=math.nan)


def test_lists_beyond_the_memory_are_refused(planted, monkeypatch):
    rows = planted()
    model = fastmf.fit(rows, k=1, epochs=1)
    monkeypatch.setattr(memory, "available_memory", lambda: 1000)
    with pytest.raises(ResourceError, match=r"ranking 40 items for 30 users takes .*: use a smaller n"):
        fastmf.evaluate(model, rows, n=40)


def test_biases_alone_are_measured_beside_the_model(model):
    users, items, ratings = columns(held_out())
    biases = dataclasses.replace(model, baseline=Baseline(model.user_bias, model.item_bias))
    flat = dataclasses.replace(model, user_factors=np.zeros_like(model.user_factors))
    found, expected = (fastmf.evaluate(each, (users, items, ratings)) for each in (biases, flat))
    assert found["rmse_of_biases"] == pytest.approx(expected["rmse"], rel=1e-6)
    for band, figures in found["by_activity"].items():
        assert figures["rmse_of_biases"] == pytest.approx(expected["by_activity"][band]["rmse"], rel=1e-6)


def test_implicit_feedback_is_measured_by_lists_alone(planted):
    users, items, ratings = planted()
    model = fastmf.fit((users, items, ratings), solver=ImplicitALS(k=2, epochs=2, positive_from=3.0))
    found = fastmf.evaluate(model, (users, items, ratings))
    assert not {"rmse", "mae", "by_activity", "coverage"} & found.keys()
    assert found["pairs"] == found["trained_pairs"] == len(users)
    given = fastmf.evaluate(model, (users, items, ratings), relevant_from=3.0)
    assert found == given  # the model's own limit is the default
    assert found["users_without_relevant"] == len(set(users)) - len(set(users[ratings >= 3]))


def test_pairs_may_repeat_only_if_their_ratings_do_not_matter(model):
    implicit = dataclasses.replace(model, implicit=True)
    table = pd.DataFrame({"user": [0, 0], "item": ["i0", "i0"]})
    assert fastmf.evaluate(implicit, table)["pairs"] == 1
    assert reading_for(implicit, None)["duplicates"] == "sum"
    for explicit_model, limit in ((model, None), (implicit, 2.0), (model, 2.0)):
        assert "duplicates" not in reading_for(explicit_model, limit)
