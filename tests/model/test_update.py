"""Updates: a day's ratings added, the rows they touch solved from all their ratings."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

import fastmf
from fastmf import DataError, ParameterError, Ratings

SWEEPS = {"burn": 2, "samples": 6, "kept": 3}
SOLVERS = [
    ("als", {"reg0": 0.5}),
    ("als", {"reg0": 0.5, "biases": False}),
    ("als-links", {"reg0": 0.5}),
    ("sgd", {"reg0": 0.5, "lr": 0.1}),
    ("implicit", {}),
    ("implicit", {"positive_from": 3.0}),
    ("implicit", {"weight": "rating"}),
    ("gibbs", SWEEPS),
    ("gibbs", SWEEPS | {"links": True}),
]
ALONE = 9, 9000  # a new user and a new item that only have each other


def named(case):
    return " ".join([case[0], *(f"{name}={value}" for name, value in case[1].items() if name not in SWEEPS)])


@pytest.fixture(scope="module")
def days(planted):
    """Ratings until yesterday; today's, with new users and items, in any order; and all of them."""
    users, items, ratings = planted(n=400)
    old = (users < 175) & (items < 1017) & (np.arange(400) < 380)
    columns = users, items, np.abs(ratings)
    before, today = (tuple(column[rows] for column in columns) for rows in (old, ~old))
    return before, today, columns


@pytest.fixture(scope="module", params=SOLVERS, ids=named)
def fitted(request, days):
    solver, settings = request.param
    return fastmf.fit(days[0], 3, solver, **settings), fastmf.fit(days[2], 3, solver, **settings)


def updated(model, new, old):
    """The updated model. Without the old ratings, a warning must say that known rows stay."""
    if old is not None:
        return model.update(new, old)
    with pytest.warns(UserWarning, match="stay as they are") as caught:
        found = model.update(new)
    assert len(caught) == 1
    return found


def rows_in(ratings):
    return [set(column.tolist()) for column in ratings[:2]]


