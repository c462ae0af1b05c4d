"""Lists: the candidates, the items left out, lengths, what ranks them, and how many come at a time."""

import dataclasses
import json
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from click.testing import CliRunner

import fastmf
from fastmf import ImplicitALS, ParameterError, Ratings, UnknownIdError
from fastmf.cli import cli
from fastmf.errors import DataError
from fastmf.model import recommend
from fastmf.model.recommend import Ranker
from fastmf.training.blend import learn_blend


@pytest.fixture(scope="module")
def rows(planted):
    return planted(40, 30, 500)


@pytest.fixture(scope="module")
def fitted(rows):
    return fastmf.fit(rows, k=3, epochs=4, blend=True)


def seen_by(model, user):
    indptr, indices = model.seen
    return set(indices[indptr[user] : indptr[user + 1]].tolist())


def expected_lists(model, users, n, out=lambda user, item: False):
    """Rank by sorting all items; ``out`` tells which are left out."""
    user_ids, item_ids, lines = model.user_ids.to_pylist(), model.item_ids.to_pylist(), []
    for user in users:
        every = model.mean + model.user_bias[user] + model.item_bias + model.item_factors @ model.user_factors[user]
        left = [i for i in range(len(item_ids)) if model.item_counts[i] and not out(user, i)]
        best = sorted(left, key=lambda i: (-every[i], i))[:n]
        lines += [(user_ids[user], item_ids[i], float(every[i]), rank + 1) for rank, i in enumerate(best)]
    return lines


def lines_of(frame):
    assert frame.columns.tolist() == ["user_id", "item_id", "score", "rank"]
    assert frame["score"].dtype == np.float32
    assert frame.index.tolist() == list(range(len(frame)))
    return list(frame.itertuples(index=False, name=None))


# which items


@pytest.mark.parametrize("n", [1, 3, 100])
def test_recommendations_are_the_order_of_all_unseen_items(model, n):
    user_ids = model.user_ids.to_pylist()
    for users in ([4], [1, 5, 1, 1], list(range(len(user_ids)))):
        expected = expected_lists(model, users, n, out=lambda user, item: item in seen_by(model, user))
        assert lines_of(model.recommend([user_ids[u] for u in users], n)) == expected
    assert lines_of(model.recommend(n=n)) == expected
    assert lines_of(model.recommend("dan", n)) == lines_of(model.recommend(["dan"], n))
    assert lines_of(model.recommend(n=n, include_seen=True)) == expected_lists(model, users, n)


def test_lists_have_ties_and_scores_beyond_the_rating_range(model):
    frame = model.recommend(n=100, include_seen=True)
    pd.testing.assert_frame_equal(model.recommend(n=2**63, include_seen=True), frame)
    assert frame["score"].max() > 5
    assert frame["score"].min() < 1
    assert frame.duplicated(["user_id", "score"]).any()


def test_who_has_rated_everything_gets_no_list_and_who_nothing_all_warm_items(model):
    assert model.recommend("").empty
    assert sorted(model.recommend("cold", 100)["item_id"]) == sorted(set(model.item_ids.to_pylist()) - {7})
    assert model.recommend([]).empty


EXCLUDED = {
    "arrays": (["ann", "eve", "zoe", "ann"], [0, 3, 3, 12345]),
    "pandas": pd.DataFrame({"user": ["ann", "ann", "eve"], "item": [0, 0, 3], "more": [[], {}, None]}),
    "Arrow": pa.table({"movieId": pa.array([3, 0], pa.int8()), "userId": ["eve", "ann"]}),
    "Ratings": Ratings.from_arrays(["zoe", "eve", "ann", "ann"], [0, 3, 12345, 0], [1.0, 2.0, 3.0, 4.0]),
}


@pytest.mark.parametrize("exclude", EXCLUDED.values(), ids=EXCLUDED)
def test_excluded_pairs_are_left_out_beside_seen_ones(model, exclude):
    user_ids, item_ids = model.user_ids.to_pylist(), model.item_ids.to_pylist()
    excluded = {("ann", 0), ("eve", 3)}
    for include_seen in (True, False):

        def out(user, item, include_seen=include_seen):
            pair = user_ids[user], item_ids[item]
            return pair in excluded or (not include_seen and item in seen_by(model, user))

        users = [1, 5, 1, 2, 6]
        frame = model.recommend([user_ids[u] for u in users], 100, exclude=exclude, include_seen=include_seen)
        assert lines_of(frame) == expected_lists(model, users, 100, out)


