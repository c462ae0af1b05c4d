"""Titles in the frames of results: from a dict, a series, a frame and a file, for ids of any type."""

import datetime
import uuid
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import fastmf
from fastmf.data.write import write_parquet
from fastmf.errors import DataError
from fastmf.model.titles import titled, titles_of

NAMES = {-5: "Alien", 0: "Ran", 2**53 + 1: "日本", 2**62: None}


@pytest.fixture(params=["dict", "series", "frame", "file"])
def titles(request, tmp_path):
    frame = pd.DataFrame({"movieId": list(NAMES), "title": list(NAMES.values()), "year": 1})
    write_parquet({"movieId": list(NAMES), "title": list(NAMES.values())}, tmp_path / "titles.parquet")
    series = frame.set_index("movieId")["title"]
    return {"dict": NAMES, "series": series, "frame": frame, "file": tmp_path / "titles.parquet"}[request.param]


def expected(item_ids):
    return [NAMES.get(item) or "" for item in item_ids]


def test_all_lists_of_items_take_titles(model, titles):
    for found, plain, column in [
        (
            model.recommend("bob", include_seen=True, titles=titles),
            model.recommend("bob", include_seen=True),
            "item_id",
        ),
        (model.similar_items(3, titles=titles), model.similar_items(3), "similar_item_id"),
    ]:
        assert found["title"].tolist() == expected(found[column]) != [""] * len(found)
        pd.testing.assert_frame_equal(found.drop(columns="title"), plain)
        assert found.attrs == {**plain.attrs, "without_title": found["title"].eq("").sum()}
    (batch,) = model.recommend_batches(["bob", "eve"], 3, titles=titles)
    assert batch["title"].tolist() == expected(batch["item_id"])


def test_explanations_take_titles(model, titles):
    ratings = (["bob"] * 3, [-5, 0, 3], [4.0, 2.0, 5.0])
    plain, found = model.explain("bob", 3, ratings), model.explain("bob", 3, ratings, titles=titles)
    assert found["title"].tolist() == expected(found["item_id"])
    assert found.attrs == {**plain.attrs, "without_title": 1}


def test_recommend_counts_missing_titles_of_all_batches(build, monkeypatch):
    monkeypatch.setattr("fastmf.model.recommend.USERS_PER_BATCH", 2)
    found = build().recommend(n=3, items=[0, -5, 99], include_seen=True, titles={0: "Ran"})
    counts = found.attrs["unknown_items"], found.attrs["without_title"]
    assert counts == (1, (found["item_id"] == -5).sum())


@pytest.mark.parametrize(
    "item_ids",
    [
        ["a", "é"],
        [uuid.UUID(int=1), uuid.UUID(int=2)],
        [datetime.date(2020, 1, 1), datetime.date(2021, 1, 1)],
        [pd.Timestamp(2020, 1, 1), pd.Timestamp(2021, 1, 1, 1)],
        [2**63 + 1, 2**63 + 2],
        [b"\x00", b"\xff"],
    ],
    ids=lambda row_ids: type(row_ids[0]).__name__,
)
def test_ids_of_any_type_have_titles(item_ids, tmp_path):
    column = pa.array(item_ids, pa.uint64() if isinstance(item_ids[0], int) else None)
    model = fastmf.fit(([1, 1], column, [1.0, 2.0]), k=2, epochs=1)
    own = dict(zip(item_ids, ["first", "second"], strict=True))
    write_parquet({"item_id": column, "title": list(own.values())}, tmp_path / "titles.parquet")
    for titles in (own, tmp_path / "titles.parquet"):
        found = model.recommend(1, include_seen=True, titles=titles).set_index("title")["item_id"]
        assert {title: found[title] for title in found.index} == {title: item for item, title in own.items()}


@pytest.mark.parametrize("titles", [{}, {1: None}, {"1": "text"}])
def test_ids_without_a_title_get_an_empty_one_without_a_warning(titles):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for frame in (pd.DataFrame({"id": [1, 2]}), pd.DataFrame({"id": np.empty(0, np.int64)})):
            found = titled(frame, "id", titles)
            assert found["title"].tolist() == [""] * len(frame)
            assert found["title"].dtype == pd.Series(["a"]).dtype
            assert found.attrs["without_title"] == len(frame)


def test_a_table_without_titles_is_refused_before_anything_is_ranked(model, monkeypatch):
    assert titles_of(None, None) is None
    monkeypatch.setattr("fastmf.model.model.batches", lambda *_: pytest.fail("nothing must be ranked"))
    with pytest.raises(DataError, match="no column for the titles"):
        model.recommend("bob", titles=pd.DataFrame({"item_id": [1]}))
