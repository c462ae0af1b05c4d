"""Models whose arrays stay in their file, and are checked when they are first used."""

import copy
import dataclasses
import json
import pickle

import numpy as np
import pandas as pd
import pytest

import fastmf
from fastmf.errors import ModelFormatError, ParameterError
from fastmf.model.model import Model
from fastmf.model.state import State


@pytest.fixture
def path(model, tmp_path):
    model.save(tmp_path / "model.fastmf")
    return tmp_path / "model.fastmf"


def place_of(path, name):
    """Return where an array begins in a file."""
    whole = path.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    return start + json.loads(whole[8:start])[name]["data_offsets"][0]


def write_into(path, place, data):
    with path.open("r+b") as opened:
        opened.seek(place)
        opened.write(data)


def test_a_mapped_model_is_asked_like_any_other(model, path):
    mapped = fastmf.load(path, mmap=True)
    assert isinstance(mapped, Model)
    assert repr(mapped) == repr(model)
    assert mapped.k == model.k
    assert mapped.content_hash == model.content_hash
    pd.testing.assert_frame_equal(mapped.recommend(n=3), model.recommend(n=3))
    pd.testing.assert_frame_equal(mapped.similar_items(3), model.similar_items(3))
    pd.testing.assert_frame_equal(mapped.predict("ann", [0, 3]), model.predict("ann", [0, 3]))
    new = ["x", "x"], [0, 3], [1.0, 5.0]
    np.testing.assert_array_equal(mapped.fold_in(new).user_factors, model.fold_in(new).user_factors)


def test_what_is_made_of_a_mapped_model_is_in_memory(path, tmp_path):
    mapped = fastmf.load(path, mmap=True)
    others = pickle.loads(pickle.dumps(mapped)), copy.copy(mapped), dataclasses.replace(mapped, mean=1.0)
    for other in (*others, mapped.fold_in((["x"], [0], [3.0]))):
        assert type(other) is Model
    mapped.save(tmp_path / "again")
    assert fastmf.load(tmp_path / "again").content_hash == mapped.content_hash


def test_arrays_are_read_when_they_are_first_used(path):
    mapped = fastmf.load(path, mmap=True)
    assert not {"user_factors", "item_factors", "seen", "user_ids"} & set(vars(mapped))
    once = mapped.user_factors
    assert mapped.user_factors is once
    assert not once.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        once[0, 0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        mapped.mean = 1.0


def test_similar_rows_read_one_side_alone(path):
    for side, other in (("item", "user"), ("user", "item")):
        mapped = fastmf.load(path, mmap=True)
        ask = getattr(mapped, f"similar_{side}s")
        assert len(ask({"item": 3, "user": "ann"}[side], 2)) == 2
        assert f"{side}_factors" in vars(mapped)
        assert not {f"{other}_{part}" for part in ("factors", "counts", "bias", "ids")} & set(vars(mapped))


ARRAYS = ["user_factors", "item_factors", "user_bias", "item_bias", "user_counts", "item_counts", "seen_indices"]


@pytest.mark.parametrize("name", [*ARRAYS, "seen_indptr", "user_ids.bytes", "item_ids"])
def test_damage_is_found_when_the_array_is_used_and_named(path, name):
    write_into(path, place_of(path, name) + 2, b"\x07")
    mapped = fastmf.load(path, mmap=True)
    field = name.partition(".")[0] if "ids" in name else "seen" if name.startswith("seen") else name
    sound = [each.name for each in dataclasses.fields(State) if each.name != field]
    for other in sound:
        getattr(mapped, other)
    for _ in range(2):
        with pytest.raises(ModelFormatError, match=rf"model\.fastmf is not .* digest does not match: {name} has"):
            getattr(mapped, field)


def test_another_file_of_the_name_leaves_the_mapping_as_it_was(model, path):
    mapped = fastmf.load(path, mmap=True)
    dataclasses.replace(model, user_factors=model.user_factors + 1).save(path, overwrite=True)
    np.testing.assert_array_equal(mapped.user_factors, model.user_factors)
    np.testing.assert_array_equal(fastmf.load(path, mmap=True).user_factors, model.user_factors + 1)
    path.unlink()
    pd.testing.assert_frame_equal(mapped.recommend(n=3), model.recommend(n=3))


def test_indices_and_ids_are_safe_from_later_changes_of_the_file(model, path):
    mapped = fastmf.load(path, mmap=True)
    lists = mapped.recommend(n=3)
    for name in ("seen_indices", "seen_indptr", "user_ids.bytes", "user_ids.offsets", "item_ids"):
        write_into(path, place_of(path, name), b"\xff\xff\xff\x7f")
    pd.testing.assert_frame_equal(mapped.recommend(n=3), lists)
    assert mapped.user_ids.equals(model.user_ids)
    write_into(path, place_of(path, "item_factors"), np.float32(99).tobytes())  # a wrong score, and no more than that
    assert mapped.item_factors[0, 0] == 99


def test_arrays_that_are_not_aligned_are_copied(model, path):
    whole = path.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    header = whole[8:start].rstrip() + b" "
    header += b" " * ((start - 8 - len(header)) % 8 + 1)
    path.write_bytes(len(header).to_bytes(8, "little") + header + whole[start:])
    mapped = fastmf.load(path, mmap=True)
    assert place_of(path, "user_factors") % 4
    assert mapped.user_factors.flags.aligned
    pd.testing.assert_frame_equal(mapped.recommend(n=3), model.recommend(n=3))


def test_whether_to_map_is_true_or_false(path):
    with pytest.raises(ParameterError, match="mmap is 1: give True or False"):
        fastmf.load(path, mmap=1)
