import pytest

from fastmf.errors import ParameterError
from fastmf.runtime.memory import available_memory, parse_size, size, total_memory


def test_sizes_are_read():
    for text, expected in {
        "4GiB": 4 * 2**30,
        "4g": 4 * 2**30,
        " 1.5 GB ": 3 * 2**29,
        "512k": 2**19,
        "7": 7,
        1e17: 10**17,
        None: None,
    }.items():
        assert parse_size(text) == expected


def test_what_is_no_size_is_refused():
    for text in ("", "GiB", "-1", "0", "1e9", "4 QiB", "nan", float("nan"), float("inf"), -5, True):
        with pytest.raises(ParameterError, match=f"memory limit is {text!r}: give bytes, or a number with a unit"):
            parse_size(text)


def test_sizes_are_written_for_people():
    assert [size(n) for n in (1000, 2**19, 2**29)] == ["1,000 bytes", "0.5 MiB", "0.50 GiB"]


def test_this_machine_has_memory():
    if total_memory() is None:
        pytest.skip("this system does not tell")
    assert 0 < available_memory() <= total_memory()
