"""The loop over epochs: the best one, early stopping, callbacks, divergence and singular rows."""

from dataclasses import replace

import numpy as np
import pytest

import fastmf
from fastmf import DivergenceError, Ratings, kernels
from fastmf.solvers import SOLVERS

OVERFITTING = ["als", "als-links", "sgd"]


@pytest.mark.parametrize("solver", OVERFITTING)
def test_validation_keeps_the_factors_of_the_best_epoch_and_patience_stops_after_it(solver, noisy, overfit):
    rest, held_out = noisy.split(0.2)
    model = overfit(rest, solver, validation=held_out)
    errors = [epoch.validation_rmse for epoch in model.history]
    assert 1 <= model.best_epoch == 1 + np.argmin(errors) < len(errors)
    found = fastmf.evaluate(model, held_out)
    assert found["rmse"] == pytest.approx(min(errors), rel=1e-5)
    assert found["mae"] == pytest.approx(model.history[model.best_epoch - 1].validation_mae, rel=1e-5)
    assert abs(errors[-1] - min(errors)) > 1e-3  # the last epoch's factors would be seen
    for patience in (1, 3):
        early = overfit(rest, solver, validation=held_out, patience=patience)
        assert len(early.history) == early.best_epoch + patience < len(errors)
        assert [replace(epoch, seconds=0) for epoch in early.history] == [
            replace(epoch, seconds=0) for epoch in model.history[: len(early.history)]
        ]
        reached = early.history[early.best_epoch - 1].validation_rmse
        assert fastmf.evaluate(early, held_out)["rmse"] == pytest.approx(reached, rel=1e-5)


def test_the_absolute_loss_is_watched_by_mae(planted, overfit):
    # one held-out rating far out decides the RMSE: it falls on while the MAE has long been rising, or the other way
    rest, held_out = Ratings.from_arrays(*planted(n=400, noise=1.0)).split(0.2)
    held_out.values[0] = 30
    model = overfit(rest, "sgd", validation=held_out, loss="absolute")
    rmse, mae = ([getattr(epoch, f"validation_{name}") for epoch in model.history] for name in ("rmse", "mae"))
    assert model.best_epoch == 1 + np.argmin(mae) != 1 + np.argmin(rmse)
    assert fastmf.evaluate(model, held_out)["mae"] == pytest.approx(min(mae), rel=1e-5)
    early = overfit(rest, "sgd", validation=held_out, loss="absolute", patience=3)
    assert len(early.history) == early.best_epoch + 3 < len(mae)
    assert early.best_epoch == 1 + np.argmin(mae[: len(early.history)])


def test_the_callback_gets_every_epoch(noisy):
    for solver in SOLVERS.values():
        seen = []
        model = fastmf.fit(noisy, solver=solver(k=2).with_epochs(3), callback=seen.append)
        assert seen == model.history
        assert [epoch.number for epoch in seen] == [1, 2, 3]
        assert all(epoch.seconds > 0 for epoch in seen)
        assert all(epoch.validation_rmse is None and epoch.validation_mae is None for epoch in seen)
        assert model.best_epoch is None


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_callback_that_returns_false_ends_training_after_that_epoch(solver, noisy):
    usual = SOLVERS[solver](k=2)
    short = fastmf.fit(noisy, solver=usual, callback=lambda epoch: epoch.number < 3)
    assert [epoch.number for epoch in short.history] == [1, 2, 3]
    assert short.best_epoch is None
    assert short.solver["epochs" if "epochs" in short.solver else "samples"] > 3  # as it was asked for
    if usual.burn == 0:  # a sampler's means depend on when they begin
        whole = fastmf.fit(noisy, solver=usual.with_epochs(3))
        np.testing.assert_array_equal(short.item_factors, whole.item_factors)
    assert len(short.recommend(noisy.user_ids[0].as_py(), n=2)) == 2


@pytest.mark.parametrize(("answer", "goes_on"), [(None, 1), (0, 1), ("", 1), (True, 1), (False, 0), (np.False_, 0)])
def test_only_false_ends_training(answer, goes_on, noisy):
    model = fastmf.fit(noisy, k=2, epochs=2, callback=lambda epoch: answer)
    assert len(model.history) == 1 + goes_on


def test_a_stopped_run_keeps_the_best_epoch(noisy, overfit):
    rest, held_out = noisy.split(0.2)
    whole = overfit(rest, "als", validation=held_out)
    stopped = overfit(rest, "als", validation=held_out, callback=lambda epoch: epoch.number <= whole.best_epoch + 1)
    assert (len(stopped.history), stopped.best_epoch) == (whole.best_epoch + 2, whole.best_epoch)
    np.testing.assert_array_equal(stopped.user_factors, whole.user_factors)


