import numpy as np
import pytest

import fastmf
from fastmf.kernels.types import Side
from fastmf.model.frame import Frame, absorbed, frame_of, to_model, to_training


def drawn(rng, n):
    return Side(rng.standard_normal((n, 3)).astype(np.float32), rng.standard_normal(n).astype(np.float32))


def scores(users, items):
    return users.bias[:, None] + items.bias + users.factors @ items.factors.T


def test_both_ways_keep_predictions_and_undo_each_other():
    rng = np.random.default_rng(0)
    users, items = drawn(rng, 7), drawn(rng, 5)
    p, q = (rng.standard_normal(3).astype(np.float32) for _ in range(2))
    frame = Frame(p, q)
    trained = to_training(users, items, frame)
    for found, expected in zip(to_model(*trained, frame), (users, items), strict=True):
        np.testing.assert_allclose(found.factors, expected.factors, atol=1e-6)
        np.testing.assert_allclose(found.bias, expected.bias, atol=2e-6)
    moved = p @ q  # from the training mean into the model's
    np.testing.assert_allclose(scores(*trained), scores(users, items) + moved, atol=1e-5)
    np.testing.assert_allclose(trained[0].factors, users.factors + p, atol=1e-6)
    np.testing.assert_allclose(trained[1].factors, items.factors + q, atol=1e-6)
    np.testing.assert_allclose(absorbed(users.factors, trained[0].bias, frame), users.bias, atol=2e-6)
    for found, expected in zip(to_training(items, users, frame.swapped), trained[::-1], strict=True):
        np.testing.assert_array_equal(found.factors, expected.factors)
        np.testing.assert_array_equal(found.bias, expected.bias)


def test_a_frame_without_origins_changes_nothing(model):
    frame = frame_of(model)
    sides = model.user_side, model.item_side
    users, items = to_training(*sides, frame)
    assert users.factors is sides[0].factors
    assert items.bias is sides[1].bias


@pytest.mark.parametrize(("solver", "settings"), [("als-links", {}), ("gibbs", {"burn": 1, "samples": 3})])
def test_the_mean_user_is_the_origin_if_there_are_biases(planted, solver, settings):
    rows = planted()
    for biases in (True, False):
        model = fastmf.fit(rows, 3, solver, biases=biases, **settings)
        frame, mean = frame_of(model), model.user_counts @ model.user_factors / model.user_counts.sum()
        assert frame.user_origin.any() == biases
        assert (np.abs(mean).max() < 1e-5) == biases
        users, _ = to_training(model.standard_side("user"), model.standard_side("item"), frame)
        origin = model.links.origin if solver == "als-links" else model.user_prior.origin
        mean = model.user_counts @ users.factors / model.user_counts.sum()
        if solver == "als-links" or biases:
            np.testing.assert_allclose(mean, origin, atol=1e-5)
