"""A model with something to report: genres that users care for, and hostile titles."""

import numpy as np
import pandas as pd
import pytest

import fastmf

HOSTILE = (
    "</script><script>window.hurt = 1</script>",
    "<img src=x onerror='window.hurt = 1'>",
    '" onmouseover="window.hurt = 1" x="',
    "{{ 7 * 7 }} {% raw %} ${7 * 7}",
    "line\u2028and paragraph\u2029, bidi \u202eabc, null \x00",
    "long " * 2_000,
    "<!-- comment --> <![CDATA[ ]]> &amp; &lt;b&gt;",
)


@pytest.fixture(scope="package")
def rows(planted):
    return planted(90, 60, 2_400, noise=0.4)


@pytest.fixture(scope="package")
def parts(rows):
    return fastmf.Ratings.read(rows).split(0.2, seed=0)


@pytest.fixture(scope="package")
def model(parts):
    return fastmf.fit(parts[0], k=3, epochs=4, validation=0.1)


@pytest.fixture(scope="package")
def titles(model):
    names = [*HOSTILE, *(f"The {n}th of its kind" for n in range(len(model.item_ids)))]
    return dict(zip(model.item_ids, names, strict=False))


@pytest.fixture(scope="package")
def kinds(model):
    kinds = np.where(model.item_factors[:, 0] > 0, "</script><b>bold", "plain")
    return pd.DataFrame({"item": list(model.item_ids), "kind": kinds, "year": 1990 + np.arange(len(kinds)) % 30})