def test_excluded_pairs_are_read_from_parquet_too(model, tmp_path):
    best = model.recommend(n=1)
    best.to_parquet(tmp_path / "best.parquet")
    again = model.recommend(n=1, exclude=tmp_path / "best.parquet")
    pairs = [set(zip(frame["user_id"], frame["item_id"], strict=True)) for frame in (best, again)]
    assert not pairs[0] & pairs[1]
    with pytest.raises(DataError, match="no column for the items"):
        model.recommend(exclude=best[["user_id"]])


def test_only_candidates_come_in_the_same_order(fitted):
    items = [1003, 1007, 1011, 5, 1015]
    found, everything = fitted.recommend(n=30, items=items), fitted.recommend(n=30)
    left = everything[everything["item_id"].isin(items)]
    assert found[["user_id", "item_id", "score"]].equals(left[["user_id", "item_id", "score"]].reset_index(drop=True))
    assert found.attrs["unknown_items"] == 1
    with pytest.raises(UnknownIdError, match="knows none of the 2 items to choose from"):
        fitted.recommend(items=[5, 6])


def test_cold_items_are_no_candidates(model):
    found = model.recommend("cold", 9, items=[7, 3, 0])
    assert sorted(found["item_id"]) == [0, 3]
    assert found.attrs["unknown_items"] == 1


def test_bad_users_and_lengths_are_refused(model):
    with pytest.raises(ParameterError, match="n is 0: give an integer of at least 1"):
        model.recommend("ann", 0)
    with pytest.raises(UnknownIdError, match=r"2 of 3 user ids are not in the model, the first 'x': .*folded in"):
        model.recommend(["x", "ann", "y"])
    with pytest.raises(UnknownIdError, match=r"1 of 1 user ids .* the first 'zoe'"):
        model.recommend("zoe")
    with pytest.raises(DataError, match="user ids of type int64"):
        model.recommend(5)


# how many


def ranked(frame):
    return list(zip(frame["user_id"], frame["item_id"], frame["rank"], strict=True))


def test_every_user_may_have_a_length(fitted):
    found = fitted.recommend([100, 103, 106], n=[1, 4, 2])
    assert found.groupby("user_id").size().to_dict() == {100: 1, 103: 4, 106: 2}
    assert ranked(found[found["user_id"] == 103]) == ranked(fitted.recommend(103, n=4))
    with pytest.raises(ParameterError, match="2 lengths for 3 users"):
        fitted.recommend([100, 103, 106], n=[1, 2])
    for n in (0, [1, 0, 2], 2.5, [1.0, 2.0, 3.0], True, "3"):
        with pytest.raises(ParameterError, match="give an integer of at least 1, or one for each user"):
            fitted.recommend([100, 103, 106], n=n)


def test_one_long_list_does_not_lengthen_the_others(fitted, monkeypatch):
    widths, top = [], Ranker.top

    def watched(self, users, n):
        widths.append((len(users), n))
        return top(self, users, n)

    monkeypatch.setattr(Ranker, "top", watched)
    lengths = [1, 10**9, 2, 1, 5]
    found = fitted.recommend([106, 100, 103, 109, 112], n=lengths)
    assert widths == [(2, 1), (1, 2), (1, 5), (1, len(fitted.item_ids))]
    assert found["user_id"].drop_duplicates().tolist() == [106, 100, 103, 109, 112]
    for user, n in zip([106, 100, 103, 109, 112], lengths, strict=True):
        assert ranked(found[found["user_id"] == user]) == ranked(fitted.recommend(user, n=n))


