"""The contract of every solver on every device, and what each solver says it does."""

from dataclasses import FrozenInstanceError, fields
from itertools import pairwise

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fastmf
from fastmf import ALS, SGD, Gibbs, LinkedALS, ParameterError, Ratings
from fastmf.kernels.sgd import Step
from fastmf.runtime.device import Device
from fastmf.runtime.launch import launch
from fastmf.solvers import SOLVERS, Solver, make
from fastmf.solvers import sgd as sgd_module
from fastmf.solvers.sgd import cut, dealt

DEVICES = ("cpu", "numpy")
# Every solver as it is, and its other ways of working; hogwild gives the same bits on one thread only.
VARIANTS = {
    **{name: (name, {}) for name in SOLVERS},
    **{f"{name} without biases": (name, {"biases": False}) for name in SOLVERS if name != "implicit"},
    "als without momentum": ("als", {"momentum": 0.0}),
    "als cg": ("als", {"method": "cg"}),
    "als cg without biases": ("als", {"method": "cg", "biases": False}),
    "sgd absolute": ("sgd", {"loss": "absolute"}),
    "gibbs with links": ("gibbs", {"links": True}),
    "implicit cg": ("implicit", {"method": "cg"}),
    "implicit from 5": ("implicit", {"positive_from": 5.0}),
    "implicit by rating": ("implicit", {"weight": "rating"}),
    "sgd one bin": ("sgd", {"bins": 1}),
    "sgd adaptive": ("sgd", {"adaptive": True, "decay": 1.0}),
}
HOGWILD = {"sgd hogwild": ("sgd", {"schedule": "hogwild"})}

variants = pytest.mark.parametrize("variant", VARIANTS)
devices = pytest.mark.parametrize("device", DEVICES)


# What makes a few epochs on a few hundred ratings go far.
QUICK = {"k": 3, "epochs": 6, "reg0": 0.5, "bias_reg": 1.0}
QUICK_OF = {"sgd": {"lr": 0.2}, "gibbs": {"burn": 2, "samples": 4, "kept": 2}}


def fit(rows, variant, **settings):
    name, own = (VARIANTS | HOGWILD)[variant]
    known = {field.name for field in fields(SOLVERS[name])}
    quick = {setting: value for setting, value in QUICK.items() if setting in known}
    return fastmf.fit(rows, solver=name, **{"threads": 1, **quick, **QUICK_OF.get(name, {}), **own, **settings})


@pytest.fixture(scope="module")
def rows(planted):
    users, items, ratings = planted()
    return users, items, np.abs(ratings)  # they serve as weights, too


@pytest.fixture(scope="module", params=[(v, d) for v in VARIANTS | HOGWILD for d in DEVICES], ids=", ".join)
def fitted(request, rows):
    """A model of each variant on each device."""
    variant, device = request.param
    return fit(rows, variant, device=device)


def test_a_fit_is_finite_and_better_than_the_mean(fitted, rows):
    assert len(fitted.history) == 6
    assert [epoch.number for epoch in fitted.history] == [1, 2, 3, 4, 5, 6]
    assert fitted.user_factors.shape == (30, 3)
    assert fitted.item_factors.shape == (20, 3)
    for array in (*fitted.user_side, *fitted.item_side):
        assert array.dtype == np.float32
        assert np.isfinite(array).all()
    mean, scale = (0, 1) if fitted.implicit else (rows[2].mean(), rows[2].std())
    assert fitted.mean == pytest.approx(mean, rel=1e-6)
    assert fitted.scale == pytest.approx(scale, rel=1e-6)
    assert fitted.history[-1].train_rmse < 0.95 * scale
    assert fitted.best_epoch is None


def test_biases_are_learned_unless_they_are_off(fitted):
    for bias in (fitted.user_bias, fitted.item_bias):
        assert bias.any() == fitted.solver.get("biases", False)


