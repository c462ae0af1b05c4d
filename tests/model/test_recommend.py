"""Lists: what may be in them, how long they are, what they are ranked by, and how many come at a time."""

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import fastmf
from fastmf import ImplicitALS, ParameterError, Ratings, UnknownIdError
from fastmf.cli import cli
from fastmf.training.blend import learned


@pytest.fixture(scope="module")
def rows(planted):
    return planted(40, 30, 500)


@pytest.fixture(scope="module")
def model(rows):
    return fastmf.fit(rows, k=3, epochs=4, blend=True)


def pairs(frame):
    return list(zip(frame["user_id"], frame["item_id"], frame["rank"], strict=True))


def test_only_candidates_come_in_the_same_order(model):
    items = [1003, 1007, 1011, 5, 1015]
    found, everything = model.recommend(n=30, items=items), model.recommend(n=30)
    left = everything[everything["item_id"].isin(items)]
    assert found[["user_id", "item_id", "score"]].equals(left[["user_id", "item_id", "score"]].reset_index(drop=True))
    with pytest.raises(UnknownIdError, match="knows none of 2 items to choose from"):
        model.recommend(items=[5, 6])


def test_every_user_may_have_a_length(model):
    found = model.recommend([100, 103, 106], n=[1, 4, 2])
    assert found.groupby("user_id").size().to_dict() == {100: 1, 103: 4, 106: 2}
    assert pairs(found[found["user_id"] == 103]) == pairs(model.recommend(103, n=4))
    with pytest.raises(ParameterError, match="2 lengths for 3 users"):
        model.recommend([100, 103, 106], n=[1, 2])
    for n in (0, [1, 0, 2], 2.5, [1.0, 2.0, 3.0], True, "3"):
        with pytest.raises(ParameterError, match="give an integer of at least 1, or one for each user"):
            model.recommend([100, 103, 106], n=n)


def test_lists_of_very_different_lengths_are_those_they_are_alone(model, monkeypatch):
    widths, best = [], type(model).best_items

    def watched(self, users, n, *more):
        widths.append((len(users), n))
        return best(self, users, n, *more)

    monkeypatch.setattr("fastmf.model.recommend.Listing.best_items", watched)
    lengths = [1, 10**9, 2, 1, 5]
    found = model.recommend([106, 100, 103, 109, 112], n=lengths)
    assert widths == [(2, 1), (1, 2), (1, 5), (1, len(model.item_ids))]
    assert found["user_id"].drop_duplicates().tolist() == [106, 100, 103, 109, 112]
    for user, n in zip([106, 100, 103, 109, 112], lengths, strict=True):
        assert pairs(found[found["user_id"] == user]) == pairs(model.recommend(user, n=n))


def test_frames_come_one_after_another(model, monkeypatch):
    monkeypatch.setattr("fastmf.model.recommend.USERS_OF_FRAME", 7)
    users = model.users_of(None)
    frames = list(model.lists_of(users, 4))
    assert [frame["user_id"].nunique() for frame in frames] == [7, 7, 7, 7, 7, 5]
    assert pd.concat(frames, ignore_index=True).equals(model.recommend(n=4))
    assert len(next(model.lists_of(users[:0], 4))) == 0


def test_a_blend_adds_what_popularity_is_worth(model):
    assert model.blend >= 0
    strong = fastmf.Model(**{**vars(model), "blend": 100.0})
    lists = strong.recommend(n=3, rank_by="blend")
    counts = dict(zip(np.array(model.item_ids).tolist(), model.item_counts.tolist(), strict=True))
    popular = lists["item_id"].map(counts)
    assert popular.groupby(lists["user_id"]).is_monotonic_decreasing.mean() > 0.9
    rating = model.predict(lists["user_id"], lists["item_id"])
    plain = strong.recommend(n=30).set_index(["user_id", "item_id"])["score"]
    expected = plain.loc[list(zip(lists["user_id"], lists["item_id"], strict=True))].to_numpy() + 100 * np.log1p(
        popular
    )
    np.testing.assert_allclose(lists["score"], expected, rtol=1e-5)
    assert len(rating) == len(lists)


def test_too_few_ratings_for_a_blend_are_refused_before_training():
    epochs = []
    with pytest.raises(ParameterError, match="3 ratings are too few to learn a blend from a tenth"):
        fastmf.fit(([1, 2, 3], [1, 2, 3], [1.0, 2, 3]), k=1, blend=True, callback=epochs.append)
    assert not epochs


