"""The calls to each library: one class per library, to be read beside that library's documentation.

peers.py runs this file with the library's own interpreter, as ``python peer_models.py REQUEST.json ANSWER.json``. So it
imports only NumPy and, inside its class, the library. The request names the peer, k, threads, settings, whether to
recommend, and a folder that holds ``data`` and a small ``warm-up``. Both have train.npz and test.npz (``users`` and
``items``, int32 from 0, by user and item, and ``ratings``, float32; every user and item of the test has training
ratings), and the training ratings as train.parquet (user, item, rating).
"""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

PAIRS_AT_ONCE = 1 << 18
TOP = 10
OPENMP = (b"GOMP_", b"__kmpc_")  # names of functions that a library built with -fopenmp calls: GCC's, Clang's


class Asked(NamedTuple):
    """The model to fit; ``settings`` are hyper-parameters under the library's own names."""

    k: int
    threads: int
    settings: dict[str, Any]


def compiled(flags: str) -> dict[str, str]:
    """Return the variables that pass flags to compilers. For C++, setuptools reads CXXFLAGS; until 2024, CFLAGS."""
    return {"CFLAGS": flags, "CXXFLAGS": flags}


class Peer:
    """The interface that peers.py needs of a library.

    Attributes
    ----------
    package : the library's name on PyPI. requires : the requirements that pip installs.
    pip : further options of pip. build : environment variables of the installation.
    method : the algorithm, in words. against : the solver of fastmf to compare with.
    epochs_setting : the library's name for the number of epochs.
    settings : number of epochs and hyper-parameters. large : changes to them above a million training ratings. Both
        are the library's defaults, or the best of some that were tried on the held-out ratings themselves.
    recommends : whether its lists of recommendations are measured.
    blas_threads : threads of BLAS, if not as many as the library has.
    """

    package: ClassVar[str]
    requires: ClassVar[tuple[str, ...]] = ()
    pip: ClassVar[tuple[str, ...]] = ()
    build: ClassVar[dict[str, str]] = {}
    method: str
    against: str = "als"
    epochs_setting: ClassVar[str] = "epochs"
    settings: ClassVar[dict[str, Any]] = {}
    large: ClassVar[dict[str, Any]] = {}
    recommends: ClassVar[bool] = False
    blas_threads: ClassVar[int | None] = None

    def load(self, folder: Path) -> Any:
        """Read the training ratings into the library's own form."""
        raise NotImplementedError

    def fit(self, data: Any, asked: Asked, seconds: list[float]) -> Any:
        """Train a model; append the seconds of each epoch, if the library reports them."""
        raise NotImplementedError

    def predict(self, model: Any, users: np.ndarray, items: np.ndarray) -> np.ndarray | None:
        """Predict ratings; None if the library does not."""
        return None

    def recommend(self, model: Any, data: Any, n: int) -> int:
        """Find every user's best n items not rated in training; return the number of users."""
        raise NotImplementedError