def test_predictions_are_the_formula_clipped(fitted, rows):
    u, i = np.searchsorted(np.unique(rows[0]), rows[0]), np.searchsorted(np.unique(rows[1]), rows[1])
    exact = fitted.mean + fitted.user_bias[u] + fitted.item_bias[i]
    exact = exact + np.sum(fitted.user_factors[u] * fitted.item_factors[i], axis=1)
    found = fitted.predict(rows[0], rows[1])["prediction"]
    np.testing.assert_allclose(found, np.clip(exact, *fitted.rating_range), rtol=1e-4, atol=1e-4)


def test_recommendations_are_unseen_and_in_order(fitted, rows):
    lists = fitted.recommend(n=4)
    assert set(zip(lists["user_id"], lists["item_id"], strict=True)).isdisjoint(zip(rows[0], rows[1], strict=True))
    assert lists.groupby("user_id")["score"].is_monotonic_decreasing.all()
    assert set(lists["rank"]) == {1, 2, 3, 4}


def test_similar_rows_are_others_by_cosine(fitted):
    for lists, columns in (
        (fitted.similar_items(1000, n=5), ["item_id", "similar_item_id"]),
        (fitted.similar_users(100, n=5), ["user_id", "similar_user_id"]),
    ):
        assert list(lists.columns) == [*columns, "score", "rank"]
        assert len(lists) == 5
        assert np.all(lists[columns[0]] != lists[columns[1]])
        assert lists["score"].is_monotonic_decreasing
        assert lists["score"].abs().max() <= 1


def test_fold_in_of_the_training_ratings_predicts_them_as_well(fitted, rows):
    folded = fitted.fold_in(rows)
    assert folded.item_factors is fitted.item_factors
    if fitted.implicit:
        exact = fitted.solver["method"] == "exact"
        np.testing.assert_allclose(folded.user_factors, fitted.user_factors, atol=1e-5 if exact else 0.1)
        return
    before, after = (fastmf.evaluate(model, rows)["rmse"] for model in (fitted, folded))
    assert after < 1.2 * before
    assert folded.user_bias.any() == fitted.solver["biases"]


def test_a_saved_model_comes_back(fitted, rows, tmp_path):
    fitted.save(tmp_path / "a.fastmf")
    loaded = fastmf.load(tmp_path / "a.fastmf")
    assert loaded.content_hash == fitted.content_hash
    assert loaded.solver == fitted.solver
    pd.testing.assert_frame_equal(loaded.recommend(n=3), fitted.recommend(n=3))


def test_settings_come_back_from_the_model(fitted):
    name, settings = fitted.solver["name"], {key: value for key, value in fitted.solver.items() if key != "name"}
    solver = SOLVERS[name](**settings)
    assert solver.settings == settings
    assert (settings["k"], solver.epochs) == (3, 6)
    assert set(settings) == {field.name for field in fields(SOLVERS[name])}


@devices
@pytest.mark.parametrize("variant", VARIANTS | HOGWILD)
def test_seeds_decide_everything_random(variant, device, rows):
    first, again, other = (fit(rows, variant, seed=s, device=device).content_hash for s in (0, 0, 1))
    assert first == again
    assert first != other


@variants
def test_numpy_and_cpu_agree(variant, rows):
    cpu, plain = (fit(rows, variant, device=device) for device in DEVICES)
    assert plain.history[-1].train_rmse == pytest.approx(cpu.history[-1].train_rmse, rel=1e-4)
    for found, expected in zip((*cpu.user_side, *cpu.item_side), (*plain.user_side, *plain.item_side), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)


@variants
def test_threads_do_not_change_a_bit(variant, rows):
    assert fit(rows, variant, threads=1).content_hash == fit(rows, variant, threads=2).content_hash