def test_ids_counts_and_what_is_seen_are_those_of_a_refit(fitted, days, tmp_path):
    model, refit = fitted
    for old in (days[0], None):
        found = updated(model, days[1], old)
        for name in ("user_ids", "item_ids"):
            assert getattr(found, name).equals(getattr(refit, name))
        for name in ("user_counts", "item_counts"):
            np.testing.assert_array_equal(getattr(found, name), getattr(refit, name))
            assert getattr(found, name).dtype == np.int32
        for ours, theirs in zip(found.seen, refit.seen, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        assert (found.mean, found.scale, found.history) == (model.mean, model.scale, model.history)
        assert found.rating_range == refit.rating_range
        assert {name: found.rows[name] for name in refit.rows} == refit.rows
        for name in ("user_rule", "item_rule"):
            assert getattr(found, name).reg0 == pytest.approx(getattr(refit, name).reg0)
        assert found.user_factors.any(axis=1)[found.user_counts > 0].all()
        found.save(tmp_path / "a", overwrite=True)
        assert fastmf.load(tmp_path / "a").content_hash == found.content_hash


def test_rows_are_counted_by_what_became_of_them(fitted, days):
    model, _ = fitted
    today = tuple(column[days[1][2] >= (model.positive_from or 0)] for column in days[1])
    known = [set(np.array(ids)[counts > 0].tolist()) for ids, counts in (
        (model.user_ids, model.user_counts), (model.item_ids, model.item_counts)
    )]  # fmt: skip
    for old in (days[0], None):
        found = updated(model, days[1], old)
        for side, rated, warm in zip(("users", "items"), rows_in(today), known, strict=True):
            touched = len(rated & warm)
            assert touched > 3
            assert found.rows[f"new_{side}"] == len(rated - warm) > 2
            assert found.rows[f"touched_{side}"] == touched * (old is not None)
            assert found.rows[f"touched_{side}_left"] == touched * (old is None)
        assert found.rows["replaced"] == found.rows["unsolved"] == 0


def test_rows_without_new_ratings_and_without_the_old_ones_stay(fitted, days):
    model, _ = fitted
    rated = rows_in(days[1])
    for old in (days[0], None):
        found = updated(model, days[1], old)
        for side, mine in zip(("user", "item"), rated, strict=True):
            own, new = (getattr(each, f"{side}_ids").to_pylist() for each in (model, found))
            stay = [row for row in own if old is None or row not in mine]
            for part in ("factors", "bias"):
                before, after = getattr(model, f"{side}_{part}"), getattr(found, f"{side}_{part}")
                where = [own.index(row) for row in stay], [new.index(row) for row in stay]
                np.testing.assert_array_equal(before[where[0]], after[where[1]])
        changed = found.user_factors[np.isin(found.user_ids, model.user_ids)] != model.user_factors
        assert changed.any() == (old is not None)


@pytest.mark.parametrize(
    ("solver", "settings"), [case for case in SOLVERS if case[0] != "gibbs"], ids=lambda case: str(case)
)
def test_users_are_folded_in_from_all_their_ratings_and_items_from_those_users(days, solver, settings):
    before, today, everything = days
    model = fastmf.fit(before, 3, solver, **settings)
    found = model.update(today, before)
    touched = np.isin(everything[0], today[0])
    if model.implicit:
        positive = today[2] >= (model.positive_from or 0)
        touched = np.isin(everything[0], today[0][positive])
    users = model.fold_in(tuple(column[touched] for column in everything))
    rows = np.searchsorted(found.user_ids, users.user_ids)
    np.testing.assert_allclose(found.user_factors[rows], users.user_factors, atol=1e-5)
    np.testing.assert_allclose(found.user_bias[rows], users.user_bias, atol=1e-5)
    # with these users, new items are what fold_in_items finds
    new = ~np.isin(everything[1], before[1])
    old_items = np.isin(found.item_ids, model.item_ids)
    counts = np.where(old_items, found.item_counts, 0).astype(np.int32)
    bare = dataclasses.replace(found, item_counts=counts, item_rule=model.item_rule, seen=None)
    items = bare.fold_in_items(tuple(column[new] for column in everything))
    np.testing.assert_allclose(found.item_factors[~old_items], items.item_factors[~old_items], atol=1e-4)
    np.testing.assert_allclose(found.item_bias[~old_items], items.item_bias[~old_items], atol=1e-4)


@pytest.mark.big
def test_an_update_comes_near_a_refit(planted):
    for solver in ("als", "als-links", "sgd"):
        train, test = Ratings.from_arrays(*planted(200, 100, 8000, noise=0.5)).split(0.2, seed=0)
        old, new = train.split(0.02, seed=1)
        model = fastmf.fit(old, 4, solver)
        rmse = [fastmf.evaluate(each, test)["rmse"] for each in (model.update(new, old), fastmf.fit(train, 4, solver))]
        assert rmse[0] < 1.01 * rmse[1]


def test_pairs_rated_before_are_replaced(days):
    before, today, _ = days
    model = fastmf.fit(before, 3, reg0=0.5)
    again = tuple(column[:5] for column in before)
    raised = *again[:2], again[2] + 1
    new = tuple(np.append(*pair) for pair in zip(today, raised, strict=True))
    found = model.update(new, before)
    assert found.rows["replaced"] == 5
    assert found.rows["used"] == len(before[0]) + len(today[0])
    rest = tuple(column[5:] for column in before)
    expected = fastmf.fit(rest, 3, reg0=0.5)
    stripped = dataclasses.replace(model, user_counts=expected.user_counts, item_counts=expected.item_counts)
    other = dataclasses.replace(stripped, seen=None).update(new, rest)
    np.testing.assert_array_equal(found.user_factors, other.user_factors)
    np.testing.assert_array_equal(found.item_factors, other.item_factors)
    np.testing.assert_array_equal(found.user_counts, other.user_counts)
    assert len(found.seen[1]) == len(before[0]) + len(today[0])
    left = updated(model, new, None)
    assert left.rows["replaced"] == 5
    assert left.rows["used"] == len(before[0]) + len(today[0])
    np.testing.assert_array_equal(left.user_counts, found.user_counts)


def test_a_pair_that_is_no_longer_positive_no_longer_counts(days):
    before = days[0]
    model = fastmf.fit(before, 3, "implicit", positive_from=3.0)
    place = int(np.flatnonzero(before[2] >= 3)[0])
    user, item = before[0][place], before[1][place]
    other = int(np.flatnonzero((before[0] == user) & (before[1] != item))[0])
    new = [user, user], [item, before[1][other]], [1.0, 5.0]
    found = model.update(new, before)
    changed = before[2].copy()
    changed[place], changed[other] = 1.0, 5.0
    expected = fastmf.fit((*before[:2], changed), 3, "implicit", positive_from=3.0)
    row = model.user_ids.to_pylist().index(user)
    assert found.user_counts[row] == expected.user_counts[row]
    folded = model.fold_in(tuple(column[before[0] == user] for column in (*before[:2], changed)))
    np.testing.assert_allclose(found.user_factors[row], folded.user_factors[0], atol=1e-6)


def test_ratings_that_lead_nowhere_are_left_out_and_counted(days):
    before, today, _ = days
    model = fastmf.fit(before, 3)
    new = tuple(np.append(column, value) for column, value in zip(today, (*ALONE, 3.0), strict=True))
    for old in (before, None):
        found = updated(model, new, old)
        assert found.rows["unsolved"] == 1
        assert found.rows["used"] == len(before[0]) + len(today[0])
        assert found.known_users([ALONE[0]]) == found.known_items([ALONE[1]]) == [-1]
        again = found.update(([ALONE[0]], [ALONE[1]], [2.0]))
        assert again.rows["replaced"] == 1
        assert again.rows["used"] == found.rows["used"]  # the old rating was not used, either
    # a new user of a new item that known users have rated is solved in the end
    new = tuple(np.append(column, value) for column, value in zip(today, (9, 1019, 3.0), strict=True))
    assert 1019 in set(today[1]) - set(before[1])
    found = updated(model, new, None)
    assert found.rows["unsolved"] == 0
    assert found.user_factors[found.known_users([9])[0]].any()
    assert found.user_counts[found.known_users([9])[0]] == 1


def test_updates_follow_one_another(days):
    before, today, everything = days
    model = fastmf.fit(before, 3)
    halves = [tuple(column[part] for column in today) for part in (slice(0, 40), slice(40, None))]
    first = model.update(halves[0], before)
    sofar = tuple(np.append(*pair) for pair in zip(before, halves[0], strict=True))
    second = first.update(halves[1], sofar)
    refit = fastmf.fit(everything, 3)
    np.testing.assert_array_equal(second.user_counts, refit.user_counts)
    assert second.rows["read"] == second.rows["used"] == len(everything[0])


def test_old_ratings_that_lack_some_are_refused_and_more_are_reported(days):
    before, today, _ = days
    model = fastmf.fit(before, 3)
    part = tuple(column[:200] for column in before)
    with pytest.raises(
        DataError, match=r"users have fewer ratings in the old ones than .* \(\d+ instead of \d+\): give"
    ):
        model.update(today, part)
    with pytest.warns(UserWarning, match="have more ratings in the old ones than the model was fitted to") as caught:
        fastmf.fit(before, 3, validation=0.3).update(today, before)
    assert caught[0].filename == __file__
    unknown = tuple(np.append(column, value) for column, value in zip(before, (9, 1000, 3.0), strict=True))
    assert model.update(tuple(column[today[1] != 1000] for column in today), unknown).rows["unknown"] == 1


def test_known_rows_that_stay_are_counted_and_named(days):
    model, today = fastmf.fit(days[0], 3), days[1]
    users, items = (sorted(set(np.intersect1d(*pair).tolist())) for pair in zip(days[0][:2], today[:2], strict=True))
    with pytest.warns(UserWarning, match="stay as they are") as caught:
        model.update(today)
    assert str(caught[0].message) == (
        f"the factors of {len(users)} users (the first {users[0]}) and {len(items)} items (the first {items[0]}) with"
        " new ratings stay as they are: give the old ratings, too (--ratings, ratings=), to solve for them again"
    )
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match=r"^the factors of 1 user \(the first 100\) with new ratings stay"):
        model.update(([100], [1500], [3.0]))
    model.update(([100], [1500], [3.0]), days[0])  # without a warning


