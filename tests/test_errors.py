import pickle
import re

import numpy as np
import pytest

import fastmf
from fastmf import errors
from fastmf.errors import require_choice, require_integer, require_number, require_truth

EXIT_CODES = {
    "FastMFError": 1,
    "ParameterError": 2,
    "DataError": 3,
    "UnknownIdError": 3,
    "ModelFormatError": 3,
    "DivergenceError": 5,
    "DeviceUnavailableError": 6,
    "ResourceError": 6,
}


def test_the_table_above_names_every_error():
    defined = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert defined == set(EXIT_CODES)


def test_each_error_has_its_exit_code_and_base():
    for name, exit_code in EXIT_CODES.items():
        error = getattr(errors, name)
        assert error.exit_code == exit_code
        assert issubclass(error, errors.FastMFError)
        assert getattr(fastmf, name) is error


def test_a_parameter_error_is_a_value_error_and_no_error_is_an_os_error():
    assert issubclass(errors.ParameterError, ValueError)
    assert not issubclass(errors.DataError, ValueError)
    assert not any(issubclass(getattr(errors, name), OSError) for name in EXIT_CODES)


def test_errors_pass_between_processes():
    error = pickle.loads(pickle.dumps(fastmf.UnknownIdError("3 ids are unknown")))
    assert isinstance(error, fastmf.UnknownIdError)
    assert str(error) == "3 ids are unknown"


# the checks of arguments


@pytest.mark.parametrize(
    ("check", "arguments", "good", "bad", "message"),
    [
        (require_choice, {"choices": ("a", "b")}, ["a", "b"], ["c", "", None, ["a"]], "choose a or b"),
        (require_truth, {}, [True, False], [1, 0, None, "yes"], "give True or False"),
        (
            require_integer,
            {"low": 1},
            [1, np.int8(2), 10**30],
            [0, -1, True, 1.0, "1", None, float("nan")],
            "give an integer of at least 1$",
        ),
        (require_integer, {"low": 0, "high": 5}, [0, 5], [6, -1], "give an integer of at least 0 and at most 5$"),
        (
            require_number,
            {"low": 0},
            [0, 0.5, np.float32(2), 10**30],
            [-1e-9, True, "1", None, float("nan"), float("inf")],
            "give a number of at least 0$",
        ),
        (
            require_number,
            {"low": 0, "above": True, "high": 1},
            [1, 1e-9],
            [0, 1.5],
            "give a number above 0 and at most 1$",
        ),
    ],
)
def test_an_argument_is_checked_and_named(check, arguments, good, bad, message):
    for value in good:
        check("it", value, **arguments)
    for value in bad:
        with pytest.raises(errors.ParameterError, match=f"^it is {re.escape(repr(value))}: {message}"):
            check("it", value, **arguments)
