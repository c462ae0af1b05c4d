from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fastmf
from fastmf import ALS, SGD, DivergenceError, ParameterError, Ratings
from fastmf.solvers import SOLVERS
from fastmf.solvers.als import METHODS
from fastmf.training import fit as training

# Noisy ratings, many factors and hardly a penalty: the validation error falls, then rises.
OVERFIT = {"k": 8, "reg": 0.0, "reg0": 0.02, "bias_reg": 0.5, "threads": 1}
OF_SOLVER = {
    "als": {"epochs": 15, "momentum": 0.0},
    "als-links": {"epochs": 15, "momentum": 0.0, "link_reg": 0.1},
    "sgd": {"epochs": 40, "lr": 0.1, "decay": 1.0},
    "gibbs": {"epochs": 8},
}

OF_RATINGS = [name for name in SOLVERS if name != "implicit"]
solvers = pytest.mark.parametrize("solver", OF_RATINGS)
overfitting = pytest.mark.parametrize("solver", [name for name in OF_RATINGS if name != "gibbs"])  # it hardly can


def overfit(ratings, solver, **settings):
    given = {**OVERFIT, **OF_SOLVER[solver], **settings}
    if solver == "gibbs":
        given = {name: value for name, value in given.items() if name not in ("reg", "reg0", "bias_reg")}
        given |= {"burn": 1, "samples": given.pop("epochs") - 1, "kept": 2}
    return fastmf.fit(ratings, solver=solver, **given)


@pytest.fixture(scope="module")
def ratings(planted):
    return Ratings.from_arrays(*planted(n=400, noise=1.0))


def without_seconds(model):
    return [replace(epoch, seconds=0) for epoch in model.history]


@solvers
def test_validation_is_a_fraction_ratings_a_frame_or_a_file(solver, ratings, tmp_path):
    rest, held_out = ratings.split(0.2, seed=0)
    columns = {
        "user_id": np.array(held_out.user_ids)[held_out.users],
        "item_id": np.array(held_out.item_ids)[held_out.items],
        "rating": held_out.values,
    }
    pq.write_table(pa.table(columns), tmp_path / "held_out.parquet")
    by_fraction = overfit(ratings, solver, validation=0.2, epochs=4)
    assert by_fraction.rows == {"read": 400, "used": 320, "duplicates": 0, "validation": 80}
    again = ([1, 1, 2], [1, 1, 2], [1.0, 2.0, None])
    with_file = fastmf.fit(ratings, k=2, epochs=1, validation=again, duplicates="last", bad_rows="drop")
    assert with_file.rows == {"read": 403, "used": 400, "duplicates": 1, "null_ratings": 1, "validation": 1}
    for validation in (held_out, pd.DataFrame(columns), tmp_path / "held_out.parquet"):
        model = overfit(rest, solver, validation=validation, epochs=4)
        assert model.content_hash == by_fraction.content_hash
        assert without_seconds(model) == without_seconds(by_fraction)
    assert all(epoch.validation_rmse >= epoch.validation_mae > 0 for epoch in by_fraction.history)


def test_the_fraction_is_split_by_the_seed(ratings):
    first, other = (overfit(ratings, "als", validation=0.2, epochs=1, seed=seed) for seed in (0, 1))
    assert first.mean == overfit(ratings.split(0.2, seed=0)[0], "als", epochs=1).mean
    assert first.mean != other.mean


@overfitting
def test_validation_keeps_the_factors_of_the_best_epoch(solver, ratings):
    rest, held_out = ratings.split(0.2)
    model = overfit(rest, solver, validation=held_out)
    errors = [epoch.validation_rmse for epoch in model.history]
    assert len(errors) == OF_SOLVER[solver]["epochs"]
    assert model.best_epoch == 1 + np.argmin(errors)
    assert 1 <= model.best_epoch < len(errors)
    found = fastmf.evaluate(model, held_out)
    assert found["rmse"] == pytest.approx(min(errors), rel=1e-5)
    assert found["mae"] == pytest.approx(model.history[model.best_epoch - 1].validation_mae, rel=1e-5)
    assert abs(errors[-1] - min(errors)) > 1e-3  # the last epoch's factors would be seen


@overfitting
@pytest.mark.parametrize("patience", [1, 3])
def test_patience_stops_early_with_the_same_factors(solver, patience, ratings):
    rest, held_out = ratings.split(0.2)
    whole = overfit(rest, solver, validation=held_out)
    model = overfit(rest, solver, validation=held_out, patience=patience)
    assert len(model.history) == model.best_epoch + patience < len(whole.history)
    assert without_seconds(model) == without_seconds(whole)[: len(model.history)]
    found = fastmf.evaluate(model, held_out)["rmse"]
    assert found == pytest.approx(model.history[model.best_epoch - 1].validation_rmse, rel=1e-5)


