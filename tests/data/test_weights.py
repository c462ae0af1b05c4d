"""Weights of implicit feedback on a scale."""

import numpy as np
import pytest

from fastmf.data.weights import LEAST, SCALES, WeightScale


@pytest.mark.parametrize(("kind", "function"), [("log", np.log1p), ("sqrt", np.sqrt)])
def test_the_training_pairs_weigh_one_on_average(kind, function):
    weights = np.array([1, 3, 100, 1e30], np.float32)
    scale = WeightScale.of_training(kind, weights)
    found = scale.scaled(weights)
    assert found.dtype == np.float32
    assert found.mean() == pytest.approx(1)
    np.testing.assert_allclose(found / found[0], function(weights.astype(float)) / function(1.0), rtol=1e-6)
    np.testing.assert_allclose(scale.scaled(np.array([7.0], np.float32)), function(7.0) / scale.mean, rtol=1e-6)


@pytest.mark.parametrize("kind", SCALES)
def test_no_weight_becomes_zero(kind):
    scale = WeightScale.of_training(kind, np.array([LEAST, 1e30], np.float32))
    assert (scale.scaled(np.array([LEAST, 1e-40], np.float32)) >= LEAST).all()
