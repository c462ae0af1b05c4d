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
    "fastmf.ratings": ("Ratings",),
    "fastmf.epoch": ("Epoch",),
    "fastmf.model": ("Model",),
    "fastmf.evaluation": ("evaluate",),
    "fastmf.precompile": ("warmup",),
    "fastmf.splitting": ("split",),
    "fastmf.solvers": ("ALS", "Gibbs", "ImplicitALS", "LinkedALS", "SGD"),
    "fastmf.training": ("fit",),
    "fastmf.tuning": ("Trial", "Tuning", "tune"),
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
    from fastmf.epoch import Epoch
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
    from fastmf.evaluation import evaluate
    from fastmf.model import Model
    from fastmf.precompile import warmup
    from fastmf.ratings import Ratings
    from fastmf.solvers import ALS, SGD, Gibbs, ImplicitALS, LinkedALS
    from fastmf.splitting import split
    from fastmf.training import fit
    from fastmf.tuning import Trial, Tuning, tune


def load(path: Any) -> "Model":
    """Read a model that :meth:`Model.save` wrote; see :meth:`Model.load`."""
    from fastmf.model import Model

    return Model.load(path)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'fastmf' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
