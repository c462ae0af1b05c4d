import pickle

import pytest

import fastmf
from fastmf import errors

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


@pytest.mark.parametrize("name", EXIT_CODES)
def test_each_error_has_its_exit_code_and_base(name):
    error = getattr(errors, name)
    assert error.exit_code == EXIT_CODES[name]
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
