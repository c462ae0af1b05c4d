"""The exceptions fastmf raises on purpose, each with its exit code, the argument checks that raise them, and counts.

On the command line, an ``OSError`` is a file or network error (exit 4), and any other exception is a bug (exit 1).
"""

import math
import os
from collections.abc import Collection
from numbers import Integral, Real
from typing import Any, ClassVar


class FastMFError(Exception):
    """The base of all errors fastmf raises on purpose; a message says what is wrong, where, and what to do."""

    exit_code: ClassVar[int] = 1


class ParameterError(FastMFError, ValueError):
    """A setting has an invalid value, or two settings contradict each other."""

    exit_code = 2


class DataError(FastMFError):
    """The given ratings, pairs or ids cannot be used as they are."""

    exit_code = 3


class UnknownIdError(FastMFError):
    """A user or item id is not among those the model was trained on."""

    exit_code = 3


class ModelFormatError(FastMFError):
    """A file is not a model file, is damaged, or was written by a newer version."""

    exit_code = 3


class DivergenceError(FastMFError):
    """Training produced values that are not finite, or rows whose equations have no solution."""

    exit_code = 5


class DeviceUnavailableError(FastMFError):
    """The device does not exist here, or this process cannot use it."""

    exit_code = 6


class ResourceError(FastMFError):
    """The work needs more memory than there is."""

    exit_code = 6


def counted(n: int, noun: str) -> str:
    """Return "1 user" or "2 users", for messages.

    >>> counted(1, "epoch"), counted(12_000, "item")
    ('1 epoch', '12,000 items')
    """
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def verb(n: int, singular: str, plural: str) -> str:
    """Return the form of a verb for so many subjects."""
    return singular if n == 1 else plural


def require_choice(name: str, value: Any, choices: Collection[str]) -> None:
    """Raise a ParameterError unless the value is one of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise ParameterError(f"{name} is {brief(value)}: choose {' or '.join(choices)}")


def require_integer(name: str, value: Any, low: int, high: int | None = None) -> None:
    """Raise a ParameterError unless the value is an integer in [low, high]."""
    integer = isinstance(value, Integral) and not isinstance(value, bool)
    if not integer or value < low or (high is not None and value > high):
        limits = f"of at least {low}" + (f" and at most {high}" if high else "")
        raise ParameterError(f"{name} is {brief(value)}: give an integer {limits}")


def require_path(name: str, value: Any) -> None:
    """Raise a ParameterError unless the value is the path of a file or a folder, as text or a Path."""
    if not isinstance(value, str | os.PathLike):
        raise ParameterError(f"{name} is {brief(value)}: give a path")


def brief(value: Any) -> str:
    """Return a value as a message shows it: on one line, and cut."""
    text = " ".join(repr(value).split())
    return f"{type(value).__name__} {text}"[:60] + "…" if len(text) > 60 else text


def require_truth(name: str, value: Any) -> None:
    """Raise a ParameterError unless the value is True or False, of Python or of NumPy."""
    if not isinstance(value, bool) and not (getattr(value, "shape", None) == () and value.dtype == bool):
        raise ParameterError(f"{name} is {brief(value)}: give True or False")


def require_number(name: str, value: Any, *, low: float, above: bool = False, high: float = math.inf) -> None:
    """Raise a ParameterError unless the value is a finite number in [low, high], or in (low, high] if ``above``."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < low or value > high or (above and value == low):
        limits = f"{'above' if above else 'of at least'} {low:g}"
        limits += f" and at most {high:g}" if high < math.inf else ""
        raise ParameterError(f"{name} is {brief(value)}: give a number {limits}")
