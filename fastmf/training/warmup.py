"""Compile all kernels ahead of time, by fitting and serving small models.

A kernel is compiled for the types of its arrays, and these types depend on the file's columns. Therefore small files of
the usual types are written, fitted and served. The compiled kernels go to the cache (:mod:`fastmf.kernels.compile`),
from which later processes load them in milliseconds.
"""

import tempfile
import time
from pathlib import Path

import numpy as np

from fastmf.data.ratings import Ratings
from fastmf.data.write import write_parquet
from fastmf.datasets.twins import Shape, draw
from fastmf.errors import require_integer
from fastmf.evaluation.evaluate import evaluate
from fastmf.kernels.compile import ENABLED
from fastmf.solvers import SOLVERS, make
from fastmf.training.fit import fit

SHAPE = Shape(users=60, items=40, ratings=1200, cap=40)

# Types of ids and ratings: those of our own twins, of pandas, and of Spark.
TYPES = (("int32", "float32"), ("int64", "float64"), ("str", "float64"))


def warmup(k: int = 32) -> float:
    """Compile what fitting and serving models of k factors needs, unless the kernel cache has it.

    SGD, links and ALS by conjugate gradients are compiled for each k (rounded up to the vectors' width),
    all other kernels once.

    Returns
    -------
    The seconds that this took.

    Raises
    ------
    ParameterError
        If k is less than 1.

    Examples
    --------
    >>> import fastmf
    >>> fastmf.warmup(k=8) > 0
    True
    """
    require_integer("k", k, 1)
    began = time.perf_counter()
    if ENABLED:
        twin = draw(SHAPE, np.uint64(0), name="warm-up")
        rows = np.random.default_rng(0).permutation(len(twin.ratings))  # sorting them takes a kernel too
        with tempfile.TemporaryDirectory(prefix="fastmf-warmup-") as folder:
            for keys, numbers in TYPES:
                path = Path(folder) / f"{keys}.parquet"
                columns = {"user": twin.users[rows].astype(keys), "item": twin.items[rows].astype(keys)}
                write_parquet({**columns, "rating": twin.ratings[rows].astype(numbers)}, path)
                items = np.unique(columns["item"])
                write_parquet({"item": items, "price": np.arange(len(items))}, path.with_suffix(".items"))
                _use(Ratings.read(path), path.with_suffix(".items"), k)
    return time.perf_counter() - began


def _use(ratings: Ratings, features: Path, k: int) -> None:
    """Fit a model with each variant of each solver, and call every method that serves one."""
    training, test = ratings.split(0.2)
    for name, solver in SOLVERS.items():
        for settings in solver.variants.values():
            fit(training, solver=make(name, k=k, **settings).with_epochs(2), validation=0.1)
    for name in SOLVERS:
        fit(training, solver=make(name, k=k).with_epochs(2), item_features=features)
    model = fit(training, k, epochs=1)
    evaluate(model, test, n=5)
    model.recommend(n=5)
    model.top(model.user_ids[0], n=5)
    model.similar_items(model.item_ids[0], n=5)
    model.predict(ratings.user_ids[:2].to_pylist(), ratings.item_ids[:2].to_pylist())
    model.fold_in((["new", "new"], ratings.item_ids[:2].to_pylist(), [1.0, 5.0]))
