import json

import numpy as np
import pytest
import safetensors.numpy

from fastmf.data.arrays import digest_of, digests_of, load_arrays, save_arrays

ARRAYS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([], np.int64), "c": np.arange(8)[::2]}


@pytest.fixture
def path(tmp_path):
    save_arrays(ARRAYS, tmp_path / "file", '{"text": "é"}')
    return tmp_path / "file"


def test_arrays_and_text_come_back(path):
    arrays, text, right = load_arrays(path)
    assert right
    assert text == '{"text": "é"}'
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype
        assert arrays[name].flags.writeable


def test_each_array_has_a_digest_of_its_own(path):
    with safetensors.safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    digests = json.loads(metadata["digests"])
    assert digests == {name: digest_of(name, array) for name, array in ARRAYS.items()}
    assert metadata == {"fastmf": '{"text": "é"}', **digests_of(ARRAYS, '{"text": "é"}')}


def test_a_digest_is_of_name_type_shape_and_values():
    array = np.arange(4, dtype=np.int32)
    others = [array.view(np.uint32), array.reshape(2, 2), array[::-1], array.astype(np.int64)]
    digests = {digest_of("a", array), digest_of("b", array), *(digest_of("a", other) for other in others)}
    assert len(digests) == 6
    assert digest_of("a", np.repeat(array, 2)[::2]) == digest_of("a", array)


@pytest.mark.parametrize("damage", ["a value", "the text", "the digests", "the digest", "a missing array"])
def test_damage_is_revealed(path, damage):
    text, arrays = '{"text": "é"}', {name: array.copy() for name, array in ARRAYS.items()}
    metadata = {"fastmf": text, **digests_of(arrays, text)}
    if damage == "a value":
        arrays["a"][0, 0] = 7
    elif damage == "a missing array":
        del arrays["b"]
    else:
        entry = {"the text": "fastmf", "the digests": "digests", "the digest": "digest"}[damage]
        metadata[entry] = metadata[entry].replace(metadata[entry][3], "?")
    safetensors.numpy.save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path, metadata)
    found, read, right = load_arrays(path)
    assert not right
    assert found.keys() == arrays.keys()
    assert read == metadata["fastmf"]


@pytest.mark.parametrize("metadata", [None, {}, {"other": "x"}], ids=str)
def test_a_file_of_another_program_has_no_text(path, metadata):
    safetensors.numpy.save_file({"a": np.zeros(2)}, path, metadata)
    arrays, text, right = load_arrays(path)
    assert (arrays.keys(), text, right) == ({"a"}, None, False)


def test_a_file_that_cannot_be_written_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match=r"missing.file could not be written"):
        save_arrays(ARRAYS, tmp_path / "missing" / "file", "{}")


def test_the_layout_is_that_of_safetensors_itself(tmp_path):
    rng, text = np.random.default_rng(0), '{"é": "x\\n", "q": "\\""}'
    kinds = ["u8", "i8", "f8", "f4", "u4", "i4", "f2", "u2", "i2", "i1", "u1", "?"]
    arrays = {f"{place} {kind}": rng.integers(0, 2, (3, 5)).astype(kind) for place in "ba" for kind in kinds}
    arrays |= {"empty": np.zeros((0, 3), np.float32), "strided": np.arange(8)[::2], "big": np.arange(3, dtype=">i4")}
    save_arrays(arrays, tmp_path / "ours", text)
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    metadata = {"fastmf": text, **digests_of(whole, text)}
    safetensors.numpy.save_file(whole, tmp_path / "theirs", metadata)
    ours, theirs = load_arrays(tmp_path / "ours"), load_arrays(tmp_path / "theirs")
    for name, array in theirs[0].items():
        np.testing.assert_array_equal(ours[0][name], array)
        assert ours[0][name].dtype == array.dtype
    assert ours[1:] == theirs[1:]
    one, other = ((tmp_path / name).read_bytes() for name in ("ours", "theirs"))
    header = 8 + int.from_bytes(one[:8], "little")
    assert one[:8] == other[:8]
    assert json.loads(one[8:header]) == json.loads(other[8:header])
    assert one[header:] == other[header:]
