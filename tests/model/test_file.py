import dataclasses
import json
import pickle
import subprocess
import sys
import textwrap
from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy

import fastmf
from fastmf.data.arrays import digests_of
from fastmf.data.encoding import Encoding, FeatureColumn
from fastmf.data.features import Features
from fastmf.data.times import HalfLife
from fastmf.errors import DataError, ModelFormatError
from fastmf.kernels.types import Compressed
from fastmf.model import file, learned
from fastmf.model.fold_in_rule import FoldInRule
from fastmf.model.history import Epoch
from fastmf.model.state import State

IDS = {
    "int16": pa.array([-3, 0, 7], pa.int16()),
    "uint64": pa.array([0, 1, 2**64 - 1], pa.uint64()),
    "string": pa.array(["", "a", "\U0001f600"], pa.large_string()),
    "binary": pa.array([b"", b"\0", b"\xff"], pa.large_binary()),
    "fixed-size binary": pa.array([b"aa", b"ab", b"\xff\0"], pa.binary(2)),
    "uuid": pa.array([bytes(16), b"0" * 16, b"\xff" * 16], pa.uuid()),
    "bool": pa.array([False, True]),
    "date32": pa.array([-1, 0, 9], pa.int32()).view(pa.date32()),
    "date64": pa.array([-1, 0, 9], pa.int32()).view(pa.date32()).cast(pa.date64()),
    "time32": pa.array([0, 1, 9], pa.int32()).view(pa.time32("ms")),
    "time64": pa.array([0, 1, 9], pa.int64()).view(pa.time64("us")),
    "timestamp": pa.array([-1, 0, 9], pa.int64()).view(pa.timestamp("ns")),
    "timestamp with zone": pa.array([-1, 0, 9], pa.int64()).view(pa.timestamp("s", "America/New_York")),
    "timestamp with offset": pa.array([-1, 0, 9], pa.int64()).view(pa.timestamp("ms", "+01:00")),
    "duration": pa.array([-1, 0, 9], pa.int64()).view(pa.duration("us")),
    "slice": pa.array(["x", "a", "b", "c", "y"], pa.large_string()).slice(1, 3),
}
NAN, HUGE = np.float32(np.nan), 2**63 - 1
AGES = HalfLife(days=90.0, timestamp="at", time_unit="ms", newest=17_000.5)


def state(users=IDS["string"], items=IDS["int16"], **changes):
    """A small model that holds all that a file can hold."""
    rng, arrays = np.random.default_rng(0), {}
    for side, n in (("user", len(users)), ("item", len(items))):
        arrays[f"{side}_factors"] = rng.standard_normal((n, 2)).astype(np.float32)
        arrays[f"{side}_bias"] = rng.standard_normal(n).astype(np.float32)
        arrays[f"{side}_counts"] = np.ones(n, np.int32)
    sizes = {"users": len(users), "items": len(items), "k": 2, "numbers": 3, "samples": 2, "one": 1}
    sizes |= {"user_features": 3, "item_features": 3}
    groups = {
        group: learned.KINDS[group](*(np.ones([sizes[name] for name in shape], np.float32) for shape in shapes))
        for group, shapes in learned.SHAPES.items()
    }
    for prior in ("user_prior", "item_prior"):
        groups[prior] = groups[prior]._replace(precision=np.eye(2, dtype=np.float32))
    plain = dict(
        seen=(np.arange(len(users) + 1), np.arange(len(users), dtype=np.int32) % len(items)),
        mean=1 / 3,
        scale=2**0.5,
        rating_range=(0.5, 5.0),
        solver={"name": "als", "reg": 0.1},
        positive_from=3.5,
        negative_to=1.5,
        user_rule=FoldInRule(reg=0.1, bias_reg=3.0, fade=2.0, seed=2**63 - 1),
        item_rule=FoldInRule(reg0=0.5, all_pairs=0.25),
        history=[Epoch(number=1, seconds=0.5, train_rmse=0.1)],
        best_epoch=1,
        rows={"read": 3, "used": 3, "duplicates": 0},
        weight="w",
        half_life=AGES,
        duplicates="mean",
        blend=0.25,
        user_features=features(users),
        item_features=features(items),
    )
    return State(user_ids=users, item_ids=items, **(arrays | groups | plain | changes))


