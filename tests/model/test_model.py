import dataclasses

import numpy as np
import pandas as pd
import pytest

import fastmf
from fastmf.errors import ModelFormatError, ParameterError
from fastmf.model.model import Model


def test_everything_comes_back_from_the_file(model, tmp_path):
    model = dataclasses.replace(model, best_epoch=2, mean=1 / 3, scale=2**0.5, rating_range=(0.1, 0.7))
    model.save(tmp_path / "model")
    loaded = Model.load(tmp_path / "model")
    for field in dataclasses.fields(Model):
        ours, theirs = getattr(model, field.name), getattr(loaded, field.name)
        if field.name in ("user_ids", "item_ids"):
            assert theirs.equals(ours)
        elif isinstance(ours, np.ndarray):
            np.testing.assert_array_equal(theirs, ours)
            assert theirs.dtype == ours.dtype
        elif field.name == "seen":
            np.testing.assert_array_equal(theirs[0], ours[0])
            np.testing.assert_array_equal(theirs[1], ours[1])
        else:
            assert theirs == ours
    pd.testing.assert_frame_equal(loaded.recommend(n=4), model.recommend(n=4))
    assert repr(loaded) == "<Model: als, k=3, 7 users, 8 items, 2 epochs>"


def test_an_existing_file_is_replaced_only_when_asked_for(build, model, tmp_path):
    path = tmp_path / "model"
    model.save(str(path))
    with pytest.raises(FileExistsError):
        model.save(path)
    assert fastmf.load(path).content_hash == model.content_hash
    other = build(mean=2.0)
    other.save(path, overwrite=True)
    assert fastmf.load(str(path)).content_hash == other.content_hash
    with pytest.raises(FileNotFoundError):
        model.save(tmp_path / "missing" / "model")
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


def test_loading_needs_a_model_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        fastmf.load(tmp_path / "missing")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ModelFormatError):
        fastmf.load(tmp_path / "text")


def test_without_seen_items_lists_have_to_include_them(planted, tmp_path):
    users, items, ratings = planted(n=60)
    with_seen = fastmf.fit((users, items, ratings), k=2, epochs=2, reg0=0.5)
    fitted = fastmf.fit((users, items, ratings), k=2, epochs=2, reg0=0.5, keep_seen=False)
    fitted.save(tmp_path / "model")
    for model in (fitted, fastmf.load(tmp_path / "model")):
        assert model.seen is None
        assert model.content_hash == with_seen.content_hash
        with pytest.raises(ParameterError, match=r"keep_seen=False\): pass include_seen=True"):
            model.recommend(n=3)
        everything = with_seen.recommend(n=3, include_seen=True)
        pd.testing.assert_frame_equal(model.recommend(n=3, include_seen=True), everything)
        excluded = model.recommend(n=3, include_seen=True, exclude=(users, items))
        pd.testing.assert_frame_equal(excluded, with_seen.recommend(n=3))
        pd.testing.assert_frame_equal(model.predict(users, items), with_seen.predict(users, items))