def containers(rows, folder):
    """The same ratings, shuffled, in everything that ratings come in."""
    order = np.random.default_rng(5).permutation(len(rows[0]))
    users, items, values = (column[order] for column in rows)
    columns = {"rating": values, "user_id": users, "item_id": items}
    frame, table = pd.DataFrame(columns), pa.table(columns)
    pq.write_table(table, folder / "whole.parquet", row_group_size=70)
    (folder / "parts").mkdir()
    for n, (first, size) in enumerate(((0, 11), (11, 200), (211, 1000))):
        pq.write_table(table.slice(first, size), folder / "parts" / f"{n}.parquet", row_group_size=7 + 40 * n)
    yield "arrays", (users, items, values)
    yield "lists", (users.tolist(), items.tolist(), values.tolist())
    yield "int32 and float32", (users.astype(np.int32), items.astype(np.int32), values.astype(np.float32))
    yield "pandas", frame
    yield "pyarrow", table
    yield "polars", pl.DataFrame(columns)
    yield "duckdb", duckdb.connect().from_arrow(table)
    yield "parquet", folder / "whole.parquet"
    yield "parquet path as text", str(folder / "whole.parquet")
    yield "directory of parquet", folder / "parts"
    yield "Ratings", Ratings.from_frame(frame)


@pytest.mark.parametrize("variant", SOLVERS)
def test_containers_and_the_order_of_rows_do_not_change_a_bit(variant, rows, tmp_path):
    expected = fit(rows, variant)
    for name, source in containers(rows, tmp_path):
        assert fit(source, variant).content_hash == expected.content_hash, name
    users, items, values = rows
    other = fit((users, items, values[::-1]), variant)
    assert (other.content_hash != expected.content_hash) == (not expected.implicit)


@pytest.mark.parametrize(("low", "high"), [(1, 10), (-10, 10), (0, 100)])
@pytest.mark.parametrize("variant", SOLVERS)
def test_the_defaults_serve_every_scale(variant, low, high, rows):
    users, items, values = rows
    stars = np.clip(np.round(values * 2) / 2, 0.5, 5)
    scaled = low + (stars - 0.5) * (high - low) / 4.5
    assert (scaled.min(), scaled.max()) == (low, high)
    # k is 4 for speed without the JIT; all else is the default
    models = [fastmf.fit((users, items, v), k=4, solver=variant, threads=1) for v in (stars, scaled)]
    expected, found = (model.predict(users, items) for model in models)
    if models[0].implicit:
        assert found.equals(expected)
        return
    image = low + (expected["prediction"] - 0.5) * (high - low) / 4.5
    np.testing.assert_allclose(found["prediction"], image, atol=1e-3 * (high - low), rtol=0)


@devices
@variants
def test_cold_rows_stay_zero_and_out_of_sight(variant, device, planted):
    users, items, ratings = planted(n=90)
    rows = Ratings.read((users, items, np.abs(ratings)), weight=VARIANTS[variant][1].get("weight"))
    training, _ = rows.split(0.4, seed=0)
    model = fit(training, variant, device=device)
    if model.implicit:
        training = training.observed(model.solver["positive_from"])
    users, items = (np.diff(side.indptr) == 0 for side in (training.by_user, training.by_item))
    assert users.any()
    assert items.any()
    for cold, side in ((users, model.user_side), (items, model.item_side)):
        assert not side.factors[cold].any()
        assert not side.bias[cold].any()
        assert side.factors[~cold].any(axis=1).all()
    cold_users, cold_items = np.array(model.user_ids)[users], np.array(model.item_ids)[items]
    assert not model.recommend(n=50)["item_id"].isin(cold_items).any()
    assert not model.similar_items(np.array(model.item_ids), n=50)["similar_item_id"].isin(cold_items).any()
    assert not model.similar_users(np.array(model.user_ids), n=50)["similar_user_id"].isin(cold_users).any()


BAD = {
    "k": [0, -1, 2.5, True, "3"],
    "epochs": [0, -3, 1.5],
    "seed": [-1, 0.5, 2**64],
    "reg": [-0.1, np.nan, np.inf, "x", None, True],
    "reg0": [-0.1, np.nan, np.inf, "x"],
    "bias_reg": [-0.1, np.nan, np.inf],
    "biases": ["no", 1, None],
    "momentum": [-0.1, 1.1, np.nan],
    "method": ["CG", None, ""],
    "steps": [0, -1, 1.5],
    "link_reg": [0, -1, np.nan, np.inf],
    "link_steps": [0, -1, 1.5],
    "fade": [-1, np.nan, np.inf, "x"],
    "burn": [-1, 1.5],
    "samples": [0, 2.5],
    "kept": [-1, 1.5],
    "links": [1, "yes", None],
    "lr": [0, -1, np.nan, np.inf],
    "decay": [0, -0.5, 1.1, np.nan],
    "loss": ["huber", None],
    "schedule": ["", "hogwild "],
    "bins": [0, -1, 2.5, True],
    "adaptive": [1, "yes"],
    "alpha0": [-0.1, np.nan, np.inf, "x", None],
    "positive_from": [np.nan, np.inf, "x", True],
}


