"""``Model.factors``: who and what is at the ends of the axes."""

import datetime

import numpy as np
import pandas as pd
import pytest

import fastmf
from fastmf.errors import ParameterError
from fastmf.model.axes import axes_of
from fastmf.model.factors import table_of


@pytest.fixture(scope="module")
def fitted(planted):
    return fastmf.fit(planted(60, 50, 1_000), k=4, epochs=3)


def test_items_at_the_ends_are_the_outermost(fitted):
    frame = fitted.factors(3, axes=2, min_count=0)
    assert list(frame.columns) == ["axis", "share", "end", "rank", "item_id", "coordinate", "count"]
    axes = axes_of(fitted)
    for number in (1, 2):
        order = np.argsort(axes.items[:, number - 1])
        rows = frame[frame["axis"] == number]
        low, high = (rows[rows["end"] == end]["item_id"].tolist() for end in ("low", "high"))
        assert low == [fitted.item_ids[row] for row in order[:3]]
        assert high == [fitted.item_ids[row] for row in order[:-4:-1]]
        assert rows["share"].unique() == [axes.share[number - 1]]
    assert frame["rank"].tolist() == [1, 2, 3] * 6


def test_biases_are_taken_beyond_popularity(build):
    counts = np.array([1, 2, 4, 8, 16, 32, 64, 128], np.int32)
    extra = np.array([0, 0, 0, 1, -1, 0, 0, 0], np.float32)
    model = build(item_bias=(np.log(counts) + extra).astype(np.float32), item_counts=counts,
                  item_factors=np.zeros((8, 3), np.float32))  # fmt: skip
    _, _, (biases) = table_of(model, axes_of(model), "item", 0)
    assert biases[3, 0] > 0.8
    assert biases[4, 0] < -0.8
    assert abs(np.polyfit(np.log(counts), biases[:, 0], 1)[0]) < 1e-6


def test_min_count_and_few_ratings(fitted):
    counts = pd.Series(fitted.item_counts, fitted.item_ids)
    assert (fitted.factors(99, min_count=25)["item_id"].map(counts) >= 25).all()
    assert len(fitted.factors(99, min_count=25)) < len(fitted.factors(99, min_count=0))
    few = fastmf.fit(([1, 1, 2, 2, 3], [1, 2, 1, 3, 2], [1.0, 5, 2, 3, 4]), k=2)
    found = few.factors(5, axes=1)
    assert sorted(found[found["axis"] == found["axis"].max()]["item_id"]) == [1, 2, 3]  # each is at one end only


def test_users_and_titles(fitted):
    users = fitted.factors(2, of="users", axes=1)
    assert list(users.columns) == ["axis", "share", "end", "rank", "user_id", "coordinate", "count"]
    titled = fitted.factors(2, titles={1003: "three"}, axes=1)
    assert titled["title"].tolist() == ["three" if item == 1003 else "" for item in titled["item_id"]]
    assert titled.attrs["without_title"] == (titled["item_id"] != 1003).sum()


def test_categories_of_a_table_or_of_the_fit(planted):
    rows = planted(80, 120, 5_000, noise=0.1)
    plain = fastmf.fit(rows, k=2, epochs=4)
    coordinates = pd.Series(axes_of(plain).items[:, 0], plain.item_ids)
    table = pd.DataFrame({"movieId": coordinates.index, "kind": np.where(coordinates > 0.3, "x", "y"), "noise": 1})
    with pytest.raises(ParameterError, match="need side features of items"):
        plain.factors(of="categories")
    found = plain.factors(of="categories", item_features=table, axes=1)
    assert list(found.columns) == ["axis", "end", "category", "items", "expected", "p_value"]
    first = found[found["axis"] == 1]
    assert list(zip(first["end"], first["category"], strict=True)) == [("high", "kind=x")]
    own = fastmf.fit(rows, k=2, epochs=4, item_features=table[["movieId", "kind"]])
    assert len(own.factors(of="categories", axes=1))


@pytest.mark.parametrize(
    ("words", "match"),
    [({"of": "movies"}, "of"), ({"n": 0}, "n"), ({"axes": -1}, "axes"), ({"min_count": -1}, "min_count"),
     ({"item_features": pd.DataFrame()}, "for of='categories'")],
)  # fmt: skip
def test_what_cannot_be_asked(fitted, words, match):
    with pytest.raises(ParameterError, match=match):
        fitted.factors(**words)


def test_implicit_models_have_no_axis_of_biases(planted):
    users, items, _ = planted()
    model = fastmf.fit((users, items), k=3, solver="implicit")
    assert model.factors(2)["axis"].min() == 1
    assert model.factors(2)["share"].drop_duplicates().sum() <= 1 + 1e-9


def test_cold_rows_are_never_shown(build):
    assert 7 not in build().factors(9)["item_id"].tolist()
    assert "cold" not in build().factors(9, of="users")["user_id"].tolist()


def test_ids_of_any_type_come_out_unchanged():
    days = [datetime.date(2024, 1, day) for day in range(1, 5)]
    model = fastmf.fit((["a", "b", "c", "a"], days, [1.0, 2, 3, 4]), k=1)
    assert set(model.factors(2)["item_id"]) <= set(days)
    assert set(model.factors(2, of="users")["user_id"]) <= {"a", "b", "c"}
