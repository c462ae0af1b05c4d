import json
import pickle
import subprocess
import sys
import textwrap
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy

import fastmf
from fastmf.errors import ModelFormatError
from fastmf.model import file, learned
from fastmf.model.file import read, write

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
EPOCH = {"number": 1, "seconds": 0.5, "train_rmse": 0.1, "validation_rmse": None, "validation_mae": None}


def content(users=IDS["string"], items=IDS["int16"], seen=True):
    """The smallest things a model file can hold: arrays, ids, metadata."""
    rng = np.random.default_rng(0)
    arrays = {}
    for side, n in (("user", len(users)), ("item", len(items))):
        arrays[f"{side}_factors"] = rng.standard_normal((n, 2)).astype(np.float32)
        arrays[f"{side}_bias"] = rng.standard_normal(n).astype(np.float32)
        arrays[f"{side}_counts"] = np.ones(n, np.int32)
    sizes = {"users": len(users), "items": len(items), "k": 2, "numbers": 3, "samples": 2}
    for group, shapes in learned.SHAPES.items():
        for part, shape in zip(learned.KINDS[group]._fields, shapes, strict=True):
            arrays[f"{group}_{part}"] = np.ones([sizes[name] for name in shape], np.float32)
    arrays["prior_precision"] = np.eye(2, dtype=np.float32)
    if seen:
        arrays["seen_indptr"] = np.arange(len(users) + 1)
        arrays["seen_indices"] = np.arange(len(users), dtype=np.int32) % len(items)
    metadata = {
        "version": "0.1.0",
        "mean": 1 / 3,
        "scale": 2**0.5,
        "rating_range": [0.5, 5],
        "solver": {"name": "als", "reg": 0.1, "reg0": 0, "bias_reg": 3.0},
        "history": [EPOCH],
        "best_epoch": None,
        "rows": {"read": 3, "used": 3, "duplicates": 0},
    }
    return arrays, {"user_ids": users, "item_ids": items}, metadata


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.fastmf"


@pytest.fixture
def saved(path):
    """The bytes of a whole model file, and its tensors and metadata."""
    write(path, *content(), overwrite=False)
    with safetensors.safe_open(path, "numpy") as file:
        metadata = json.loads(file.metadata()["fastmf"])
    return path.read_bytes(), safetensors.numpy.load(path.read_bytes()), metadata


def put(path, tensors, metadata):
    text = metadata if isinstance(metadata, str) else json.dumps(metadata)
    safetensors.numpy.save_file(tensors, path, {"fastmf": text, "digest": file.digest_of(tensors, text)})


def refused(path, message=None):
    with pytest.raises(ModelFormatError, match=message):
        fastmf.load(path)


# what is written is read


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("seen", [True, False])
def test_everything_written_is_read_back(path, name, seen):
    arrays, ids, metadata = content(IDS[name], IDS[name], seen)
    write(path, arrays, ids, metadata, overwrite=False)
    arrays_back, ids_back, metadata_back = read(path)
    assert arrays_back.keys() == arrays.keys()
    for key, array in arrays.items():
        np.testing.assert_array_equal(arrays_back[key], array)
        assert arrays_back[key].dtype == array.dtype
        assert arrays_back[key].flags.writeable  # as those of a fit, so that kernels are compiled once
    for key, column in ids.items():
        assert ids_back[key].type == column.type
        assert ids_back[key].equals(column)
    assert metadata_back == {
        **metadata,
        "format": file.FORMAT,
        "id_types": {key: str(column.type) for key, column in ids.items()},
    }


def test_a_file_can_be_read_without_fastmf(saved):
    _, tensors, metadata = saved
    np.testing.assert_array_equal(tensors["user_factors"], content()[0]["user_factors"])
    assert tensors["item_ids"].tolist() == [-3, 0, 7]
    offsets, data = tensors["user_ids.offsets"].tolist(), tensors["user_ids.bytes"].tobytes()
    texts = [data[a:b].decode() for a, b in pairwise(offsets)]
    assert texts == ["", "a", "\U0001f600"]
    assert metadata["format"] == 3
    assert metadata["id_types"] == {"user_ids": "large_string", "item_ids": "int16"}


def test_arrays_that_are_no_whole_blocks_of_memory_are_written_as_they_look(path):
    arrays, ids, metadata = content()
    wide = np.random.default_rng(1).standard_normal((4, 3)).astype(np.float32)
    arrays["user_factors"] = wide.T[:, ::2]
    write(path, arrays, ids, metadata, overwrite=False)
    np.testing.assert_array_equal(read(path)[0]["user_factors"], wide.T[:, ::2])


def test_metadata_that_is_no_json_is_not_written(path):
    arrays, ids, metadata = content()
    with pytest.raises(ValueError, match="not JSON compliant"):
        write(path, arrays, ids, metadata | {"mean": np.nan}, overwrite=False)
    assert list(path.parent.iterdir()) == []


