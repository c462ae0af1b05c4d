"""fastmf: matrix factorization for rating data, in pure Python, on all cores.

    model = fastmf.fit("ratings.parquet", k=32, solver="als")
    model.recommend(42, n=10)

The public names load what they need when they are first used: importing fastmf compiles and starts nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "fastmf.errors": (
        "DataError",
        "DeviceUnavailableError",
        "DivergenceError",
        "FastMFError",
        "ModelFormatError",
        "ParameterError",
        "ResourceError",
        "UnknownIdError",
    ),
    "fastmf.data.ratings": ("Ratings",),
    "fastmf.model.history": ("Epoch",),
    "fastmf.model.model": ("Model",),
    "fastmf.evaluation.evaluate": ("evaluate",),
    "fastmf.training.warmup": ("warmup",),
    "fastmf.data.split": ("split",),
    "fastmf.solvers": ("ALS", "Gibbs", "ImplicitALS", "LinkedALS", "SGD"),
    "fastmf.training.fit": ("fit",),
    "fastmf.training.tune": ("Trial", "Tuning", "tune"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "ALS",
    "SGD",
    "DataError",
    "DeviceUnavailableError",
    "DivergenceError",
    "Epoch",
    "FastMFError",
    "Gibbs",
    "ImplicitALS",
    "LinkedALS",
    "Model",
    "ModelFormatError",
    "ParameterError",
    "Ratings",
    "ResourceError",
    "Trial",
    "Tuning",
    "UnknownIdError",
    "evaluate",
    "fit",
    "load",
    "split",
    "tune",
    "warmup",
]

if TYPE_CHECKING:
    from fastmf.data.ratings import Ratings
    from fastmf.data.split import split
    from fastmf.errors import (
        DataError,
        DeviceUnavailableError,
        DivergenceError,
        FastMFError,
        ModelFormatError,
        ParameterError,
        ResourceError,
        UnknownIdError,
    )
    from fastmf.evaluation.evaluate import evaluate
    from fastmf.model.history import Epoch
    from fastmf.model.model import Model
    from fastmf.solvers import ALS, SGD, Gibbs, ImplicitALS, LinkedALS
    from fastmf.training.fit import fit
    from fastmf.training.tune import Trial, Tuning, tune
    from fastmf.training.warmup import warmup


def load(path: Any) -> "Model":
    """Read a model that :meth:`Model.save` wrote; see :meth:`Model.load`."""
    from fastmf.model.model import Model

    return Model.load(path)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'fastmf' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