@pytest.mark.parametrize("name", SOLVERS)
def test_settings_out_of_range_are_parameter_errors(name):
    settings = [field.name for field in fields(SOLVERS[name])]
    assert set(settings) <= set(BAD), "say what is out of range for the new setting"
    for setting in settings:
        for value in BAD[setting]:
            with pytest.raises(ParameterError, match=f"^{setting} is ") as caught:
                SOLVERS[name](**{setting: value})
            assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("name", SOLVERS)
def test_solvers_are_frozen_keyword_only_and_keep_the_protocol(name):
    solver = SOLVERS[name](k=2)
    assert isinstance(solver, Solver)
    assert solver.name == name
    with pytest.raises(FrozenInstanceError):
        solver.k = 3
    with pytest.raises(TypeError):
        SOLVERS[name](2)
    assert solver == SOLVERS[name](k=2)
    assert solver.remedy


@pytest.mark.parametrize("name", SOLVERS)
def test_settings_given_as_numpy_numbers_are_plain_data(name, rows, tmp_path):
    given = {"epochs": np.int32(2), "reg": np.float32(0.5)}
    if name == "gibbs":
        given = {"burn": np.int32(2), "samples": np.int16(3), "kept": np.int8(1)}
    model = fastmf.fit(rows, k=np.int64(2), solver=name, seed=np.uint8(1), **given)
    model.save(tmp_path / "a.fastmf")
    assert fastmf.load(tmp_path / "a.fastmf").solver == model.solver
    plain = fastmf.fit(rows, k=2, solver=name, seed=1, **{setting: value.item() for setting, value in given.items()})
    assert plain.solver == model.solver
    assert plain.content_hash == model.content_hash


@pytest.mark.parametrize("name", SOLVERS)
def test_the_largest_seed_works(name, rows):
    assert fit(rows, name, seed=2**63 - 1).content_hash != fit(rows, name, seed=0).content_hash


def test_make_takes_names_and_objects():
    solver = ALS(k=2)
    assert make(SOLVERS, solver) is solver
    assert make(SOLVERS, "sgd", k=2, seed=None, lr=0.1) == SGD(k=2, lr=0.1)
    with pytest.raises(ParameterError, match="choose one of als, als-links, sgd, gibbs"):
        make(SOLVERS, "svd")
    with pytest.raises(ParameterError, match="has no setting lr, loss; it has k, epochs"):
        make(SOLVERS, "als", lr=0.1, loss="squared", k=3)
    with pytest.raises(ParameterError, match="k, reg given beside a solver object"):
        make(SOLVERS, solver, k=2, reg=0.1, seed=None)
    with pytest.raises(ParameterError, match="no solver"):
        make(SOLVERS, object())


def standardised(rows):
    users, items, values = rows
    return Ratings.from_arrays(users, items, (values - values.mean()) / values.std())


def ran(solver, ratings):
    """The factors after all epochs."""
    factors = solver.start(ratings)
    assert list(solver.run(ratings, factors, Device(name="cpu", threads=1))) == [0] * solver.epochs
    return factors


