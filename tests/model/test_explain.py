"""explain: contributions add up to the score, and say what changes when a rating does."""

import numpy as np
import pytest

import fastmf
from fastmf import ImplicitALS, ParameterError, Ratings, UnknownIdError


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
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_contributions_add_up_to_the_score_of_the_user_folded_in(rows, case):
    model = fastmf.fit(rows, k=3, epochs=4, **case)
    folded = model.fold_in(rows)
    for user, item in ((100, 1000), (103, 1007), (160, 1029)):
        found = model.explain(user, item, rows)
        u, i = (
            np.flatnonzero(np.array(own) == key)[0] for own, key in ((folded.user_ids, user), (folded.item_ids, item))
        )
        score = (
            folded.mean + folded.user_bias[u] + folded.item_bias[i] + folded.user_factors[u] @ folded.item_factors[i]
        )
        assert found.attrs["score"] == pytest.approx(float(score), abs=1e-4)
        assert found.attrs["rest"] + found["contribution"].sum() == pytest.approx(found.attrs["score"])
        assert found["contribution"].is_monotonic_decreasing
        good = rows[2] >= (case.get("positive_from") or -np.inf)
        assert set(found["item_id"]) == set(rows[1][(rows[0] == user) & good])


def test_a_rating_that_is_higher_adds_what_its_contribution_says(rows):
    model = fastmf.fit(rows, k=3, epochs=4)
    users, items, values = rows
    place = np.flatnonzero(users == 100)[0]
    higher = values.copy()
    higher[place] += 1
    before, after = (model.explain(100, 1003, (users, items, v)) for v in (values, higher))
    gain = after.attrs["score"] - before.attrs["score"]
    one, other = (frame.set_index("item_id")["contribution"][items[place]] for frame in (before, after))
    assert gain == pytest.approx(other - one, abs=1e-6)
    assert gain != pytest.approx(0, abs=1e-3)


def test_a_model_of_implicit_feedback_needs_no_ratings(rows):
    model = fastmf.fit(rows, solver=ImplicitALS(k=3))
    found, given = model.explain(100, 1003), model.explain(100, 1003, rows)
    assert found.equals(given)
    u, i = np.array(model.user_ids).tolist().index(100), np.array(model.item_ids).tolist().index(1003)
    assert found.attrs["score"] == pytest.approx(float(model.user_factors[u] @ model.item_factors[i]), abs=1e-5)
    assert found.attrs["rest"] == 0


def test_new_users_are_explained_and_others_left_out(rows):
    model = fastmf.fit(rows, solver=ImplicitALS(k=3))
    mixed = (["new", "new", "other"], [1000, 1001, 1002], [1.0, 1.0, 1.0])
    found = fastmf.fit((rows[0].astype(str), rows[1], rows[2]), solver=ImplicitALS(k=3)).explain("new", 1003, mixed)
    assert set(found["item_id"]) == {1000, 1001}
    with pytest.raises(UnknownIdError):
        model.explain(100, -1)
    with pytest.raises(UnknownIdError):
        model.explain(-1, 1000)


def test_what_cannot_be_explained_is_said(rows):
    als = fastmf.fit(rows, k=2, epochs=1)
    with pytest.raises(ParameterError, match="does not hold what the user has rated: give --ratings"):
        als.explain(100, 1000)
    gibbs = fastmf.fit(rows, k=2, solver="gibbs", burn=1, samples=1)
    with pytest.raises(ParameterError, match="solver 'gibbs' cannot explain its scores"):
        gibbs.explain(100, 1000, Ratings.from_arrays(*rows))
