"""Side features: their regression against its closed form, and what they do in whole fits."""

import numpy as np
import pandas as pd
import pytest

import fastmf
from fastmf import Features, Ratings
from fastmf.kernels.types import Penalty, Side
from fastmf.kernels.vectors import aligned, whole
from fastmf.runtime.device import Device
from fastmf.solvers.features import Design, Featured, Shrinkage
from fastmf.solvers.implicit import ImplicitALS

K = 3
SOLVERS = [
    ("als", {"reg0": 0.5}),
    ("als", {"reg0": 0.5, "biases": False}),
    ("als", {"reg0": 0.5, "method": "cg"}),
    ("als-links", {"reg0": 0.5}),
    ("als-links", {"reg0": 0.5, "biases": False}),
    ("sgd", {"reg0": 0.5, "lr": 0.1}),
    ("sgd", {"reg0": 0.5, "lr": 0.1, "biases": False}),
    ("sgd", {"reg0": 0.5, "lr": 0.2, "adaptive": True}),
    ("implicit", {}),
]


def liked(rows):
    """The pairs with a rating above the median, for implicit feedback."""
    return tuple(column[rows[2] > np.median(rows[2])] for column in rows[:2])


def named(case):
    return " ".join([case[0], *(f"{name}={value}" for name, value in case[1].items())])


def dense_of(rows, n_features):
    found = np.zeros((len(rows.indptr) - 1, n_features))
    found[np.repeat(np.arange(len(found)), np.diff(rows.indptr)), rows.indices] = rows.values
    return found


N = 60  # items with ratings, from 1000 on


@pytest.fixture(scope="module")
def table():
    """Features of 60 items and 4 more: two that matter, one that does not, and a category; item 1059 is not in it."""
    rng = np.random.default_rng(5)
    frame = pd.DataFrame(rng.standard_normal((N + 3, 3)), columns=["a", "b", "noise"])
    frame["kind"] = (["x", "y", "x", "z"] * N)[: N + 3]
    frame.insert(0, "item", [*range(1000, 1059), *range(1060, 1064)])
    return frame