def test_unusable_ratings_and_models_are_refused(days):
    before, today, _ = days
    model = fastmf.fit(before, 3)
    users, items, ratings = today
    with pytest.raises(DataError, match="there are no ratings"):
        model.update(([], [], []))
    nothing = Ratings.read(today)
    with pytest.raises(DataError, match="there are no new ratings: give at least one"):
        model.update(nothing.take(np.zeros(len(nothing), bool)))
    for old in (None, before):
        with pytest.raises(DataError, match="user ids of type large_string cannot be found among ids of type int64"):
            model.update((list(map(str, users)), items, ratings), old)
    with pytest.raises(DataError, match="item ids of type large_string cannot be found"):
        model.update(today, (before[0], list(map(str, before[1])), before[2]))
    with pytest.raises(DataError, match="repeat a"):
        model.update(tuple(np.append(column, column[0]) for column in today))
    bare = dataclasses.replace(model, item_rule=None)
    with pytest.raises(ParameterError, match="has no rule for new items"):
        bare.update(today)
    known = np.isin(items, before[1]) & np.isin(users, before[0])
    assert updated(bare, tuple(column[known] for column in today), None).rows["touched_items_left"] > 0
    weighed = fastmf.fit(before, 3, "implicit", weight="rating")
    with pytest.raises(ParameterError, match="weight is 'rating', but these Ratings have no weights"):
        weighed.update(nothing)