def features(row_ids):
    """Side features of rows: two categories, and a number."""
    columns = (
        FeatureColumn(name="genre", kind="categories", n_categories=2),
        FeatureColumn(name="age", kind="number", means=(1.5,), deviations=(0.5,)),
    )
    encoding = Encoding(columns=columns, names=pa.array(["genre=a", "genre=b", "age"], pa.large_string()))
    n = len(row_ids)
    rows = Compressed(np.arange(n + 1), np.arange(n, dtype=np.int32) % 3, np.full(n, 0.5, np.float32))
    return Features(ids=row_ids, rows=rows, encoding=encoding)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.fastmf"


def contents(path):
    """Return the tensors and the metadata of a file."""
    with safetensors.safe_open(path, "numpy") as opened:
        metadata = json.loads(opened.metadata()["fastmf"])
    return safetensors.numpy.load_file(path), metadata


@pytest.fixture
def saved(path):
    """The bytes of a whole model file, its tensors and its metadata."""
    file.write_model(state(), path, overwrite=False)
    return path.read_bytes(), *contents(path)


def put(path, tensors, metadata):
    """Write a file whose digests are right, so that they keep nothing from the other checks."""
    text = metadata if isinstance(metadata, str) else json.dumps(metadata)
    safetensors.numpy.save_file(tensors, path, {"fastmf": text, **digests_of(tensors, text)})


def used(model):
    """Use every field of a model."""
    return {field.name: getattr(model, field.name) for field in dataclasses.fields(State)}


def refused(path, message=None):
    """Check that a file is refused, and if it is mapped, when it is used; return the message."""
    with pytest.raises(ModelFormatError, match=message) as caught:
        fastmf.load(path)
    with pytest.raises(ModelFormatError, match=message):
        used(fastmf.load(path, mmap=True))
    return str(caught.value)


def all_refused(path, files):
    """Check that each (tensors, metadata) is refused, and not because of its digest."""
    for number, (tensors, metadata) in enumerate(files):
        put(path, tensors, metadata)
        try:
            assert "digest" not in refused(path)
        except pytest.fail.Exception:
            pytest.fail(f"number {number} is taken")


# what is written is read


def assert_same(one, other):
    if isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
        assert one.flags.writeable == other.flags.writeable  # kernels are compiled anew for another
    elif isinstance(one, pa.Array):
        assert one.type == other.type
        assert one.equals(other)
    elif isinstance(one, Features):
        assert_same(one.ids, other.ids)
        assert_same(one.rows, other.rows)
        assert (one.encoding.plain(), one.encoding.names) == (other.encoding.plain(), other.encoding.names)
    elif isinstance(one, tuple):
        assert type(one) is type(other)
        for ours, theirs in zip(one, other, strict=True):
            assert_same(ours, theirs)
    else:
        assert one == other


@pytest.mark.parametrize("name", IDS)
def test_everything_written_is_read_back(path, name):
    bare = dict.fromkeys(("seen", "user_rule", "item_rule", "best_epoch", "half_life", "negative_to", *learned.KINDS))
    bare |= {"user_features": None, "item_features": None}
    for changes in ({}, bare):
        given = state(IDS[name], IDS[name], **changes)
        file.write_model(given, path, overwrite=True)
        for back in (fastmf.load(path), fastmf.load(path, mmap=True)):
            for field in dataclasses.fields(State):
                assert_same(getattr(given, field.name), getattr(back, field.name))


