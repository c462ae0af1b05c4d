"""The estimator: scikit-learn's own checks, its model selection over pairs, and the same figures as fit and predict."""

import pickle
from dataclasses import fields

import numpy as np
import pandas as pd
import pytest

import fastmf
from fastmf.errors import DataError, ParameterError
from fastmf.solvers import DEFAULT, SOLVERS

sklearn = pytest.importorskip("sklearn")
scipy_sparse = pytest.importorskip("scipy.sparse")

from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastmf.sklearn import Recommender


def first_two(X):
    """Return the first two columns of the measurements that scikit-learn's checks make."""
    array = np.asarray(X) if isinstance(X, list) or not hasattr(X, "tocsr") else X
    return array[:, :2] if isinstance(array, np.ndarray) and array.ndim == 2 else X


class OfTwoColumns(Recommender):
    """A Recommender that takes two columns of any number for users and items."""

    __init__ = Recommender.__init__

    def fit(self, X, y=None, sample_weight=None):
        return super().fit(first_two(X), y, sample_weight)

    def predict(self, X):
        return super().predict(first_two(X))


FAILING = {
    "check_n_features_in_after_fitting": "it counts the columns that OfTwoColumns leaves out",
    "check_sample_weight_equivalence_on_dense_data": "its X holds fractions, which are no ids; tested below with ids",
}
if sklearn.__version__.startswith("1.6."):
    FAILING["check_positive_only_tag_during_fit"] = "it subtracts a mean from integers in place"
    FAILING["check_sample_weight_equivalence_on_sparse_data"] = "it passes y beside a sparse matrix"


# The checks repeat pairs.
@parametrize_with_checks(
    [OfTwoColumns(k=2, epochs=2, duplicates="mean")], expected_failed_checks=lambda estimator: FAILING
)
@pytest.mark.filterwarnings("ignore")  # the checks warn on purpose
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def columns(planted):
    return planted()


@pytest.fixture(scope="module")
def pairs(columns):
    return np.column_stack(columns[:2]), columns[2]


@pytest.fixture(scope="module")
def model(columns):
    return fastmf.fit(columns, k=3)


@pytest.mark.parametrize(
    "form",
    {
        "array": lambda X: X,
        "floats": lambda X: X.astype(np.float64),
        "objects": lambda X: X.astype(object),
        "frame": lambda X: pd.DataFrame(X, columns=["person", "film"]),
        "unnamed frame": pd.DataFrame,
        "list": lambda X: [tuple(pair) for pair in X.tolist()],
        "fortran": np.asfortranarray,
    }.items(),
    ids=lambda form: form[0],
)
def test_pairs_in_any_form_give_the_model_of_fit(pairs, columns, model, form):
    X, y = form[1](pairs[0]), pairs[1]
    estimator = Recommender(k=3).fit(X, y)
    assert estimator.model_.content_hash == model.content_hash
    expected = model.predict(*columns[:2])["prediction"].to_numpy()
    np.testing.assert_array_equal(estimator.predict(X), expected)
    assert estimator.predict(X[:0]).shape == (0,)
    assert estimator.n_features_in_ == 2
    assert estimator.score(X, y) == r2_score(y, expected)
    assert estimator.score(X, y) > 0.2


def test_ids_of_two_types_come_back_as_they_are(pairs):
    X, y = pairs
    mixed = np.array([(f"u{user}", item) for user, item in X], dtype=object)
    estimator = Recommender(k=3).fit(mixed, y)
    assert estimator.model_.user_ids.to_pylist() == sorted({user for user, _ in mixed})
    np.testing.assert_allclose(
        estimator.predict([("nobody", X[0, 1])]), estimator.model_.predict(["nobody"], X[:1, 1])["prediction"]
    )
    assert estimator.model_.recommend("u100", n=2)["item_id"].dtype == np.int64
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"user": [user for user, _ in mixed], "item": X[:, 1]})
    assert Recommender(k=3).fit(frame, y).model_.content_hash == estimator.model_.content_hash