@pytest.mark.parametrize(
    ("limit", "most", "sizes"), [("USERS_PER_BATCH", 7, [7] * 5 + [5]), ("ROWS_PER_BATCH", 60, [14, 15, 11])]
)
def test_batches_are_limited_and_together_the_whole_frame(fitted, monkeypatch, limit, most, sizes):
    whole = fitted.recommend(n=4)
    monkeypatch.setattr(recommend, limit, most)
    frames = list(fitted.recommend_batches(n=4))
    assert [frame["user_id"].nunique() for frame in frames] == sizes
    assert all(frame.attrs["unknown_items"] == 0 for frame in frames)
    assert pd.concat(frames, ignore_index=True).equals(whole)
    assert len(next(fitted.recommend_batches([], 4))) == 0


# ranked by what


def test_a_ranker_knows_unknown_users_and_popularity(model):
    ranker = Ranker(model)
    users = np.array([1, -1])
    found, scores = ranker.top(users, 3)
    assert found[0].tolist() == [i for _, i, _, _ in indexed(model, expected_lists(model, [1], 3, seen_out(model)))]
    order = sorted(np.flatnonzero(model.item_counts), key=lambda i: (-model.item_bias[i], i))
    assert found[1].tolist() == order[:3]
    assert scores[1].tolist() == (model.mean + model.item_bias[order[:3]]).tolist()
    popular = [sorted(np.flatnonzero(model.item_counts), key=lambda i: (-model.item_counts[i], i)) for _ in users]
    popular[0] = [i for i in popular[0] if i not in seen_by(model, 1)]
    assert ranker.most_popular(users, 3)[0].tolist() == [line[:3] for line in popular]


def seen_out(model):
    return lambda user, item: item in seen_by(model, user)


def indexed(model, lines):
    item_ids = model.item_ids.to_pylist()
    return [(user, item_ids.index(item), score, rank) for user, item, score, rank in lines]


def test_users_without_factors_get_popular_items_for_implicit_feedback(build):
    model = build(implicit=True)
    frame = model.recommend("cold", 3)
    order = sorted(np.flatnonzero(model.item_counts), key=lambda i: (-model.item_counts[i], i))
    assert frame["item_id"].tolist() == [model.item_ids[int(i)] for i in order[:3]]
    assert frame["score"].tolist() == [0, 0, 0]
    assert model.recommend("cold", 9, items=[0])["item_id"].tolist() == [0]


def test_a_bonus_is_added_to_the_scores(model):
    bonus = np.linspace(0, 9, len(model.item_ids)).astype(np.float32)
    users = np.arange(len(model.user_ids))
    found, scores = Ranker(model, bonus=bonus).top(users, 3)
    expected, theirs = Ranker(dataclasses.replace(model, item_bias=model.item_bias + bonus)).top(users, 3)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(scores, theirs)


def test_a_blend_adds_a_bonus_for_popularity(fitted):
    assert fitted.blend >= 0
    strong = dataclasses.replace(fitted, blend=100.0)
    lists = strong.recommend(n=3, rank_by="blend")
    counts = dict(zip(fitted.item_ids.to_pylist(), fitted.item_counts.tolist(), strict=True))
    popular = lists["item_id"].map(counts)
    assert popular.groupby(lists["user_id"]).is_monotonic_decreasing.mean() > 0.9
    plain = strong.recommend(n=30, rank_by="rating").set_index(["user_id", "item_id"])["score"]
    of_lists = plain.loc[list(zip(lists["user_id"], lists["item_id"], strict=True))].to_numpy()
    np.testing.assert_allclose(lists["score"], of_lists + 100 * np.log1p(popular), rtol=1e-5)


def test_a_blend_is_learned_if_it_helps_and_kept(tmp_path):
    rng = np.random.default_rng(0)
    popularity = 1 / np.arange(1, 61)
    chosen = rng.random((300, 60)) < np.minimum(8 * popularity / popularity.sum(), 0.9)  # ratings are pure noise
    users, items = np.nonzero(chosen)
    ratings = Ratings.from_arrays(users, items, rng.integers(1, 6, len(users)).astype(float))
    train, test = ratings.split(0.2)
    model = fastmf.fit(train, k=4, blend=True)
    assert model.blend > 0
    plain, blended = (fastmf.evaluate(model, test, rank_by=way)["ndcg"] for way in ("rating", "blend"))
    assert blended > plain
    model.save(tmp_path / "a")
    assert fastmf.load(tmp_path / "a").blend == model.blend
    with pytest.warns(UserWarning, match="more ratings by"):
        folded = model.fold_in(test)
    assert folded.blend == model.blend
    watched = fastmf.fit(train, k=4, blend=True, validation=test)
    assert watched.blend == learn_blend(watched, test)