def test_a_blend_is_learned_where_it_helps_and_kept(tmp_path):
    rng = np.random.default_rng(0)
    popularity = 1 / np.arange(1, 61)
    chosen = rng.random((300, 60)) < np.minimum(8 * popularity / popularity.sum(), 0.9)  # ratings say nothing
    users, items = np.nonzero(chosen)
    ratings = Ratings.from_arrays(users, items, rng.integers(1, 6, len(users)).astype(float))
    train, test = ratings.split(0.2)
    model = fastmf.fit(train, k=4, blend=True)
    assert model.blend > 0
    plain, blended = (fastmf.evaluate(model, test, rank_by=way)["ndcg"] for way in ("rating", "blend"))
    assert blended > plain
    model.save(tmp_path / "a")
    assert fastmf.load(tmp_path / "a").blend == model.blend
    assert model.fold_in(test).blend == model.blend
    watched = fastmf.fit(train, k=4, blend=True, validation=test)
    assert watched.blend == learned(watched, test)


def test_blends_that_cannot_be_are_refused(rows, model):
    plain, implicit = fastmf.fit(rows, k=2, epochs=1), fastmf.fit(rows, solver=ImplicitALS(k=2, epochs=1))
    with pytest.raises(ParameterError, match="has not learned what popularity is worth: fit it with --blend"):
        plain.recommend(rank_by="blend")
    with pytest.raises(ParameterError, match="its scores are made to rank"):
        implicit.recommend(rank_by="blend")
    with pytest.raises(ParameterError, match="rank_by is 'best': choose rating or blend"):
        model.recommend(rank_by="best")
    with pytest.raises(ParameterError, match="blend is for models of ratings: solver 'implicit'"):
        fastmf.fit(rows, solver="implicit", blend=True)


def command(*words):
    return CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False)


def test_the_command_writes_row_groups_and_takes_candidates_and_lengths(model, tmp_path, monkeypatch):
    path, out = tmp_path / "m.fastmf", tmp_path / "lists.parquet"
    model.save(path)
    assert command("recommend", path, "--all", "-n", 3, "-o", out).exit_code == 0
    assert pq.read_table(out).to_pandas().equals(model.recommend(n=3))
    items, users = tmp_path / "items.parquet", tmp_path / "users.parquet"
    pd.DataFrame({"item_id": [1003, 1007, 99]}).to_parquet(items)
    pd.DataFrame({"user_id": [103, 100], "how_many": [2, 1]}).to_parquet(users)
    done = command("recommend", path, "--users", users, "--n-column", "how_many", "--items", items, "--json")
    expected = model.recommend([103, 100], n=[2, 1], items=[1003, 1007])
    assert [line["item_id"] for line in json.loads(done.stdout)] == expected["item_id"].tolist()
    assert "1 of 3 items" in done.stderr
    done = command("recommend", path, "--user", 100, "--rank-by", "blend", "--json")
    assert [line["item_id"] for line in json.loads(done.stdout)] == model.recommend(100, rank_by="blend")[
        "item_id"
    ].tolist()


def test_the_command_explains(rows, tmp_path):
    model = fastmf.fit(rows, solver=ImplicitALS(k=3))
    model.save(tmp_path / "m")
    done = command("explain", tmp_path / "m", 100, 1003, "-n", 2, "--json")
    expected = model.explain(100, 1003)
    told = json.loads(done.stdout)
    assert told["score"] == pytest.approx(expected.attrs["score"])
    assert [line["item_id"] for line in told["contributions"]] == expected["item_id"].tolist()[:2]
    shown = command("explain", tmp_path / "m", 100, 1003, "-n", 2)
    assert len(shown.stdout.splitlines()) == 3
    assert f"score {expected.attrs['score']:.4f}: 0.0000 whatever the user has rated" in shown.stderr


def test_the_command_fits_files_without_ratings(rows, tmp_path):
    pd.DataFrame({"user_id": rows[0], "item_id": rows[1]}).to_parquet(tmp_path / "a.parquet")
    done = command("fit", tmp_path / "a.parquet", "--solver", "implicit", "--k", 3, "--validation", 0.1, "--json")
    told = json.loads(done.stdout)
    assert told["solver"]["name"] == "implicit"
    assert told["history"][0]["validation_ndcg"] > 0
    again = command("evaluate", tmp_path / "a.fastmf", tmp_path / "a.parquet", "--json")
    assert "rmse" not in json.loads(again.stdout)