def test_names_of_columns_are_remembered(pairs):
    X, y = pairs
    frame = pd.DataFrame(X, columns=["person", "film"])
    estimator = Recommender(k=2).fit(frame, y)
    assert estimator.feature_names_in_.tolist() == ["person", "film"]
    with pytest.raises(ValueError, match="feature names should match"):
        estimator.predict(frame[["film", "person"]])


@pytest.mark.filterwarnings("ignore:column .rating. has .* ratings of 0 or below")
@pytest.mark.parametrize("solver", SOLVERS)
def test_every_setting_is_a_parameter(solver, pairs):
    names = [field.name for field in fields(SOLVERS[solver])]
    estimator = Recommender(solver=solver)
    assert set(names) <= set(estimator.get_params())
    assert all(estimator.get_params()[name] is None for name in names)
    settings = SOLVERS[solver](k=5, seed=3).settings
    assert clone(estimator.set_params(**settings)).fit(*pairs).model_.solver == {"name": solver, **settings}
    shown = "" if solver == DEFAULT else f", solver={solver!r}"
    assert repr(Recommender(solver, k=4)) == f"Recommender(k=4{shown})"


def test_parameters_are_checked_by_fit(pairs):
    with pytest.raises(TypeError, match="Recommender has no parameter rank, trees"):
        Recommender(trees=3, rank=1)
    with pytest.raises(ValueError, match="Invalid parameter 'rank'"):
        Recommender().set_params(rank=1)
    for wrong, message in [
        (Recommender(lr=0.1), "solver 'als-links' has no setting lr"),
        (Recommender("sag"), "unknown solver 'sag'"),
        (Recommender(fastmf.ALS(), k=4), "k given with a solver object"),
        (Recommender(device="tpu"), "tpu"),
    ]:
        with pytest.raises(ParameterError, match=message):
            clone(wrong).fit(*pairs)
    with pytest.raises(NotFittedError):
        Recommender().predict(pairs[0])
    assert Recommender(fastmf.SGD(k=2, epochs=3)).fit(*pairs).model_.solver["epochs"] == 3


def test_a_grid_search_finds_the_better_settings(pairs):
    folds = KFold(3, shuffle=True, random_state=0)
    grid = {"solver": ["als", "als-links"], "k": [2, 3], "reg0": [0.5, 1e6]}
    search = GridSearchCV(Recommender(), grid, cv=folds, scoring="neg_root_mean_squared_error").fit(*pairs)
    assert search.best_params_["reg0"] == 0.5
    assert search.best_estimator_.model_.solver["k"] == search.best_params_["k"]
    best = Recommender(**search.best_params_)
    scores = cross_val_score(best, *pairs, cv=folds, scoring="neg_root_mean_squared_error")
    assert scores.mean() == search.best_score_
    X, y = pairs
    for score, (train, test) in zip(scores, folds.split(X), strict=True):
        model = fastmf.fit((*X[train].T, y[train]), **search.best_params_)
        assert -score == pytest.approx(fastmf.evaluate(model, (*X[test].T, y[test]))["rmse"], rel=1e-6)
    assert make_pipeline(best).fit(X, y).predict(X[:5]).shape == (5,)


def test_weights_count_as_repeated_rows(pairs):
    X, y = pairs
    weights = np.arange(len(y)) % 3
    given = Recommender(k=2).fit(X, y, sample_weight=weights)
    kept = weights > 0
    plain = fastmf.fit((*X[kept].T, y[kept], weights[kept]), weight="weight", k=2)
    np.testing.assert_array_equal(given.model_.user_factors, plain.user_factors)
    assert given.model_.rows["used"] == kept.sum()
    found = cross_val_score(Recommender(k=2), X, y, params={"sample_weight": pd.Series(weights)})
    assert np.isfinite(found).all()
    for wrong, message in [
        (weights - 1, "weight"),
        (weights * 0, "all 300 sample weights are zero"),
        (weights[:5], "rows differ in number"),
    ]:
        with pytest.raises(DataError, match=message):
            Recommender(k=2).fit(X, y, sample_weight=wrong)


