"""fastmf: matrix factorization for rating data, in pure Python, on all cores.

    model = fastmf.fit("ratings.parquet", k=32, solver="als")
    model.recommend(42, n=10)

A public name is loaded when it is first used: importing fastmf compiles and starts nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "ALS": "fastmf.solvers.als",
    "SGD": "fastmf.solvers.sgd",
    "DataError": "fastmf.errors",
    "DeviceUnavailableError": "fastmf.errors",
    "DivergenceError": "fastmf.errors",
    "Epoch": "fastmf.model.history",
    "FastMFError": "fastmf.errors",
    "Features": "fastmf.data.features",
    "Gibbs": "fastmf.solvers.gibbs",
    "ImplicitALS": "fastmf.solvers.implicit",
    "LinkedALS": "fastmf.solvers.links",
    "Model": "fastmf.model.model",
    "ModelFormatError": "fastmf.errors",
    "ParameterError": "fastmf.errors",
    "Ratings": "fastmf.data.ratings",
    "ResourceError": "fastmf.errors",
    "Trial": "fastmf.training.tune",
    "Tuning": "fastmf.training.tune",
    "UnknownIdError": "fastmf.errors",
    "cross_validate": "fastmf.training.cross_validate",
    "evaluate": "fastmf.evaluation.evaluate",
    "fit": "fastmf.training.fit",
    "split": "fastmf.data.split",
    "tune": "fastmf.training.tune",
    "warmup": "fastmf.training.warmup",
}

__all__ = [
    "ALS",
    "SGD",
    "DataError",
    "DeviceUnavailableError",
    "DivergenceError",
    "Epoch",
    "FastMFError",
    "Features",
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
    "cross_validate",
    "evaluate",
    "fit",
    "load",
    "split",
    "tune",
    "warmup",
]

if TYPE_CHECKING:
    from fastmf.data.features import Features
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
    from fastmf.solvers.als import ALS
    from fastmf.solvers.gibbs import Gibbs
    from fastmf.solvers.implicit import ImplicitALS
    from fastmf.solvers.links import LinkedALS
    from fastmf.solvers.sgd import SGD
    from fastmf.training.cross_validate import cross_validate
    from fastmf.training.fit import fit
    from fastmf.training.tune import Trial, Tuning, tune
    from fastmf.training.warmup import warmup


def load(path: Any, *, mmap: bool = False) -> "Model":
    """Load a model that :meth:`Model.save` wrote, or with ``mmap`` map its file; see :meth:`Model.load`."""
    from fastmf.model.model import Model

    return Model.load(path, mmap=mmap)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'fastmf' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
