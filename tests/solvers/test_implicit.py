"""Implicit feedback: the objective, what counts as observed, what is watched, and cases whose answer is known."""

import numpy as np
import pandas as pd
import pytest

import fastmf
from fastmf import DataError, ImplicitALS, ParameterError, Ratings
from fastmf.solvers import SOLVERS

# Hu, Koren and Volinsky's model of so few items has to reconstruct it; a case of the tests of the library implicit.
SMALL = np.array(
    [
        [1, 1, 0, 1, 0, 0],
        [0, 1, 1, 1, 0, 0],
        [1, 0, 1, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [0, 0, 1, 1, 0, 1],
        [0, 1, 0, 0, 0, 1],
        [0, 0, 0, 0, 1, 1],
    ]
)


def observed(mask):
    """The pairs of a mask, each rated 1."""
    users, items = np.nonzero(mask)
    return users, items, np.ones(len(users))


def scores(model):
    return model.user_factors.astype(np.float64) @ model.item_factors.T


def objective(mask, model):
    """What is minimised, over all pairs, in float64; observed pairs may have other weights than 1."""
    x, y = model.user_factors.astype(np.float64), model.item_factors.astype(np.float64)
    alpha0, reg = model.user_rule.all_pairs, model.solver["reg"]
    total = np.sum(mask * (1 - x @ y.T) ** 2) + alpha0 * np.sum((x @ y.T) ** 2)
    total += np.sum(np.array([rho(row, alpha0, reg, model.solver["penalty"]) for row in mask]) * np.sum(x**2, axis=1))
    return total + np.sum(
        np.array([rho(row, alpha0, reg, model.solver["penalty"]) for row in mask.T]) * np.sum(y**2, axis=1)
    )


def rho(row, alpha0, reg, penalty):
    """The weight of a row's squared factors."""
    return reg * row.sum() ** 0.5 if penalty == "root" else reg * (row.sum() + alpha0 * len(row))


def solved(mask, other, alpha0, reg, penalty="root"):
    """Every row's factors, with all pairs in the sums."""
    rows = []
    for row in mask:
        weights, ridge = row + alpha0, rho(row, alpha0, reg, penalty) * np.eye(other.shape[1])
        rows.append(np.linalg.solve((other.T * weights) @ other + ridge, other.T @ row.astype(float)))
    return np.array(rows)


@pytest.fixture(scope="module")
def mask():
    found = np.random.default_rng(0).random((30, 20)) < 0.2
    found[:, 3] = found[5] = True  # nobody and nothing is cold
    return found


@pytest.mark.parametrize(("penalty", "reg"), [("root", 1.0), ("frequency", 0.01)])
def test_it_is_the_published_algorithm(mask, penalty, reg):
    solver = ImplicitALS(k=4, epochs=3, alpha0=0.3, penalty=penalty, method="exact")
    model = fastmf.fit(observed(mask), solver=solver)
    start = ImplicitALS(k=4, method="exact").start(Ratings.from_arrays(*observed(mask)))
    x = start.users.factors.astype(np.float64)
    for _ in range(3):
        y = solved(mask.T, x, 0.3, reg, penalty)
        x = solved(mask, y, 0.3, reg, penalty)
    np.testing.assert_allclose(model.user_factors, x, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(model.item_factors, y, rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module")
def weights(mask):
    """How much each pair counts; 0 where there is none."""
    return np.where(mask, np.random.default_rng(3).integers(1, 20, mask.shape) / 4, 0).astype(np.float32)


def weighed(weights):
    """The pairs of a matrix of weights: users, items, ratings of 1, and the weights."""
    return *observed(weights), weights[weights > 0]


def test_weights_are_those_of_the_published_objective(weights):
    solver = ImplicitALS(k=4, epochs=3, alpha0=0.3, weight_scale="none", method="exact")
    model = fastmf.fit(weighed(weights), solver=solver, weight="weight")
    x = ImplicitALS(k=4, method="exact").start(Ratings.from_arrays(*observed(weights))).users.factors.astype(np.float64)
    for _ in range(3):
        y = solved(weights.T, x, 0.3, 1.0)
        x = solved(weights, y, 0.3, 1.0)
    np.testing.assert_allclose(model.user_factors, x, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(model.item_factors, y, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(model.user_counts, (weights > 0).sum(axis=1))


def test_cg_takes_weights_to_the_same_end(weights):
    exact, steps = (
        fastmf.fit(
            weighed(weights), solver=ImplicitALS(k=4, epochs=30, method=method, weight_scale="none"), weight="weight"
        )
        for method in ("exact", "cg")
    )
    plain = fastmf.fit(observed(weights), solver=ImplicitALS(k=4, epochs=30))
    assert objective(weights, steps) == pytest.approx(objective(weights, exact), rel=1e-3)
    assert objective(weights, exact) < 0.99 * objective(weights, plain)


def test_a_weight_is_how_often_a_pair_is_there(mask):
    times = np.where(mask, np.random.default_rng(4).integers(1, 5, mask.shape), 0)
    pairs = tuple(np.repeat(column, times[mask]) for column in np.nonzero(mask))
    expected = fastmf.fit(weighed(times.astype(np.float32)), solver=ImplicitALS(k=4, method="exact"), weight="weight")
    rng = np.random.default_rng(5)
    for counts, how in (
        ((), {}),  # without ratings the number of rows is the weight
        ((np.ones(len(pairs[0])),), {"weight": "rating"}),
        ((rng.uniform(1, 5, len(pairs[0])), np.ones(len(pairs[0]))), {"weight": "weight"}),
    ):
        rows = rng.permutation(len(pairs[0]))
        columns = tuple(column[rows] for column in (*pairs, *counts))
        model = fastmf.fit(columns, solver=ImplicitALS(k=4, method="exact"), duplicates="sum", **how)
        np.testing.assert_array_equal(model.user_factors, expected.user_factors)
        assert model.rows["duplicates"] == times.sum() - mask.sum()


def test_an_event_log_is_counted_whatever_other_columns_it_has(mask):
    times = np.where(mask, np.random.default_rng(4).integers(1, 5, mask.shape), 0)
    users, items = (np.repeat(column, times[mask]) for column in np.nonzero(mask))
    events = pd.DataFrame({"user_id": users, "item_id": items})
    expected = fastmf.fit(events, solver=ImplicitALS(k=4, method="exact"), duplicates="sum")
    for value in (7.0, "seen", np.nan):
        found = fastmf.fit(events.assign(value=value), solver=ImplicitALS(k=4, method="exact"), duplicates="sum")
        assert (found.weight, found.content_hash) == ("", expected.content_hash)
        np.testing.assert_array_equal(found.fold_in(events.assign(value=value)).user_factors, found.user_factors)
        assert fastmf.evaluate(found, events.assign(value=value))["pairs"] == mask.sum()
    assert (
        fastmf.fit(events, solver=ImplicitALS(k=4, method="exact"), duplicates="last").content_hash
        != expected.content_hash
    )


@pytest.mark.parametrize("duplicates", ["last", "mean", "sum"])
def test_new_users_are_read_as_the_old_ones_were(weights, duplicates, tmp_path):
    rows = pd.DataFrame(dict(zip(("user_id", "item_id", "rating", "plays"), weighed(weights), strict=True)))
    rows = pd.concat([rows, rows.assign(plays=3.0)])
    fastmf.fit(rows, solver="implicit", method="exact", k=4, weight="plays", duplicates=duplicates).save(
        tmp_path / "a.fastmf"
    )
    model = fastmf.load(tmp_path / "a.fastmf")
    np.testing.assert_array_equal(model.fold_in(rows).user_factors, model.user_factors)


@pytest.mark.parametrize(("scale", "function"), [("log", np.log1p), ("sqrt", np.sqrt)])
def test_a_column_of_weights_is_scaled_first(weights, scale, function, tmp_path):
    users, items, ones, own = weighed(weights)
    ours = function(own.astype(float))
    ours = (ours / ours.mean()).astype(np.float32)
    taken = ImplicitALS(k=4, weight_scale="none", method="exact")
    expected = fastmf.fit((users, items, ones, ours), solver=taken, weight="weight")
    solver = ImplicitALS(k=4, weight_scale=scale, method="exact")
    fastmf.fit((users, items, ones, own), solver=solver, weight="weight").save(tmp_path / "a.fastmf")
    model = fastmf.load(tmp_path / "a.fastmf")
    assert model.content_hash == expected.content_hash
    assert (model.weight_scale.kind, expected.weight_scale) == (scale, None)
    some = users < 9
    rows = users[some], items[some], ones[some], own[some]
    folded = model.fold_in(rows, weight="weight")
    np.testing.assert_array_equal(folded.user_factors, model.user_factors[:9])
    same = model.update(rows, (users, items, ones, own), weight="weight")
    np.testing.assert_allclose(same.user_factors, model.user_factors, atol=1e-6)
    first, second = own[some], function(own[some].astype(float))
    part = fastmf.fit((*rows[:3], first), solver=solver, weight="weight")
    by_hand = fastmf.fit((*rows[:3], (second / second.mean()).astype(np.float32)), solver=taken, weight="weight")
    again = fastmf.fit((users, items, ones, own), solver=solver, weight="weight", init=part)
    assert again.rows["folded_in_users"] > 0
    expected = fastmf.fit((users, items, ones, ours), solver=taken, weight="weight", init=by_hand)
    assert again.content_hash == expected.content_hash


def test_ages_alone_are_not_scaled(mask):
    users, items, _ = observed(mask)
    days = np.random.default_rng(7).integers(0, 100, len(users)) * 86_400
    frame = pd.DataFrame({"user_id": users, "item_id": items, "timestamp": days})
    log, none = (fastmf.fit(frame, solver="implicit", k=4, half_life=30, weight_scale=kind) for kind in ("log", "none"))
    assert log.weight_scale is None
    assert log.content_hash == none.content_hash
    counts = fastmf.fit(pd.concat([frame] * 2), solver="implicit", k=4, half_life=30, duplicates="sum")
    assert counts.weight_scale.kind == "log"


def test_zeros_weigh_so_many_times_as_much_as_what_is_observed(mask):
    users, items, ones = observed(mask)
    density = mask.mean()
    model = fastmf.fit((users, items, ones), solver=ImplicitALS(k=4, zeros=2))
    assert model.user_rule.all_pairs == pytest.approx(2 * density)
    assert model.solver["zeros"] == 2
    assert fastmf.fit((users, items, ones), solver="implicit", k=4).user_rule.all_pairs == 1  # never more
    wide = users * 7, items * 5, ones  # ids without pairs do not count
    assert fastmf.fit(wide, solver=ImplicitALS(k=4, zeros=2)).user_rule == model.user_rule
    same = fastmf.fit((users, items, ones), solver=ImplicitALS(k=4, alpha0=model.user_rule.all_pairs))
    assert same.content_hash == model.content_hash
    assert same.solver["zeros"] is None


def test_factors_that_are_lost_are_missed():
    rng = np.random.default_rng(8)
    pairs = np.unique(np.column_stack([rng.integers(0, 400, 3000), (900 * rng.random(3000) ** 2).astype(int)]), axis=0)
    rows = pairs[:, 0], pairs[:, 1]
    fastmf.fit(rows, solver="implicit", k=32)  # no warning
    with pytest.warns(UserWarning, match=r"only \d+ of 32 possible factors are in use.* lower reg \(it is 2\)"):
        fastmf.fit(rows, solver="implicit", k=32, reg=2)
    with pytest.warns(UserWarning, match="only 0 of 4 possible factors"):
        fastmf.fit(rows, solver="implicit", k=4, reg=1000)


def test_ratings_that_were_read_keep_the_weights_they_have(weights):
    given = weighed(weights)
    for data, weight, own in (
        (Ratings.read(given[:3]), "weight", "no weights"),
        (Ratings.read(given, weight="weight"), "rating", "weights of column 'weight'"),
    ):
        with pytest.raises(ParameterError, match=f"weight is '{weight}', but these Ratings have {own}"):
            fastmf.fit(data, solver="implicit", weight=weight)
    users, items, _, own = given
    three = fastmf.fit((users, items, own), solver="implicit", method="exact", k=4, weight="weight")
    assert three.weight == "weight"
    assert three.content_hash == fastmf.fit(given, solver="implicit", method="exact", k=4, weight="weight").content_hash


def test_users_of_whom_nothing_is_known_get_what_has_most_ratings():
    users = np.array([1, 1, 1, 2, 2, 4, 3, 3, 5])
    items = np.array([10, 20, 30, 10, 40, 40, 10, 20, 40])
    ratings = np.array([5.0, 5, 5, 5, 5, 5, 1, 1, 5])
    model = fastmf.fit((users, items, ratings), solver=ImplicitALS(k=2, positive_from=4))
    lists = model.recommend([3, 4], n=3)
    cold = lists[lists["user_id"] == 3]
    assert cold["item_id"].tolist() == [40, 30]  # it has seen 10 and 20
    assert cold["score"].tolist() == [0, 0]
    assert (lists[lists["user_id"] == 4]["score"] != 0).all()
    assert model.recommend(3, items=[10, 30, 999])["item_id"].tolist() == [30]
    measured = fastmf.evaluate(model, ([3], [40], [5.0]), n=1)
    assert (measured["ndcg"], measured["popularity"]["ndcg"], measured["trained_pairs"]) == (1, 1, 0)
    new = model.fold_in((["a", "a"], [10, 999], [1.0, 5.0]))
    assert new.recommend("a", n=1)["item_id"].tolist() == [40]
    assert fastmf.evaluate(model, (users, items, ratings))["trained_pairs"] == 9


def test_the_ratings_may_be_the_weights(rated, tmp_path):
    users, items, values = rated
    frame = pd.DataFrame({"user_id": users, "item_id": items, "rating": values})
    frame.to_parquet(tmp_path / "a.parquet")
    expected = fastmf.fit((*rated, values), solver="implicit", method="exact", k=4, positive_from=3, weight="weight")
    for source, column in ((rated, "rating"), (frame, "rating"), (tmp_path / "a.parquet", "rating")):
        found = fastmf.fit(source, solver="implicit", method="exact", k=4, positive_from=3, weight=column)
        assert (found.weight, found.content_hash) == ("rating", expected.content_hash)
    assert (
        fastmf.fit(frame, solver="implicit", method="exact", k=4, positive_from=3).content_hash != expected.content_hash
    )


def test_folding_in_and_explaining_take_weights_too(weights, tmp_path):
    rows = pd.DataFrame(dict(zip(("user_id", "item_id", "rating", "plays"), weighed(weights), strict=True)))
    fastmf.fit(rows, solver="implicit", method="exact", k=4, weight="plays", duplicates="sum").save(
        tmp_path / "a.fastmf"
    )
    model = fastmf.load(tmp_path / "a.fastmf")
    assert model.weight == "plays"
    np.testing.assert_array_equal(model.fold_in(rows).user_factors, model.user_factors)
    halves = pd.concat([rows.assign(plays=rows["plays"] / 2)] * 2)
    np.testing.assert_array_equal(model.fold_in(halves).user_factors, model.user_factors)
    found = model.explain(3, 7, rows)
    assert found.attrs["score"] == pytest.approx(scores(model)[3, 7], abs=1e-5)
    with pytest.raises(DataError, match="no column 'plays' for the weights"):
        model.fold_in(rows[["user_id", "item_id"]])
    with pytest.raises(ParameterError, match="weight is 'plays', but these Ratings have no weights"):
        model.fold_in(Ratings.read(rows))
    with pytest.raises(DataError, match="fitted to ratings without weights, but these ratings have some"):
        fastmf.fit(rows, solver="implicit", k=2, weight="").fold_in(Ratings.read(rows, weight="plays"))
    with pytest.warns(UserWarning, match="column 'plays' is taken as the weights of rows"):
        assert fastmf.fit(rows, solver="implicit", k=2).weight == "plays"
    with pytest.raises(ParameterError, match="not what each of them weighs: give the ratings"):
        model.explain(3, 7)


def test_what_is_wrong_with_weights_is_said(rated, tmp_path):
    frame = pd.DataFrame(dict(zip(("user_id", "item_id", "rating"), rated, strict=True)))
    frame["plays"] = np.append(np.arange(len(frame) - 3.0), [np.nan, -1.0, np.inf])
    for solver in SOLVERS:
        with pytest.raises(
            DataError, match=r"'plays' has 4 of \d+ weights that are not finite numbers above 0 in float32"
        ):
            fastmf.fit(frame, solver=solver, weight="plays")
    kept = Ratings.read(frame, weight="plays", bad_rows="drop")
    assert kept.rows["bad_weights"] == 4
    np.testing.assert_array_equal(np.sort(kept.weights), np.arange(1, len(frame) - 3))
    with pytest.raises(DataError, match="one column is named for two roles"):
        Ratings.read(frame, weight="user_id")
    run = {"solver": ImplicitALS(k=2, epochs=2), "weight": "plays", "checkpoint": tmp_path}
    fastmf.fit(frame[1:-3], **run)
    with pytest.raises(ParameterError, match="ratings"):
        fastmf.fit(frame[1:-3].assign(plays=1.0), **run, resume=True)


def test_weights_stay_with_their_pairs(weights):
    users, items, ones, own = weighed(weights)
    order = np.random.default_rng(6).permutation(len(users))
    for rows in (np.arange(len(users)), order):
        found = Ratings.read((users[rows], items[rows], ones, own[rows]), weight="weight")
        for part in (found, *found.split(0.3)):
            np.testing.assert_array_equal(part.weights, weights[part.users, part.items])
            np.testing.assert_array_equal(
                part.by_item.weights, weights.T[np.repeat(np.arange(20), part.item_counts), part.by_item.indices]
            )


@pytest.mark.parametrize("method", ["exact", "cg"])
def test_no_epoch_raises_the_objective(mask, method):
    values = [
        objective(mask, fastmf.fit(observed(mask), solver=ImplicitALS(k=4, epochs=epochs, method=method)))
        for epochs in range(1, 8)
    ]
    assert np.all(np.diff(values) < 1e-6 * values[0])
    assert values[-1] < 0.9 * values[0]


def test_cg_gets_where_the_exact_solution_is(mask):
    exact, steps = (
        fastmf.fit(observed(mask), solver=ImplicitALS(k=4, epochs=30, method=method)) for method in ("exact", "cg")
    )
    assert objective(mask, steps) == pytest.approx(objective(mask, exact), rel=1e-3)


@pytest.mark.parametrize(("alpha0", "method"), [(0.1, "exact"), (1.0, "cg")])
def test_as_many_factors_as_items_reconstruct_what_is_observed(alpha0, method):
    solver = ImplicitALS(k=6, reg=0, alpha0=alpha0, epochs=60, method=method)
    found = scores(fastmf.fit(observed(SMALL), solver=solver))
    np.testing.assert_allclose(found[SMALL == 1], 1 / (1 + alpha0), atol=1e-3)
    np.testing.assert_allclose(found[SMALL == 0], 0, atol=1e-3)


def test_what_is_missing_of_a_checkerboard_is_recommended():
    board = np.add.outer(np.arange(50), np.arange(50)) % 2 == 0
    np.fill_diagonal(board, False)
    lists = fastmf.fit(observed(board), solver=ImplicitALS(k=2)).recommend(n=1)
    assert len(lists) == 50
    assert (lists["user_id"] == lists["item_id"]).all()


@pytest.mark.filterwarnings("ignore:.*singular")
def test_few_pairs_and_many_factors_are_finite():
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 40, 12), rng.integers(0, 60, 12), np.ones(12)
    model = fastmf.fit(rows, solver=ImplicitALS(k=32, reg=1e-6), duplicates="last")
    assert np.isfinite(scores(model)).all()
    assert np.isfinite(model.recommend(n=5)["score"]).all()


@pytest.fixture(scope="module")
def rated(mask):
    """The pairs, each with a rating from 1 to 5."""
    users, items, _ = observed(mask)
    return users, items, np.random.default_rng(1).integers(1, 6, len(users)).astype(float)


def with_dislikes(**more):
    return ImplicitALS(k=4, positive_from=4, negative_to=2, method="exact", **more)


@pytest.mark.parametrize("weighed", [False, True])
def test_dislikes_are_zeros_of_full_weight(mask, rated, weighed):
    users, items, values = rated
    own = np.random.default_rng(2).uniform(0.5, 3, len(users)) if weighed else np.ones(len(users))
    model = fastmf.fit((*rated, own), solver=with_dislikes(epochs=3, alpha0=0.3, weight_scale="none"), weight="weight")
    liked, either = np.zeros(mask.shape), np.zeros(mask.shape)
    liked[users, items] = own * (values >= 4)
    either[users, items] = own * ((values >= 4) | (values <= 2))
    either[~liked.any(axis=1)] = either[:, ~liked.any(axis=0)] = 0  # dislikes of cold rows are left out

    def solved(liked, either, other):  # every row, with all pairs in the sums
        return np.array(
            [
                np.linalg.solve((other.T * (g + 0.3)) @ other + g.sum() ** 0.5 * np.eye(4), other.T @ good)
                for good, g in zip(liked, either, strict=True)
            ]
        )

    start = with_dislikes().start(Ratings.from_arrays(*rated).observed(4))
    x = start.users.factors.astype(np.float64)
    for _ in range(3):
        y = solved(liked.T, either.T, x)
        x = solved(liked, either, y)
    np.testing.assert_allclose(model.user_factors, x, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(model.item_factors, y, rtol=1e-3, atol=1e-4)


def test_ratings_between_are_not_observed_and_dislikes_not_counted(rated, tmp_path):
    users, items, values = rated
    fastmf.fit(rated, solver=with_dislikes()).save(tmp_path / "a.fastmf")
    model = fastmf.load(tmp_path / "a.fastmf")
    ratings, good = Ratings.from_arrays(*rated), values >= 4
    same = fastmf.fit(ratings.take(ratings.values != 3), solver=with_dislikes())
    assert same.content_hash == model.content_hash
    assert (
        fastmf.fit(rated, solver=ImplicitALS(k=4, positive_from=4, method="exact")).content_hash != model.content_hash
    )
    warm = np.isin(users, users[good]) & np.isin(items, items[good])
    counts = [model.rows[name] for name in ("observed", "disliked", "disliked_cold")]
    assert counts == [rows.sum() for rows in (good, (values <= 2) & warm, (values <= 2) & ~warm)]
    assert not warm.all()
    for side, own in (("user", users), ("item", items)):
        np.testing.assert_array_equal(getattr(model, f"{side}_counts"), np.bincount(own[good], minlength=own.max() + 1))
    lists = model.recommend(n=20)
    assert set(zip(lists["user_id"], lists["item_id"], strict=True)).isdisjoint(zip(users, items, strict=True))
    folded = model.fold_in(rated)
    np.testing.assert_array_equal(folded.user_factors, model.user_factors)
    np.testing.assert_array_equal(folded.user_counts, model.user_counts)
    found = fastmf.evaluate(model, rated)
    assert found["ranked_users"] == len(set(users[good]))
    assert found["users_without_relevant"] == len(set(users)) - len(set(users[good]))
    before, after = scores(fastmf.fit(rated, solver=ImplicitALS(k=4, positive_from=4, method="exact"))), scores(model)
    bad = users[values <= 2], items[values <= 2]
    assert after[bad].mean() < 0.8 * before[bad].mean()


@pytest.mark.parametrize("method", ["exact", "cg"])
def test_rows_with_dislikes_alone_are_cold(method):
    users = np.array([1, 1, 1, 2, 2, 3, 3, 4])
    items = np.array([10, 20, 30, 10, 20, 10, 40, 40])
    values = np.array([5.0, 5, 1, 5, 4, 1, 2, 1])
    solver = ImplicitALS(k=2, positive_from=4, negative_to=2, method=method)
    model = fastmf.fit((users, items, values), solver=solver, validation=([1, 2, 3], [40, 30, 20], [5.0, 5, 5]))
    assert (model.user_counts.tolist(), model.item_counts.tolist()) == ([2, 2, 0, 0], [2, 2, 0, 0])
    assert not model.user_factors[2:].any()
    assert not model.item_factors[2:].any()
    assert model.user_factors[:2].any()
    assert [model.rows[name] for name in ("observed", "disliked", "disliked_cold")] == [4, 0, 4]
    lists = model.recommend([1, 3], n=4)
    assert lists["item_id"].tolist() == [20]  # user 3 has seen 10; 30 and 40 are cold
    new = model.fold_in((["a", "b"], [10, 20], [1.0, 5.0]))
    assert new.user_counts.tolist() == [0, 1]
    assert not new.user_factors[0].any()


def test_dislikes_need_ratings(rated):
    with pytest.raises(DataError, match="positive_from is 4, but there are no ratings: leave it out"):
        fastmf.fit(
            pd.DataFrame({"user": rated[0], "item": rated[1]}), solver="implicit", positive_from=4, negative_to=2
        )


def test_ratings_below_are_not_observed_but_seen(rated):
    users, items, values = rated
    model = fastmf.fit(rated, solver=ImplicitALS(k=4, positive_from=4, method="exact"))
    good, ratings = values >= 4, Ratings.from_arrays(*rated)
    same = fastmf.fit(ratings.take(ratings.values >= 4), solver=ImplicitALS(k=4, method="exact"))
    assert same.content_hash == model.content_hash
    for side, own in (("user", users), ("item", items)):
        np.testing.assert_array_equal(getattr(model, f"{side}_counts"), np.bincount(own[good], minlength=own.max() + 1))
    lists = model.recommend(n=20)
    assert set(zip(lists["user_id"], lists["item_id"], strict=True)).isdisjoint(zip(users, items, strict=True))
    assert not lists["item_id"].isin(np.flatnonzero(model.item_counts == 0)).any()
    pairs = fastmf.evaluate(model, (users, items, np.full(len(users), 5.0))), fastmf.evaluate(model, (users, items))
    assert pairs[0] == pairs[1]
    assert pairs[0]["users_without_relevant"] == 0
    np.testing.assert_array_equal(
        model.fold_in((users[good], items[good])).user_factors, model.user_factors[np.unique(users[good])]
    )
    with pytest.raises(DataError, match=r"none of \d+ ratings is at least 6 \(the highest is 5\)"):
        fastmf.fit(rated, solver=ImplicitALS(positive_from=6))


def test_no_ratings_are_needed(mask, tmp_path):
    users, items, ones = observed(mask)
    expected = fastmf.fit((users, items, ones), solver="implicit", method="exact", k=4)
    frame = pd.DataFrame({"user_id": users, "item_id": items})
    frame.to_parquet(tmp_path / "a.parquet")
    for source in ((users, items), frame, tmp_path / "a.parquet"):
        assert fastmf.fit(source, solver="implicit", method="exact", k=4).content_hash == expected.content_hash
        with pytest.raises(DataError, match="rating"):
            fastmf.fit(source, solver="als", k=4)
    with pytest.raises(DataError, match="positive_from is 4, but there are no ratings"):
        fastmf.fit(frame, solver=ImplicitALS(positive_from=4))
    assert expected.fold_in((users, items)).user_factors == pytest.approx(expected.user_factors)
    with pytest.raises(DataError, match="no column 'stars' for the ratings"):
        Ratings.read(frame, rating="stars", unrated=True)


def test_folded_in_users_are_those_of_the_fit(rated):
    model = fastmf.fit(rated, solver=ImplicitALS(k=4, positive_from=4, method="exact"))
    folded = model.fold_in(rated)
    np.testing.assert_array_equal(folded.user_factors, model.user_factors)
    np.testing.assert_array_equal(folded.user_counts, model.user_counts)
    assert folded.recommend(n=5).equals(model.recommend(n=5))


def test_the_best_epoch_is_that_of_the_best_lists(mask):
    users, items, ones = observed(np.random.default_rng(2).random((60, 40)) < 0.3)
    train, held_out = Ratings.from_arrays(users, items, ones).split(0.3)
    model = fastmf.fit(train, solver=ImplicitALS(k=16, reg=1e-5, epochs=8), validation=held_out)
    watched = [epoch.validation_ndcg for epoch in model.history]
    assert model.best_epoch == 1 + int(np.argmax(watched))
    assert all(epoch.validation_rmse is None for epoch in model.history)
    assert fastmf.evaluate(model, held_out)["ndcg"] == pytest.approx(max(watched))
    fewer = fastmf.fit(train, solver=ImplicitALS(k=16, reg=1e-5, epochs=8), validation=held_out, patience=1)
    assert len(fewer.history) <= len(model.history)
    with pytest.raises(DataError, match="no validation user has training ratings"):
        fastmf.fit(train, solver="implicit", validation=([999], [1], [1.0]))
    with pytest.raises(DataError, match=r"^validation: none of \d+ ratings is at least 1 "):
        fastmf.fit(train, solver="implicit", positive_from=1, validation=([1], [1], [0.5]))
    with pytest.warns(UserWarning, match="of .* validation pairs are in the training ratings too"):
        fastmf.fit(train, solver="implicit", k=2, epochs=1, validation=train)


def test_predictions_are_scores_and_nothing_is_said_of_rmse(mask):
    model = fastmf.fit(observed(mask), solver="implicit", method="exact", k=4)
    users, items, _ = observed(mask)
    found = model.predict(users, items)["prediction"]
    np.testing.assert_allclose(found, np.clip(scores(model)[mask], 0, 1), atol=1e-6)
    measured = fastmf.evaluate(model, observed(mask))
    assert "rmse" not in measured
    assert measured["ranked_users"] == 30