def test_a_sparse_matrix_is_fitted_alone(columns):
    users, items, values = (column[:200] for column in columns)
    matrix = scipy_sparse.csr_matrix((values, (users, items)))
    ratings = (users, items, values)
    for kind in (matrix, matrix.tocoo(), matrix.tocsc(), scipy_sparse.csr_array(matrix)):
        estimator = Recommender(k=2).fit(kind)
        assert estimator.model_.content_hash == fastmf.fit(ratings, k=2).content_hash
    np.testing.assert_array_equal(
        estimator.predict(np.column_stack([users, items])), estimator.model_.predict(users, items)["prediction"]
    )
    doubled = scipy_sparse.coo_matrix(
        (np.append(values, values) / 2, (np.append(users, users), np.append(items, items)))
    )
    np.testing.assert_allclose(
        Recommender(k=2).fit(doubled).model_.item_factors, estimator.model_.item_factors, rtol=1e-4, atol=1e-6
    )
    with pytest.raises(DataError, match="X is a sparse matrix: give pairs"):
        estimator.predict(matrix)
    with pytest.raises(ParameterError, match="y is given with a sparse matrix"):
        Recommender(k=2).fit(matrix, values)


def test_implicit_feedback_needs_no_y_and_skips_stored_zeros(columns):
    users, items, values = columns
    X = np.column_stack([users, items])
    model = fastmf.fit(pd.DataFrame({"user": users, "item": items}), k=2, solver="implicit")
    assert Recommender("implicit", k=2).fit(X).model_.content_hash == model.content_hash
    counts = np.where(values > 3, np.ceil(values), 0)
    matrix = scipy_sparse.csr_matrix((counts, (users, items)))
    some = pd.DataFrame({"user": users, "item": items, "n": counts})[counts > 0]
    found = Recommender("implicit", k=2).fit(matrix, sample_weight=matrix.data).model_
    expected = fastmf.fit(some, k=2, solver="implicit", weight="n")
    np.testing.assert_array_equal(found.item_factors, expected.item_factors)
    assert Recommender("implicit", k=2).fit(matrix).model_.rows["used"] == len(some)
    liked = Recommender("implicit", k=2, positive_from=3.0).fit(X, values).model_
    assert liked.rows["observed"] == (values >= 3).sum()
    with pytest.raises(ValueError, match="solver 'als-links' requires y to be passed"):
        Recommender().fit(X)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.ones((3, 3)), r"X has 3 feature\(s\) \(shape=\(3, 3\)\)"),
        (np.ones(3), r"X is an array of 1 dimension, but .*Reshape your data"),
        ([(1, 2, 3)], r"X has 3 feature\(s\)"),
        (np.array([[1, 2.5], [2, 3]]), "holds double, which cannot be an id"),
        (np.array([[1, 2**24 + 1], [2, 2**24]], dtype=np.float32), "holds float, which cannot be an id"),  # both 2^24
        (np.array([[1, np.nan], [2, 3]]), "1 of 2 ids in X are NaN or inf"),
        (np.array([[1, None], [2, 3]], dtype=object), "null"),
        (np.array([[1, 2], ["a", 3]], dtype=object), "one type"),
        (np.array([[1, 2], [1, 2]]), "1 of 2 rows repeat"),
        (pd.DataFrame({"a": [1], "b": [1], "c": [1]}), r"X has 3 feature\(s\) \(shape=\(1, 3\)\)"),
    ],
)
def test_what_are_no_pairs_is_refused(X, message):
    with pytest.raises(DataError, match=message) as caught:
        Recommender(k=2).fit(X, np.arange(len(X), dtype=float))
    assert isinstance(caught.value, ValueError)


def test_an_estimator_survives_pickling_and_works_in_other_processes(pairs):
    estimator = Recommender(k=3).fit(*pairs)
    again = pickle.loads(pickle.dumps(estimator))
    assert again.model_.content_hash == estimator.model_.content_hash
    np.testing.assert_array_equal(again.predict(pairs[0]), estimator.predict(pairs[0]))
    assert again.model_.recommend(100, n=3).equals(estimator.model_.recommend(100, n=3))
    alone, spread = (cross_val_score(Recommender(k=3, threads=1), *pairs, cv=2, n_jobs=jobs) for jobs in (1, 2))
    np.testing.assert_array_equal(alone, spread)
