"""Models with side features: rows that are known by them alone, new ones, and what features contribute."""

import numpy as np
import pandas as pd
import pytest

import fastmf
from fastmf import DataError, Features, ParameterError, UnknownIdError

SOLVERS = [
    ("als", {"reg0": 0.5}),
    ("als-links", {"reg0": 0.5}),
    ("implicit", {}),
    ("gibbs", {"burn": 4, "samples": 16, "kept": 4}),
    ("gibbs", {"burn": 4, "samples": 16, "kept": 4, "links": True}),
]


@pytest.fixture(scope="module")
def rows(planted):
    users, items, ratings = planted(n=350)
    return users, items, np.abs(ratings)


@pytest.fixture(scope="module")
def items():
    """Features of the items 1000 to 1019, and of 1020 and 1021, which have no ratings."""
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"item": range(1000, 1022), "price": rng.random(22), "year": rng.integers(1990, 2000, 22)})
    return frame.assign(kind=rng.choice(["a", "b", "c"], 22))


@pytest.fixture(scope="module")
def users():
    rng = np.random.default_rng(2)
    return pd.DataFrame({"user": np.arange(30) * 3 + 100, "age": rng.random(30), "sex": rng.choice(["f", "m"], 30)})


@pytest.fixture(scope="module", params=SOLVERS, ids=["als", "als-links", "implicit", "gibbs", "gibbs links"])
def model(request, rows, items, users):
    solver, settings = request.param
    return fastmf.fit(rows, 3, solver, item_features=items, user_features=users, **settings)


def like(items, *row_ids):
    """The first items of the table under other ids."""
    return items.head(len(row_ids)).assign(item=row_ids)


def test_items_with_features_alone_are_predicted_listed_and_similar(model):
    pairs = model.predict([100, 100], [1020, 999])
    assert pairs.attrs == {"unknown_users": 0, "unknown_items": 1}
    with pytest.raises(UnknownIdError, match="1 of 2 pairs have an id without training ratings or features"):
        model.predict([100, 100], [1020, 999], on_unknown="raise")
    lists = model.recommend([100], 30, include_seen=True)
    assert {1020, 1021} < set(lists["item_id"])
    assert not {1020, 1021} & set(model.recommend([100], 30, include_seen=True, cold=False)["item_id"])
    assert model.recommend([100], 2, items=[1020, 5])["item_id"].tolist() == [1020]
    with pytest.raises(UnknownIdError, match="none of the 2 items"):
        model.recommend([100], 2, items=[1020, 5], cold=False)
    assert 1020 in set(model.similar_items([1000], 30, cold=True)["similar_item_id"])
    assert model.similar_items([1020], 3)["rank"].tolist() == [1, 2, 3]