# what is not a model file


FRAME = pd.DataFrame({"user": [1], "item": [1], "rating": [1.0]})


def write_npz(path):
    with path.open("wb") as file:
        np.savez(file, a=np.zeros(300))


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


# what lies


NAN, HUGE = np.float32(np.nan), 2**63 - 1
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
    "links_origin": [np.zeros((1, 2), np.float32), np.zeros(2, np.int32)],
    "prior_precision": [
        np.zeros((2, 2), np.float32),
        np.array([[1, 2], [2, 1]], np.float32),
        np.array([[1, 2], [0.5, 1]], np.float32),
        np.array([[1e30, 0], [0, 1]], np.float32),
        np.array([[1, 0], [0, NAN]], np.float32),
        np.eye(2),
        np.ones(2, np.float32),
    ],
    "prior_mean": [np.zeros(3, np.float32)],
    "prior_items": [np.array([1, 1, 0], np.float32), np.array([1, 1, -1], np.float32), np.ones(2, np.float32)],
    "prior_numbers": [
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


@pytest.mark.parametrize(("name", "number"), [(name, n) for name, lies in LIES.items() for n in range(len(lies))])
def test_arrays_that_lie_are_refused(path, saved, name, number):
    _, tensors, metadata = saved
    put(path, tensors, metadata)
    fastmf.load(path)
    put(path, tensors | {name: LIES[name][number]}, metadata)
    refused(path)


def test_a_group_that_its_solver_has_learned_must_be_there(path, saved):
    _, tensors, metadata = saved
    for solver, group in (("als-links", "links"), ("gibbs", "links"), ("gibbs", "prior")):
        settings = {"name": solver, "links": True}
        left = {name: array for name, array in tensors.items() if not name.startswith((group, "samples"))}
        put(path, left, metadata | {"solver": settings})
        refused(path, "are not there|is not there")
        put(path, tensors, metadata | {"solver": settings})
        fastmf.load(path)


@pytest.mark.parametrize("name", [name for name in LIES if name not in ("more", "mean", "user_ids")])
def test_arrays_that_are_missing_are_refused(path, saved, name):
    _, tensors, metadata = saved
    put(path, {key: array for key, array in tensors.items() if key != name}, metadata)
    refused(path)


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "F8_E5M2", "C64", "F64", "I64", "U32", "F4", "nonsense"])
def test_types_of_numbers_that_numpy_lacks_are_refused(path, saved, dtype):
    whole = saved[0]
    size = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + size])
    bits = {"BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "C64": 64, "F64": 64, "I64": 64, "U32": 32, "F4": 4}.get(dtype, 32)
    header["user_factors"] |= {"dtype": dtype, "shape": [3, 64 // bits]}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + size :])
    refused(path)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "5", "null", '"x"', "{}", '{"format": 1}', "[" * 100_000, '{"a":' * 100_000]
)
def test_metadata_that_is_no_description_is_refused(path, saved, text):
    put(path, saved[1], text)
    refused(path)


def test_another_version_of_the_format_is_named(path, saved):
    _, tensors, metadata = saved
    put(path, tensors, metadata | {"format": 4})
    refused(path, r"model\.fastmf has format 4, this version reads 3")
    for version in (0, -1, "2", None, [1]):
        put(path, tensors, metadata | {"format": version})
        refused(path, "has format")


BAD_SETTINGS = (
    {"reg": "1"},
    {"reg0": -1},
    {"bias_reg": float("nan")},
    {"fade": -1},
    {"fade": "x"},
    {"seed": -1},
    {"seed": 1.5},
    {"seed": 2**63},
    {"biases": 1},
)
WRONG = {
    "mean": [None, "3", [1], {}, float("nan"), float("inf"), 1e308],
    "scale": [None, "1", 0, 0.0, -1.0, 1e-320, float("nan"), float("inf")],
    "rating_range": [None, 5, "ab", [], [1], [1, 2, 3], ["1", "2"], [5, 1], [float("nan"), 1], [0, float("inf")], {}],
    "solver": [None, 5, "als", [], [["name", "als"]], *({"name": "als", **setting} for setting in BAD_SETTINGS)],
    "history": [None, 5, "x", {}, [5], ["x"], [None], [{}], [EPOCH | {"more": 1}], [EPOCH | {"seconds": "x"}]],
    "best_epoch": ["1", 1.5, [], {}],
    "rows": [None, 5, "x", [], {"read": "x"}, {"read": []}],
    "version": [None, 5, []],
    "id_types": [None, 5, "x", [], {}, {"user_ids": "large_string"}],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_metadata_of_wrong_types_is_refused(path, saved, name, value):
    _, tensors, metadata = saved
    put(path, tensors, metadata | {name: value})
    refused(path)


@pytest.mark.parametrize("name", [*WRONG, "format"])
def test_metadata_that_is_missing_is_refused(path, saved, name):
    _, tensors, metadata = saved
    put(path, tensors, {key: value for key, value in metadata.items() if key != name})
    refused(path)


@pytest.mark.parametrize(
    "type_name",
    [
        *[
            None,
            5,
            [],
            {},
            "",
            "nonsense",
            "list",
            "null",
            "float",
            "double",
            "halffloat",
            "decimal128(3, 1)",
            "string",
        ],
        *["large_string", "fixed_size_binary[2]", "extension<arrow.uuid>", "int8", "uint16", "int64", "bool", "date32"],
        *["time64[ns]", "month_day_nano_interval", "timestamp[us, tz=No/Where]", "timestamp[us, tz=]"],
    ],
)
def test_types_of_ids_that_do_not_fit_are_refused(path, saved, type_name):
    _, tensors, metadata = saved
    put(path, tensors, metadata | {"id_types": {"user_ids": "large_string", "item_ids": type_name}})
    refused(path)


@pytest.mark.parametrize("type_name", ["double", "time64[ns]", "month_day_nano_interval", "timestamp[us, tz=No/Where]"])
def test_types_that_ids_cannot_have_are_refused_even_if_they_fit(path, type_name):
    write(path, *content(items=IDS["timestamp"]), overwrite=False)
    with safetensors.safe_open(path, "numpy") as file:
        metadata = json.loads(file.metadata()["fastmf"])
    tensors = safetensors.numpy.load_file(path)
    put(path, tensors, metadata | {"id_types": {"user_ids": "large_string", "item_ids": "timestamp[us, tz=UTC]"}})
    fastmf.load(path)
    put(path, tensors, metadata | {"id_types": {"user_ids": "large_string", "item_ids": type_name}})
    refused(path)


@pytest.mark.parametrize("type_name", ["fixed_size_binary[3]", "fixed_size_binary[-1]", "fixed_size_binary[x]", "uuid"])
def test_sizes_of_ids_that_lie_are_refused(path, type_name):
    write(path, *content(items=IDS["fixed-size binary"]), overwrite=False)
    with safetensors.safe_open(path, "numpy") as file:
        metadata = json.loads(file.metadata()["fastmf"])
    tensors = safetensors.numpy.load_file(path)
    fastmf.load(path)
    put(path, tensors, metadata | {"id_types": {"user_ids": "large_string", "item_ids": type_name}})
    refused(path)


# files of strangers, and of the past


MUTATIONS = """
    import json, random, sys, warnings
    from pathlib import Path
    import fastmf

    whole, path, count = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2]), int(sys.argv[3])
    rng, header = random.Random(int(sys.argv[4])), 8 + int.from_bytes(whole[:8], "little")
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
        try:
            model = fastmf.load(path)
        except fastmf.ModelFormatError:
            found["refused"] += 1
            continue
        found["loaded"] += 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.recommend(n=2, include_seen=True)
            model.similar_items(model.item_ids[:1])
            model.predict(model.user_ids[:1], model.item_ids[:1], std=model.samples is not None)
            if model.prior is None or "reg" in model.solver:
                try:
                    model.fold_in((model.user_ids[:1], model.item_ids[:1], [1.0]))
                except fastmf.FastMFError:
                    pass
    print(json.dumps(found))
"""


@pytest.mark.parametrize("seed", range(4))
def test_mutated_files_are_models_or_format_errors_and_never_a_crash(path, saved, seed):
    _, tensors, metadata = saved  # of format 1, where no digest keeps what is damaged from the other checks
    safetensors.numpy.save_file(tensors, path, {"fastmf": json.dumps(metadata | {"format": 1})})
    script = [sys.executable, "-c", textwrap.dedent(MUTATIONS), path, path.with_name("mutated"), 600, seed]
    done = subprocess.run(list(map(str, script)), capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["loaded"] + found["refused"] == 600
    assert min(found.values()) > 15


AUDIT = """
    import json, sys, fastmf
    fastmf.load(sys.argv[1])  # what is imported late has been imported then
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


GOLDEN = Path(__file__).parents[1] / "format-1.fastmf"
PREDICTED = [4.546807, 2.468389]  # by the version that wrote it


def test_a_file_of_format_1_as_it_was_first_written_is_read():
    model = fastmf.load(GOLDEN)
    assert (model.user_ids.to_pylist(), model.item_ids.to_pylist()) == (["ann", "bob", "çelik"], [1, 2, 2**40])
    assert model.rows == {"read": 6, "used": 5, "duplicates": 1}
    assert model.solver["name"] == "als"
    assert [epoch.number for epoch in model.history] == [1, 2]
    np.testing.assert_allclose(model.predict(["ann", "bob"], [2**40, 1])["prediction"], PREDICTED, atol=1e-5)
    assert model.recommend("bob", n=1)["item_id"].tolist() == [2**40]