class Fastmf(Peer):
    """fastmf itself, with its defaults: from Parquet, through the public functions."""

    package = "fastmf"
    recommends = True

    def __init__(self, solver: str) -> None:
        self.against = solver
        self.method = {"als": "ALS, biases", "sgd": "SGD, biases, blocked"}[solver]

    def load(self, folder: Path) -> Any:
        from fastmf import Ratings

        ratings = Ratings.from_parquet(folder / "train.parquet")
        _ = ratings.by_user, ratings.by_item  # built on first use
        return ratings

    def fit(self, data: Any, asked: Asked, seconds: list[float]) -> Any:
        import fastmf

        model = fastmf.fit(data, k=asked.k, solver=self.against, threads=asked.threads, **asked.settings)
        seconds.extend(epoch.seconds for epoch in model.history)
        return model

    def predict(self, model: Any, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        return model.predict(users, items)["prediction"].to_numpy()

    def recommend(self, model: Any, data: Any, n: int) -> int:
        model.recommend(n=n)
        return data.n_users


class Implicit(Peer):
    """implicit's ALS (Hu, Koren and Volinsky 2008): ratings are confidences, and are not predicted."""

    package = "implicit"
    requires = ("implicit>=0.7.2",)
    epochs_setting = "iterations"
    settings: ClassVar = {"iterations": 15, "regularization": 0.01, "alpha": 1.0}  # its defaults
    large: ClassVar = {"iterations": 5}
    recommends = True
    blas_threads = 1  # as its documentation asks

    def __init__(self, use_cg: bool) -> None:
        self.use_cg = use_cg
        self.method = "implicit ALS, " + ("3 CG steps a row" if use_cg else "Cholesky")

    def load(self, folder: Path) -> Any:
        from scipy.sparse import csr_matrix

        users, items, ratings = columns(folder / "train.npz")
        return csr_matrix((ratings, (users, items)))

    def fit(self, data: Any, asked: Asked, seconds: list[float]) -> Any:
        from implicit.cpu.als import AlternatingLeastSquares

        model = AlternatingLeastSquares(
            factors=asked.k, num_threads=asked.threads, use_cg=self.use_cg, random_state=0, **asked.settings
        )
        model.fit(data, show_progress=False, callback=lambda epoch, taken, loss: seconds.append(taken))
        return model

    def recommend(self, model: Any, data: Any, n: int) -> int:
        users = np.arange(data.shape[0])
        found, _ = model.recommend(users, data, N=n, filter_already_liked_items=True)
        return len(found)


class LensKit(Peer):
    """LensKit's biased ALS: damped biases, then factors of the residuals."""

    package = "lenskit"
    requires = ("lenskit>=2025.3",)
    method = "ALS on residuals of biases, Cholesky"
    settings: ClassVar = {"epochs": 10, "regularization": 0.15, "damping": 5.0}
    large: ClassVar = {"regularization": 0.06}

    def load(self, folder: Path) -> Any:
        import pandas as pd
        from lenskit.data import from_interactions_df

        users, items, ratings = columns(folder / "train.npz")
        return from_interactions_df(pd.DataFrame({"user_id": users, "item_id": items, "rating": ratings}))

    def fit(self, data: Any, asked: Asked, seconds: list[float]) -> Any:
        from lenskit.als import BiasedMFScorer
        from lenskit.training import TrainingOptions

        scorer = BiasedMFScorer(embedding_size=asked.k, **asked.settings)
        trainer = scorer.create_trainer(data, TrainingOptions(rng=0))  # what scorer.train(data) does, epoch by epoch
        for _ in range(asked.settings["epochs"]):
            began = time.perf_counter()
            trainer.train_epoch()
            seconds.append(time.perf_counter() - began)
        trainer.finalize()
        return scorer

    def predict(self, model: Any, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        users, items = model.users.numbers(users), model.items.numbers(items)
        bias = model.bias
        return estimates(
            bias.global_bias, bias.user_biases, bias.item_biases, model.user_embeddings, model.item_embeddings,
            users, items,
        )  # fmt: skip


class Surprise(Peer):
    """Surprise's SVD (Funk 2006) with biases, on one thread."""

    package = "scikit-surprise"
    requires = ("scikit-surprise>=1.1.4", "pandas>=2.2")
    pip = ("--no-cache-dir", "--no-binary", "scikit-surprise")
    build: ClassVar = compiled("-O3 -march=native")  # a tenth faster than its wheel
    method = "SGD, biases, one thread"
    against = "sgd"
    epochs_setting = "n_epochs"
    settings: ClassVar = {"n_epochs": 60, "lr_all": 0.01, "reg_all": 0.1}
    large: ClassVar = {"n_epochs": 20, "lr_all": 0.005, "reg_all": 0.02}  # its defaults

    def load(self, folder: Path) -> Any:
        import pandas as pd
        from surprise import Dataset, Reader

        users, items, ratings = columns(folder / "train.npz")
        frame = pd.DataFrame({"user": users, "item": items, "rating": ratings})
        reader = Reader(rating_scale=(float(ratings.min()), float(ratings.max())))
        return Dataset.load_from_df(frame, reader).build_full_trainset()

    def fit(self, data: Any, asked: Asked, seconds: list[float]) -> Any:
        from surprise import SVD

        return SVD(n_factors=asked.k, random_state=0, **asked.settings).fit(data)

    def predict(self, model: Any, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        inner_user = np.array([model.trainset.to_inner_uid(user) for user in range(users.max() + 1)])
        inner_item = np.array([model.trainset.to_inner_iid(item) for item in range(items.max() + 1)])
        return estimates(
            model.trainset.global_mean, model.bu, model.bi, model.pu, model.qi, inner_user[users], inner_item[items]
        )


class Cornac(Peer):
    """cornac's MF: SGD with biases, on threads that race (Niu et al. 2011)."""

    package = "cornac"
    requires = ("cornac>=2.2",)
    method = "SGD, biases, Hogwild"
    against = "sgd"
    epochs_setting = "max_iter"
    settings: ClassVar = {"max_iter": 20, "learning_rate": 0.02, "lambda_reg": 0.05}
    large: ClassVar = {"learning_rate": 0.01, "lambda_reg": 0.02}  # its defaults

    def load(self, folder: Path) -> Any:
        from cornac.data import Dataset

        return Dataset.from_uir(zip(*(column.tolist() for column in columns(folder / "train.npz")), strict=True))

    def fit(self, data: Any, asked: Asked, seconds: list[float]) -> Any:
        from cornac.models import MF

        return MF(k=asked.k, num_threads=asked.threads, use_bias=True, **asked.settings).fit(data)

    def predict(self, model: Any, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        inner_user = np.array([model.uid_map[user] for user in range(users.max() + 1)])
        inner_item = np.array([model.iid_map[item] for item in range(items.max() + 1)])
        return estimates(
            model.global_mean, model.u_biases, model.i_biases, model.u_factors, model.i_factors,
            inner_user[users], inner_item[items],
        )  # fmt: skip


class LibMF(Peer):
    """LIBMF (Chin et al. 2015) through its wrapper on PyPI, built with the flags of LIBMF's own Makefile."""

    package = "libmf"
    requires = ("libmf>=0.9.2",)
    pip = ("--no-cache-dir", "--no-binary", "libmf")
    build: ClassVar = compiled("-O3 -march=native -DUSEAVX -DUSEOMP -fopenmp") | {"LDFLAGS": "-fopenmp"}
    method = "SGD, no biases, blocked, adaptive steps, AVX"
    against = "sgd"
    epochs_setting = "nr_iters"
    settings: ClassVar = {
        "nr_iters": 20, "eta": 0.1, "lambda_p1": 0.0, "lambda_q1": 0.0, "lambda_p2": 0.1, "lambda_q2": 0.1
    }  # fmt: skip
    large: ClassVar = {"eta": 0.05, "lambda_p2": 0.03, "lambda_q2": 0.03}

    def load(self, folder: Path) -> Any:
        from libmf import mf

        if not any(mark in Path(mf.compiled_src).read_bytes() for mark in OPENMP):
            raise RuntimeError("libmf was built without the flags of LIBMF's Makefile")
        return np.stack(columns(folder / "train.npz"), axis=1, dtype=np.float32, casting="unsafe")

    def fit(self, data: Any, asked: Asked, seconds: list[float]) -> Any:
        from libmf.mf import MF

        bins = max(20, 2 * asked.threads + 1)  # as LIBMF's own program mf-train calls it, and so is copy_data
        model = MF(k=asked.k, nr_threads=asked.threads, nr_bins=bins, quiet=True, copy_data=False, **asked.settings)
        model.fit(data)
        return model

    def predict(self, model: Any, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        p, q = model.p_factors(), model.q_factors()
        return estimates(0.0, np.zeros(len(p)), np.zeros(len(q)), p, q, users, items)


class MyFM(Peer):
    """myFM's Bayesian factorization machine over one-hot users and items, as relation blocks, which are faster."""

    package = "myfm"
    requires = ("myfm>=0.3.6", "scipy>=1.11")
    method = "Gibbs sampling, biases, one thread"
    epochs_setting = "n_iter"
    settings: ClassVar = {"n_iter": 100}
    large: ClassVar = {"n_iter": 5}

    def load(self, folder: Path) -> Any:
        users, items, ratings = columns(folder / "train.npz")
        shape = int(users.max()) + 1, int(items.max()) + 1
        return self.blocks(users, items, shape), ratings, shape

    @staticmethod
    def blocks(users: np.ndarray, items: np.ndarray, shape: tuple[int, int]) -> list[Any]:
        """Return each pair's rows of two identity matrices."""
        from myfm import RelationBlock
        from scipy.sparse import identity

        sides = zip((users, items), shape, strict=True)
        return [RelationBlock(side.astype(np.int64), identity(n, format="csr")) for side, n in sides]

    def fit(self, data: Any, asked: Asked, seconds: list[float]) -> Any:
        from myfm import MyFMGibbsRegressor

        blocks, ratings, shape = data
        began = time.perf_counter()

        def passed(*state: Any) -> tuple[bool, None]:
            nonlocal began
            now = time.perf_counter()
            seconds.append(now - began)
            began = now
            return False, None

        model = MyFMGibbsRegressor(rank=asked.k, random_seed=0)
        model.fit(None, ratings, X_rel=blocks, group_shapes=list(shape), callback=passed, **asked.settings)
        return model, shape, asked.threads

    def predict(self, model: Any, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        fitted, shape, threads = model
        return fitted.predict(None, self.blocks(users, items, shape), n_workers=threads)


PEERS: dict[str, Peer] = {
    "implicit-cg": Implicit(use_cg=True),
    "implicit-cholesky": Implicit(use_cg=False),
    "lenskit": LensKit(),
    "surprise": Surprise(),
    "cornac": Cornac(),
    "libmf": LibMF(),
    "myfm": MyFM(),
}
FASTMF: dict[str, Peer] = {"fastmf-als": Fastmf("als"), "fastmf-sgd": Fastmf("sgd")}


def columns(file: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read users, items and ratings."""
    with np.load(file) as arrays:
        return arrays["users"], arrays["items"], arrays["ratings"]


def estimates(
    mean: float,
    user_bias: np.ndarray,
    item_bias: np.ndarray,
    user_factors: np.ndarray,
    item_factors: np.ndarray,
    users: np.ndarray,
    items: np.ndarray,
) -> np.ndarray:
    """Predict many pairs at once, as the libraries do: mean + user bias + item bias + user vector . item vector."""
    result = np.empty(len(users))
    for first in range(0, len(users), PAIRS_AT_ONCE):
        part = slice(first, first + PAIRS_AT_ONCE)
        user, item = users[part], items[part]
        products = np.einsum("nf,nf->n", user_factors[user], item_factors[item])
        result[part] = mean + user_bias[user] + item_bias[item] + products
    return result


def measure(peer: Peer, folder: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Time loading, training and recommending, and measure predictions."""
    asked = Asked(request["k"], request["threads"], request["settings"])
    load_seconds, data = timed(lambda: peer.load(folder))
    seconds: list[float] = []
    training_seconds, model = timed(lambda: peer.fit(data, asked, seconds))
    peak = peak_memory()
    users_per_second = None
    if request["recommend"]:
        recommend_seconds, users = timed(lambda: peer.recommend(model, data, TOP))
        users_per_second = users / recommend_seconds
    epochs = len(seconds) or asked.settings[peer.epochs_setting]
    if not seconds:  # not reported: divide the cost beyond that of one epoch
        one = asked._replace(settings={**asked.settings, peer.epochs_setting: 1})
        once, _ = timed(lambda: peer.fit(data, one, []))
        seconds = [(training_seconds - once) / (epochs - 1)]
    median = statistics.median(seconds)
    return {
        "epochs": epochs,
        "epoch_seconds": median if median > 0 else None,
        "seconds_of_epochs": seconds,
        "training_seconds": training_seconds,
        "rmse": held_out_rmse(peer, model, folder),
        "load_seconds": load_seconds,
        "peak_memory_bytes": peak,
        "users_per_second": users_per_second,
    }


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Call a function; return its seconds and its result."""
    began = time.perf_counter()
    result = call()
    return time.perf_counter() - began, result


def held_out_rmse(peer: Peer, model: Any, folder: Path) -> float | None:
    """Measure predictions of the test pairs, clipped to the range of the training ratings."""
    users, items, ratings = columns(folder / "test.npz")
    predicted = peer.predict(model, users, items)
    if predicted is None:
        return None
    known = columns(folder / "train.npz")[2]
    errors = np.clip(predicted, known.min(), known.max()) - ratings.astype(np.float64)
    return float(np.sqrt(np.mean(np.square(errors))))


def peak_memory() -> int | None:
    """Return this process's peak memory in bytes, or None; see fastmf.bench.machine.peak_memory."""
    status = Path("/proc/self/status")
    for line in status.read_text(encoding="ascii", errors="replace").splitlines() if status.exists() else ():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    if os.name == "nt":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main() -> None:
    """Answer a request: do everything once on the small set, to import and compile, then on the data."""
    asked, answer = map(Path, sys.argv[1:])
    request = json.loads(asked.read_text(encoding="utf-8"))
    peer, folder = (PEERS | FASTMF)[request["peer"]], Path(request["folder"])
    short = {**request, "settings": {**request["settings"], peer.epochs_setting: 2}}
    warm_up_seconds, _ = timed(lambda: measure(peer, folder / "warm-up", short))
    result = measure(peer, folder / "data", request)
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    result |= {"warm_up_seconds": warm_up_seconds, "version": metadata.version(peer.package), "versions": versions}
    answer.write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
