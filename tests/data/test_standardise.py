import math

import numpy as np
import pytest

from fastmf.data import standardise
from fastmf.data.standardise import deviation_of, mean_of, standardised


@pytest.fixture
def values(monkeypatch):
    monkeypatch.setattr(standardise, "AT_ONCE", 7)  # so that there are many chunks
    return (np.random.default_rng(0).integers(1, 11, 100) / 2).astype(np.float32)


def test_standardised_ratings_have_mean_zero_and_deviation_one(values):
    mean = mean_of(values)
    scale = deviation_of(values, mean)
    assert mean == pytest.approx(sum(values.tolist()) / 100, rel=1e-15)
    assert scale == pytest.approx(math.sqrt(sum((v - mean) ** 2 for v in values.tolist()) / 100), rel=1e-15)
    found = standardised(values, mean, scale)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, ((values.astype(np.float64) - mean) / scale).astype(np.float32))
    assert np.mean(found, dtype=np.float64) == pytest.approx(0, abs=1e-7)
    assert np.std(found, dtype=np.float64) == pytest.approx(1, abs=1e-7)


def test_sums_are_made_in_float64():
    assert mean_of(np.array([1e8, 1, 1, 1, -1e8], np.float32)) == 0.6  # in float32 the ones would be lost
    far = np.array([1e6, 1e6 + 0.125], np.float32)
    assert standardised(far, mean_of(far), deviation_of(far, mean_of(far))).tolist() == [-1, 1]
