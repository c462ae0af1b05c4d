"""Models that grow: new items from their ratings, and everything else that must grow with them."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

import fastmf
from fastmf import DataError, ParameterError, Ratings
from fastmf.kernels.als import half_sweep_numpy
from fastmf.kernels.types import Side, nothing_known
from fastmf.model.frame import frame_of, to_training
from fastmf.model.grow import widened

NEW_ITEMS = [1003, 1011, 1019]
SWEEPS = {"burn": 2, "samples": 6, "kept": 3}
SOLVERS = [
    ("als", {"reg0": 0.5}),
    ("als", {"reg0": 0.5, "biases": False}),
    ("als-links", {"reg0": 0.5}),
    ("als-links", {"reg0": 0.5, "biases": False}),
    ("sgd", {"reg0": 0.5, "lr": 0.1}),
    ("implicit", {}),
    ("implicit", {"positive_from": 3.0}),
    ("implicit", {"weight": "rating"}),
    ("gibbs", SWEEPS),
    ("gibbs", SWEEPS | {"links": True}),
]
EXACT = [case for case in SOLVERS if case[0] != "gibbs"]


def named(case):
    return " ".join([case[0], *(f"{name}={value}" for name, value in case[1].items() if name not in SWEEPS)])


def parts(rows):
    """The ratings of old items, and those of new ones."""
    new = np.isin(rows[1], NEW_ITEMS)
    return tuple(column[~new] for column in rows), tuple(column[new] for column in rows)


@pytest.fixture(scope="module")
def rows(planted):
    users, items, ratings = planted(n=300)
    return users, items, np.abs(ratings)


@pytest.fixture(scope="module", params=SOLVERS, ids=named)
def grown(request, rows):
    """A model of the old items, the same with the new ones folded in, and one fitted to all."""
    solver, settings = request.param
    old, new = parts(rows)
    model = fastmf.fit(old, 3, solver, **settings)
    return model, model.fold_in_items(new), fastmf.fit(rows, 3, solver, **settings)


def half_sweep_of_all_items(model, rows):
    """The items as training would solve them, with the model's users fixed, by the NumPy definition."""
    given = Ratings.read(rows, weight=model.weight)
    if model.implicit:
        given = given.observed(model.positive_from)
        given = dataclasses.replace(given, weights=model.scaled_weights(given.weights))
    given = given.with_values(((given.values - model.mean) / model.scale).astype(np.float32))
    known = nothing_known(3)
    users, _ = to_training(model.standard_side("user"), model.standard_side("item"), frame_of(model))
    if model.implicit:
        known = known._replace(base=(model.item_rule.all_pairs * users.factors.T @ users.factors).astype(np.float32))
    if model.links is not None:
        pull = np.zeros((given.n_items, 3), np.float32)
        np.add.at(pull, given.items, model.links.users[given.users])
        known = known._replace(pull=pull / np.sqrt(np.maximum(given.item_counts, 1), dtype=np.float32)[:, None])
        assert pull.any()
    items, tasks = (
        Side(np.zeros((given.n_items, 3), np.float32), np.zeros(given.n_items, np.float32)),
        (0, given.n_items),
    )
    assert not half_sweep_numpy(np.array(tasks), given.by_item, items, users, model.item_rule.penalty, known).any()
    return items.factors, (items.bias + items.factors @ frame_of(model).user_origin) * model.scale


@pytest.mark.parametrize(("solver", "settings"), EXACT, ids=map(named, EXACT))
def test_new_items_are_the_half_sweep_of_all_items(rows, solver, settings):
    old, new = parts(rows)
    model = fastmf.fit(old, 3, solver, **settings)
    found = model.fold_in_items(new)
    factors, bias = half_sweep_of_all_items(model, rows)
    new_rows = np.isin(found.item_ids, NEW_ITEMS)
    assert np.abs(factors[new_rows]).max() > 0.05
    np.testing.assert_allclose(found.item_factors[new_rows], factors[new_rows], atol=1e-4)
    np.testing.assert_allclose(found.item_bias[new_rows], bias[new_rows], atol=1e-4)


