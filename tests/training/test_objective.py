"""What is trained on and measured: standardised ratings, validation of any form, errors and their definition."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import fastmf
from fastmf.data.write import write_parquet
from fastmf.solvers import SOLVERS

OF_RATINGS = [name for name, solver in SOLVERS.items() if not solver.implicit]


def without_seconds(model):
    return [replace(epoch, seconds=0) for epoch in model.history]


def test_validation_is_a_fraction_ratings_a_frame_or_a_file(noisy, overfit, tmp_path):
    rest, held_out = noisy.split(0.2, seed=0)
    columns = {
        "user_id": np.array(held_out.user_ids)[held_out.users],
        "item_id": np.array(held_out.item_ids)[held_out.items],
        "rating": held_out.values,
    }
    write_parquet(columns, tmp_path / "held_out.parquet")
    by_fraction = overfit(noisy, "als", validation=0.2, epochs=4)
    assert by_fraction.rows == {"read": 400, "used": 320, "duplicates": 0, "validation": 80}
    for validation in (held_out, pd.DataFrame(columns), tmp_path / "held_out.parquet"):
        model = overfit(rest, "als", validation=validation, epochs=4)
        assert model.content_hash == by_fraction.content_hash
        assert without_seconds(model) == without_seconds(by_fraction)
    assert all(epoch.validation_rmse >= epoch.validation_mae > 0 for epoch in by_fraction.history)


def test_rows_left_out_of_the_validation_are_counted_too(noisy):
    again = ([1, 1, 2], [1, 1, 2], [1.0, 2.0, None])
    model = fastmf.fit(noisy, k=2, epochs=1, validation=again, duplicates="last", bad_rows="drop")
    assert model.rows == {"read": 403, "used": 400, "duplicates": 1, "null_ratings": 1, "validation": 1}


def test_the_fraction_is_split_by_the_seed(noisy, overfit):
    first, other = (overfit(noisy, "als", validation=0.2, epochs=1, seed=seed) for seed in (0, 1))
    assert first.mean == overfit(noisy.split(0.2, seed=0)[0], "als", epochs=1).mean
    assert first.mean != other.mean


def test_validation_on_unknown_and_cold_ids_is_the_mean_and_the_other_bias(noisy, overfit):
    model = overfit(noisy, "als", epochs=2, validation=([1, 103], [1000, 1], [4.0, 2.0]))  # user 1, item 1: unknown
    item, user = model.item_ids.index(1000), model.user_ids.index(103)
    low, high = model.rating_range
    estimates = np.clip(model.mean + np.array([model.item_bias[item], model.user_bias[user]]), low, high)
    errors = np.array([4.0, 2.0]) - estimates
    assert model.history[model.best_epoch - 1].validation_rmse == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-5)


def test_the_validation_error_is_of_clipped_predictions(noisy, overfit):
    rest, held_out = noisy.with_values(np.clip(noisy.values, 2, 4)).split(0.2)  # so that predictions overshoot
    low, far = float(rest.values.min()), held_out.with_values(np.full(len(held_out), rest.values.min() - 1, np.float32))
    model = overfit(rest, "als", validation=far)
    last = overfit(rest, "als", validation=far, epochs=model.best_epoch)
    u, i = far.users, far.items
    exact = last.mean + last.user_bias[u] + last.item_bias[i] + np.sum(last.user_factors[u] * last.item_factors[i], 1)
    assert exact.min() < low
    errors = np.clip(exact, low, rest.values.max()) - (low - 1)
    assert last.history[-1].validation_rmse == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-5)


@pytest.mark.parametrize("solver", OF_RATINGS)
def test_train_rmse_is_that_of_the_models_factors(solver, noisy, overfit):
    ratings = noisy.with_values(np.clip(noisy.values, 2, 4))  # so that estimates overshoot the range
    model = overfit(ratings, solver)
    u, i = ratings.users, ratings.items
    exact = model.mean + model.user_bias[u].astype(np.float64) + model.item_bias[i]
    exact += np.sum(model.user_factors[u].astype(np.float64) * model.item_factors[i], axis=1)
    errors = ratings.values - exact
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(model.history[-1].train_rmse, rel=1e-5)
    clipped = np.clip(exact, *model.rating_range)
    margin = 1e-8 if solver == "gibbs" else 1e-4
    assert np.sqrt(np.mean((ratings.values - clipped) ** 2)) < (1 - margin) * model.history[-1].train_rmse


def test_pairs_in_training_and_validation_are_warned_of_with_their_number(noisy):
    rest, held_out = noisy.split(0.2)
    both = noisy.take(np.isin(noisy.values, np.append(held_out.values, rest.values[[0, 7, 9]])))
    with pytest.warns(UserWarning, match="^3 of 83 validation pairs are in the training ratings too$") as caught:
        fastmf.fit(rest, k=2, epochs=1, validation=both)
    assert caught[0].filename == __file__  # where fit was called


def test_ratings_too_far_from_zero_for_their_spread_are_warned_of(planted):
    users, items, values = planted()
    with pytest.warns(UserWarning, match=r"steps are about 119.209, too coarse .* subtract a constant") as caught:
        fastmf.fit((users, items, values + 1e9), k=2, epochs=1)
    assert caught[0].filename == __file__


# tiny data, and values far too large or small

DEGENERATE = {
    "one user": ([1] * 5, [0, 1, 2, 3, 4], [1.0, 2.0, 3.0, 4.0, 5.0]),
    "one item": ([0, 1, 2, 3, 4], [1] * 5, [1.0, 2.0, 3.0, 4.0, 5.0]),
    "one rating": ([7], [9], [3.0]),
    "all equal": ([1, 1, 2, 2, 3], [1, 2, 1, 3, 2], [4.0] * 5),
}


@pytest.mark.parametrize("solver", OF_RATINGS)
def test_data_with_next_to_nothing_in_them_are_fitted(solver):
    for users, items, values in DEGENERATE.values():
        model = fastmf.fit((users, items, values), solver=solver, k=7)  # k is more than there are rows
        assert model.user_factors.shape == (len(set(users)), 7)
        assert all(np.isfinite(array).all() for array in (*model.user_side, *model.item_side))
        assert model.predict(users, items)["prediction"].between(min(values), max(values)).all()
        assert model.scale == (1.0 if len(set(values)) == 1 else np.std(values))
        assert model.rating_range == (min(values), max(values))
    model = fastmf.fit(([1, 1, 2], [1, 2, 1], [3.0, 3.0, 3.0]), k=2, solver=solver)
    assert (model.mean, model.scale) == (3.0, 1.0)
    assert model.predict([2], [2])["prediction"].tolist() == [3.0]
    assert model.history[-1].train_rmse < 0.1


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("solver", OF_RATINGS)
def test_ratings_of_any_scale_give_finite_factors_or_say_why_not(noisy, overfit, solver):
    pairs = noisy.user_ids, noisy.item_ids.take(np.arange(noisy.n_users) % noisy.n_items)
    for scale, shift in ((1e-37, 0), (1e-37, -1e6), (1e-20, 1), (1e-3, -1e6), (1e3, 0), (1e20, -1e6), (1e37, 1)):
        try:
            model = overfit(noisy.with_values(np.float32((noisy.values / 10 + shift) * scale)), solver, epochs=5)
        except fastmf.DivergenceError:
            assert scale in (1e-37, 1e37)
            continue
        for array in (*model.user_side, *model.item_side, model.predict(*pairs)["prediction"]):
            assert np.isfinite(array).all()