def test_a_file_can_be_read_without_fastmf(saved):
    _, tensors, metadata = saved
    np.testing.assert_array_equal(tensors["user_factors"], state().user_factors)
    assert tensors["item_ids"].tolist() == [-3, 0, 7]
    offsets, data = tensors["user_ids.offsets"].tolist(), tensors["user_ids.bytes"].tobytes()
    texts = [data[a:b].decode() for a, b in pairwise(offsets)]
    assert texts == ["", "a", "\U0001f600"]
    assert metadata["format"] == 2
    assert metadata["version"] == fastmf.__version__
    assert metadata["id_types"] == {"user_ids": "large_string", "item_ids": "int16"}
    assert metadata["implicit"] is False
    assert metadata["positive_from"] == 3.5
    assert metadata["user_rule"] == dataclasses.asdict(state().user_rule)
    assert metadata["item_rule"] == dataclasses.asdict(state().item_rule)
    assert metadata["rating_range"] == [0.5, 5]


def test_arrays_that_are_not_contiguous_are_written_as_they_look(path):
    wide = np.random.default_rng(1).standard_normal((4, 3)).astype(np.float32)
    file.write_model(state(user_factors=wide.T[:, ::2]), path, overwrite=False)
    np.testing.assert_array_equal(file.read_model(path)["user_factors"], wide.T[:, ::2])