def test_the_absolute_loss_is_watched_by_mae(planted):
    # one held-out rating far out decides the RMSE: it falls on while the MAE has long been rising, or the other way
    users, items, values = planted(n=400, noise=1.0)
    rest, held_out = Ratings.from_arrays(users, items, values).split(0.2)
    held_out.values[0] = 30
    model = overfit(rest, "sgd", validation=held_out, loss="absolute")
    rmse, mae = ([getattr(epoch, f"validation_{name}") for epoch in model.history] for name in ("rmse", "mae"))
    assert model.best_epoch == 1 + np.argmin(mae) != 1 + np.argmin(rmse)
    assert fastmf.evaluate(model, held_out)["mae"] == pytest.approx(min(mae), rel=1e-5)
    early = overfit(rest, "sgd", validation=held_out, loss="absolute", patience=3)
    assert len(early.history) == early.best_epoch + 3 < len(mae)
    assert early.best_epoch == 1 + np.argmin(mae[: len(early.history)])


def test_validation_on_unknown_and_cold_ids_is_the_mean_and_the_other_bias(ratings):
    model = overfit(ratings, "als", epochs=2, validation=([1, 103], [1000, 1], [4.0, 2.0]))  # user 1, item 1: unknown
    item, user = model.item_ids.index(1000).as_py(), model.user_ids.index(103).as_py()
    low, high = model.rating_range
    estimates = np.clip(model.mean + np.array([model.item_bias[item], model.user_bias[user]]), low, high)
    errors = np.array([4.0, 2.0]) - estimates
    assert model.history[model.best_epoch - 1].validation_rmse == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-5)


def test_the_validation_error_is_of_clipped_predictions(ratings):
    rest, held_out = ratings.with_values(np.clip(ratings.values, 2, 4)).split(0.2)  # so that predictions overshoot
    low, far = float(rest.values.min()), held_out.with_values(np.full(len(held_out), rest.values.min() - 1, np.float32))
    model = overfit(rest, "als", validation=far)
    last = overfit(rest, "als", validation=far, epochs=model.best_epoch)
    u, i = far.users, far.items
    exact = last.mean + last.user_bias[u] + last.item_bias[i] + np.sum(last.user_factors[u] * last.item_factors[i], 1)
    assert exact.min() < low
    errors = np.clip(exact, low, rest.values.max()) - (low - 1)
    assert last.history[-1].validation_rmse == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-5)


@solvers
def test_train_rmse_is_that_of_the_models_factors(solver, ratings):
    ratings = ratings.with_values(np.clip(ratings.values, 2, 4))  # so that estimates overshoot the range
    model = overfit(ratings, solver)
    u, i = ratings.users, ratings.items
    exact = model.mean + model.user_bias[u].astype(np.float64) + model.item_bias[i]
    exact += np.sum(model.user_factors[u].astype(np.float64) * model.item_factors[i], axis=1)
    errors = ratings.values - exact
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(model.history[-1].train_rmse, rel=1e-5)
    clipped = np.clip(exact, *model.rating_range)
    margin = 1e-8 if solver == "gibbs" else 1e-4
    assert np.sqrt(np.mean((ratings.values - clipped) ** 2)) < (1 - margin) * model.history[-1].train_rmse


@solvers
def test_the_callback_gets_every_epoch(solver, ratings):
    seen = []
    model = overfit(ratings, solver, epochs=5, callback=seen.append)
    assert seen == model.history
    assert [epoch.number for epoch in seen] == [1, 2, 3, 4, 5]
    assert all(epoch.seconds > 0 for epoch in seen)
    assert all(epoch.validation_rmse is None and epoch.validation_mae is None for epoch in seen)
    assert model.best_epoch is None


def test_an_error_of_the_callback_comes_through(ratings):
    def broken(epoch):
        raise LookupError(epoch.number)

    with pytest.raises(LookupError, match="1"):
        overfit(ratings, "als", callback=broken)


def test_pairs_in_training_and_validation_are_warned_of_with_their_number(ratings):
    rest, held_out = ratings.split(0.2)
    both = ratings.take(np.isin(ratings.values, np.append(held_out.values, rest.values[[0, 7, 9]])))
    with pytest.warns(UserWarning, match="^3 of 83 validation pairs are in the training ratings too$") as caught:
        fastmf.fit(rest, k=2, epochs=1, validation=both)
    assert caught[0].filename == __file__  # where fit was called