def test_als_is_the_published_algorithm(rows):
    # The model of the docstrings once more, in float64, one row after another, with momentum from the second epoch on.
    solver, ratings = ALS(k=3, epochs=4, reg=0.05, reg0=1.0, bias_reg=2.0, momentum=0.4), standardised(rows)
    users, items = ([array.astype(np.float64) for array in side] for side in solver.start(ratings)[:2])
    previous = [array.copy() for array in items]

    def solve(entries, side, other):
        for row in range(len(side[1])):
            rated = slice(entries.indptr[row], entries.indptr[row + 1])
            columns, n = entries.indices[rated], entries.indptr[row + 1] - entries.indptr[row]
            design = np.column_stack([other[0][columns], np.ones(n)])  # the bias is one more unknown of the row
            ridge = np.diag([0.05 * n + 1.0] * 3 + [2.0])
            found = np.linalg.solve(design.T @ design + ridge, design.T @ (entries.values[rated] - other[1][columns]))
            side[0][row], side[1][row] = found[:3], found[3]

    for _ in range(4):
        ahead = [now + 0.4 * (now - before) for now, before in zip(items, previous, strict=True)]
        previous = [array.copy() for array in items]
        solve(ratings.by_user, users, ahead)
        solve(ratings.by_item, items, users)
    found = ran(solver, ratings)
    for side, expected in zip(found[:2], (users, items), strict=True):
        np.testing.assert_allclose(side.factors, expected[0], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(side.bias, expected[1], rtol=1e-3, atol=1e-4)


def objective(ratings, factors, *, reg, reg0, bias_reg):
    """What both solvers say they minimise, in float64."""
    (x, b), (y, c) = ([array.astype(np.float64) for array in side] for side in factors[:2])
    u, i = ratings.users, ratings.items
    errors = ratings.values - b[u] - c[i] - np.sum(x[u] * y[i], axis=1)
    total = errors @ errors + bias_reg * (b @ b + c @ c)
    for rows, factors_of in ((u, x), (i, y)):
        total += (reg * np.bincount(rows) + reg0) @ np.sum(factors_of**2, axis=1)
    return total


@pytest.mark.parametrize("biases", [True, False])
def test_als_by_cg_gets_where_exact_als_does(rows, biases):
    ratings, weights = standardised(rows), {"reg": 0.05, "reg0": 1.0, "bias_reg": 2.0}

    def reached(**how):
        return objective(ratings, ran(ALS(k=3, epochs=20, biases=biases, **weights, **how), ratings), **weights)

    exact = reached()
    assert exact < 0.5 * objective(ratings, ALS(k=3).start(ratings), **weights)
    assert reached(method="cg") < 1.005 * exact
    assert abs(reached(method="cg", steps=12) - exact) < 1e-4 * exact  # k + 1 steps are exact but for rounding


def test_als_and_sgd_minimise_the_same_objective(planted):
    users, items, values = planted(15, 12, 150)
    rng = np.random.default_rng(1)
    values = values + rng.standard_normal(200)[users - 100] + rng.standard_normal(12)[items - 1000]
    ratings = standardised((users, items, values))
    weights = {"reg": 0.05, "reg0": 0.5, "bias_reg": 2.0}

    def reached(solver, **settings):
        factors = ran(solver(k=2, **settings), ratings)
        assert min(np.linalg.norm(side.factors) for side in factors[:2]) > 1  # not at the saddle, where all is zero
        return objective(ratings, factors, **weights)

    slow = {"epochs": 300, "lr": 0.05, "decay": 0.985}
    expected = reached(ALS, epochs=60, momentum=0, **weights)
    assert reached(SGD, **slow, **weights) == pytest.approx(expected, rel=0.005)
    for name, weight in weights.items():  # this check can tell when one of them means something else
        assert reached(SGD, **slow, **{**weights, name: 2 * weight}) > 1.005 * expected


@pytest.mark.parametrize("loss", ["squared", "absolute"])
def test_sgd_lowers_its_loss(loss, rows):
    model = fit(rows, "sgd", loss=loss, epochs=30)
    assert model.history[-1].train_rmse < 0.8 * model.history[0].train_rmse


def test_sgd_steps_by_lr_times_decay(monkeypatch, rows):
    steps = []

    def launched(kernel, device, tasks, *args):
        if isinstance(args[-1], Step):
            steps.append(args[-1])
        return launch(kernel, device, tasks, *args)

    monkeypatch.setattr(sgd_module, "launch", launched)
    ran(SGD(epochs=3, lr=0.08, decay=0.5, bins=1, seed=7, k=5), standardised(rows))
    assert [step.lr for step in steps] == [0.08, 0.04, 0.02]
    assert {(step.k, step.biases, step.adaptive, step.absolute) for step in steps} == {(5, True, False, False)}
    assert [step.epoch for step in steps] == [0, 1, 2]
    assert {step.seed for step in steps} == {7}
    steps.clear()
    ran(SGD(epochs=1, biases=False, bins=1, loss="absolute", adaptive=True), standardised(rows))
    assert (steps[0].biases, steps[0].adaptive, steps[0].absolute) == (False, True, True)


def test_hogwild_on_two_threads_comes_as_near(rows):
    one, two = (fit(rows, "sgd hogwild", epochs=40, threads=threads) for threads in (1, 2))
    assert two.history[-1].train_rmse == pytest.approx(one.history[-1].train_rmse, rel=0.1)


def skewed():
    """Ratings of which a few users and items hold most."""
    rng = np.random.default_rng(0)
    pairs = {(int(u), int(i)) for u, i in (rng.random((900, 2)) ** 3 * (40, 25)).astype(int)}
    users, items = np.array(sorted(pairs)).T
    return Ratings.from_arrays(users, items, np.arange(len(users), dtype=np.float32))


@devices
@pytest.mark.parametrize("bins", [1, 2, 3, 8, 25])
def test_blocks_hold_every_rating_once_and_a_stratum_shares_no_row(bins, device):
    ratings = skewed()
    grid = cut(ratings, bins)
    triples, strata = dealt(ratings, grid, 0, Device(name=device, threads=2))
    assert len(strata) == bins
    order = triples.values.astype(int)  # the ratings are their own numbers
    assert sorted(order) == list(range(len(ratings)))
    np.testing.assert_array_equal(triples.users, grid.user_rows[ratings.users[order]])
    np.testing.assert_array_equal(triples.items, grid.item_rows[ratings.items[order]])
    for rows, of_bin in ((grid.user_rows, grid.user_bins), (grid.item_rows, grid.item_bins)):
        assert sorted(rows) == list(range(len(rows)))
        assert np.all(np.diff(of_bin[np.argsort(rows)]) >= 0)  # the rows of a bin lie together
    bounds = np.concatenate([strata[0][:1], *(tasks[1:] for tasks in strata)])
    assert (bounds[0], bounds[-1]) == (0, len(ratings))
    assert all(before[-1] == after[0] for before, after in pairwise(strata))
    for tasks in strata:
        for side in (triples.users, triples.items):
            of_block = [set(side[first:last]) for first, last in pairwise(tasks)]
            assert sum(map(len, of_block)) == len(set().union(*of_block))


def test_bins_hold_as_many_ratings():
    # a user with c ratings for every c of 1 to 16, and so with the items: dealt there and back, 8 bins have 17 each
    pairs = np.argwhere(np.tri(16, dtype=bool))
    order = np.random.default_rng(0).permutation(16)
    ratings = Ratings.from_arrays(*order[pairs].T, np.ones(len(pairs)))
    _, strata = dealt(ratings, cut(ratings, 8), 0, Device(name="cpu", threads=2))
    sizes = np.array([np.diff(tasks) for tasks in strata])  # stratum s holds the blocks (b, b + s mod 8)
    assert sizes.sum(axis=0).tolist() == [17] * 8
    assert sum(np.roll(sizes[s], s) for s in range(8)).tolist() == [17] * 8


def test_a_device_made_by_hand_works(rows):
    assert fit(rows, "als", device=Device(name="cpu", threads=2)).content_hash == fit(rows, "als").content_hash


def linked(n_users=80, n_items=40, seed=0):
    """Ratings by factors that show in what is rated: users rate the items nearest to them."""
    rng = np.random.default_rng(seed)
    x, y, other = (rng.standard_normal((n, 2)) for n in (n_users, n_items, n_items))
    near = x @ y.T + rng.gumbel(0, 0.7, (n_users, n_items))
    rated = np.argsort(-near, axis=1)[:, : n_items // 4]
    users, items = np.repeat(np.arange(n_users), rated.shape[1]), rated.ravel()
    return users, items, np.sum(x[users] * other[items], axis=1) + 0.5 * rng.standard_normal(len(users))


@pytest.mark.big
def test_links_gain_where_what_is_rated_says_something():
    found = []
    for link_reg in (1.0, 1e9):  # the second lets links say nothing
        solver, folds = LinkedALS(k=2, reg0=2.0, link_reg=link_reg, fade=1.0), Ratings.from_arrays(*linked()).folds(4)
        found.append(np.mean([fastmf.evaluate(fastmf.fit(a, solver=solver), b)["rmse"] for a, b in folds]))
    assert found[0] < 0.9 * found[1]


def test_without_force_links_are_plain_als(rows):
    plain = fit(rows, "als")
    found = fit(rows, "als-links", link_reg=1e30, fade=0.0, reg=ALS.reg)
    for one, other in zip(plain.history, found.history, strict=True):
        assert other.train_rmse == pytest.approx(one.train_rmse, rel=1e-5)
    np.testing.assert_allclose(
        found.predict(*rows[:2])["prediction"], plain.predict(*rows[:2])["prediction"], atol=1e-4
    )


@pytest.mark.parametrize("biases", [True, False])
def test_links_are_the_published_algorithm(rows, biases):
    # The model of solvers/links.py once more, in float64, with dense matrices and one row after another.
    solver = LinkedALS(k=3, epochs=4, reg=0.05, reg0=1.0, bias_reg=2.0, link_reg=0.5, link_steps=2, fade=3.0,
                       momentum=0.4, biases=biases)  # fmt: skip
    ratings = standardised(rows)
    users, items = ([array.astype(np.float64) for array in side] for side in solver.start(ratings)[:2])
    previous = [array.copy() for array in items]
    counts = [np.diff(side.indptr).astype(float) for side in (ratings.by_user, ratings.by_item)]
    ones = np.zeros((ratings.n_users, ratings.n_items))
    ones[ratings.users, ratings.items] = 1
    force = counts[0] / (counts[0] + 3)
    design = (force / np.sqrt(counts[0]))[:, None] * ones, ones.T / np.sqrt(counts[1])[:, None]
    rest = (1 - force)[:, None]
    w, s = np.zeros((ratings.n_items, 3)), np.zeros((ratings.n_users, 3))

    def solve(entries, side, other, pull):
        for row in range(len(side[1])):
            rated = slice(entries.indptr[row], entries.indptr[row + 1])
            columns, n = entries.indices[rated], entries.indptr[row + 1] - entries.indptr[row]
            rho = 0.05 * n + 1.0
            d = np.column_stack([other[0][columns], np.full(n, float(biases))])
            right = d.T @ (entries.values[rated] - other[1][columns]) + np.append(rho * pull[row], 0)
            found = np.linalg.solve(d.T @ d + np.diag([rho] * 3 + [2.0]), right)
            side[0][row], side[1][row] = found[:3], found[3]

    def step(d, table, target, steps=2):
        # preconditioned conjugate gradients, a column at a time
        matrix, diagonal = d.T @ d + 0.5 * np.eye(len(table)), np.sum(d**2, axis=0) + 0.5
        for f in range(3):
            z, r = table[:, f].copy(), d.T @ target[:, f] - matrix @ table[:, f]
            p, square = r / diagonal, r @ (r / diagonal)
            for _ in range(steps):
                length = square / (p @ matrix @ p)
                z, r = z + length * p, r - length * matrix @ p
                p, square = r / diagonal + r @ (r / diagonal) / square * p, r @ (r / diagonal)
            table[:, f] = z

    def mean():
        return counts[0] @ users[0] / counts[0].sum()

    for epoch in range(4):
        ahead = [now + 0.4 * (now - before) for now, before in zip(items, previous, strict=True)]
        previous = [array.copy() for array in items]
        if epoch:
            step(design[0], w, users[0] - rest * mean())
        solve(ratings.by_user, users, ahead, design[0] @ w + rest * mean() * (epoch > 0))
        if epoch:
            step(design[1], s, items[0])
        solve(ratings.by_item, items, users, design[1] @ s)
    found, offset = ran(solver, ratings), mean() * biases
    for side, factors, bias in zip(
        found[:2], (users[0] - offset, items[0]), (users[1], items[1] + items[0] @ offset), strict=True
    ):
        np.testing.assert_allclose(side.factors, factors, rtol=2e-3, atol=2e-4)
        np.testing.assert_allclose(side.bias, bias, rtol=2e-3, atol=2e-4)


def test_no_rating_held_out_shows_in_the_links(rows):
    rest, held_out = Ratings.from_arrays(*rows).split(0.2, seed=0)
    watched, alone = fit(rest, "als-links", validation=held_out), fit(rest, "als-links")
    assert [epoch.train_rmse for epoch in watched.history] == [epoch.train_rmse for epoch in alone.history]
    few, pairs_out = Ratings.from_arrays(*rows).split(0.9, seed=0)
    cold = few.item_counts == 0
    assert cold.any()
    assert np.isin(np.flatnonzero(cold), pairs_out.items).all()  # they are rated, but not in training
    model = fit(few, "als-links")
    assert not model.links.items[cold].any()
    assert model.links.items[~cold].any()


@pytest.mark.big
def test_folding_in_with_links_comes_near_a_refit(planted):
    ratings = Ratings.from_arrays(*planted(80, 60, 2400, noise=0.5))
    model = fastmf.fit(ratings, k=4, solver="als-links", epochs=30)
    folded = model.fold_in(ratings)
    before, after = (fastmf.evaluate(each, ratings)["rmse"] for each in (model, folded))
    assert after == pytest.approx(before, abs=0.002)


def test_a_fade_without_links_is_refused():
    with pytest.raises(ParameterError, match="fade is 5, but without links nothing fades"):
        Gibbs(fade=5)
    assert Gibbs(fade=5, links=True).fade == 5


def test_gibbs_keeps_the_samples_there_are_and_no_sweep_of_its_burn_in(planted):
    rows = planted()
    few = fit(rows, "gibbs", kept=16)
    assert few.samples.user_bias.shape[0] == 4
    stopped = fit(rows, "gibbs", burn=3, samples=40, kept=40, validation=0.2, patience=2)
    n_samples = len(stopped.history) - 3
    assert 3 < stopped.best_epoch < 43
    assert stopped.samples.user_bias.shape[0] == n_samples
    assert (stopped.samples.user_precisions > 0).all()


@pytest.mark.big
@pytest.mark.parametrize("samples", [84, 300])
def test_gibbs_with_links_stays_where_it_is_on_little_data(planted, samples):
    train, test = Ratings.from_arrays(*planted(30, 300, 3000, noise=1.5)).split(0.2)
    model = fastmf.fit(train, k=16, solver="gibbs", links=True, samples=samples)
    found = fastmf.evaluate(model, test)
    assert found["rmse"] < 1.01 * found["rmse_of_biases"]
    assert found["coverage"]["80"] == pytest.approx(0.8, abs=0.05)


@pytest.mark.big
def test_ids_without_ratings_do_not_change_what_gibbs_learns_of_links(planted):
    ratings = Ratings.from_arrays(*planted(40, 30, 500))
    wide = Ratings(
        users=ratings.users,
        items=ratings.items,
        values=ratings.values,
        user_ids=ratings.user_ids,
        item_ids=pa.array(range(1000, 1000 + 3 * ratings.n_items)),
    )
    models = [fastmf.fit(each, k=3, solver="gibbs", links=True, burn=4, samples=30) for each in (ratings, wide)]
    found, expected = (np.abs(model.links.items[: ratings.n_items]).mean() for model in models)
    assert found == pytest.approx(expected, rel=0.5)
    assert not models[1].links.items[ratings.n_items :].any()