def test_metadata_that_json_cannot_hold_is_not_written(path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        file.write_model(state(mean=np.nan), path, overwrite=False)
    assert list(path.parent.iterdir()) == []


UNSOUND = {
    **{name: [NAN, np.inf] for name in ("user_factors", "item_factors", "user_bias", "item_bias")},
    **{name: [-1] for name in ("user_counts", "item_counts")},
    **{name: [NAN] for name in ("baseline", "links", "user_expected", "item_expected")},
    **{name: [NAN, 1e13] for name in ("user_prior", "item_prior", "samples")},
    "seen": [9, -1],
}


@pytest.mark.parametrize("name", UNSOUND)
def test_a_model_that_could_not_be_loaded_is_not_written(path, name):
    file.write_model(state(), path, overwrite=False)
    before = path.read_bytes()
    for value in UNSOUND[name]:
        held = getattr(state(), name)
        for place in range(len(held) if isinstance(held, tuple) else 1):
            array = (held[place] if isinstance(held, tuple) else held).copy()
            array.flat[-1] = value
            parts = [*held[:place], array, *held[place + 1 :]] if isinstance(held, tuple) else None
            changed = array if parts is None else held._make(parts) if hasattr(held, "_make") else tuple(parts)
            with pytest.raises(DataError, match=rf"the model is not sound, .*{name}.*; correct it"):
                file.write_model(state(**{name: changed}), path, overwrite=True)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


# files that are no model files


FRAME = pd.DataFrame({"user": [1], "item": [1], "rating": [1.0]})


def write_npz(path):
    with path.open("wb") as opened:
        np.savez(opened, a=np.zeros(300))


OTHERS = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("user,item,rating\n1,1,1\n" * 100),
    "Parquet": lambda path: pq.write_table(pa.table(FRAME), path),
    "pickle": lambda path: path.write_bytes(pickle.dumps(FRAME)),
    "npz": write_npz,
    "zeros": lambda path: path.write_bytes(bytes(1000)),
    "header of 2^62 bytes": lambda path: path.write_bytes((2**62).to_bytes(8, "little") + b"{}"),
    "header of 2^64 - 1 bytes": lambda path: path.write_bytes(b"\xff" * 8 + b"{}"),
    "header longer than the file": lambda path: path.write_bytes((100).to_bytes(8, "little") + b"{}"),
    "nothing in the header": lambda path: path.write_bytes((2).to_bytes(8, "little") + b"{}"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_files_of_other_formats_are_refused(path, other):
    OTHERS[other](path)
    refused(path, r"model\.fastmf is ")


def test_another_safetensors_file_is_named_as_such(path):
    safetensors.numpy.save_file({"a": np.zeros(3)}, path)
    refused(path, "is a safetensors file, but not a fastmf model")
    safetensors.numpy.save_file({"a": np.zeros(3)}, path, {"format": "pt"})
    refused(path, "is a safetensors file, but not a fastmf model")


def test_a_missing_file_is_an_os_error_and_a_directory_no_model(path):
    with pytest.raises(FileNotFoundError):
        fastmf.load(path)
    path.mkdir()
    refused(path, "is a directory or device, not a model file")


# damage


def test_a_truncated_file_is_refused_at_every_length(path, saved):
    whole = saved[0]
    for length in [*range(0, len(whole), 13), len(whole) - 1]:
        path.write_bytes(whole[:length])
        refused(path)
    path.write_bytes(whole + b"\0")
    refused(path)


def test_flipped_bits_are_found(path, saved):
    whole = saved[0]
    rng = np.random.default_rng(0)
    header = 8 + int.from_bytes(whole[:8], "little")
    for trial in range(400):
        damaged = bytearray(whole)
        damaged[rng.integers(*((0, header) if trial % 2 else (header, len(whole))))] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        refused(path)


def test_each_digest_is_checked(path, saved):
    _, tensors, metadata = saved
    text = json.dumps(metadata)
    right = {"fastmf": text, **digests_of(tensors, text)}
    safetensors.numpy.save_file(tensors, path, right)
    fastmf.load(path)
    safetensors.numpy.save_file(tensors | {"user_bias": tensors["user_bias"] + np.float32(1)}, path, right)
    refused(path, "a digest does not match")
    changed = json.dumps(metadata | {"mean": 0.25})
    for header in (right | {"fastmf": changed}, {"fastmf": text}, right | {"digest": "0" * 32}):
        safetensors.numpy.save_file(tensors, path, header)
        refused(path, "a digest does not match")


# lies


LIES = {
    "user_factors": [
        np.zeros((2, 2), np.float32),
        np.zeros((4, 2), np.float32),
        np.zeros((3, 3), np.float32),
        np.zeros((3, 2)),
        np.zeros((3, 2), np.float16),
        np.zeros((2, 3), np.float32),
        np.zeros(6, np.float32),
        np.array(1, np.float32),
        np.zeros((3, 2, 1), np.float32),
        np.array([[0, 0], [0, NAN], [0, 0]], np.float32),
        np.array([[0, 0], [0, np.inf], [0, 0]], np.float32),
    ],
    "item_factors": [np.zeros((3, 1), np.float32), np.full((3, 2), -np.inf, np.float32)],
    "user_bias": [
        np.zeros(2, np.float32),
        np.zeros((3, 1), np.float32),
        np.zeros(3),
        np.array([0, NAN, 0], np.float32),
    ],
    "item_bias": [np.zeros(4, np.float32), np.array([0, 0, np.inf], np.float32)],
    "user_counts": [np.ones(2, np.int32), np.ones(3, np.int64), np.ones(3, np.float32), np.array([1, 1, -1], np.int32)],
    "item_counts": [np.ones(4, np.int32), np.array([-(2**31), 1, 1], np.int32)],
    "seen_indptr": [
        np.array([0, 1, 2]),
        np.array([0, 1, 2, 3, 3]),
        np.array([1, 1, 2, 3]),
        np.array([0, 1, 2, 2]),
        np.array([0, 1, 2, 4]),
        np.array([0, 2, 1, 3]),
        np.array([0, -1, 2, 3]),
        np.array([0, HUGE, 3, 3]),
        np.array([0, HUGE, -2, 3]),  # the differences wrap around to positive numbers
        np.array([0, 1, 2, 3], np.int32),
        np.array([[0, 1, 2, 3]]),
        np.array([0.0, 1.0, 2.0, 3.0]),
        np.empty(0, np.int64),
        np.array(0),
    ],
    "seen_indices": [
        np.array([0, 1, 3], np.int32),
        np.array([0, -1, 2], np.int32),
        np.array([0, 1, 2**31 - 1], np.int32),
        np.array([0, 1, 2]),
        np.array([[0, 1, 2]], np.int32),
        np.array([0, 1], np.int32),
    ],
    "user_ids.offsets": [
        np.array([0, 0, 1]),
        np.array([0, 0, 1, 6]),
        np.array([0, 0, 1, 4]),
        np.array([0, 1, 0, 5]),
        np.array([0, HUGE, -2, 5]),
        np.array([-1, 0, 1, 5]),
        np.array([0, 0, 2, 5]),  # cuts a character in two
        np.array([0, 0, 1, 5], np.int32),
        np.array([], np.int64),
        np.array(5),
    ],
    "user_ids.bytes": [
        np.frombuffer(b"a\xff\xff\xff\xff", np.uint8),
        np.frombuffer(b"aaaa", np.uint8),
        np.zeros((5, 1), np.uint8),
        np.zeros(5, np.int8),
    ],
    "item_ids": [
        np.array([0, 0, 7], np.int16),
        np.array([7, 0, -3], np.int16),
        np.array([-3, 0, 7]),
        np.array([3, 5, 7], np.uint16),
        np.array([-3, 0, 7, 8], np.int16),
        np.array([[-3, 0, 7]], np.int16),
        np.array([-3, 0, 7], np.float32),
        np.array(3, np.int16),
    ],
    "baseline_user_bias": [np.zeros(2, np.float32), np.zeros(3), np.array([0, NAN, 0], np.float32)],
    "links_items": [np.zeros((3, 3), np.float32), np.full((3, 2), np.inf, np.float32)],
    "links_users": [np.zeros((2, 2), np.float32), np.full((3, 2), NAN, np.float32), np.zeros((3, 2))],
    "links_origin": [np.zeros((1, 2), np.float32), np.zeros(2, np.int32)],
    "user_prior_precision": [
        np.zeros((2, 2), np.float32),
        np.array([[1, 2], [2, 1]], np.float32),
        np.array([[1, 2], [0.5, 1]], np.float32),
        np.array([[1e30, 0], [0, 1]], np.float32),
        np.array([[1, 0], [0, NAN]], np.float32),
        np.eye(2),
        np.ones(2, np.float32),
    ],
    "user_prior_mean": [np.zeros(3, np.float32)],
    "user_prior_others": [np.array([1, 1, 0], np.float32), np.array([1, 1, -1], np.float32), np.ones(2, np.float32)],
    "item_prior_precision": [np.zeros((2, 2), np.float32), np.eye(2), np.array([[1, 2], [2, 1]], np.float32)],
    "item_prior_others": [np.array([1, 1, 0], np.float32), np.ones(2, np.float32)],
    "item_prior_numbers": [np.array([0, 1, 1], np.float32), np.array([1, NAN, 1], np.float32)],
    "item_prior_origin": [np.zeros(3, np.float32), np.full(2, 1e30, np.float32)],
    "user_prior_numbers": [
        np.array([0, 1, 1], np.float32),
        np.array([1, -1, 1], np.float32),
        np.array([1, NAN, 1], np.float32),
        np.array([1, 0, 1], np.float32),
        np.array([1, 1e-44, 1], np.float32),
        np.ones(2, np.float32),
    ],
    "samples_user_factors": [np.ones((2, 3, 3), np.float32), np.ones((3, 3, 2), np.float32), np.ones((3, 2))],
    "samples_user_bias": [np.ones((0, 3), np.float32), np.ones(3, np.float32), np.array(1, np.float32)],
    "samples_user_precisions": [
        np.zeros((2, 3), np.float32),
        np.full((2, 3), -1, np.float32),
        np.full((2, 3), 1e-40, np.float32),
    ],
    "samples_item_precisions": [np.array([[1, 1, 1], [1, 1, 0]], np.float32)],
    "more": [np.zeros(3)],
    "mean": [np.zeros(3)],
    "user_ids": [np.array([1, 2, 3])],
}


@pytest.mark.parametrize("name", LIES)
def test_arrays_that_lie_or_are_missing_are_refused(path, saved, name):
    _, tensors, metadata = saved
    put(path, tensors, metadata)
    fastmf.load(path)
    files = [(tensors | {name: lie}, metadata) for lie in LIES[name]]
    if name in tensors:
        files.append(({key: array for key, array in tensors.items() if key != name}, metadata))
    all_refused(path, files)


def test_samples_without_users_draws_or_a_prior_are_refused(path, saved):
    _, tensors, metadata = saved
    none = {name: array[:0] for name, array in tensors.items() if name.startswith("samples")}
    put(path, tensors | none, metadata)
    refused(path, "it has 0 samples")
    put(path, {name: array for name, array in tensors.items() if "_prior_" not in name}, metadata)
    refused(path, "it has samples, but no prior")
    bare = {name: array for name, array in tensors.items() if "_prior_" not in name and "samples" not in name}
    put(path, bare, metadata)
    assert fastmf.load(path).samples is None


def test_models_without_users_or_items_are_refused(path, saved):
    _, tensors, metadata = saved
    none = {name: array[:0] for name, array in tensors.items() if name.startswith(("item_", "links_items"))}
    put(path, tensors | none, metadata)
    refused(path, "there are no item_ids")


def test_number_types_that_numpy_lacks_are_refused(path, saved):
    whole = saved[0]
    size = int.from_bytes(whole[:8], "little")
    bits = {"BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "C64": 64, "F64": 64, "I64": 64, "U32": 32, "F4": 4, "nonsense": 32}
    for dtype, width in bits.items():
        header = json.loads(whole[8 : 8 + size])
        header["user_factors"] |= {"dtype": dtype, "shape": [3, 64 // width]}
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + size :])
        refused(path)


def test_metadata_that_is_no_description_is_refused(path, saved):
    texts = ["", "{", "[]", "5", "null", '"x"', "{}", '{"format": 1}', "[" * 100_000, '{"a":' * 100_000]
    all_refused(path, [(saved[1], text) for text in texts])


def test_another_version_of_the_format_is_named(path, saved):
    _, tensors, metadata = saved
    put(path, tensors, metadata | {"format": 4})
    refused(path, r"model\.fastmf has format 4, this version reads 1 and 2")
    for version in (0, -1, 3, "2", None, [1]):
        put(path, tensors, metadata | {"format": version})
        refused(path, "has format")


def as_format_1(tensors, metadata):
    """The content of a file as format 1 had it: rules, priors and links of the users alone."""
    lost = ("item_prior_", "links_users", "user_features", "item_features", "user_expected", "item_expected")
    lost += "user_choice_expected", "item_choice_expected"
    tensors = {name: array for name, array in tensors.items() if not name.startswith(lost)}
    tensors["prior_items"] = tensors.pop("user_prior_others")
    tensors = {name.replace("user_prior_", "prior_"): array for name, array in tensors.items()}
    metadata = metadata | {"format": 1, "fold_in_rule": metadata["user_rule"]}
    later = "user_rule", "item_rule", "half_life", "negative_to", "user_features", "item_features"
    return tensors, {name: value for name, value in metadata.items() if name not in later}


def test_files_of_format_1_are_read(path, saved):
    _, tensors, metadata = saved
    put(path, *as_format_1(tensors, metadata))
    found = State(**file.read_model(path))
    links = state().links._replace(users=np.zeros((3, 2), np.float32))
    later = "item_rule", "item_prior", "half_life", "negative_to", "user_features", "item_features"
    of_features = [f"{side}_{group}" for side in ("user", "item") for group in ("expected", "choice_expected")]
    given = state(**dict.fromkeys((*later, *of_features)), links=links)
    for field in dataclasses.fields(State):
        assert_same(getattr(given, field.name), getattr(found, field.name))
    all_refused(path, [as_format_1(tensors | {"user_prior_others": np.zeros(3, np.float32)}, metadata)])
    all_refused(path, [as_format_1(tensors, metadata | {"user_rule": EQUATIONS | {"reg": -1}})])
    tensors, metadata = as_format_1(tensors, metadata)
    for name in ("user_factors", "prior_items", "links_items", "links_origin"):
        all_refused(path, [({key: array for key, array in tensors.items() if key != name}, metadata)])
    for name in ("fold_in_rule", "mean", "history", "rows"):
        all_refused(path, [(tensors, {key: value for key, value in metadata.items() if key != name})])


EPOCH = dataclasses.asdict(Epoch(number=1, seconds=0.5, train_rmse=0.1))
EQUATIONS = dataclasses.asdict(FoldInRule())
WRONG = {
    "mean": [None, "3", [1], {}, float("nan"), float("inf"), 1e308],
    "scale": [None, "1", 0, 0.0, -1.0, 1e-320, float("nan"), float("inf")],
    "rating_range": [None, 5, "ab", [], [1], [1, 2, 3], ["1", "2"], [5, 1], [float("nan"), 1], [0, float("inf")], {}],
    "solver": [None, 5, "als", [], {}, {"name": 5}, [["name", "als"]]],
    "implicit": [None, 0, 1, "yes", []],
    "positive_from": ["3", [], float("nan"), 1e308],
    "negative_to": ["3", [], float("nan"), 1e308],
    "item_features": [None, 5, "x", {}, [], [5], [{}], [{"name": "age"}]],
    "user_rule": [
        *(5, "x", [], {}, {"reg": 0.1}, EQUATIONS | {"more": 1}),
        *(EQUATIONS | {"reg": value} for value in ("1", None, -1, float("nan"), 1e308, [])),
        *(EQUATIONS | {name: -1} for name in EQUATIONS),
        *(EQUATIONS | {"seed": value} for value in (1.5, 2**63, None, "1")),
        EQUATIONS | {"bias_reg": "x"},
    ],
    "item_rule": [5, {}, EQUATIONS | {"reg": -1}, EQUATIONS | {"seed": 2**63}],
    "history": [None, 5, "x", {}, [5], ["x"], [None], [{}], [EPOCH | {"more": 1}], [EPOCH | {"seconds": "x"}]],
    "best_epoch": ["1", 1.5, [], {}, 0, 2],
    "rows": [None, 5, "x", [], {"read": "x"}, {"read": []}],
    "weight": [5, [], {}],
    "half_life": [
        *(5, "x", [], {}, {"days": 5}, dataclasses.asdict(AGES) | {"more": 1}),
        *(dataclasses.asdict(AGES) | {"days": value} for value in (0, -1.0, None, "5", float("inf"), 1e300)),
        *(dataclasses.asdict(AGES) | {"newest": value} for value in (None, "5", float("nan"), 1e300)),
        *(dataclasses.asdict(AGES) | {"timestamp": value} for value in (None, 5)),
        *(dataclasses.asdict(AGES) | {"time_unit": value} for value in (None, "h", [])),
    ],
    "duplicates": [None, 5, []],
    "blend": ["1", -0.5, float("nan"), 1e308],
    "version": [None, 5, []],
    "id_types": [None, 5, "x", [], {}, {"user_ids": "large_string"}],
}


@pytest.mark.parametrize("name", WRONG)
def test_metadata_of_wrong_types_or_missing_are_refused(path, saved, name):
    _, tensors, metadata = saved
    files = [(tensors, metadata | {name: value}) for value in WRONG[name]]
    missing = tensors, {key: value for key, value in metadata.items() if key != name}
    all_refused(path, [*files, missing])


NOT_FOR_INT16 = (
    *(None, 5, [], {}, "", "nonsense", "list", "null", "float", "double", "halffloat", "decimal128(3, 1)", "string"),
    *("large_string", "fixed_size_binary[2]", "extension<arrow.uuid>", "int8", "uint16", "int64", "bool", "date32"),
    *("time64[ns]", "month_day_nano_interval", "timestamp[us, tz=No/Where]", "timestamp[us, tz=]"),
)
ID_TYPES = {  # the items' ids, a type that fits them, and types that do not
    "int16": ("int16", NOT_FOR_INT16),
    "timestamp": (
        "timestamp[us, tz=UTC]",
        ("double", "time64[ns]", "month_day_nano_interval", "timestamp[us, tz=No/Where]"),
    ),
    "fixed-size binary": (
        "fixed_size_binary[2]",
        ("fixed_size_binary[3]", "fixed_size_binary[-1]", "fixed_size_binary[x]", "uuid"),
    ),
}


@pytest.mark.parametrize("items", ID_TYPES)
def test_types_of_ids_that_lie_are_refused(path, items):
    file.write_model(state(items=IDS[items]), path, overwrite=False)
    tensors, metadata = contents(path)
    fits, wrong = ID_TYPES[items]
    described = [metadata | {"id_types": {"user_ids": "large_string", "item_ids": name}} for name in (fits, *wrong)]
    put(path, tensors, described[0])
    fastmf.load(path)
    all_refused(path, [(tensors, other) for other in described[1:]])


# files of strangers


MUTATIONS = """
    import dataclasses, json, random, sys, warnings
    from pathlib import Path
    import fastmf
    from fastmf.model.state import State
    from fastmf.data.arrays import ArrayFile

    ArrayFile._checked_digests = lambda *_: ({}, True)  # as if every digest were right
    ArrayFile.intact = lambda *_: True
    whole, path, count = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2]), int(sys.argv[3])
    rng, header = random.Random(0), 8 + int.from_bytes(whole[:8], "little")
    digits = [at for at in range(8, header) if whole[at : at + 1].isdigit()]
    found = {"loaded": 0, "refused": 0}

    def mutated():
        data, kind = bytearray(whole), rng.randrange(6)
        for _ in range(rng.randint(1, 2)):
            at = rng.randrange(8, header) if rng.random() < 0.5 else rng.randrange(len(data))
            if kind == 0:
                data[at] ^= 1 << rng.randrange(8)
            elif kind == 1:
                data[at] = rng.randrange(256)
            elif kind == 2:
                data[rng.choice(digits)] = rng.choice(b"0123456789-e")
            elif kind == 3:
                del data[at : at + rng.randint(1, 9)]
            elif kind == 4:
                data[at:at] = rng.randbytes(rng.randint(1, 9))
            else:
                other = rng.randrange(len(data))
                data[at : at + 8] = data[other : other + 8]
        return bytes(data)

    for _ in range(count):
        path.write_bytes(mutated())
        models = []
        for mmap in (False, True):
            try:
                model = fastmf.load(path, mmap=mmap)
                [getattr(model, field.name) for field in dataclasses.fields(State)]
                models.append(model)
            except fastmf.ModelFormatError:
                pass
        assert len(models) in (0, 2), "mapped or loaded, but not both"
        if not models:
            found["refused"] += 1
            continue
        found["loaded"] += 1
        model = models[found["loaded"] % 2]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.recommend(n=2, include_seen=True)
            model.similar_items(model.item_ids[:1])
            model.predict(model.user_ids[:1], model.item_ids[:1], std=model.samples is not None)
            for fold_in, item_ids in ((model.fold_in, model.item_ids[:1]), (model.fold_in_items, [5])):
                try:
                    fold_in((model.user_ids[:1], item_ids, [1.0]))
                except fastmf.FastMFError:
                    pass
    print(json.dumps(found))
"""


@pytest.mark.parametrize("prior", ["with a prior", "without"])
def test_mutated_files_are_models_or_format_errors_and_never_a_crash(path, prior):
    bare = {} if prior == "with a prior" else dict.fromkeys(("user_prior", "item_prior", "samples"))
    file.write_model(state(weight=None, **bare), path, overwrite=False)
    script = [sys.executable, "-c", textwrap.dedent(MUTATIONS), path, path.with_name("mutated"), 1200]
    done = subprocess.run(list(map(str, script)), capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["loaded"] + found["refused"] == 1200
    assert min(found.values()) > 100


AUDIT = """
    import json, sys, fastmf
    fastmf.load(sys.argv[1])  # late imports are done after this
    events = set()
    sys.addaudithook(lambda event, _: events.add(event))
    fastmf.load(sys.argv[1])
    print(json.dumps(sorted(events)))
"""


def test_loading_runs_nothing_and_asks_nobody(path, saved):
    script = [sys.executable, "-c", textwrap.dedent(AUDIT), str(path)]
    done = subprocess.run(script, capture_output=True, text=True, timeout=100, check=True)
    events = json.loads(done.stdout)
    assert "open" in events
    hostile = ("exec", "compile", "import", "pickle", "marshal", "socket", "subprocess", "os.system", "ctypes.dlopen")
    assert [event for event in events if event.startswith(hostile)] == []