@solvers
def test_ratings_that_are_all_equal_have_scale_one(solver):
    model = fastmf.fit(([1, 1, 2], [1, 2, 1], [3.0, 3.0, 3.0]), k=2, solver=solver)
    assert (model.mean, model.scale, model.rating_range) == (3.0, 1.0, (3.0, 3.0))
    assert model.predict([2], [2])["prediction"].tolist() == [3.0]
    assert model.history[-1].train_rmse < 0.1


@solvers
@pytest.mark.parametrize(
    ("users", "items"), [([7], [9]), ([7, 7, 7], [1, 2, 3]), ([1, 2, 3], [7, 7, 7])], ids=["rating", "user", "item"]
)
def test_one_of_a_kind_is_enough(solver, users, items):
    values = np.arange(1.0, len(users) + 1)
    model = fastmf.fit((users, items, values), k=5, solver=solver)  # k is more than there are rows on one side
    assert model.user_factors.shape == (len(set(users)), 5)
    for array in (*model.user_side, *model.item_side):
        assert np.isfinite(array).all()
    assert model.predict(users, items)["prediction"].between(values.min(), values.max()).all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy tells of the overflow too
@pytest.mark.parametrize("schedule", ["blocked", "hogwild"])
@pytest.mark.parametrize("device", ["cpu", "numpy"])
def test_divergence_names_the_epoch_and_the_setting(device, schedule, ratings):
    with pytest.raises(DivergenceError, match=r"^epoch 1: .*lower lr \(it is 10\)$") as caught:
        fastmf.fit(ratings, k=3, solver="sgd", lr=10, schedule=schedule, device=device)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize("device", ["cpu", "numpy"])
def test_singular_rows_are_solved_with_a_jitter_and_reported_once(device, ratings):
    few = np.bincount(ratings.users, minlength=ratings.n_users)
    with pytest.warns(
        UserWarning, match=r"^epoch 1: the equations of \d+ rows were singular and .*; raise reg0"
    ) as told:
        model = overfit(ratings, "als", k=int(few.min()) + 2, reg=0.0, reg0=0.0, epochs=3, device=device)
    assert len(told) == 1
    assert np.isfinite(model.user_factors).all()
    assert model.history[-1].train_rmse < 0.1 * model.scale


def test_rows_that_cannot_be_solved_are_named(monkeypatch, ratings):
    def lose(tasks, entries, side, other, penalty, pull):
        side.factors[3] = np.nan
        return np.zeros(len(tasks) - 1, np.int64)

    monkeypatch.setitem(METHODS, "exact", ({"cpu": lose}, METHODS["exact"][1]))
    named = f"the factors of 1 users, the first {ratings.user_ids[3].as_py()!r}"
    with pytest.raises(DivergenceError, match=rf"^epoch 1: .*not finite, as are {named}\); raise reg0"):
        fastmf.fit(ratings, k=3)


def test_the_same_ratings_with_and_without_seen(ratings):
    model = overfit(ratings, "als", epochs=2, keep_seen=False)
    assert model.seen is None
    assert model.content_hash == overfit(ratings, "als", epochs=2).content_hash


def test_inputs_are_left_as_they_are_and_may_be_read_only(planted):
    rows = planted()
    for array in rows:
        array.flags.writeable = False
    before = [array.copy() for array in rows]
    ratings = Ratings.from_arrays(*rows)
    values = ratings.values.copy()
    for source in (rows, ratings):
        fastmf.fit(source, k=2, epochs=2)
        fastmf.fit(source, k=2, epochs=2, solver="sgd", validation=0.1)
    for array, copy in zip(rows, before, strict=True):
        np.testing.assert_array_equal(array, copy)
    np.testing.assert_array_equal(ratings.values, values)