@pytest.mark.filterwarnings("ignore:column .rating. has .* ratings of 0 or below")
def test_impossible_blends_are_refused(rows, fitted):
    plain, implicit = fastmf.fit(rows, k=2, epochs=1), fastmf.fit(rows, solver=ImplicitALS(k=2, epochs=1))
    with pytest.raises(ParameterError, match="has not learned what popularity is worth: fit it with --blend"):
        plain.recommend(rank_by="blend")
    with pytest.raises(ParameterError, match="leave out --rank-by"):
        implicit.recommend(rank_by="blend")
    with pytest.raises(ParameterError, match="rank_by is 'best': choose choice or rating or blend"):
        fitted.recommend(rank_by="best")
    with pytest.raises(ParameterError, match="blend is for models of ratings: solver 'implicit'"):
        fastmf.fit(rows, solver="implicit", blend=True)
    epochs = []
    with pytest.raises(ParameterError, match="3 ratings are too few to learn a blend from a tenth"):
        fastmf.fit(([1, 2, 3], [1, 2, 3], [1.0, 2, 3]), k=1, blend=True, callback=epochs.append)
    assert not epochs


# the commands


def command(*words):
    return CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False)


def test_the_command_takes_candidates_lengths_and_a_blend(fitted, tmp_path):
    path, items, users = (tmp_path / name for name in ("m.fastmf", "items.parquet", "users.parquet"))
    fitted.save(path)
    assert command("recommend", path, "--all", "-n", 3, "-o", tmp_path / "lists.parquet").exit_code == 0
    assert pd.read_parquet(tmp_path / "lists.parquet").equals(fitted.recommend(n=3))
    pd.DataFrame({"item_id": [1003, 1007, 99]}).to_parquet(items)
    pd.DataFrame({"user_id": [103, 100], "how_many": [2, 1]}).to_parquet(users)
    done = command("recommend", path, "--users", users, "--n-column", "how_many", "--items", items, "--json")
    expected = fitted.recommend([103, 100], n=[2, 1], items=[1003, 1007])
    assert [line["item_id"] for line in json.loads(done.stdout)] == expected["item_id"].tolist()
    assert re.search("1 of .*items", done.stderr)
    done = command("recommend", path, "--user", 100, "--rank-by", "blend", "--json")
    blended = fitted.recommend(100, rank_by="blend")
    assert [line["item_id"] for line in json.loads(done.stdout)] == blended["item_id"].tolist()


@pytest.mark.filterwarnings("ignore:column .rating. has .* ratings of 0 or below")
def test_the_command_explains(rows, tmp_path):
    model = fastmf.fit(rows, solver=ImplicitALS(k=3))
    model.save(tmp_path / "m")
    done = command("explain", tmp_path / "m", 100, 1003, "-n", 2, "--json")
    expected, told = model.explain(100, 1003), json.loads(done.stdout)
    assert told["score"] == pytest.approx(expected.attrs["score"])
    assert [line["item_id"] for line in told["contributions"]] == expected["item_id"].tolist()[:2]
    shown = command("explain", tmp_path / "m", 100, 1003, "-n", 2)
    assert len(shown.stdout.splitlines()) == 3
    assert f"score {expected.attrs['score']:.4f}: 0.0000" in shown.stderr


def test_the_command_fits_and_evaluates_files_without_ratings(rows, tmp_path):
    pd.DataFrame({"user_id": rows[0], "item_id": rows[1]}).to_parquet(tmp_path / "a.parquet")
    done = command("fit", tmp_path / "a.parquet", "--solver", "implicit", "--k", 3, "--validation", 0.1, "--json")
    told = json.loads(done.stdout)
    assert told["solver"]["name"] == "implicit"
    assert told["history"][0]["validation_ndcg"] > 0
    again = command("evaluate", tmp_path / "a.fastmf", tmp_path / "a.parquet", "--json")
    assert "rmse" not in json.loads(again.stdout)
