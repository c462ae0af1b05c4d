"""The exceptions fastmf raises on purpose, each with the exit code the command line gives it.

Anything else that reaches the command line is either a file or network error (an ``OSError``, exit 4) or a bug
(exit 1).
"""

from typing import ClassVar


class FastMFError(Exception):
    """Base of every error fastmf raises on purpose; its message says what, how many, which, and what to do."""

    exit_code: ClassVar[int] = 1


class ParameterError(FastMFError, ValueError):
    """A setting has a value it cannot have, or two settings contradict each other."""

    exit_code = 2


class DataError(FastMFError):
    """The ratings, pairs or ids given cannot be used as they are."""

    exit_code = 3


class UnknownIdError(FastMFError):
    """A user or item id is asked for that the model was not trained on."""

    exit_code = 3


class ModelFormatError(FastMFError):
    """A file is not a model file, is damaged, or was written by a newer version."""

    exit_code = 3


class DivergenceError(FastMFError):
    """Training produced values that are not finite, or rows whose equations have no solution."""

    exit_code = 5


class DeviceUnavailableError(FastMFError):
    """The device asked for does not exist here, or cannot be used from this process."""

    exit_code = 6


class ResourceError(FastMFError):
    """The work asked for needs more memory than there is."""

    exit_code = 6
