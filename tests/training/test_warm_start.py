"""Warm start: every solver starts where an earlier model of any solver left off."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

import fastmf
from fastmf import DataError, Features, ModelFormatError, ParameterError, Ratings
from fastmf.data.standardise import deviation_of, mean_of, standardised
from fastmf.solvers import make
from fastmf.solvers.gibbs import Sampler
from fastmf.solvers.gibbs import State as Chain
from fastmf.solvers.links import Memory
from fastmf.training.checkpoint import NAME
from fastmf.training.warm_start import Scaling, start_of

QUICK = {"reg0": 0.5}
OF = {
    "als": QUICK,
    "als-links": QUICK,
    "sgd": QUICK | {"lr": 0.1},
    "gibbs": {"burn": 2, "samples": 6, "kept": 2},
    "gibbs-links": {"burn": 2, "samples": 6, "kept": 2, "links": True},
}
PAIRS = [(old, new) for old in OF for new in OF if old == new or "als" in (old, new) or "als-links" in (old, new)]
UNKNOWN_USER, UNKNOWN_ITEM = 1, 5000  # rated by, and rating, nobody that the model knows


def solver_of(name, **more):
    return make(name.removesuffix("-links") if name.startswith("gibbs") else name, k=3, **OF[name] | more)


@pytest.fixture(scope="module")
def days(planted):
    """Yesterday's ratings, and all of today's: other ratings, with new users and items, that raise the mean."""
    users, items, ratings = planted(n=400)
    old = (users < 170) & (items < 1017) & (np.arange(400) < 350)
    ratings = ratings + 0.5 * ~old
    everything = np.append(users, UNKNOWN_USER), np.append(items, UNKNOWN_ITEM), np.append(ratings, 3.0)
    return tuple(column[old] for column in (users, items, ratings)), everything


def started(model, ratings, solver):
    """The factors that a solver starts from, and the ratings that it trains on."""
    given = Ratings.read(ratings)
    mean = mean_of(given.values)
    to = Scaling(mean, deviation_of(given.values, mean))
    start, counts = start_of(model, given, to)
    own = given.with_values(standardised(given.values, *to))
    return solver.start_from(own, start), own, to, start, counts


def unclipped(users, items, pairs, mean, scale):
    u, i = pairs
    return mean + scale * (users.bias[u] + items.bias[i] + np.sum(users.factors[u] * items.factors[i], axis=1))


@pytest.fixture(scope="module")
def models(days):
    return {name: fastmf.fit(days[0], solver=solver_of(name)) for name in OF}


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_before_the_first_epoch_predictions_are_those_of_the_model(days, models, old, new):
    model, solver = models[old], solver_of(new)
    factors, own, to, start, _ = started(model, days[1], solver)
    assert abs(to.mean - model.mean) > 0.05
    assert abs(to.scale - model.scale) > 0.005
    u, i = model.known_users(own.user_ids), model.known_items(own.item_ids)
    known = (u[own.users] >= 0) & (i[own.items] >= 0)
    theirs = unclipped(model.user_side, model.item_side, (u[own.users][known], i[own.items][known]), model.mean, 1.0)
    pairs = own.users[known], own.items[known]
    np.testing.assert_allclose(unclipped(*factors[:2], pairs, *to), theirs, atol=2e-5)
    inside = None  # what the next epoch sees, in the frame of the objective
    if new == "als-links":
        memory = Memory(*factors.memory)
        inside = factors.users._replace(factors=memory.users), factors.items._replace(bias=memory.item_bias)
    elif new.startswith("gibbs"):
        chain = Chain(*factors.memory)
        inside = (
            factors.users._replace(factors=chain.users, bias=chain.user_bias),
            factors.items._replace(factors=chain.items, bias=chain.item_bias),
        )
    if inside is not None:
        np.testing.assert_allclose(unclipped(*inside, pairs, *to), theirs, atol=2e-5)
        assert np.abs(inside[0].factors - factors.users.factors).max() > 1e-3 or not start.frame.user_origin.any()


@pytest.mark.parametrize("name", OF)
def test_new_rows_are_folded_in_and_the_rest_starts_as_without_a_model(days, models, name):
    model, (users, items, ratings) = models[name], days[1]
    solver = solver_of("als")
    factors, own, to, _, counts = started(model, days[1], solver)
    new_users, new_items = sorted({*users} - {*days[0][0]}), sorted({*items} - {*days[0][1]})
    assert min(len(new_users), len(new_items)) > 2
    assert counts == {
        "init_users": len({*days[0][0]}),
        "init_items": len({*days[0][1]}),
        "folded_in_users": len(new_users) - 1,
        "folded_in_items": len(new_items) - 1,
    }
    of_new = np.isin(users, new_users)
    folded = model.fold_in((users[of_new], items[of_new], ratings[of_new]))
    rows = np.searchsorted(own.user_ids, folded.user_ids)
    np.testing.assert_allclose(factors.users.factors[rows] * to.scale, folded.user_factors, atol=1e-5)
    fresh = solver.start(own)
    place = own.item_ids.to_pylist().index(UNKNOWN_ITEM)
    np.testing.assert_array_equal(factors.items.factors[place], fresh.items.factors[place])
    assert not factors.users.factors[own.user_ids.to_pylist().index(UNKNOWN_USER)].any()
    assert factors.items.factors.any(axis=1).all()


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_fits_go_on_from_there(days, models, old, new):
    solver = solver_of(new).with_epochs(2)
    warm, cold = (fastmf.fit(days[1], solver=solver, init=init) for init in (models[old], None))
    assert [len(each.history) for each in (warm, cold)] == [2, 2]
    assert warm.rows["init_users"] + warm.rows["folded_in_users"] + 1 == len(warm.user_ids)
    assert "init_users" not in cold.rows
    if not new.startswith("gibbs"):  # whose cold start is a warm-up by six epochs of ALS
        assert warm.history[0].train_rmse < cold.history[0].train_rmse


def test_links_are_carried_and_predict_from_the_new_ratings(days, models):
    model = models["als-links"]
    factors, own, to, _, _ = started(model, days[1], solver_of("als-links"))
    memory, ratio = Memory(*factors.memory), model.scale / to.scale
    items, users, origin = (table[:, :3] for table in factors.kept)
    rows = np.searchsorted(own.item_ids, model.item_ids)
    np.testing.assert_allclose(items[rows], model.links.items * ratio, rtol=1e-5)
    assert not np.delete(items, rows, axis=0).any()
    np.testing.assert_array_equal(users[np.searchsorted(own.user_ids, model.user_ids)], model.links.users)
    np.testing.assert_allclose(origin[0], model.links.origin * ratio, rtol=1e-5)
    sums, n = np.zeros((own.n_users, 3)), own.user_counts
    np.add.at(sums, own.users, items[own.items])
    expected = sums * (n / (n + 20) / np.sqrt(n))[:, None]
    np.testing.assert_allclose(memory.expected_users[:, :3], expected, atol=1e-6)
    sums = np.zeros((own.n_items, 3))
    np.add.at(sums, own.items, users[own.users])
    np.testing.assert_allclose(memory.expected_items[:, :3], sums / np.sqrt(own.item_counts)[:, None], atol=1e-6)


def test_links_follow_a_model_without_them_in_the_first_epoch(days, models):
    solver = solver_of("als-links").with_epochs(1)
    found = fastmf.fit(days[1], solver=solver, init=models["als"])
    assert np.abs(found.links.items).max() > 0.01
    assert np.abs(found.links.users).max() > 0.01
    assert not fastmf.fit(days[1], solver=solver).links.items.any()


def test_the_chain_starts_at_the_model_without_a_warm_up(days, models, monkeypatch):
    def unwanted(*_):
        raise AssertionError

    monkeypatch.setattr(Sampler, "warm_up", unwanted)
    for old in ("als", "gibbs", "gibbs-links", "als-links"):
        for new in ("gibbs", "gibbs-links"):
            found = fastmf.fit(days[1], solver=solver_of(new, burn=0, samples=1, kept=0), init=models[old])
            assert found.history[0].train_rmse < found.scale
            if new == "gibbs-links":
                assert np.abs(found.links.items).max() > 0.01
    with pytest.raises(AssertionError):
        fastmf.fit(days[1], solver=solver_of("gibbs"))


@pytest.mark.parametrize("positive_from", [None, 3.0])
def test_implicit_feedback_goes_on_too(days, positive_from):
    old, new = ((*day[:2], np.abs(day[2])) for day in days)
    settings = {"k": 3, "solver": "implicit", "positive_from": positive_from}
    model = fastmf.fit(old, **settings)
    warm, cold = (fastmf.fit(new, epochs=1, init=init, **settings) for init in (model, None))
    assert warm.history[0].train_rmse < 0.9 * cold.history[0].train_rmse
    own = Ratings.read(new).observed(positive_from)
    start, _ = start_of(model, own, Scaling(0.0, 1.0))
    factors = make("implicit", k=3).start_from(own, start)
    rows = np.searchsorted(own.user_ids, model.user_ids)
    warm_rows = model.user_counts > 0
    np.testing.assert_array_equal(factors.users.factors[rows[warm_rows]], model.user_factors[warm_rows])
    assert not factors.users.bias.any()


@pytest.mark.parametrize("name", ["als", "als-links", "sgd", "gibbs"])
def test_a_solver_without_biases_starts_from_the_factors(days, models, name):
    solver = solver_of(name, biases=False)
    for old in ("als", "als-links"):
        factors, *_ = started(models[old], days[1], solver)
        assert not factors.users.bias.any()
        assert not factors.items.bias.any()
        found = fastmf.fit(days[1], solver=solver.with_epochs(1), init=models[old])
        assert not found.user_bias.any()
    plain = fastmf.fit(days[0], solver=solver)
    found = fastmf.fit(days[1], solver=solver_of(name).with_epochs(1), init=plain)
    assert found.user_bias.any()


def test_cold_rows_stay_cold(days, models):
    rest, _ = Ratings.read(days[0]).split(0.9, seed=0)
    assert (rest.item_counts == 0).any()
    for name in OF:
        found = fastmf.fit(rest, solver=solver_of(name).with_epochs(1), init=models["als-links"])
        assert not found.item_factors[rest.item_counts == 0].any()
        assert not found.user_factors[rest.user_counts == 0].any()
        assert not found.item_bias[rest.item_counts == 0].any()


def test_models_that_cannot_fold_in_start_what_they_know(days, models):
    bare = dataclasses.replace(models["als"], user_rule=None, item_rule=None)
    found = fastmf.fit(days[1], 3, epochs=1, init=bare)
    assert (found.rows["folded_in_users"], found.rows["folded_in_items"]) == (0, 0)
    assert found.rows["init_users"] == len({*days[0][0]})


def test_ids_match_by_value_whatever_their_width(days, models):
    users, items, ratings = days[1]
    narrow = users.astype(np.int16), items.astype(np.uint32), ratings
    one, other = (fastmf.fit(rows, 3, epochs=1, init=models["als"]) for rows in (days[1], narrow))
    np.testing.assert_array_equal(one.user_factors, other.user_factors)
    with pytest.raises(DataError, match="user ids of type large_string cannot be found among ids of type int64"):
        fastmf.fit((list(map(str, users)), items, ratings), 3, epochs=1, init=models["als"])


def test_models_that_do_not_fit_are_refused_before_anything_is_read(days, models, tmp_path):
    nowhere = tmp_path / "nowhere.parquet"
    with pytest.raises(ParameterError, match=r"k is 4, but the model to start from has 3 factors: give --k 3 \(k=\)"):
        fastmf.fit(nowhere, 4, init=models["als"])
    with pytest.raises(ParameterError, match=r"solver 'implicit' is for implicit feedback, but .* of ratings .*'als'"):
        fastmf.fit(nowhere, 3, "implicit", init=models["als"])
    with pytest.raises(ParameterError, match=r"init is 5: give a model, or the path of its file"):
        fastmf.fit(nowhere, 3, init=5)
    with pytest.raises(FileNotFoundError, match="does not exist: fit a model"):
        fastmf.fit(nowhere, 3, init=tmp_path / "no.fastmf")
    (tmp_path / "text").write_text("text")
    with pytest.raises(ModelFormatError):
        fastmf.fit(nowhere, 3, init=str(tmp_path / "text"))
    models["als"].save(tmp_path / "a")
    by_path, by_model = (fastmf.fit(days[1], 3, epochs=1, init=init) for init in (tmp_path / "a", models["als"]))
    assert by_path.content_hash == by_model.content_hash


def test_a_model_is_part_of_what_a_checkpoint_resumes(days, models, tmp_path):
    def interrupt(epoch):
        if epoch.number == 2:
            raise InterruptedError

    run = {"k": 3, "solver": "als-links", "epochs": 4}
    whole = fastmf.fit(days[1], **run, init=models["als"])
    with pytest.raises(InterruptedError):
        fastmf.fit(days[1], **run, init=models["als"], checkpoint=tmp_path, callback=interrupt)
    assert (tmp_path / NAME).exists()
    for other in (None, models["sgd"]):
        with pytest.raises(ParameterError, match="is from a run with init '"):
            fastmf.fit(days[1], **run, init=other, checkpoint=tmp_path, resume=True)
    resumed = fastmf.fit(days[1], **run, init=models["als"], checkpoint=tmp_path, resume=True)
    assert resumed.content_hash == whole.content_hash


def test_validation_pairs_that_the_model_knows_are_reported(days, models):
    with pytest.warns(UserWarning, match=r"was fitted to 2\d of 3\d validation pairs, which flatters"):
        fastmf.fit(days[1], 3, epochs=1, validation=0.08, init=models["als"])
    unseen = dataclasses.replace(models["als"], seen=None)
    fastmf.fit(days[1], 3, epochs=1, validation=0.08, init=unseen)


def test_a_blend_is_learned_by_a_fit_from_scratch(days, models):
    warm = fastmf.fit(days[1], 3, epochs=1, blend=True, init=models["als"])
    assert warm.blend == fastmf.fit(days[1], 3, blend=True).blend
    assert len(warm.history) == 1


@pytest.mark.parametrize("name", ["als", "als-links", "sgd"])
def test_what_features_weigh_is_carried_by_their_names(days, name):
    yesterday, today = days
    table = pa.table({"item": np.arange(1000, 1020), "a": np.arange(20) % 7, "b": np.arange(20) % 5})
    init = fastmf.fit(yesterday, solver=solver_of(name), item_features=table)
    ratings = Ratings.read(today)
    ratings = ratings.with_features(
        items=Features.read(table.select(["item", "b", "a"]), "item", like=ratings.item_ids)
    )
    scaling = Scaling(mean_of(ratings.values), deviation_of(ratings.values, mean_of(ratings.values)))
    start, _ = start_of(init, ratings, scaling)
    ratio = init.scale / scaling.scale
    np.testing.assert_array_equal(start.expected["item"].weights, init.item_expected.weights[::-1])
    np.testing.assert_allclose(start.expected["item"].bias_weights, init.item_expected.bias_weights[::-1] * ratio)
    factors = solver_of(name).start_from(ratings, start)
    expected = ratings.item_features.rows.values.reshape(-1, 2) @ start.expected["item"].weights
    known = np.diff(ratings.item_features.rows.indptr) > 0
    np.testing.assert_allclose(
        factors.memory[-1][known, :3], expected + start.expected["item"].intercept, rtol=1e-4, atol=1e-5
    )
    renamed = table.rename_columns(["item", "a", "c"])
    with pytest.warns(UserWarning, match="1 of 2 item features of the model to start from are not in the table, the"):
        fastmf.fit(today, solver=solver_of(name), item_features=renamed, init=init)
