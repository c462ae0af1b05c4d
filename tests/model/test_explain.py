"""explain: contributions add up to the score, and predict how it changes with a rating."""

import numpy as np
import pandas as pd
import pytest

import fastmf
from fastmf import ImplicitALS, ParameterError, Ratings, UnknownIdError

pytestmark = pytest.mark.filterwarnings("ignore:column .rating. has .* ratings of 0 or below")


@pytest.fixture(scope="module")
def rows(planted):
    return planted(40, 30, 500)


CASES = {
    "als": {"solver": "als"},
    "als without biases": {"solver": "als", "biases": False},
    "als-links": {"solver": "als-links"},
    "als-links without biases": {"solver": "als-links", "biases": False},
    "sgd": {"solver": "sgd", "lr": 0.2},
    "implicit": {"solver": "implicit"},
    "implicit from 3": {"solver": "implicit", "positive_from": 3.0},
    "implicit with dislikes": {"solver": "implicit", "positive_from": 3.0, "negative_to": 2.5},
}


def place(ids, key):
    return ids.to_pylist().index(key)


@pytest.mark.parametrize("weighed", [False, True], ids=["plain", "weighed"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_contributions_add_up_to_the_score_of_the_user_folded_in(rows, case, weighed):
    if weighed:
        case = {**case, "weight": "weight"}
        rows = *rows, np.random.default_rng(0).uniform(0.1, 2, len(rows[0]))
    model = fastmf.fit(rows, k=3, epochs=4, **case)
    folded = model.fold_in(rows)
    for user, item in ((100, 1000), (103, 1007), (160, 1029)):
        found = model.explain(user, item, rows)
        u, i = place(folded.user_ids, user), place(folded.item_ids, item)
        score = folded.mean + folded.user_bias[u] + folded.item_bias[i]
        score += folded.user_factors[u] @ folded.item_factors[i]
        assert found.attrs["score"] == pytest.approx(float(score), abs=1e-4)
        assert found.attrs["rest"] + found["contribution"].sum() == pytest.approx(found.attrs["score"])
        assert found["contribution"].abs().is_monotonic_decreasing
        good = (rows[2] >= case.get("positive_from", -np.inf)) | (rows[2] <= case.get("negative_to", -np.inf))
        assert set(found["item_id"]) == set(rows[1][(rows[0] == user) & good])


def test_weights_scale_contributions(rows):
    weights = np.random.default_rng(0).integers(1, 6, len(rows[0])).astype(np.float64)
    table = {"user": rows[0], "item": rows[1], "w": weights}
    ratings = Ratings.read(pd.DataFrame(table), rating="", weight="w")
    model = fastmf.fit(ratings, solver=ImplicitALS(k=3))
    found, folded = model.explain(100, 1003, ratings), model.fold_in(ratings)
    u, i = place(folded.user_ids, 100), place(folded.item_ids, 1003)
    assert found.attrs["score"] == pytest.approx(float(folded.user_factors[u] @ folded.item_factors[i]), abs=1e-5)
    with pytest.raises(
        ParameterError, match=r"which \d+ items user 100 has rated, but not what each of them weighs: give"
    ):
        model.explain(100, 1003)


def test_a_rating_that_is_higher_adds_as_much_as_its_contribution_grows(rows):
    model = fastmf.fit(rows, k=3, epochs=4)
    users, items, values = rows
    rated = np.flatnonzero(users == 100)[0]
    higher = values.copy()
    higher[rated] += 1
    before, after = (model.explain(100, 1003, (users, items, v)) for v in (values, higher))
    gain = after.attrs["score"] - before.attrs["score"]
    one, other = (frame.set_index("item_id")["contribution"][items[rated]] for frame in (before, after))
    assert gain == pytest.approx(other - one, abs=1e-6)
    assert gain != pytest.approx(0, abs=1e-3)


def test_a_model_of_implicit_feedback_needs_no_ratings(rows):
    model = fastmf.fit(rows, solver=ImplicitALS(k=3))
    found, given = model.explain(100, 1003), model.explain(100, 1003, rows)
    assert found.equals(given)
    u, i = place(model.user_ids, 100), place(model.item_ids, 1003)
    assert found.attrs["score"] == pytest.approx(float(model.user_factors[u] @ model.item_factors[i]), abs=1e-5)
    assert found.attrs["rest"] == 0


def test_a_user_whose_ratings_all_count_as_observed_needs_no_ratings(rows):
    values = np.where(rows[0] == 100, 5.0, np.minimum(rows[2], 4.5))
    values[np.flatnonzero(rows[0] == 103)[0]] = 1.0
    for solver in (ImplicitALS(k=3, positive_from=2.0), ImplicitALS(k=3, positive_from=2.0, negative_to=1.5)):
        model = fastmf.fit((*rows[:2], values), solver=solver)
        assert model.explain(100, 1003).equals(model.explain(100, 1003, (*rows[:2], values)))
        rated = np.count_nonzero(rows[0] == 103)
        observed = np.count_nonzero(values[rows[0] == 103] >= 2)
        lacks = f"which {rated} items user 103 has rated, but not which {observed} of them count as observed"
        with pytest.raises(ParameterError, match=lacks + r" \(positive_from is 2\): give .* \(ratings=\)$"):
            model.explain(103, 1003)
    blind = fastmf.fit(rows, solver=ImplicitALS(k=3), keep_seen=False)
    with pytest.raises(ParameterError, match="does not hold which items the user has rated"):
        blind.explain(100, 1003)


def test_parts_that_lower_a_score_are_not_hidden(rows):
    model = fastmf.fit(rows, k=3, epochs=4)
    for user in (100, 103, 160):
        found = model.explain(user, 1007, rows)["contribution"]
        n = 3
        assert (found < 0).any()
        assert (found > 0).any()
        assert found.head(n).abs().min() >= found.iloc[n:].abs().max()


def test_new_users_are_explained_and_the_ratings_of_others_ignored(rows):
    model = fastmf.fit((rows[0].astype(str), rows[1], rows[2]), solver=ImplicitALS(k=3))
    mixed = (["new", "new", "other"], [1000, 1001, 1002], [1.0, 1.0, 1.0])
    found = model.explain("new", 1003, mixed)
    assert set(found["item_id"]) == {1000, 1001}


def test_one_known_user_and_item_are_explained_at_a_time(rows):
    model = fastmf.fit(rows, solver=ImplicitALS(k=3))
    with pytest.raises(UnknownIdError):
        model.explain(100, -1)
    with pytest.raises(UnknownIdError):
        model.explain(-1, 1000)
    with pytest.raises(UnknownIdError, match="user -1 is not in these ratings"):
        model.explain(-1, 1000, rows)
    with pytest.raises(ParameterError, match="2 items are given: explain one at a time"):
        model.explain(100, [1000, 1001])
    with pytest.raises(ParameterError, match="2 users are given: explain one at a time"):
        model.explain([100, 103], 1000)


def test_models_that_cannot_explain_say_why(rows):
    als = fastmf.fit(rows, k=2, epochs=1)
    with pytest.raises(ParameterError, match=r"which \d+ items user 100 has rated, but not how: give .* --ratings"):
        als.explain(100, 1000)
    gibbs = fastmf.fit(rows, k=2, solver="gibbs", burn=1, samples=1)
    with pytest.raises(ParameterError, match="solver 'gibbs' cannot explain its scores"):
        gibbs.explain(100, 1000, Ratings.from_arrays(*rows))