def test_a_model_that_does_not_hold_what_is_seen_still_does_not(days):
    before, today, _ = days
    model = fastmf.fit(before, 3, keep_seen=False)
    found, other = model.update(today, before), fastmf.fit(before, 3).update(today, before)
    assert found.seen is None
    np.testing.assert_array_equal(found.user_counts, other.user_counts)
    assert found.content_hash == other.content_hash


LIKES = {"solver": "implicit", "positive_from": 3.5, "negative_to": 2.5}


@pytest.fixture(scope="module")
def liked(planted):
    """Ratings of 1 to 5 until yesterday; and today's, with a new user, a new item, and ids with dislikes alone."""
    users, items, ratings = planted(n=400)
    ratings = 1.0 + np.digitize(ratings, np.quantile(ratings, [0.2, 0.4, 0.6, 0.8]))
    more = [(500, 1001, 5.0), (500, 1002, 1.0), (100, 1100, 5.0), (103, 1100, 1.0)]
    alone = [(100, 1200, 1.0), (103, 1200, 2.0), (600, 1001, 1.0)]
    before = users[:350], items[:350], ratings[:350]
    today = tuple(np.append(column[350:], extra) for column, extra in zip(
        (users, items, ratings), zip(*more, *alone, strict=True), strict=True
    ))  # fmt: skip
    return before, today, tuple(np.append(*pair) for pair in zip(before, today, strict=True))


@pytest.mark.parametrize("old", [True, False])
def test_dislikes_are_counted_as_in_a_refit_and_leave_rows_cold(liked, old):
    before, today, everything = liked
    model, refit = (fastmf.fit(rows, 3, **LIKES) for rows in (before, everything))
    found = updated(model, today, before if old else None)  # no warning of more ratings than were fitted
    for name in ("user_counts", "item_counts"):
        np.testing.assert_array_equal(getattr(found, name), getattr(refit, name))
    assert refit.rows["disliked"] > model.rows["disliked"] > 20
    assert {name: found.rows[name] for name in refit.rows} == refit.rows
    assert found.rows["disliked_cold"] == 3
    assert (found.rows["new_users"], found.rows["new_items"]) == (1, 1)
    assert found.known_items([1100, 1200])[1] == found.known_users([500, 600])[1] == -1
    assert min(found.known_items([1100])[0], found.known_users([500])[0]) >= 0
    assert 1200 not in set(found.recommend([100, 500], n=99)["item_id"])
    assert not found.item_factors[found.item_counts == 0].any()