def test_added_items_are_what_their_features_say(model, items):
    found = model.add_items(like(items, 1, 5000))
    assert len(found.item_ids) == 24
    twins = found.present_rows("item", [1, 5000])
    again = model.add_items(like(items.iloc[[20, 21]], 2, 3))  # the features of items without ratings
    same, cold = again.present_rows("item", [2, 3]), model.present_rows("item", [1020, 1021])
    np.testing.assert_allclose(again.item_factors[same], model.item_factors[cold], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(again.item_bias[same], model.item_bias[cold], rtol=1e-3, atol=1e-4)
    assert (found.item_counts[twins] == 0).all()
    old = found.known_items(model.item_ids.filter(model.item_counts > 0))
    np.testing.assert_array_equal(found.item_factors[old], model.item_factors[model.item_counts > 0])
    np.testing.assert_array_equal(found.user_factors, model.user_factors)
    more = model.add_users(pd.DataFrame({"user": [7], "age": [0.3], "sex": ["f"]}))
    assert np.isfinite(more.predict([7], [1000])["prediction"]).all()
    assert more.recommend([7], 3)["rank"].tolist() == [1, 2, 3]


def test_added_items_survive_a_file(model, items, tmp_path):
    found = model.add_items(like(items, 1))
    found.save(tmp_path / "m.fastmf")
    loaded = fastmf.load(tmp_path / "m.fastmf")
    assert loaded.content_hash == found.content_hash
    assert loaded.content_hash != model.content_hash
    assert loaded.add_items(like(items, 2)).content_hash == found.add_items(like(items, 2)).content_hash


def test_what_cannot_be_added_is_refused(model, items, rows):
    with pytest.raises(DataError, match="1 of 2 items are in the model already, the first 1000"):
        model.add_items(like(items, 1000, 1))
    with pytest.raises(DataError, match="'price', 'year'"):
        model.add_items(like(items, 1).drop(columns=["price", "year"]))
    with pytest.raises(DataError, match="cast them to one type"):
        model.add_items(like(items, "x"))
    with pytest.raises(ParameterError, match="fitted without item features: fit it with --item-features"):
        fastmf.fit(rows, 2).add_items(items)
    with pytest.raises(ParameterError, match="fitted without user features"):
        fastmf.fit(rows, 2).fold_in(rows, features=items)


@pytest.mark.filterwarnings("ignore:item features")
def test_rows_that_a_table_says_nothing_of_stay_unknown(model, items):
    blank = like(items, 1, 2).assign(price=None, year=None, kind=None).astype({"price": float, "year": float})
    with pytest.warns(UserWarning, match="says nothing of 2 of 2 items: they stay unknown"):
        grown = model.add_items(blank)
    assert (grown.present_rows("item", [1, 2]) == -1).all()


def test_folding_in_training_users_finds_their_rows(model, rows, users):
    if model.samples is not None:
        pytest.skip("users of a Bayesian model are means over sweeps")
    given = rows[:2] if model.implicit else rows
    found = model.fold_in(given, features=users)
    if model.implicit:  # its users are solved last, with what the features said an epoch before
        tolerance = {"rtol": 0, "atol": 0.02}
    else:
        assert found.present("user").all()
        tolerance = {"rtol": 0, "atol": 0.15}
    np.testing.assert_allclose(found.user_factors, model.user_factors, **tolerance)
    assert model.fold_in(given).content_hash == found.content_hash  # the model holds the features of these users
    strangers = (given[0] + 10_000, *given[1:])
    without = model.fold_in(strangers)
    assert np.abs(without.user_factors - found.user_factors).max() > (1e-6 if model.implicit else 1e-4)
    with pytest.warns(UserWarning, match="30 of 30 users in the table of features have no ratings here"):
        model.fold_in(strangers, features=users)


def test_new_items_are_folded_in_with_their_features(model, items):
    ratings = pd.DataFrame({"user": [100, 103, 106], "item": 5000, "rating": [5.0, 4.0, 5.0]})
    ratings = ratings.drop(columns="rating") if model.implicit else ratings
    with_features = model.fold_in_items(ratings, features=like(items, 5000, 5001))
    without = model.fold_in_items(ratings)
    rated, added = with_features.present_rows("item", [5000, 5001])
    assert (with_features.item_counts[rated], with_features.item_counts[added]) == (3, 0)
    expected = model.add_items(like(items, 5000, 5001))
    place = expected.present_rows("item", [5001])[0]
    np.testing.assert_allclose(with_features.item_factors[added], expected.item_factors[place], rtol=1e-5, atol=1e-6)
    assert without.present_rows("item", [5000, 5001]).tolist()[1] == -1
    other = without.item_factors[without.known_items([5000])[0]]
    assert np.abs(with_features.item_factors[rated] - other).max() > (1e-6 if model.implicit else 1e-4)


def test_features_contribute_to_scores(model, rows):
    if model.samples is not None:
        with pytest.raises(ParameterError, match="cannot explain"):
            model.explain(100, 1020, rows)
        return
    if model.implicit:
        found = model.explain(100, 1020)
        rest = found.attrs["rest"]
    else:
        found = model.explain(100, 1020, rows)
        rest = found.attrs["rest"]
    assert found.attrs["score"] == pytest.approx(rest + found["contribution"].sum())
    of_item, of_user = found.attrs["item_features"], found.attrs["user_features"]
    assert {name.split("=")[0] for name in of_item} == {"price", "year", "kind"}
    assert list(of_item.values()) == sorted(of_item.values(), key=abs, reverse=True)
    assert {name.split("=")[0] for name in of_user} == {"age", "sex"}


def test_an_item_without_ratings_is_explained_by_its_features_alone(rows, items):
    model = fastmf.fit(rows, 3, reg0=0.5, item_features=items)
    user = rows[0] == 100
    found = model.explain(100, 1020, tuple(column[user] for column in rows))
    folded = model.fold_in(tuple(column[user] for column in rows))
    expected = model.item_expected
    x = folded.user_factors[0]
    said = (
        sum(found.attrs["item_features"].values()) + x @ expected.intercept + expected.bias_intercept[0] * model.scale
    )
    assert found.attrs["score"] == pytest.approx(model.mean + folded.user_bias[0] + said, abs=1e-3)


def test_evaluation_tells_apart_what_is_known(model, rows):
    if model.implicit:
        return
    held_out = (np.array([100, 100, 100]), np.array([1000, 1020, 999]), np.array([3.0, 4.0, 5.0]))
    found = fastmf.evaluate(model, held_out)
    assert {name: group["pairs"] for name, group in found["by_item"].items()} == {
        "with ratings": 1,
        "with features alone": 1,
        "unknown": 1,
    }
    assert list(found["by_user"]) == ["with ratings"]
    assert found["unknown_items"] == 1
    assert np.isfinite(found["novelty"])
    assert "by_item" not in fastmf.evaluate(fastmf.fit(rows, 2), held_out)


def test_a_features_object_of_another_encoding_is_refused(model, items):
    other = Features.read(items[["item", "price"]], "item")
    with pytest.raises(DataError, match="another encoding"):
        model.add_items(other)