def test_an_error_of_the_callback_comes_through(noisy):
    def broken(epoch):
        raise LookupError(epoch.number)

    with pytest.raises(LookupError, match="1"):
        fastmf.fit(noisy, k=2, callback=broken)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy tells of the overflow too
@pytest.mark.parametrize(("device", "schedule"), [("cpu", "blocked"), ("cpu", "hogwild"), ("numpy", "blocked")])
def test_divergence_names_the_epoch_and_the_setting(device, schedule, noisy):
    with pytest.raises(DivergenceError, match=r"^epoch 1: .*lower lr \(it is 10\)$") as caught:
        fastmf.fit(noisy, k=3, solver="sgd", lr=10, schedule=schedule, device=device)
    assert caught.value.exit_code == 5


def with_outlier(ratings, value):
    """Change one rating; return the ratings, and the ids of its user and item."""
    values = ratings.values.copy()
    values[7] = value
    ids = ratings.user_ids[ratings.users[7]].as_py(), ratings.item_ids[ratings.items[7]].as_py()
    return ratings.with_values(values), ids


@pytest.mark.parametrize("schedule", ["blocked", "hogwild"])
@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("device", ["cpu", "numpy"])
def test_one_outlier_does_not_make_sgd_diverge_and_is_named(noisy, schedule, adaptive, device):
    ratings, (user_id, item_id) = with_outlier(noisy, 1e6)
    named = rf"the furthest is 1,000,000, of user {user_id!r} and item {item_id!r}: sgd counts larger errors as 16"
    how = {"schedule": schedule, "adaptive": adaptive, "device": device}
    with pytest.warns(UserWarning, match=rf"^1 of {len(ratings):,} ratings are more than 16 standard .*; {named}"):
        model = fastmf.fit(ratings, k=3, solver="sgd", epochs=10, **how)
    assert np.isfinite(model.user_factors).all()
    assert model.history[-1].train_rmse < ratings.values.std()


@pytest.mark.big
@pytest.mark.filterwarnings("ignore:.*standard deviations from the mean:UserWarning")
@pytest.mark.parametrize("sigma", [2, 3])
@pytest.mark.parametrize("settings", [{}, {"adaptive": True, "lr": 0.1, "decay": 0.9}, {"schedule": "hogwild"}])
def test_counts_with_heavy_tails_do_not_make_sgd_diverge(sigma, settings):
    rng = np.random.default_rng(sigma)
    pairs = rng.permutation(500 * 400)[:20_000]  # 1,000 pairs are too few to diverge
    users, items = pairs // 400, pairs % 400
    logs = rng.standard_normal(500)[users] + rng.standard_normal(400)[items] + 0.5 * rng.standard_normal(20_000)
    plays = np.ceil(np.exp(sigma * logs))
    model = fastmf.fit((users, items, plays), k=8, solver="sgd", **settings)
    assert model.history[-1].train_rmse < plays.std()


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore:.*standard deviations from the mean:UserWarning")
def test_a_divergence_names_the_outlier(noisy):
    ratings, (user_id, item_id) = with_outlier(noisy, -1e6)
    named = rf"; the furthest is -1,000,000, of user {user_id!r} and item {item_id!r}\); lower lr"
    with pytest.raises(DivergenceError, match=named):
        fastmf.fit(ratings, k=3, solver="sgd", lr=10)


def test_ordinary_ratings_are_not_warned_of(noisy):
    fastmf.fit(noisy, k=2, solver="sgd", epochs=1)
    ratings, _ = with_outlier(noisy, 1e6)
    fastmf.fit(ratings, k=2, solver="sgd", loss="absolute", epochs=1)


@pytest.mark.parametrize("device", ["cpu", "numpy"])
def test_singular_rows_are_solved_with_a_jitter_and_reported_once(device, noisy, overfit):
    k = int(noisy.user_counts.min()) + 2
    with pytest.warns(
        UserWarning, match=r"^epoch 1: the equations of \d+ rows were singular and .*; raise reg0"
    ) as told:
        model = overfit(noisy, "als", k=k, reg=0.0, reg0=0.0, epochs=3, device=device)
    assert len(told) == 1
    assert np.isfinite(model.user_factors).all()
    assert model.history[-1].train_rmse < 0.1 * model.scale


def test_rows_that_cannot_be_solved_are_named(monkeypatch, noisy):
    def lose(tasks, entries, side, other, penalty, known):
        side.factors[3] = np.nan

    monkeypatch.setitem(kernels.als.HALF_SWEEP, "numpy", lose)
    named = f"; factors of 1 user are not finite, the first {noisy.user_ids[3].as_py()!r}"
    with pytest.raises(DivergenceError, match=rf"^epoch 1: .*not finite{named}\); raise reg0"):
        fastmf.fit(noisy, 3, "als", device="numpy")