def test_dislikes_lower_what_touched_users_are_solved_to(liked):
    before, today, everything = liked
    found = fastmf.fit(before, 3, **LIKES).update(today, before)
    touched = np.isin(everything[0], today[0]) & (everything[0] != 600) & (everything[1] < 1100)
    folded = fastmf.fit(before, 3, **LIKES).fold_in(tuple(column[touched] for column in everything))
    rows = np.searchsorted(found.user_ids, folded.user_ids)
    np.testing.assert_allclose(found.user_factors[rows], folded.user_factors, atol=1e-5)


def test_an_item_whose_last_rating_becomes_a_dislike_becomes_cold(liked):
    before = tuple(np.append(column, value) for column, value in zip(liked[0], (100, 1300, 5.0), strict=True))
    model = fastmf.fit(before, 3, **LIKES)
    new = [100, 103], [1300, 1001], [1.0, 5.0]
    found, place = model.update(new, before), model.item_ids.to_pylist().index(1300)
    assert model.item_factors[place].any()
    assert found.item_counts[place] == 0
    assert not found.item_factors[place].any()
    rest = tuple(column[:-1] for column in before)
    refit = fastmf.fit(tuple(np.append(*pair) for pair in zip(rest, new, strict=True)), 3, **LIKES)
    for name in ("observed", "disliked", "disliked_cold"):
        assert found.rows[name] == refit.rows[name]
    assert found.rows["disliked_cold"] == 1


def table(side, row_ids):
    rng = np.random.default_rng(len(row_ids))
    kinds = rng.choice(["a", "b", "c"], len(row_ids))
    return pa.table({side: np.asarray(row_ids), "size": rng.random(len(row_ids)), "kind": kinds})


@pytest.fixture(scope="module", params=[SOLVERS[0], SOLVERS[2], SOLVERS[4], SOLVERS[8]], ids=named)
def featured(request, days):
    solver, settings = request.param
    tables = {f"{side}_features": table(side, np.unique(days[0][place])) for side, place in (("user", 0), ("item", 1))}
    return fastmf.fit(days[0], 3, solver, **tables, **settings)


def test_new_rows_are_solved_with_their_features_and_those_without_ratings_are_added(featured, days, tmp_path):
    before = days[0]
    users, items = table("user", [100, 901, 902]), table("item", [1000, 5000, 5001])
    new = [901, 901, 100, 901], [1000, 1001, 5000, 5000], [5.0, 1.0, 4.0, 2.0]
    found = featured.update(new, before, item_features=items, user_features=users)
    rated, alone = found.present_rows("item", [5000, 5001])
    assert (found.item_counts[rated], found.item_counts[alone]) == (2, 0)
    rows = found.present_rows("user", [901, 902])
    assert found.user_counts[rows].tolist() == [3, 0]
    cold = featured.add_users(users[1:]).add_items(items[1:])
    assert found.content_hash == cold.update(new, before).content_hash
    for side, row_id in (("user", 902), ("item", 5001)):
        places = [each.present_rows(side, [row_id])[0] for each in (found, cold)]
        own, expected = (getattr(each, f"{side}_factors")[at] for each, at in zip((found, cold), places, strict=True))
        np.testing.assert_array_equal(own, expected)
    without = featured.update(new, before)
    assert without.present_rows("item", [5001]).tolist() == without.present_rows("user", [902]).tolist() == [-1]
    for side, row_id in (("user", 901), ("item", 5000)):
        pulled, other = (getattr(m, f"{side}_factors")[m.present_rows(side, [row_id])[0]] for m in (found, without))
        assert (pulled != other).any()
    found.save(tmp_path / "a")
    again = fastmf.load(tmp_path / "a")
    assert {902, 5001} <= {*again.user_ids.to_pylist(), *again.item_ids.to_pylist()}
    assert 5001 in set(again.recommend([902], n=99, rank_by="rating")["item_id"])


def test_tables_need_a_model_with_such_features(days):
    model = fastmf.fit(days[0], 2)
    for side in ("item", "user"):
        with pytest.raises(ParameterError, match=f"fitted without {side} features"):
            model.update(days[1], days[0], **{f"{side}_features": table(side, [5000])})