def test_everything_old_stays_and_everything_new_is_consistent(grown, rows, tmp_path):
    model, found, everything = grown
    assert found.item_ids.equals(everything.item_ids)
    assert found.user_ids.equals(model.user_ids)
    old = ~np.isin(found.item_ids, NEW_ITEMS)
    np.testing.assert_array_equal(found.item_factors[old], model.item_factors)
    np.testing.assert_array_equal(found.item_bias[old], model.item_bias)
    np.testing.assert_array_equal(found.user_factors, model.user_factors)
    assert (found.mean, found.scale, found.history) == (model.mean, model.scale, model.history)
    assert found.item_factors[~old].any(axis=1).all()
    for name in ("item_counts", "user_counts"):
        np.testing.assert_array_equal(getattr(found, name), getattr(everything, name))
        assert getattr(found, name).dtype == np.int32
    for ours, theirs in zip(found.seen, everything.seen, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype
    assert found.rows == everything.rows | {"unknown_users": 0}
    assert found.rating_range == everything.rating_range
    for name in ("user_rule", "item_rule"):
        assert getattr(found, name).reg0 == pytest.approx(getattr(everything, name).reg0)
    found.save(tmp_path / "a")
    again = fastmf.load(tmp_path / "a")  # which checks all shapes
    assert again.content_hash == found.content_hash
    seen = set(zip(*(column.tolist() for column in rows[:2]), strict=True))
    for each in (found, again):
        assert set(each.similar_items(1000, n=30)["similar_item_id"]) == {*rows[1].tolist()} - {1000}
        lists = each.recommend(n=20)
        assert seen.isdisjoint(zip(lists["user_id"], lists["item_id"], strict=True))
        assert len(lists) + len(seen) == 30 * 20


def test_new_items_are_predicted_better_than_by_the_user_alone(grown, rows):
    model, found, _ = grown
    _, new = parts(rows)
    if not model.implicit:
        without, with_items = (fastmf.evaluate(each, new) for each in (model, found))
        assert with_items["rmse"] < 0.85 * without["rmse"]
        assert with_items["rmse_of_biases"] < without["rmse_of_biases"]


@pytest.mark.parametrize("links", [False, True])
def test_a_bayesian_model_draws_its_new_items(rows, links):
    old, new = parts(rows)
    model = fastmf.fit(old, 3, "gibbs", burn=4, samples=40, kept=20, links=links)
    found = model.fold_in_items(new)
    places = np.flatnonzero(np.isin(found.item_ids, NEW_ITEMS))
    for name in ("item_factors", "item_bias", "item_precisions"):
        drawn = getattr(found.samples, name)
        assert drawn.shape[:2] == (20, 20)
        assert drawn[:, places].std(axis=0).min() > 0
        np.testing.assert_array_equal(np.delete(drawn, places, axis=1), getattr(model.samples, name))
    assert 0.2 < found.samples.item_precisions[:, places].mean() < 5
    np.testing.assert_array_equal(found.samples.user_precisions, model.samples.user_precisions)
    item = places[0]  # each draw is in the basis of its sample, but all of them predict what the means predict
    drawn = np.einsum("snk,sk->sn", found.samples.user_factors, found.samples.item_factors[:, item])
    drawn += found.samples.user_bias + found.samples.item_bias[:, item, None]
    means = found.user_factors @ found.item_factors[item] + found.user_bias + found.item_bias[item]
    assert np.corrcoef(drawn.mean(axis=0), means)[0, 1] > 0.9
    ratios = [found.predict(*pairs[:2], std=True)["std"].mean() for pairs in (new, old)]
    assert 0.8 < ratios[0] / ratios[1] < 3


def test_ratings_by_unknown_users_are_counted_and_cold_ids_are_filled(model):
    new = ["eve", "who", "bob", "eve"], [7, 7, 9, 9], [4.5, 1.0, 2.0, 5.5]
    model = dataclasses.replace(model, item_rule=model.user_rule)
    found = model.fold_in_items(new)
    raw = model.item_ids.to_pylist()
    assert found.item_ids.to_pylist() == sorted([*raw, 9])
    assert found.rows == {"read": 13, "used": 12, "duplicates": 0, "unknown_users": 1}
    assert found.rating_range == (1.0, 5.5)
    assert found.item_counts[raw.index(7)] == 1
    assert found.known_items([7, 9]).tolist() == [raw.index(7), raw.index(7) + 1]
    assert found.user_counts.sum() == model.user_counts.sum() + 3
    assert len(found.seen[1]) == len(model.seen[1]) + 3
    unseen = dataclasses.replace(model, seen=None).fold_in_items(new)
    assert unseen.seen is None
    np.testing.assert_array_equal(unseen.item_counts, found.item_counts)
    nobody = model.fold_in_items((["who"], [9], [1.0]))
    assert nobody.rows["unknown_users"] == 1
    assert not nobody.item_factors[nobody.item_counts == 0].any()
    assert 9 not in set(nobody.recommend(n=20)["item_id"])


def test_ids_without_ratings_change_nothing(model):
    model = dataclasses.replace(model, item_rule=model.user_rule)
    given = Ratings.from_arrays(["bob", "eve", "eve"], [9, 9, 0], [3.0, 4.0, 5.0])
    found = model.fold_in_items(given.take(given.items == 1))  # item 0 is known, and no longer rated
    place = model.item_ids.to_pylist().index(0)
    np.testing.assert_array_equal(found.item_factors[place], model.item_factors[place])
    assert found.item_ids.to_pylist() == sorted([*model.item_ids.to_pylist(), 9])


def test_unusable_items_and_models_are_refused(model):
    with pytest.raises(ParameterError, match=r"solver 'als' has no rule for new items.* fit it again"):
        model.fold_in_items((["eve"], [9], [3.0]))
    model = dataclasses.replace(model, item_rule=model.user_rule)
    with pytest.raises(DataError, match=r"2 of 3 items have been fitted already, the first 0: .*call update"):
        model.fold_in_items((["eve", "eve", "eve"], [3, 0, 9], [3.0, 3.0, 3.0]))
    with pytest.raises(DataError, match="item ids of type large_string cannot be found among ids of type int64"):
        model.fold_in_items((["eve"], ["9"], [3.0]))
    with pytest.raises(DataError, match="user ids of type int64 cannot be found"):
        model.fold_in_items(([1], [9], [3.0]))
    small = dataclasses.replace(model, item_ids=pa.array(range(8), pa.int8()))
    with pytest.raises(DataError, match="item ids of type int64 do not all fit into int8"):
        small.fold_in_items((["eve"], [1000], [3.0]))
    assert small.fold_in_items((["eve"], [100], [3.0])).item_ids.type == pa.int8()


def test_more_ids_on_either_side_move_every_array(rows):
    model = fastmf.fit(rows, 3, "gibbs", links=True, **SWEEPS)
    for side, more in (("user", pa.array([1, 100, 10**6])), ("item", pa.array([999, 1020]))):
        found, places = widened(model, side, more)
        ids = getattr(found, f"{side}_ids").to_pylist()
        assert [ids[place] for place in places] == more.to_pylist()
        old = np.isin(ids, getattr(model, f"{side}_ids"))
        assert np.count_nonzero(~old) == len(ids) - len(getattr(model, f"{side}_ids")) == 2
        assert not getattr(found, f"{side}_factors")[~old].any()
        np.testing.assert_array_equal(getattr(found, f"{side}_factors")[old], getattr(model, f"{side}_factors"))
        assert (getattr(found.samples, f"{side}_precisions")[:, ~old] == 1).all()
        assert fastmf.evaluate(found, rows) == fastmf.evaluate(model, rows)
        same, _ = widened(model, side, getattr(model, f"{side}_ids"))
        assert same is model


def test_dislikes_do_not_count_as_ratings_and_items_with_dislikes_alone_stay_cold(rows):
    ratings = 1.0 + np.digitize(rows[2], np.quantile(rows[2], [0.2, 0.4, 0.6, 0.8]))
    liking = {"solver": "implicit", "positive_from": 4.0, "negative_to": 2.0}
    more = [100, 103, 106, 100, 103], [1100, 1100, 1100, 1200, 1200], [5.0, 1.0, 3.0, 1.0, 2.0]
    everything = tuple(np.append(*pair) for pair in zip((*rows[:2], ratings), more, strict=True))
    model, refit = (fastmf.fit(each, 3, **liking) for each in ((*rows[:2], ratings), everything))
    found = model.fold_in_items(more)
    for name in ("user_counts", "item_counts"):
        np.testing.assert_array_equal(getattr(found, name), getattr(refit, name))
    assert found.rows == refit.rows | {"unknown_users": 0}
    assert found.rows["disliked_cold"] == model.rows["disliked_cold"] + 2
    place = found.item_ids.to_pylist().index(1200)
    assert found.known_items([1100, 1200]).tolist() == [place - 1, -1]
    assert found.item_factors[place - 1].any()
    assert not found.item_factors[place].any()
    assert 1200 not in set(found.recommend(n=99)["item_id"])
    without = model.fold_in_items(tuple(column[:1] for column in more))  # dislikes lower what is found
    assert (found.item_factors[place - 1] != without.item_factors[place - 1]).any()
