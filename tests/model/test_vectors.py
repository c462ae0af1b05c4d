"""Vectors for an index: an exact search among them gives the lists of recommend, similar_items and similar_users."""

import numpy as np
import pandas as pd
import pytest

import fastmf
from fastmf.errors import ParameterError
from fastmf.solvers import SOLVERS


def search(stored, asked, n):
    """Return the n best rows of ``stored`` for each row of ``asked``, and their inner products, exactly."""
    scores = asked.astype(np.float64) @ stored.astype(np.float64).T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :n]
    return order, np.take_along_axis(scores, order, axis=1)


@pytest.fixture(scope="module")
def features():
    items = np.arange(1000, 1025)  # five of them have no ratings
    return pd.DataFrame({"item": items, "size": np.sin(items), "kind": np.array(["a", "b"])[items % 2]})


@pytest.fixture(scope="module", params=[*SOLVERS, "features", "no biases"])
def model(request, planted, features):
    solver = request.param if request.param in SOLVERS else "als"
    settings = {"solver": solver} | ({"reg0": 0.1} if "reg0" in SOLVERS[solver]().settings else {})  # factors of rank 3
    settings |= {"features": {"item_features": features}, "no biases": {"biases": False}}.get(request.param, {})
    users, items, values = planted()
    return fastmf.fit((users, items, values + 10), k=3, **settings)


def test_an_exact_index_ranks_as_recommend_does(model):
    vectors = model.vectors(rank_by="rating")
    assert vectors.users.dtype == vectors.items.dtype == np.float32
    assert vectors.users.shape[1] == vectors.items.shape[1] == model.k + bool(model.item_bias.any())
    rows, scores = search(vectors.items, vectors.users, 10)
    found = model.recommend(vectors.user_ids, 10, rank_by="rating", include_seen=True)
    item_ids = np.array(vectors.item_ids.to_pylist())
    np.testing.assert_array_equal(item_ids[rows].ravel(), found["item_id"])
    shift = np.repeat(model.mean + model.user_bias[model.present("user")], 10)
    np.testing.assert_allclose(scores.ravel() + shift, found["score"], rtol=1e-4, atol=1e-5)


def test_an_exact_index_ranks_by_choice_if_the_model_has_learned_it(model):
    if model.choice is None:
        pytest.skip("a model of implicit feedback")
    vectors = model.vectors()
    assert vectors.users.shape[1] == vectors.items.shape[1] == model.k
    _, scores = search(vectors.items, vectors.users, 10)
    found = model.recommend(vectors.user_ids, 10, include_seen=True)
    np.testing.assert_allclose(scores.ravel(), found["score"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", ["item", "user"])
def test_an_exact_index_ranks_as_similar_does(model, side):
    vectors = model.vectors("similar")
    own, own_ids = getattr(vectors, f"{side}s"), getattr(vectors, f"{side}_ids")
    assert own.dtype == np.float32
    assert own.shape == (len(own_ids), model.k)
    rows, scores = search(own, own, len(own))
    others = rows != np.arange(len(own))[:, None]  # all but itself, which is not always the first
    rows, scores = (each[others].reshape(len(own), -1)[:, :5] for each in (rows, scores))
    found = getattr(model, f"similar_{side}s")(own_ids, 5, cold=True)
    np.testing.assert_array_equal(np.array(own_ids.to_pylist())[rows].ravel(), found[f"similar_{side}_id"])
    np.testing.assert_allclose(scores.ravel(), found["score"], atol=1e-6)


def test_only_rows_of_which_something_is_known_are_there(build, planted, features):
    hand_made = build().vectors()
    assert "cold" not in hand_made.user_ids.to_pylist()
    assert 7 not in hand_made.item_ids.to_pylist()
    with_features = fastmf.fit(planted(), k=3, item_features=features).vectors()
    assert with_features.item_ids.to_pylist() == features["item"].tolist()


def test_large_factors_and_the_mean_row_have_vectors(build):
    factors = np.zeros((8, 3), np.float32)
    factors[0], factors[1] = 1e25, -1e25  # their squares overflow
    vectors = build(item_factors=factors, item_counts=np.full(8, 5, np.int32)).vectors("similar")
    expected = np.outer([1, -1, 0, 0, 0, 0, 0, 0], np.full(3, 3**-0.5)) * np.sqrt(5 / 25)
    np.testing.assert_allclose(vectors.items, expected, rtol=1e-6)


def test_a_blend_is_folded_in(planted):
    model = fastmf.fit(planted(n=400), k=3, blend=True)
    blended = fastmf.Model(**{**vars(model), "blend": 2.0})
    vectors = blended.vectors(rank_by="blend")
    rows, _ = search(vectors.items, vectors.users, 10)
    found = blended.recommend(n=10, rank_by="blend", include_seen=True)
    np.testing.assert_array_equal(np.array(vectors.item_ids.to_pylist())[rows].ravel(), found["item_id"])
    assert found["item_id"].tolist() != blended.recommend(n=10, include_seen=True)["item_id"].tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "cosine"}, "kind is 'cosine': choose recommend or similar"),
        ({"rank_by": "popularity"}, "rank_by is 'popularity'"),
        ({"rank_by": "blend"}, "has not learned what popularity is worth"),
    ],
)
def test_what_there_is_not_is_refused(build, arguments, message):
    with pytest.raises(ParameterError, match=message):
        build().vectors(**arguments)
    with pytest.raises(ParameterError, match="kind='similar' is for neighbours"):
        build(blend=0.5).vectors("similar", rank_by="blend")
