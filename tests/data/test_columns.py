from itertools import zip_longest

import pytest

from fastmf.data.columns import USUAL, choose, distinct
from fastmf.errors import DataError

ROLES = {"user": None, "item": None, "rating": None}


def test_the_usual_names_are_found_in_any_place():
    for names in zip_longest(USUAL["user"], USUAL["item"], USUAL["rating"]):
        user, item, rating = (name or USUAL[role][0] for name, role in zip(names, ROLES, strict=True))
        assert choose(["other", rating, item, user], ROLES, "it") == [user, item, rating]


def test_a_name_asked_for_wins_over_a_usual_one():
    names = ["user_id", "user", "item", "rating", "stars"]
    assert choose(names, ROLES | {"user": "user", "rating": "stars"}, "it") == ["user", "item", "stars"]


@pytest.mark.parametrize(
    ("names", "asked", "message"),
    [
        (
            ["a", "item", "rating"],
            None,
            r"the frame has no column for the users.*'userid'.*there are 'a', 'item', 'rating'",
        ),
        (["user", "item", "rating"], "who", r"no column 'who' for the users.*--user COLUMN.*there are 'user', 'item'"),
        ([], None, r"there are none"),
        (["user", "userId", "item", "rating"], None, r"more than one column .* the users, 'user' and 'userId'"),
        (["user", "item", "user", "rating"], None, r"more than one column .* the users, 'user' and 'user'"),
        (["user", "item", "user", "rating"], "user", r"more than one column .* the users, 'user' and 'user'"),
        (["user", "item", "rating"], "item", r"is named for two roles \(user 'item', item 'item', rating 'rating'\)"),
    ],
)
def test_a_missing_or_ambiguous_column_is_named(names, asked, message):
    with pytest.raises(DataError, match=message):
        choose(names, ROLES | {"user": asked}, "the frame")


def test_an_optional_role_may_be_missing_unless_it_is_named():
    assert choose(["user", "item"], ROLES, "it", optional=("rating",)) == ["user", "item"]
    with pytest.raises(DataError, match="no column 'stars' for the ratings"):
        choose(["user", "item"], ROLES | {"rating": "stars"}, "it", optional=("rating",))


def test_the_ratings_may_be_the_weights_and_the_users_may_not():
    names = ["user", "item", "rating"]
    assert choose(names, ROLES | {"weight": "rating"}, "it") == [*names, "rating"]
    with pytest.raises(DataError, match=r"two roles \(user 'user', item 'item', rating 'rating', weight 'user'\)"):
        choose(names, ROLES | {"weight": "user"}, "it")


def test_a_name_that_comes_twice_is_refused():
    assert distinct(["a", "b"], "it") == ["a", "b"]
    with pytest.raises(DataError, match="it has several columns 'a': rename them"):
        distinct(["a", "b", "a"], "it")
