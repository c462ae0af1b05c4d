"""The estimator: parameters, fit, predict, as scikit-learn wants them. The model it fits is ``model_``."""

import inspect
from typing import Any, Self

import numpy as np

from fastmf.errors import DataError, ParameterError
from fastmf.model.model import Model
from fastmf.sklearn.pairs import chosen, is_sparse, pair_columns, sparse_columns, value_errors
from fastmf.solvers import DEFAULT, SOLVERS, make
from fastmf.solvers.declare import settings_of
from fastmf.training.fit import fit

try:
    from sklearn.base import BaseEstimator, RegressorMixin
    from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data
except ImportError as error:
    raise ImportError(f"fastmf.sklearn needs scikit-learn 1.6 or newer, pip install scikit-learn: {error}") from error

SETTINGS = tuple(dict.fromkeys(name for solver in SOLVERS.values() for name in settings_of(solver)))


class Recommender(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Matrix factorization as a scikit-learn regressor: X holds (user, item) pairs, y their ratings.

    Ids are of any type that fastmf takes, those of users and of items each of one. Pairs with an unknown id are
    predicted by the mean and the bias of the other. ``score`` is R^2, as for all regressors; a negative score is worse
    than predicting the mean of y. For the RMSE use ``scoring="neg_root_mean_squared_error"``. Solvers of implicit
    feedback predict scores, for which neither says much: compare lists instead (:func:`fastmf.cross_validate`).

    Rows are often sorted by user, and ``KFold(5)`` would hold out whole users: give ``KFold(5, shuffle=True)``.

    Parameters
    ----------
    solver : the name of a solver, or a solver object, which then holds all settings.
    device, threads, duplicates : as for :func:`fastmf.fit`. Give ``threads=1`` with ``n_jobs``.
    settings : every setting of every solver is a parameter: k, seed, epochs, reg and so on; see :func:`fastmf.fit`.
        None, the default of each, stands for the solver's own default. A setting that the solver lacks is an error of
        ``fit``.

    Attributes
    ----------
    model_ : the fitted :class:`fastmf.Model`, which recommends, folds in, explains and so on.
    n_features_in_ : 2.
    feature_names_in_ : names of the columns, if X was a frame whose columns have names.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmf.sklearn import Recommender
    >>> X = np.array([["ann", 1], ["ann", 2], ["bob", 1], ["bob", 2], ["cid", 2]], dtype=object)
    >>> estimator = Recommender(k=2).fit(X, [5.0, 3.0, 4.0, 2.0, 1.0])
    >>> estimator.predict([("cid", 1)]).shape
    (1,)
    >>> estimator.model_.recommend("cid", n=1)["item_id"].tolist()
    [1]
    """

    def __init__(
        self,
        solver: Any = DEFAULT,
        *,
        device: Any = "cpu",
        threads: int | None = None,
        duplicates: str = "error",
        **settings: Any,
    ) -> None:
        unknown = sorted(settings.keys() - set(SETTINGS))
        if unknown:
            raise TypeError(f"Recommender has no parameter {', '.join(unknown)}")
        self.solver, self.device, self.threads, self.duplicates = solver, device, threads, duplicates
        for name in SETTINGS:
            setattr(self, name, settings.get(name))

    @value_errors()
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Fit to pairs and their ratings, or to a sparse matrix.

        Parameters
        ----------
        X : pairs (n, 2): an array, a frame of two columns (users, then items), or a list of tuples. Or a SciPy sparse
            matrix, whose rows are users and columns are items: its stored entries are the ratings, and ``predict``
            takes pairs of a row and a column. Stored zeros are ratings, too, but not signs of interest.
        y : ratings (n,). Not for a sparse matrix; solvers of implicit feedback need none.
        sample_weight : weights (n,); those of a sparse matrix are in the order of its rows and then its columns. Pairs
            of weight 0 are left out.

        Raises
        ------
        DataError, ParameterError, DivergenceError, ResourceError
            As :func:`fastmf.fit`; a DataError is a ValueError here, too.
        """
        solver = make(self.solver, **{name: getattr(self, name) for name in SETTINGS})
        if is_sparse(X):
            if y is not None:
                raise ParameterError("y is given with a sparse matrix, which holds the ratings: leave it out")
            users, items, y = sparse_columns(X)
            kept = y != 0 if solver.implicit else np.ones(len(y), bool)
        else:
            users, items = pair_columns(X)
            self._check_names(X, reset=True)
            kept = np.ones(len(users), bool)
            if y is None and not solver.implicit:
                raise DataError(f"solver {solver.name!r} requires y to be passed, but the target y is None")
        self.n_features_in_ = 2
        columns = {"users": users, "items": items} | ({} if y is None else {"y": column_or_1d(y, warn=True)})
        if sample_weight is not None:
            columns["sample_weight"] = column_or_1d(sample_weight)
        how: dict[str, Any] = {"device": self.device, "threads": self.threads, "duplicates": self.duplicates}
        weight = None if sample_weight is None else "sample_weight"
        self.model_: Model = fit(chosen(columns, kept), solver=solver, weight=weight, **how)
        return self

    @value_errors()
    def predict(self, X: Any) -> np.ndarray:
        """Predict the ratings of pairs (n, 2), in any form that ``fit`` takes but a sparse matrix: (n,) float32."""
        check_is_fitted(self)
        if is_sparse(X):
            raise DataError("X is a sparse matrix: give pairs of a user and an item, here a row and a column")
        users, items = pair_columns(X)
        self._check_names(X, reset=False)
        return np.asarray(self.model_.predict(users, items)["prediction"])

    def _check_names(self, X: Any, reset: bool) -> None:
        """Keep the names of the columns of a frame, or check them; scikit-learn cannot look into an empty list."""
        if not isinstance(X, list | tuple) or X:
            validate_data(self, X, reset=reset, skip_check_array=True)

    def __sklearn_tags__(self) -> Any:
        """Describe the estimator: X holds ids, not measurements, and implicit feedback needs no y."""
        tags = super().__sklearn_tags__()
        tags.input_tags.categorical = tags.input_tags.string = True
        tags.target_tags.required = not getattr(SOLVERS.get(self.solver, self.solver), "implicit", False)
        tags.regressor_tags.poor_score = True  # if X holds measurements
        return tags


def _signature() -> inspect.Signature:
    """Return the signature of the estimator, with a parameter for every setting: scikit-learn reads it."""
    *own, _ = inspect.signature(Recommender.__init__).parameters.values()
    return inspect.Signature([*own, *(inspect.Parameter(name, own[-1].kind, default=None) for name in SETTINGS)])


Recommender.__init__.__signature__ = _signature()  # type: ignore[attr-defined]
