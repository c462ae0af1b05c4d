"""Similar rows: the score by its definition, who may be listed, and neighbours that are known well enough."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

import fastmf
from fastmf.errors import ParameterError, UnknownIdError
from fastmf.model.similar import mean_row, nearest, similar_vectors


def with_items(build, factors, counts):
    """Return a model of these items and two users."""
    counts = np.asarray(counts, np.int32)
    n, k = factors.shape
    users = {"user_ids": pa_ids(2), "user_factors": np.ones((2, k), np.float32), "user_bias": np.zeros(2, np.float32)}
    items = {"item_ids": pa_ids(n), "item_factors": factors, "item_bias": np.zeros(n, np.float32)}
    return build(**users, **items, user_counts=np.ones(2, np.int32), item_counts=counts, seen=None)


def pa_ids(n):
    return fastmf.Ratings.from_arrays(np.arange(n), np.zeros(n, int), np.ones(n)).user_ids


def scores_of(factors, counts):
    """All scores, (n, n), by the definition: one row and one number after another."""
    factors, n, total = factors.astype(np.float64), len(factors), sum(counts)
    mean = sum(count * row for count, row in zip(counts, factors, strict=True)) / total
    scores = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            one, two = factors[i] - mean, factors[j] - mean
            lengths = np.sqrt(one @ one) * np.sqrt(two @ two)
            weights = np.sqrt(counts[i] / (counts[i] + 20)) * np.sqrt(counts[j] / (counts[j] + 20))
            scores[i, j] = weights * (one @ two) / lengths if counts[i] and counts[j] else 0
    return scores


@pytest.mark.parametrize(("n", "scale"), [(1, 1.0), (4, 1e-25), (4, 1e25), (4, 5e37), (30, 1.0)])
def test_lists_are_in_the_order_of_all_scores(build, n, scale):
    rng = np.random.default_rng(0)
    factors = (rng.standard_normal((20, 3)) * scale).astype(np.float32)
    factors[[4, 11]] = 0
    counts = rng.integers(1, 60, 20)
    counts[[2, 5]] = 0
    wanted = np.array([0, 19, 0, 4, 2])
    found, scores = nearest(similar_vectors(with_items(build, factors, counts), "item"), counts > 0, wanted, n)
    assert found.shape == scores.shape == (5, min(n, 20))
    exact = scores_of(factors, counts.tolist())
    for line, row in enumerate(wanted):
        others = [i for i in range(20) if i != row and counts[i]]
        taken = found[line][found[line] >= 0]
        assert len(taken) == len(set(taken)) == min(n, len(others))
        assert set(taken) <= set(others)
        np.testing.assert_allclose(scores[line, : len(taken)], exact[row, taken], atol=1e-6)
        expected = sorted(others, key=lambda i: -exact[row, i])[:n]
        np.testing.assert_allclose(exact[row, taken], exact[row, expected], atol=1e-6)
        assert np.all(scores[line, len(taken) :] == -np.inf)


def test_rows_that_equal_the_mean_row_are_like_no_other(build):
    factors = np.tile(np.float32([[0.1, 0.7, -0.3]]), (5, 1)) * np.float32(3e37)  # their mean is not exactly theirs
    for counts in ([1, 2, 3, 4, 5], [7, 0, 0, 0, 0], [0, 0, 0, 0, 0]):
        vectors = similar_vectors(with_items(build, factors, counts), "item")
        assert not vectors[np.array(counts) > 0].any()
    zeros = with_items(build, np.zeros((5, 3), np.float32), [1, 2, 3, 4, 5]).similar_items(0)
    assert zeros["score"].tolist() == [0] * 4
    assert zeros["similar_item_id"].tolist() == [1, 2, 3, 4]


def test_scores_never_leave_their_range(build):
    factors = np.repeat(np.random.default_rng(0).standard_normal((40, 5)), 3, axis=0).astype(np.float32)
    model = with_items(build, factors, np.full(120, 2**31 - 1))
    scores = model.similar_items(model.item_ids, 119)["score"]
    assert scores.max() <= 1
    assert scores.min() >= -1
    assert np.count_nonzero(scores > 1 - 1e-6) == 240


def test_a_vector_added_to_all_factors_changes_nothing(build):
    rng = np.random.default_rng(0)
    factors, counts = rng.standard_normal((30, 4)).astype(np.float32), rng.integers(0, 9, 30)
    plain, shifted = (similar_vectors(with_items(build, each, counts), "item") for each in (factors, factors + 5))
    np.testing.assert_allclose(plain, shifted, atol=1e-5)


def test_of_rows_in_one_direction_the_most_rated_come_first(build):
    rng = np.random.default_rng(0)
    factors = np.concatenate([np.ones((4, 3)), rng.standard_normal((20, 3))]).astype(np.float32)
    model = with_items(build, factors, [5, 1, 80, 9, *[6] * 20])
    found = model.similar_items(0, items=[1, 2, 3])
    assert found["similar_item_id"].tolist() == [2, 3, 1]
    assert found["count"].tolist() == [80, 9, 1]


def test_the_mean_row_is_that_of_all_ratings():
    rng = np.random.default_rng(0)
    factors, counts = rng.standard_normal((40_000, 3)).astype(np.float32), rng.integers(0, 5, 40_000).astype(np.int32)
    np.testing.assert_allclose(mean_row(factors, counts), np.average(factors, axis=0, weights=counts), atol=1e-9)


def test_threads_do_not_change_a_bit(planted, monkeypatch):
    model = fastmf.fit(planted(n_users=300, n_items=300, n=1000), k=8)
    lists = []
    for threads in (1, 2):
        monkeypatch.setattr("fastmf.runtime.device.max_threads", lambda threads=threads: threads)
        lists.append(model.similar_items(model.item_ids, 20))
    pd.testing.assert_frame_equal(*lists, check_exact=True)


@pytest.mark.parametrize("solver", ["als", "sgd"])
def test_noise_about_rare_items_does_not_hide_the_known_ones(solver, planted):
    users, items, ratings = planted(n_users=60, n_items=25, n=800, rank=2, noise=0.5)
    rng = np.random.default_rng(0)  # beside these, 150 items of one rating each
    rare = rng.integers(0, 60, 150) * 3 + 100, np.arange(2000, 2150), 3 + rng.standard_normal(150)
    rows = tuple(np.concatenate(pair) for pair in zip((users, items, ratings), rare, strict=True))
    model = fastmf.fit(rows, k=4, solver=solver)
    known = np.arange(1000, 1025)
    cosines = unit(model.item_factors) @ unit(model.item_factors).T
    rows = np.searchsorted(np.array(model.item_ids), known)
    np.fill_diagonal(cosines, -2)
    nearest_by_cosine = np.argsort(-cosines[rows], axis=1)[:, :5]
    assert np.mean(np.array(model.item_counts)[nearest_by_cosine] == 1) > 0.3
    assert (model.similar_items(known, 5)["count"] > 1).mean() > 0.9


def unit(factors):
    return factors / np.linalg.norm(factors, axis=1, keepdims=True)


@pytest.mark.parametrize("side", ["item", "user"])
def test_frames_hold_the_nearest_rows_with_their_ids_and_counts(model, side):
    counts, raw = getattr(model, f"{side}_counts"), getattr(model, f"{side}_ids").to_pylist()
    wanted = np.array([0, 4, 2, 0, raw.index({"user": "cold", "item": 7}[side])])
    ask = model.similar_items if side == "item" else model.similar_users
    frame = ask([raw[row] for row in wanted], 100)
    found, scores = nearest(similar_vectors(model, side), counts > 0, wanted, 100)
    expected = [
        (raw[row], raw[other], score, rank + 1, counts[other])
        for row, others, line in zip(wanted, found, scores, strict=True)
        for rank, (other, score) in enumerate(zip(others, line, strict=True))
        if other >= 0
    ]
    assert frame.columns.tolist() == [f"{side}_id", f"similar_{side}_id", "score", "rank", "count"]
    assert list(frame.itertuples(index=False, name=None)) == expected
    assert [str(kind) for kind in frame.dtypes[2:]] == ["float32", "int32", "int32"]
    assert len(frame) == sum(np.count_nonzero(counts) - (counts[row] > 0) for row in wanted)
    assert frame.attrs == {f"unknown_{side}s": 0}


@pytest.mark.parametrize("side", ["item", "user"])
def test_only_candidates_with_enough_ratings_are_listed_in_the_same_order(model, side):
    ask = model.similar_items if side == "item" else model.similar_users
    row_ids, counts = np.array(getattr(model, f"{side}_ids"), object), getattr(model, f"{side}_counts")
    whole = ask(row_ids[0], 100)
    for least in (0, 1, 2, int(counts.max()), 100):
        kept = whole[whole["count"] >= least]
        found = ask(row_ids[0], 100, min_count=least)
        assert found[f"similar_{side}_id"].tolist() == kept[f"similar_{side}_id"].tolist()
        assert found["rank"].tolist() == list(range(1, len(kept) + 1))
    chosen = [*row_ids[[5, 1]].tolist(), {"item": 99, "user": "zoe"}[side]]
    found = ask(row_ids[0], 100, **{f"{side}s": chosen})
    assert found[f"similar_{side}_id"].tolist() == [each for each in whole[f"similar_{side}_id"] if each in chosen]
    assert len(found) == 2
    assert found.attrs == {f"unknown_{side}s": 1}
    assert ask(row_ids[0], 1, **{f"{side}s": chosen})["rank"].tolist() == [1]


def test_candidates_that_cannot_be_listed_are_refused(model):
    with pytest.raises(UnknownIdError, match="the model knows none of the 2 items to choose from: give others"):
        model.similar_items(0, items=[99, 7])
    with pytest.raises(UnknownIdError, match="the model knows none of the 1 users to choose from"):
        model.similar_users("ann", users="zoe")
    for least in (-1, 2.5, True):
        with pytest.raises(ParameterError, match=f"min_count is {least}"):
            model.similar_items(0, min_count=least)
    with pytest.raises(ParameterError, match="cold is 'yes'"):
        model.similar_items(0, cold="yes")


@pytest.fixture(scope="module")
def featured(planted):
    """A model whose items 1000 to 1019 are rated; 1020 and 1021 have the features of 1000 and 1001."""
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"item": range(1000, 1022), "price": rng.random(22), "kind": rng.choice(["a", "b"], 22)})
    frame.loc[20:, ["price", "kind"]] = frame.loc[:1, ["price", "kind"]].to_numpy()
    return fastmf.fit(planted(n=350), 3, "als", item_features=frame, reg0=0.5)


def test_rows_known_by_features_alone_are_listed_if_asked_for(featured):
    assert not featured.similar_items(1000, 30)["similar_item_id"].isin([1020, 1021]).any()
    found = featured.similar_items(1000, 30, cold=True).set_index("similar_item_id")
    assert found.loc[[1020, 1021], "count"].tolist() == [0, 0]
    assert (found["score"] != 0).all()
    assert featured.similar_items(1000, 30, cold=True, min_count=1).equals(featured.similar_items(1000, 30))
    with pytest.raises(UnknownIdError, match=r"has training ratings: give --cold \(cold=True\), or give others"):
        featured.similar_items(1000, items=[1020, 5])
    found = featured.similar_items(1000, items=[1020, 5], cold=True)
    assert found["similar_item_id"].tolist() == [1020]
    assert found.attrs == {"unknown_items": 1}
    assert len(featured.similar_items(1020, 3)) == 3  # it can be asked for


def test_features_count_as_five_ratings(featured):
    lengths = np.linalg.norm(similar_vectors(featured, "item"), axis=1)
    evidence = featured.item_counts + 5.0
    np.testing.assert_allclose(lengths, np.sqrt(evidence / (evidence + 20)), rtol=1e-6)
    bare = dataclasses.replace(featured, item_features=None, item_expected=None)
    warm = similar_vectors(bare, "item")[featured.item_counts > 0]
    counts = featured.item_counts[featured.item_counts > 0]
    np.testing.assert_allclose(np.linalg.norm(warm, axis=1), np.sqrt(counts / (counts + 20)), rtol=1e-6)


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
