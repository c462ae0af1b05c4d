"""A model of a few users and items that is made by hand."""

import numpy as np
import pyarrow as pa
import pytest

from fastmf.model.fold_in_rule import FoldInRule
from fastmf.model.history import Epoch
from fastmf.model.model import Model

USERS = ["", "ann", "bob", "cold", "dan", "eve", "ida"]
ITEMS = [-5, 0, 3, 7, 2**53 + 1, 2**60, 2**62, 2**63 - 1]
COLD_USER, COLD_ITEM = USERS.index("cold"), ITEMS.index(7)


@pytest.fixture(scope="session")
def build():
    """Build a model whose factors are multiples of a half, so that scores are exact in float32 and ties frequent."""

    def build(**changes):
        rng = np.random.default_rng(0)
        rated = rng.random((len(USERS), len(ITEMS))) < 0.4
        rated[COLD_USER], rated[:, COLD_ITEM] = False, False
        rated[0] = np.arange(len(ITEMS)) != COLD_ITEM  # the first user has rated everything
        rated[1] = False
        rated[1, 0] = True
        factors = [rng.integers(-4, 5, (n, 3)).astype(np.float32) / 2 for n in rated.shape]
        biases = [rng.integers(-2, 3, n).astype(np.float32) / 4 for n in rated.shape]
        for values, row in zip([*factors, *biases], [COLD_USER, COLD_ITEM] * 2, strict=True):
            values[row] = 0
        fields = dict(
            user_ids=pa.array(USERS, pa.large_string()),
            item_ids=pa.array(ITEMS),
            user_factors=factors[0],
            item_factors=factors[1],
            user_bias=biases[0],
            item_bias=biases[1],
            user_counts=rated.sum(axis=1).astype(np.int32),
            item_counts=rated.sum(axis=0).astype(np.int32),
            mean=3.25,
            scale=1.5,
            rating_range=(1.0, 5.0),
            seen=(np.append(0, np.cumsum(rated.sum(axis=1))), np.nonzero(rated)[1].astype(np.int32)),
            solver={"name": "als", "k": 3},
            user_rule=FoldInRule(reg=0.05, reg0=2.0, bias_reg=3.0),
            history=[Epoch(number=1, seconds=0.25, train_rmse=0.1), Epoch(number=2, seconds=0.5, train_rmse=1 / 3)],
            rows={"read": 9, "used": 9, "duplicates": 0},
        )
        return Model(**(fields | changes))

    return build


@pytest.fixture
def model(build):
    return build()