def test_a_solver_object_is_the_same_as_its_name_and_settings(ratings):
    by_object = fastmf.fit(ratings, solver=SGD(k=2, epochs=2, seed=3))
    assert by_object.content_hash == fastmf.fit(ratings, 2, "sgd", epochs=2, seed=3).content_hash


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patience": 2}, "patience needs validation"),
        ({"patience": 0, "validation": 0.1}, "patience is 0"),
        ({"patience": 1.5, "validation": 0.1}, "patience is 1.5"),
        ({"validation": 0.0}, "fraction of 0.0"),
        ({"validation": 1.0}, "fraction of 1.0"),
        ({"validation": -1}, "fraction of -1"),
        ({"validation": float("nan")}, "fraction of nan"),
        ({"solver": "svd"}, "unknown solver 'svd'"),
        ({"solver": ALS(), "k": 3}, "k given beside a solver object"),
        ({"solver": ALS(), "seed": 3}, "seed given beside a solver object"),
        ({"solver": SGD(), "lr": 0.1}, "lr given beside a solver object"),
        ({"lr": 0.1}, "solver 'als' has no setting lr"),
        ({"k": 0}, "k is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"threads": 0}, "threads is 0"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"duplicates": "first"}, "duplicates is 'first'"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_are_parameter_errors(settings, message, planted):
    with pytest.raises(ParameterError, match=message):
        fastmf.fit(planted(n=50), **settings)


def test_factors_that_do_not_fit_into_memory_are_refused(planted):
    with pytest.raises(fastmf.ResourceError, match=r"k = 1,000,000,000 factors takes at least .* GiB"):
        fastmf.fit(planted(), k=10**9)


def test_ratings_too_far_from_zero_for_their_spread_are_warned_of(planted):
    users, items, values = planted()
    with pytest.warns(UserWarning, match=r"in steps of about 119.209, which .* subtract a constant"):
        fastmf.fit((users, items, values + 1e9), k=2, epochs=1)


# what is known ahead is said ahead, and numbers stay finite


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"k": 10**9}, fastmf.ResourceError, r"^fitting k = 1,000,000,000 factors takes at least .* GiB"),
        ({"k": 1000, "memory_limit": "1 MB"}, fastmf.ResourceError, r"\d MiB of memory, 1\.0 MiB are allowed"),
        ({"memory_limit": "lots"}, ParameterError, "memory limit is 'lots'"),
        ({"validation": 2}, ParameterError, "fraction of 2"),
        ({"patience": 0, "validation": 0.1}, ParameterError, "patience is 0"),
        ({"every": 3}, ParameterError, "every needs a checkpoint"),
        ({"resume": True}, ParameterError, "resume needs a checkpoint"),
        ({"threads": 0}, ParameterError, "threads is 0"),
    ],
)
def test_settings_are_refused_before_anything_is_read(monkeypatch, settings, error, message):
    monkeypatch.setattr(Ratings, "read", lambda *_, **__: pytest.fail("nothing must be read"))
    with pytest.raises(error, match=message):
        fastmf.fit("ratings.parquet", **settings)


def test_factors_and_ratings_are_counted_once_the_ratings_are_known(ratings):
    with pytest.raises(fastmf.ResourceError, match="fitting k = 1 factors of 50 users and items takes at least"):
        fastmf.fit(ratings, k=1, threads=1, memory_limit=1000)


def test_many_ratings_without_the_jit_are_warned_of(monkeypatch, ratings):
    monkeypatch.setattr(training, "ENABLED", False)
    monkeypatch.setattr(training, "MANY", 399)
    with pytest.warns(UserWarning, match="NUMBA_DISABLE_JIT is set: 400 ratings"):
        overfit(ratings, "als", epochs=1)


@pytest.mark.filterwarnings("ignore")
@solvers
@pytest.mark.parametrize("shift", [0.0, 1.0, -1e6])
@pytest.mark.parametrize("scale", [1e-37, 1e-20, 1e-3, 1e3, 1e20, 1e37])
def test_ratings_of_any_scale_give_finite_factors_or_say_why_not(ratings, solver, scale, shift):
    try:
        model = overfit(ratings.with_values(np.float32((ratings.values / 10 + shift) * scale)), solver, epochs=5)
    except DivergenceError:
        if 1e-37 < scale < 1e37:
            raise
        return
    for array in (
        *model.user_side,
        *model.item_side,
        model.predict(model.user_ids, model.item_ids.take(pa.array(np.arange(30) % 20)))["prediction"],
    ):
        assert np.isfinite(array).all()


DEGENERATE = {
    "one user": ([1] * 5, range(5), [1.0, 2.0, 3.0, 4.0, 5.0]),
    "one item": (range(5), [1] * 5, [1.0, 2.0, 3.0, 4.0, 5.0]),
    "one rating": ([1], [1], [3.0]),
    "all equal": ([1, 1, 2, 2, 3], [1, 2, 1, 3, 2], [4.0] * 5),
}


@solvers
@pytest.mark.parametrize("case", DEGENERATE)
def test_data_with_next_to_nothing_in_them_are_fitted(solver, case):
    users, items, values = DEGENERATE[case]
    few = {"samples": 3, "kept": 3} if solver == "gibbs" else {"epochs": 3}
    model = fastmf.fit((list(users), list(items), values), solver=solver, k=7, **few)
    found = model.predict(list(users), list(items))["prediction"]
    assert np.isfinite(found).all()
    assert found.between(min(values), max(values)).all()
    assert model.scale == (1.0 if len(set(values)) == 1 else np.std(values))
