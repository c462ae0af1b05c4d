"""The order of lists by what users choose: its equations, what grows with a model, and its file."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

import fastmf
from fastmf.data.standardise import standardised
from fastmf.errors import ModelFormatError, ParameterError
from fastmf.kernels.types import Compressed
from fastmf.model.choice import chosen, rule_of, solved
from fastmf.runtime.device import resolve, unavailable
from fastmf.solvers import SOLVERS

RATING_SOLVERS = [name for name, kind in SOLVERS.items() if not kind.implicit]
K = 3
ON_GPU = pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(bool(unavailable("cuda")), reason="no GPU")])
DEVICES = ["numpy", "cpu", ON_GPU]


def compressed(rows):
    """Group (column, value) entries, given as a list for each row."""
    indptr = np.cumsum([0, *map(len, rows)])
    columns, values = zip(*[entry for row in rows for entry in row], strict=True)
    return Compressed(indptr, np.array(columns, np.int32), np.array(values, np.float32))


def solved_exactly(entries, others, reg, reg0, all_pairs):
    """Solve the normal equations of each row of chosen pairs."""
    found = np.zeros((len(entries.indptr) - 1, others.shape[1]))
    for row in range(len(found)):
        part = slice(entries.indptr[row], entries.indptr[row + 1])
        y = others[entries.indices[part]].astype(np.float64)
        g = np.ones(len(y)) if entries.weights is None else entries.weights[part].astype(np.float64)
        if len(y):
            normal = (g * y.T) @ y + all_pairs * others.T @ others + (reg * g.sum() + reg0) * np.eye(len(y.T))
            found[row] = np.linalg.solve(normal, g @ y)
    return found


@pytest.fixture(scope="module")
def rows(planted):
    users, items, ratings = planted()
    return users, items, ratings + 10


@pytest.fixture(scope="module", params=RATING_SOLVERS)
def model(request, rows):
    return fastmf.fit(rows, k=K, solver=request.param)


def test_chosen_are_ratings_of_at_least_the_mean_or_all_of_a_user_without_such():
    entries = compressed([[(0, -1), (2, 0.5), (3, 0)], [], [(1, -2), (4, -0.1)]])
    of_users, of_items = (chosen(entries, side) for side in ("user", "item"))
    assert of_users.indptr.tolist() == [0, 2, 2, 4]
    assert of_users.indices.tolist() == [2, 3, 1, 4]
    assert of_items.indptr.tolist() == [0, 2, 2, 2]
    assert of_users.values.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("device", DEVICES)
def test_vectors_solve_their_normal_equations(device, weighed):
    rng = np.random.default_rng(3)
    entries = compressed([[(0, 1), (2, 1)], [], [(1, 1), (2, 1), (4, 1)]])
    if weighed:
        entries = entries._replace(weights=rng.uniform(0.1, 4, 5).astype(np.float32))
    others, numbers = rng.standard_normal((5, K)).astype(np.float32), (0.1, 3.0, 0.25)
    found = solved(entries, others, rule_of(np.array(numbers, np.float32)), resolve(device))
    np.testing.assert_allclose(found, solved_exactly(entries, others, *numbers), rtol=1e-5, atol=1e-6)
    pull = rng.standard_normal((3, K)).astype(np.float32)
    pulled = solved(entries, others, rule_of(np.array(numbers, np.float32)), resolve(device), pull)
    np.testing.assert_array_equal(pulled[1], pull[1])
    assert np.linalg.norm(pulled - pull) < np.linalg.norm(found - pull)


def test_lists_are_ranked_by_choice_and_predictions_stand_beside(model):
    lists = model.recommend(n=4)
    users, items = (
        dict(zip(row_ids.to_pylist(), vectors, strict=True))
        for row_ids, vectors in zip((model.user_ids, model.item_ids), model.choice[:2], strict=True)
    )
    scores = [users[u] @ items[i] for u, i in zip(lists["user_id"], lists["item_id"], strict=True)]
    np.testing.assert_allclose(lists["score"], scores, rtol=1e-4, atol=1e-6)
    predictions = model.predict(lists["user_id"], lists["item_id"])["prediction"]
    np.testing.assert_array_equal(lists["prediction"], predictions)
    assert lists.columns.tolist() == ["user_id", "item_id", "score", "rank", "prediction"]
    assert lists.equals(model.recommend(n=4, rank_by="choice"))
    assert "prediction" not in model.recommend(n=4, rank_by="rating")
    assert lists.attrs["score"].startswith("how likely")


def test_one_list_is_the_same_as_an_array(model):
    for way in (None, "choice", "rating"):
        frame = model.recommend(103, 5, rank_by=way)
        items, scores = model.top(103, 5, rank_by=way)
        assert items.tolist() == frame["item_id"].tolist()
        np.testing.assert_allclose(scores, frame["score"], rtol=1e-5)


def test_without_what_users_choose_lists_are_by_rating(model, rows):
    without = dataclasses.replace(model, choice=None)
    pd.testing.assert_frame_equal(without.recommend(n=3), model.recommend(n=3, rank_by="rating"))
    assert "has not learned what users choose" in without.recommend(n=1).attrs["score"]
    for call in (without.recommend, without.vectors, lambda **how: without.top(103, **how)):
        with pytest.raises(
            ParameterError, match="has not learned what users choose: fit it again, without --no-choice"
        ):
            call(rank_by="choice")
    assert fastmf.fit(rows, k=K, choice=False, epochs=1).choice is None
    assert fastmf.fit(rows[:2], k=K, solver="implicit").choice is None
    with pytest.raises(ParameterError, match="choice is 1"):
        fastmf.fit(rows, k=K, choice=1)


def test_the_vectors_come_back_from_a_file_and_are_checked(model, tmp_path):
    model.save(tmp_path / "a")
    for mmap in (False, True):
        again = fastmf.load(tmp_path / "a", mmap=mmap)
        pd.testing.assert_frame_equal(again.recommend(n=4), model.recommend(n=4))
    assert again.content_hash == model.content_hash != dataclasses.replace(model, choice=None).content_hash
    for numbers in ([0.1, 0, 0.2], [-1, 3, 0.2], [0.1, 3, 1e20]):
        damaged = dataclasses.replace(model, choice=model.choice._replace(numbers=np.array(numbers, np.float32)))
        with pytest.raises(fastmf.DataError, match="choice_numbers"):
            damaged.save(tmp_path / "b")
    dataclasses.replace(model, choice=None).save(tmp_path / "old")
    old = fastmf.load(tmp_path / "old")
    assert old.choice is None
    pd.testing.assert_frame_equal(old.recommend(n=4), model.recommend(n=4, rank_by="rating"))


def test_users_folded_in_from_their_ratings_are_as_they_were(model, rows):
    folded = model.fold_in(rows)
    np.testing.assert_allclose(folded.choice.users, model.choice.users, rtol=1e-4, atol=1e-5)
    assert folded.choice.items is model.choice.items
    pd.testing.assert_frame_equal(folded.recommend(n=4), model.recommend(n=4), check_exact=False, rtol=1e-2)


def test_new_items_get_their_vectors_from_their_users(model, rows):
    users = np.unique(rows[0])[:6]
    values = np.array([30, 30, 30, 30, -20, -20.0])
    grown = model.fold_in_items((users, np.full(6, 5000), values))
    place = grown.item_ids.to_pylist().index(5000)
    good = compressed([[(0, 1), (1, 1), (2, 1), (3, 1)]])
    expected = solved_exactly(good, grown.choice.users, *map(float, model.choice.numbers))[0]
    np.testing.assert_allclose(grown.choice.items[place], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(np.delete(grown.choice.items, place, axis=0), model.choice.items)


def test_an_update_solves_the_rows_with_new_ratings(model, rows):
    new = np.array([100, 100, 7777]), np.array([1000, 5000, 1000]), np.array([30.0, 30, 30])
    grown = model.update(new, rows)
    assert grown.choice.users[grown.user_ids.to_pylist().index(7777)].any()
    assert grown.choice.items[grown.item_ids.to_pylist().index(5000)].any()
    assert len(grown.recommend(7777, 3)) == 3
    known = model.user_ids.to_pylist().index(130), grown.user_ids.to_pylist().index(130)
    np.testing.assert_array_equal(grown.choice.users[known[1]], model.choice.users[known[0]])


def test_rows_known_by_their_features_alone_are_ranked_by_what_those_say(tmp_path):
    rng = np.random.default_rng(0)
    same = np.arange(200)[:, None] % 2 == np.arange(60) % 2
    users, items = np.nonzero(rng.random((200, 60)) < np.where(same, 0.3, 0.02))
    rows = users, items, rng.integers(1, 6, len(users)).astype(float)
    kinds = pd.DataFrame({"item": np.arange(64), "kind": np.where(np.arange(64) % 2, "odd", "even")})
    homes = pd.DataFrame({"user": np.arange(202), "home": np.where(np.arange(202) % 2, "here", "there")})
    fastmf.fit(rows, k=K, item_features=kinds, user_features=homes).save(tmp_path / "a")
    for mmap in (False, True):
        model = fastmf.load(tmp_path / "a", mmap=mmap)
        for user in (200, 201):  # no ratings: their homes tell
            assert (model.recommend(user, 10)["item_id"] % 2 == user % 2).all()
        new = model.recommend([4, 5], 2, items=[60, 61, 62, 63], include_seen=True)
        assert (new["item_id"] % 2 == new["user_id"] % 2).all()
        assert model.recommend(4, 2, items=[1, 3, 60], cold=False)["item_id"].isin([1, 3]).all()
    more = model.add_items(pd.DataFrame({"item": [90, 91], "kind": ["even", "odd"]}))
    same_kind = more.choice.items[more.item_ids.to_pylist().index(90)], more.choice.items[60]
    np.testing.assert_allclose(*same_kind, rtol=1e-5)
    folded = model.fold_in(([500], [60], [5.0]), features=pd.DataFrame({"user": [500], "home": ["there"]}))
    assert (folded.recommend(500, 5)["item_id"] % 2 == 0).all()
    again = model.fold_in(rows)  # pulls have moved since the users were solved for
    assert np.corrcoef(again.choice.users.ravel(), model.choice.users[:200].ravel())[0, 1] > 0.9


@pytest.mark.parametrize("solver", ["als", "implicit"])
def test_users_of_whom_features_say_nothing_get_about_what_is_popular(solver):
    rng = np.random.default_rng(4)
    popular = 0.5 / (1 + np.arange(60) / 6)
    users, items = np.nonzero(rng.random((300, 60)) < popular)
    rows = users, items, rng.integers(1, 6, len(users)).astype(float)
    noise = pd.DataFrame({"user": np.arange(330), "noise": rng.standard_normal(330)})
    model = fastmf.fit(rows, k=4, solver=solver, user_features=noise)
    most = set(np.argsort(-model.item_counts)[:15])
    lists = model.recommend(np.arange(300, 330), 10)
    assert lists["item_id"].isin(most).mean() > 0.8
    for user in (300, 329):
        assert model.top(user, 10)[0].tolist() == lists[lists["user_id"] == user]["item_id"].tolist()


def test_keeping_no_seen_items_changes_no_order(rows):
    kept, not_kept = (fastmf.fit(rows, k=K, keep_seen=keep) for keep in (True, False))
    everything = kept.recommend(n=5, include_seen=True)
    pd.testing.assert_frame_equal(not_kept.recommend(n=5, include_seen=True), everything)
    assert not_kept.choice.users.shape == kept.choice.users.shape


def test_values_are_the_standardised_ones(rows):
    model = fastmf.fit(rows, k=K, epochs=1)
    good = standardised(rows[2].astype(np.float32), model.mean, model.scale) >= 0
    items, at = np.unique(rows[1], return_inverse=True)
    unliked = np.setdiff1d(items, items[at[good]])
    assert not model.choice.items[np.searchsorted(items, unliked)].any()


def test_a_damaged_group_is_refused(model, tmp_path):
    model.save(tmp_path / "a")
    data = bytearray((tmp_path / "a").read_bytes())
    at = data.find(np.ascontiguousarray(model.choice.users[1]).tobytes())
    data[at] ^= 1
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(ModelFormatError):
        fastmf.load(tmp_path / "a")