@pytest.fixture(scope="module")
def rows(table):
    """Ratings of 1000 to 1059, but for 1004, of items whose factors and biases follow a and b."""
    rng = np.random.default_rng(6)
    users, items = np.divmod(rng.permutation(60 * N)[:1000], N)
    known = table.set_index("item")[["a", "b"]].reindex(range(1000, 1000 + N)).fillna(0.0)
    x = rng.standard_normal((60, 2))
    y = known.to_numpy() + 0.3 * rng.standard_normal((N, 2))
    ratings = 3 + np.sum(x[users] * y[items], axis=1) + 0.5 * y[items, 0] + 0.3 * rng.standard_normal(1000)
    kept = items != 4
    return users[kept] + 100, items[kept] + 1000, np.abs(ratings[kept])


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_the_regression_approaches_its_closed_form(table, device):
    rng, device = np.random.default_rng(0), Device(name=device, threads=2)
    features = Features.read(table, "item").rows
    n, n_features = len(table), 6
    counts, width = rng.integers(0, 9, n).astype(float), whole(K + 1)
    side = Side(rng.standard_normal((n, K)).astype(np.float32), rng.standard_normal(n).astype(np.float32))
    other = Side(rng.standard_normal((9, K)).astype(np.float32), np.zeros(9, np.float32))
    tables = aligned(n_features, width), aligned(1, width), aligned(n, width)
    penalty = Penalty(0.1, 1.0, 2.0)
    pulled = Featured(K, Shrinkage(0.5), penalty, features, counts, np.ones(9), *tables, device)
    cold = counts == 0
    for _ in range(60):
        pulled.follow(side, other)
    y, f, p = np.column_stack([*side]).astype(float), dense_of(features, n_features), np.sqrt(counts)
    y[cold] = 0
    centred = f - p @ f / p.sum()
    mean, ridges = p @ y / p.sum(), pulled.ridge32[:, : K + 1]
    weights = np.column_stack(
        [
            np.linalg.solve((centred.T * p) @ centred + np.diag(ridges[:, j]), (centred.T * p) @ (y - mean)[:, j])
            for j in range(K + 1)
        ]
    )
    np.testing.assert_allclose(tables[0][:, : K + 1], weights, rtol=2e-2, atol=2e-3)
    expected = centred @ tables[0][:, : K + 1] + np.append(np.zeros(K), mean[K])
    np.testing.assert_allclose(tables[2][:, : K + 1], expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(side.factors[cold], tables[2][cold, :K], rtol=1e-6)
    np.testing.assert_allclose(side.bias[cold], tables[2][cold, K], rtol=1e-6)
    np.testing.assert_allclose(f @ tables[0] + tables[1], tables[2], rtol=1e-3, atol=1e-3)


def test_centred_sums_are_those_of_dense_features(table):
    features, shares = Features.read(table, "item").rows, np.random.default_rng(1).random(len(table))
    design = Design(features, shares**2, 6)
    f = dense_of(features, 6)
    np.testing.assert_allclose(design.mean, shares @ f / shares.sum())
    np.testing.assert_allclose(design.spread(shares), shares @ (f - design.mean) ** 2, atol=1e-9)


def test_useless_features_are_shrunk_and_useful_ones_are_not(rows, table):
    model = fastmf.fit(rows, K, reg0=0.5, item_features=table)
    names, size = model.item_features.encoding.names.to_pylist(), np.linalg.norm(model.item_expected.weights, axis=1)
    by_name = dict(zip(names, size, strict=True))
    assert min(by_name["a"], by_name["b"]) > 20 * by_name["noise"]


@pytest.mark.parametrize(("solver", "settings"), SOLVERS, ids=map(named, SOLVERS))
def test_cold_items_take_what_they_are_pulled_to(rows, table, solver, settings):
    model = fastmf.fit(liked(rows) if solver == "implicit" else rows, K, solver, item_features=table, **settings)
    f = dense_of(model.item_features.rows, 6)
    expected, place = model.item_expected, {item: n for n, item in enumerate(model.item_ids.to_pylist())}
    cold = [place[item] for item in (1004, 1060, 1063)]
    z = f[cold] @ expected.weights + expected.intercept
    np.testing.assert_allclose(model.item_factors[cold], z, rtol=1e-3, atol=1e-4)
    assert np.abs(z).max() > 0.01
    assert (model.item_counts[cold] == 0).all()
    if solver == "als" and settings.get("biases", True):
        bias = (f[cold] @ expected.bias_weights + expected.bias_intercept) * model.scale
        np.testing.assert_allclose(model.item_bias[cold], bias, rtol=1e-3, atol=1e-4)
    if not settings.get("biases", True):
        assert not model.item_bias.any()


@pytest.mark.parametrize(("solver", "settings"), SOLVERS, ids=map(named, SOLVERS))
def test_features_help_items_without_ratings(rows, table, solver, settings):
    hidden = np.isin(rows[1], np.arange(1001, 1059, 5))
    train, test = (tuple(column[chosen] for column in rows) for chosen in (~hidden, hidden))
    if solver == "implicit":
        model = fastmf.fit(liked(train), K, solver, item_features=table, **settings)
        users, items = liked(test)
        scores = model.predict(users, items)["prediction"].mean()
        assert scores > 1.5 * model.predict(users, np.random.default_rng(0).permutation(items))["prediction"].mean()
        return
    known, plain = (fastmf.fit(train, K, solver, item_features=t, **settings) for t in (table, None))
    assert fastmf.evaluate(known, test)["rmse"] < 0.85 * fastmf.evaluate(plain, test)["rmse"]


@pytest.mark.parametrize(("solver", "settings"), SOLVERS, ids=map(named, SOLVERS))
def test_a_table_without_a_pattern_changes_little_and_one_without_rows_of_items_nothing(rows, solver, settings):
    other = pd.DataFrame({"item": range(2000, 2010), "a": np.arange(10.0)})
    plain = fastmf.fit(rows, K, solver, **settings)
    with pytest.warns(UserWarning, match="none of 10 items in the table"):
        found = fastmf.fit(rows, K, solver, item_features=other, **settings)
    old = found.known_items(plain.item_ids)
    np.testing.assert_allclose(found.item_factors[old], plain.item_factors, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("solver", "settings"), SOLVERS, ids=map(named, SOLVERS))
def test_threads_order_and_checkpoints_change_no_bit(rows, table, solver, settings, tmp_path):
    users = pd.DataFrame({"user": range(100, 160), "age": np.random.default_rng(2).random(60)})
    given = {"item_features": table, "user_features": users, "epochs": 5} | settings
    whole_fit = fastmf.fit(rows, K, solver, threads=1, **given)
    shuffled = given | {"item_features": table.sample(frac=1, random_state=3)}
    assert fastmf.fit(rows, K, solver, threads=2, **shuffled).content_hash == whole_fit.content_hash

    def stop(epoch):
        if epoch.number == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fastmf.fit(rows, K, solver, checkpoint=tmp_path, callback=stop, **given)
    resumed = fastmf.fit(rows, K, solver, checkpoint=tmp_path, resume=True, **given)
    assert resumed.content_hash == whole_fit.content_hash
    with pytest.raises(fastmf.ParameterError, match="item_features"):
        fastmf.fit(rows, K, solver, checkpoint=tmp_path, resume=True, **given | {"item_features": table.head(30)})


@pytest.mark.parametrize(("solver", "settings"), SOLVERS, ids=map(named, SOLVERS))
def test_devices_agree(rows, table, solver, settings):
    found, defined = (
        fastmf.fit(rows, K, solver, item_features=table, device=device, epochs=4, **settings)
        for device in ("cpu", "numpy")
    )
    np.testing.assert_allclose(found.item_factors, defined.item_factors, rtol=0, atol=5e-3)
    np.testing.assert_allclose(found.item_bias, defined.item_bias, rtol=0, atol=5e-3)


def test_implicit_rows_without_pairs_are_not_among_the_zeros(rows, table):
    solver = ImplicitALS(k=K, epochs=3)
    known = fastmf.fit(rows[:2], solver=solver, item_features=table)
    more = pd.concat([table, table.assign(item=table["item"] + 5000)])
    again = fastmf.fit(rows[:2], solver=solver, item_features=more)
    np.testing.assert_allclose(again.user_factors, known.user_factors, rtol=1e-2, atol=1e-3)


def test_features_may_be_given_as_an_object(rows, table):
    ratings = Ratings.read(rows)
    given = ratings.with_features(items=Features.read(table, "item", like=ratings.item_ids))
    assert given.n_items == 64
    assert fastmf.fit(given, K).content_hash == fastmf.fit(rows, K, item_features=table).content_hash
