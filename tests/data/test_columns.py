from itertools import zip_longest

import pytest

from fastmf.data.columns import USUAL, choose, distinct
from fastmf.errors import DataError

ROLES = {"user": None, "item": None, "rating": None}


def found(names, roles=ROLES, where="it", **how):
    return list(choose(names, roles, where, **how).values())


def test_the_usual_names_are_found_in_any_place():
    for tier in (0, 1):
        for names in zip_longest(USUAL["user"][tier], USUAL["item"][tier], USUAL["rating"][tier]):
            user, item, rating = (name or USUAL[role][tier][0] for name, role in zip(names, ROLES, strict=True))
            assert found(["other", rating, item, user]) == [user, item, rating]


def test_case_blanks_hyphens_and_underscores_do_not_matter():
    assert found(["USER ID", "Movie-Id", "Rating "]) == ["USER ID", "Movie-Id", "Rating "]
    assert found(["The_User", "item", "rating"], ROLES | {"user": "theUser"}) == ["The_User", "item", "rating"]
    assert found(["User", "item", "user", "rating"], ROLES | {"user": "user"}) == ["user", "item", "rating"]
    with pytest.raises(DataError, match="more than one column that could hold the users, 'userId' and 'user_id'"):
        found(["userId", "user_id", "item", "rating"])


def test_rarer_names_come_after_the_usual_ones():
    assert found(["uid", "user", "asin", "item", "stars", "rating"]) == ["user", "item", "rating"]
    assert found(["title", "uid", "asin", "stars"]) == ["uid", "asin", "stars"]


def test_a_preferred_name_comes_before_the_usual_ones():
    assert found(["user", "person", "item", "rating"], preferred={"user": "person"}) == ["person", "item", "rating"]
    assert found(["user", "item", "rating"], preferred={"user": "person"}) == ["user", "item", "rating"]
    assert (
        found(["user", "person", "item", "rating"], ROLES | {"user": "user"}, preferred={"user": "person"})[0] == "user"
    )


def test_counts_are_no_ratings():
    for name in USUAL["weight"][0]:
        with pytest.raises(DataError, match="it has no column for the ratings"):
            found(["user", "item", name])
        assert found(["user", "item", name], {"user": None, "item": None, "weight": None})[2] == name


def test_a_message_lists_at_most_twenty_columns():
    with pytest.raises(DataError) as error:
        found([f"x{place}" for place in range(5_000)])
    assert str(error.value).endswith("'x18', 'x19' and 4,980 more")


def test_a_name_asked_for_wins_over_a_usual_one():
    names = ["user_id", "user", "item", "rating", "stars"]
    assert found(names, ROLES | {"user": "user", "rating": "stars"}) == ["user", "item", "stars"]


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
    assert found(["user", "item"], optional=("rating",)) == ["user", "item"]
    with pytest.raises(DataError, match="no column 'stars' for the ratings"):
        choose(["user", "item"], ROLES | {"rating": "stars"}, "it", optional=("rating",))


def test_the_ratings_may_be_the_weights_and_the_users_may_not():
    names = ["user", "item", "rating"]
    assert found(names, ROLES | {"weight": "rating"}) == [*names, "rating"]
    with pytest.raises(DataError, match=r"two roles \(user 'user', item 'item', rating 'rating', weight 'user'\)"):
        choose(names, ROLES | {"weight": "user"}, "it")


def test_a_name_that_comes_twice_is_refused():
    assert distinct(["a", "b"], "it") == ["a", "b"]
    with pytest.raises(DataError, match="it has several columns 'a': rename them"):
        distinct(["a", "b", "a"], "it")
