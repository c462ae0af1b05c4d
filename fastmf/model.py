"""The model: two factor matrices, two bias vectors, a mean, the ids, and what each user has rated.

prediction(u, i) = mean + user_bias[u] + item_bias[i] + user_factors[u] . item_factors[i]
"""

import hashlib
import json
import os
import warnings
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa

import fastmf
from fastmf import extras, ids, model_file, ranking, tables
from fastmf.device import Device, resolve
from fastmf.epoch import Epoch
from fastmf.errors import DivergenceError, ModelFormatError, ParameterError, UnknownIdError
from fastmf.extras import KINDS, Baseline, Links, Prior, Samples
from fastmf.folding import expected_of, fold, fold_by_prior, lost_rows
from fastmf.kernels.als import Side
from fastmf.kernels.bias import BIAS, bias_tasks
from fastmf.kernels.compress import Compressed, even
from fastmf.kernels.residual import ESTIMATE, PAIRS_PER_TASK, Pairs, Scale
from fastmf.ratings import Ratings, standardised
from fastmf.runtime import launch
from fastmf.uncertainty import deviations

BASELINE_REG = 3.0  # weight of the squared biases of the baseline, the default of all solvers


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Model:
    """A fitted matrix factorization. Raw ids go in and come out.

    Attributes
    ----------
    user_ids, item_ids : sorted Arrow arrays of the raw ids; row u of the user arrays belongs to user_ids[u].
    user_factors (n_users, k), item_factors (n_items, k), user_bias (n_users,), item_bias (n_items,) : float32,
        on the rating scale. Cold rows (no training ratings) are zero.
    user_counts, item_counts : int32, the training ratings of each row.
    mean, scale : mean and standard deviation of the training ratings.
    rating_range : smallest and largest training rating; predictions are clipped to it.
    seen : (indptr, indices), the items each user has rated in training, or None if they were not kept.
    solver : name and hyper-parameters of the solver, as data.
    history : one Epoch for every epoch run. best_epoch : the one whose factors these are, where validation chose it.
    rows : how many rating rows were read and used, and what became of the others.
    baseline : biases fitted without factors, which the factors have to beat.
    links, prior, samples : what is known of a user from the items it has rated, what users are drawn around, and whole
        draws of all that predictions are made of, where the solver has learned that; see :mod:`fastmf.extras`.
    """

    user_ids: pa.Array
    item_ids: pa.Array
    user_factors: np.ndarray
    item_factors: np.ndarray
    user_bias: np.ndarray
    item_bias: np.ndarray
    user_counts: np.ndarray
    item_counts: np.ndarray
    mean: float
    scale: float
    rating_range: tuple[float, float]
    seen: tuple[np.ndarray, np.ndarray] | None
    solver: dict[str, Any]
    history: list[Epoch] = field(default_factory=list)
    best_epoch: int | None = None
    rows: dict[str, int] = field(default_factory=dict)
    baseline: Baseline | None = None
    links: Links | None = None
    prior: Prior | None = None
    samples: Samples | None = None

    def __repr__(self) -> str:
        size = f"{len(self.user_ids):,} users, {len(self.item_ids):,} items"
        return f"<Model: {self.solver.get('name')}, k={self.k}, {size}, {len(self.history)} epochs>"

    @property
    def k(self) -> int:
        """The number of factors."""
        return int(self.user_factors.shape[1])

    @property
    def extras(self) -> dict[str, Any]:
        """What only some models have, by name; None where this one does not."""
        return {name: getattr(self, name) for name in KINDS}

    @property
    def user_side(self) -> Side:
        """The users' factors and biases, as the kernels take them."""
        return Side(self.user_factors, self.user_bias)

    @property
    def item_side(self) -> Side:
        """The items' factors and biases, as the kernels take them."""
        return Side(self.item_factors, self.item_bias)

    def known_users(self, user_ids: Any) -> np.ndarray:
        """Find the index of each user: -1 where the model knows nothing of it, because the id is unknown or cold."""
        return _warm(ids.lookup(self.user_ids, user_ids, "user"), self.user_counts)

    def known_items(self, item_ids: Any) -> np.ndarray:
        """Find the index of each item; see :meth:`known_users`."""
        return _warm(ids.lookup(self.item_ids, item_ids, "item"), self.item_counts)

    def predict(self, user_ids: Any, item_ids: Any, *, on_unknown: str = "mean", std: bool = False) -> pd.DataFrame:
        """Predict the ratings of pairs, clipped to the rating range.

        Parameters
        ----------
        user_ids, item_ids : raw ids, one of each for a pair, in any container.
        on_unknown : for a pair with an id the model has no ratings of: "mean" predicts the mean plus the bias of the
            known id, "nan" gives NaN, "raise" raises.
        std : whether to say how far ratings are from their predictions, which a model with samples can (solver gibbs).

        Returns
        -------
        Frame of user_id, item_id, prediction (float32), in the order given, and with ``std`` the standard deviation of
        the rating around it; ``.attrs`` counts the pairs with an ``unknown_users`` and ``unknown_items``.

        Raises
        ------
        UnknownIdError
            If on_unknown is "raise" and there are such pairs.
        DataError
            If ids are null or of another type than the model's.
        """
        if on_unknown not in ("mean", "nan", "raise"):
            raise ParameterError(f"on_unknown is {on_unknown!r}: choose mean, nan or raise")
        if std:
            self._require_samples()
        users = ids.as_column(self.user_ids, ids.many(user_ids), "user")
        items = ids.as_column(self.item_ids, ids.many(item_ids), "item")
        if len(users) != len(items):
            raise ParameterError(f"{len(users):,} user ids and {len(items):,} item ids: give one of each for a pair")
        pairs = Pairs(self.known_users(users), self.known_items(items))
        unknown = (pairs.users < 0) | (pairs.items < 0)
        if on_unknown == "raise" and unknown.any():
            first = int(np.flatnonzero(unknown)[0])
            pair = f"user {users[first].as_py()!r}, item {items[first].as_py()!r}"
            raise UnknownIdError(
                f"{int(unknown.sum()):,} of {len(unknown):,} pairs have an id without training ratings, the first"
                f" {pair}: leave them out, or let on_unknown be mean or nan"
            )
        out = self.estimates(pairs)
        if on_unknown == "nan":
            out[unknown] = np.nan
        frame = pd.DataFrame({"user_id": ids.to_pandas(users), "item_id": ids.to_pandas(items), "prediction": out})
        if std:
            frame["std"] = np.where(np.isnan(out), np.float32(np.nan), self.deviations(pairs))
        frame.attrs = {"unknown_users": int(np.sum(pairs.users < 0)), "unknown_items": int(np.sum(pairs.items < 0))}
        return frame

    def estimates(self, pairs: Pairs) -> np.ndarray:
        """Predict ratings (n,) float32 by dense index (-1: unknown), clipped to the rating range."""
        out, scale = np.empty(len(pairs.users), np.float32), Scale(self.mean, *self.rating_range)
        tasks = even(len(out), PAIRS_PER_TASK)
        launch(ESTIMATE, resolve("cpu"), tasks, pairs, self.user_side, self.item_side, scale, out)
        return out

    def deviations(self, pairs: Pairs) -> np.ndarray:
        """Find the standard deviations (n,) float32 of ratings around their predictions, by dense index (-1: unknown).

        Raises
        ------
        ParameterError
            If the model has no samples.
        """
        samples, prior = self._require_samples()
        warm = self.user_counts > 0, self.item_counts > 0
        return deviations(samples, prior, pairs, warm) * np.float32(self.scale)

    def _require_samples(self) -> tuple[Samples, Prior]:
        if self.samples is None or self.prior is None:
            raise ParameterError(
                f"a model of solver {self.solver.get('name')!r} without samples cannot say how sure it is: fit one with"
                " solver gibbs, and kept of at least 1"
            )
        return self.samples, self.prior

    def recommend(
        self,
        user_ids: Any = None,
        n: int = 10,
        *,
        exclude: Any = None,
        include_seen: bool = False,
        device: str | Device = "cpu",
    ) -> pd.DataFrame:
        """Find the n items with the highest score that a user has not rated in training.

        Parameters
        ----------
        user_ids : one raw id, several, or None for all users.
        n : length of each list; shorter where a user has fewer items left.
        exclude : further (user, item) pairs to leave out, in anything :func:`fastmf.tables.read` takes; unknown ids in
            it change nothing.
        include_seen : whether items rated in training may come too.
        device : "cpu", "cuda" (as for :func:`fastmf.fit`) or "auto".

        Returns
        -------
        Frame of user_id, item_id, score (float32, not clipped), rank (from 1). Cold items are never in it.

        Raises
        ------
        UnknownIdError
            If a user is not in the model; new users come through :meth:`fold_in`.
        ParameterError
            If n is less than 1, or the model was saved without what users have seen.
        """
        where = resolve(device)
        if user_ids is None:
            users = np.arange(len(self.user_ids))
        else:
            users = ids.require(self.user_ids, ids.many(user_ids), "user")
        items, scores = self.best_items(users, n, self.excluded(users, exclude, include_seen), where)
        return _lists(("user_id", self.user_ids, users), ("item_id", self.item_ids, items), scores)

    def best_items(
        self, users: np.ndarray, n: int, excluded: Compressed, device: Device | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rank items for users by dense index (-1: unknown, ranked by item bias). Returns items, scores: (n_users, n).

        Row j of ``excluded`` belongs to users[j]. Lists that run out of items end in -1 and -inf.
        """
        known = users >= 0
        side = Side(
            np.where(known[:, None], self.user_factors[users], np.float32(0)),
            np.where(known, self.user_bias[users], np.float32(0)) + np.float32(self.mean),
        )
        warm = np.where(self.item_counts > 0, self.item_bias, np.float32(-np.inf))
        return ranking.best(side, Side(self.item_factors, warm), excluded, n, device)

    def excluded(self, users: np.ndarray, exclude: Any = None, include_seen: bool = False) -> Compressed:
        """Collect the items to leave out for each of ``users`` (dense, -1: unknown): seen ones and excluded pairs."""
        if self.seen is None and not include_seen:
            raise ParameterError(
                "the model does not hold what users have rated (keep_seen=False): pass include_seen=True, and the pairs"
                " to leave out as exclude"
            )
        lists = []
        if self.seen is not None and not include_seen:
            lists.append(Compressed(*self.seen, np.empty(0, np.float32)))
        if exclude is not None:
            table = tables.read(exclude, {"user": None, "item": None})
            of = ids.lookup(self.user_ids, table.column(0), "user")
            what = ids.lookup(self.item_ids, table.column(1), "item")
            known = (of >= 0) & (what >= 0)
            lists.append(ranking.compress(of[known], what[known], len(self.user_ids)))
        return ranking.left_out(users, lists)

    def similar_items(self, item_ids: Any, n: int = 10) -> pd.DataFrame:
        """Find the n items nearest to each of the given ones by cosine of their factors.

        Returns
        -------
        Frame of item_id, similar_item_id, score (the cosine), rank. Cold items are left out; items whose factors are
        all zero have cosine 0 and come last.

        Raises
        ------
        UnknownIdError
            If an item is not in the model.
        """
        wanted = ids.require(self.item_ids, ids.many(item_ids), "item")
        found, scores = ranking.nearest(self.item_factors, self.item_counts, wanted, n)
        return _lists(("item_id", self.item_ids, wanted), ("similar_item_id", self.item_ids, found), scores)

    def similar_users(self, user_ids: Any, n: int = 10) -> pd.DataFrame:
        """Find the n users nearest to each of the given ones; see :meth:`similar_items`."""
        wanted = ids.require(self.user_ids, ids.many(user_ids), "user")
        found, scores = ranking.nearest(self.user_factors, self.user_counts, wanted, n)
        return _lists(("user_id", self.user_ids, wanted), ("similar_user_id", self.user_ids, found), scores)

    def fold_in(self, ratings: Any, *, device: str | Device = "cpu") -> Self:
        """Make a model of the same items for the users of new ratings: one exact solve for each user.

        With links, users are pulled to what their items say of them; by a Bayesian model they get their means given
        the model's items, and samples of their own.

        Parameters
        ----------
        ratings : anything :meth:`Ratings.read` takes. Ratings of items the model does not know are left out, and
            counted in ``rows["unknown_items"]`` of the result.
        device : "cpu", "cuda" (as for :func:`fastmf.fit`) or "auto"; what Bayesian models need runs on the CPU only.

        Raises
        ------
        ParameterError
            If the solver's hyper-parameters do not include reg, reg0 and bias_reg.
        DataError
            As :meth:`Ratings.read`.
        """
        missing = [name for name in ("reg", "reg0", "bias_reg") if name not in self.solver]
        if missing and self.prior is None:
            raise ParameterError(f"solver {self.solver.get('name')!r} has no {', '.join(missing)}: it cannot fold in")
        where, ratings = resolve(device), Ratings.read(ratings)
        entries = self._known_entries(ratings)
        items = Side(self.item_factors, self.item_bias / np.float32(self.scale))
        singular, samples, seed = 0, None, self.solver.get("seed", 0)
        if self.prior is None:
            users, singular = fold(entries, items, self.solver, self.links, where)
        else:
            expected = expected_of(entries, self.links, self.solver.get("fade", 0), self.k)
            users, samples = fold_by_prior(entries, items, self.prior, self.samples, expected, seed)
        if singular:
            warnings.warn(
                f"the equations of {singular:,} users were singular and were solved with a jitter: fit the model with"
                " reg0 > 0",
                stacklevel=2,
            )
        scale = np.float32(self.scale)
        with np.errstate(over="ignore"):  # what runs over is found next
            users = Side(users.factors * scale, users.bias * scale)
        lost = lost_rows(users)
        if len(lost):
            first = ratings.user_ids[int(lost[0])].as_py()
            raise DivergenceError(
                f"{len(lost):,} users have ratings that lead beyond float32, the first {first!r}: rescale the ratings"
            )
        used = len(entries.values)
        return replace(
            self,
            user_ids=ratings.user_ids,
            user_factors=users.factors,
            user_bias=users.bias,
            user_counts=np.diff(entries.indptr).astype(np.int32),
            seen=(entries.indptr, entries.indices),
            rows={**ratings.rows, "used": used, "unknown_items": len(ratings) - used},
            baseline=self._baseline_of(entries),
            samples=samples,
        )

    def _baseline_of(self, entries: Compressed) -> Baseline | None:
        """Fit new users' biases to those of the items."""
        if self.baseline is None:
            return None
        bias = np.empty(len(entries.indptr) - 1, np.float32)
        items, scale = self.baseline.item_bias, np.float32(self.scale)
        launch(BIAS, resolve("cpu"), bias_tasks(entries.indptr), entries, items / scale, BASELINE_REG, bias)
        return Baseline(bias * scale, items)

    def _known_entries(self, ratings: Ratings) -> Compressed:
        """Group standardised ratings by user, by the model's item indices, leaving out items it knows nothing of."""
        items = self.known_items(ratings.item_ids)[ratings.items]
        known = items >= 0
        indptr = np.append(0, np.cumsum(np.bincount(ratings.users[known], minlength=ratings.n_users)))
        values = standardised(ratings.values[known], self.mean, self.scale)
        return Compressed(indptr, items[known], values)

    @property
    def content_hash(self) -> str:
        """SHA-256 of what the fit computed: factors, biases, ids, mean, scale, history without seconds, and the rest.

        The rest is what only some models have: the baseline, links, the prior and samples.
        """
        digest = hashlib.sha256()
        for array in (self.user_factors, self.item_factors, self.user_bias, self.item_bias):
            digest.update(np.ascontiguousarray(array).tobytes())
        for column in (self.user_ids, self.item_ids):
            digest.update(ids.content(column))
        history = [{**asdict(epoch), "seconds": 0} for epoch in self.history]
        digest.update(json.dumps([self.mean, self.scale, history]).encode())
        for name, array in extras.flat(self.extras).items():
            digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def save(self, path: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Write the model to one file, whole or not at all; see :mod:`fastmf.model_file`.

        Raises
        ------
        OSError
            If the path exists and overwrite is False, or writing fails; what was there before is then still there.
        """
        names = ("user_factors", "item_factors", "user_bias", "item_bias", "user_counts", "item_counts")
        arrays = {name: getattr(self, name) for name in names}
        if self.seen is not None:
            arrays |= {"seen_indptr": self.seen[0], "seen_indices": self.seen[1]}
        arrays |= extras.flat(self.extras)
        metadata = {
            "version": fastmf.__version__,
            "mean": self.mean,
            "scale": self.scale,
            "rating_range": list(self.rating_range),
            "solver": self.solver,
            "history": [asdict(epoch) for epoch in self.history],
            "best_epoch": self.best_epoch,
            "rows": self.rows,
        }
        model_file.write(path, arrays, {"user_ids": self.user_ids, "item_ids": self.item_ids}, metadata, overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a model that :meth:`save` wrote.

        Raises
        ------
        ModelFormatError
            If the file is not a model file, is damaged, or was written in a newer format.
        OSError
            If there is no such file.
        """
        arrays, id_arrays, metadata = model_file.read(path)
        seen = (arrays.pop("seen_indptr"), arrays.pop("seen_indices")) if "seen_indptr" in arrays else None
        kept = extras.grouped(arrays)
        try:
            low, high = metadata["rating_range"]
            return cls(
                **dict[str, Any](arrays),
                **id_arrays,
                seen=seen,
                **kept,
                mean=float(metadata["mean"]),
                scale=float(metadata["scale"]),
                rating_range=(float(low), float(high)),
                solver=dict(metadata["solver"]),
                history=[Epoch(**epoch) for epoch in metadata["history"]],
                best_epoch=metadata["best_epoch"],
                rows=dict(metadata["rows"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFormatError(f"{path} has damaged metadata: {error!r}; fit and save it again") from None


def _warm(indices: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Make cold indices unknown (-1). Index -1 reads the 0 appended, and so stays what it is."""
    return np.where(np.append(counts, 0)[indices] > 0, indices, -1).astype(np.int32)


def _lists(
    query: tuple[str, pa.Array, np.ndarray], found: tuple[str, pa.Array, np.ndarray], scores: np.ndarray
) -> pd.DataFrame:
    """Write top-n lists as a frame of query id, found id, score and rank; places without an item are left out."""
    (query_name, query_ids, wanted), (found_name, found_ids, rows) = query, found
    taken = rows >= 0
    line, place = np.nonzero(taken)
    return pd.DataFrame(
        {
            query_name: ids.to_pandas(query_ids.take(pa.array(wanted[line]))),
            found_name: ids.to_pandas(found_ids.take(pa.array(rows[taken]))),
            "score": scores[taken],
            "rank": (place + 1).astype(np.int32),
        }
    )
