"""Read-only views of a model's arrays for its users, and writable views of the same arrays for kernels.

Numba compiles a kernel anew for read-only arrays. So kernels get the arrays of a model as they get those of a fit.
"""

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")


def frozen(value: Any) -> Any:
    """Return read-only views of an array, or of the arrays in a tuple; anything else, and what is read-only, as it is.

    An array that :func:`thawed` could not make writable is copied.
    """
    if isinstance(value, tuple):
        return _mapped(value, frozen)
    if not isinstance(value, np.ndarray):
        return value
    owned = value.flags.writeable or _view(value).flags.writeable
    if owned and not value.flags.writeable:
        return value
    view = (value if owned else value.copy()).view()
    view.flags.writeable = False
    return view


def thawed(value: T) -> T:
    """Return writable views of arrays that :func:`frozen` returned. Nobody may write to them."""
    found: Any = value
    if isinstance(value, tuple):
        found = _mapped(value, thawed)
    elif isinstance(value, np.ndarray):
        found = _view(value)
    return found


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """Change each element of a tuple; return the tuple itself if that changes none."""
    found = [change(each) for each in value]
    if all(new is old for new, old in zip(found, value, strict=True)):
        return value
    return value._make(found) if hasattr(value, "_make") else tuple(found)


def _view(array: np.ndarray) -> np.ndarray:
    """Return a view that is writable if the memory is."""
    view = array.view()
    with contextlib.suppress(ValueError):  # the memory is not NumPy's, and cannot be written to
        view.flags.writeable = True
    return view
