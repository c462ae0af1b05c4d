"""Whatever is given in the place of ratings, ids, numbers or paths: it works, or an error of ours says what to give."""

import datetime
import decimal
import uuid

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import fastmf
from fastmf.errors import brief

ODD = {
    "frame with two levels of columns": pd.DataFrame({("a", "x"): [1], ("a", "y"): [2]}),
    "frame with an index": pd.DataFrame({"rating": [1.0]}, index=pd.MultiIndex.from_tuples([(1, 2)])),
    "set": {1, 2},
    "dict": {"user": [1], "item": [2], "rating": [3]},
    "none": None,
    "number": 1.5,
    "huge": 2**70,
    "object": object(),
    "0d": np.array(1),
    "0d object": np.array(None),
    "2d": np.ones((2, 2)),
    "ragged": [[1, 2], [3]],
    "bytes": b"abc",
    "empty": [],
    "one array": ([1],),
    "five arrays": ([1],) * 5,
    "nulls": [None, None],
    "mixed": [1, "a"],
    "complex": np.array([1j, 2]),
    "dates": [datetime.date(2020, 1, 1)],
    "durations": np.array([1], "timedelta64[s]"),
    "records": np.zeros(2, [("a", int)]),
    "function": len,
    "decimals": [decimal.Decimal("1.5")],
    "uuids": [uuid.uuid4()],
    "nested": pa.array([[1], [2]]),
    "scalar of arrow": pa.scalar(1),
    "missing": pd.NA,
    "ellipsis": ...,
    "pairs": pd.MultiIndex.from_tuples([(1, 2)]),
    "intervals": pd.interval_range(0, 2),
    "masked": np.ma.array([1, 2], mask=[0, 1]),
}
USERS, ITEMS, RATINGS = [1, 1, 2, 2, 3], [1, 2, 1, 3, 2], [5.0, 3.0, 4.0, 1.0, 2.0]
ROWS = USERS, ITEMS, RATINGS


@pytest.fixture(scope="module")
def models():
    return [fastmf.fit(ROWS, k=1, epochs=1, solver=solver) for solver in ("als", "implicit")]


CALLS = {
    "fit": lambda _, odd: fastmf.fit(odd, k=1, epochs=1),
    "fit users": lambda _, odd: fastmf.fit((odd, ITEMS, RATINGS), k=1, epochs=1),
    "fit items": lambda _, odd: fastmf.fit((USERS, odd, RATINGS), k=1, epochs=1),
    "fit ratings": lambda _, odd: fastmf.fit((USERS, ITEMS, odd), k=1, epochs=1),
    "fit validation": lambda _, odd: fastmf.fit(ROWS, k=1, epochs=1, validation=odd),
    "fit features": lambda _, odd: fastmf.fit(ROWS, k=1, epochs=1, item_features=odd),
    "fit k": lambda _, odd: fastmf.fit(ROWS, k=odd, epochs=1),
    "fit reg": lambda _, odd: fastmf.fit(ROWS, k=1, reg=odd, epochs=1),
    "fit solver": lambda _, odd: fastmf.fit(ROWS, k=1, solver=odd, epochs=1),
    "fit device": lambda _, odd: fastmf.fit(ROWS, k=1, epochs=1, device=odd),
    "fit checkpoint": lambda _, odd: fastmf.fit(ROWS, k=1, epochs=1, checkpoint=odd),
    "predict": lambda models, odd: models[0].predict(odd, odd),
    "predict users": lambda models, odd: models[0].predict(odd, [1]),
    "recommend": lambda models, odd: models[0].recommend(odd),
    "recommend n": lambda models, odd: models[0].recommend(1, n=odd),
    "recommend items": lambda models, odd: models[0].recommend(1, items=odd),
    "recommend seen": lambda models, odd: models[0].recommend(1, include_seen=odd),
    "similar": lambda models, odd: models[0].similar_items(odd),
    "fold_in": lambda models, odd: models[0].fold_in(odd),
    "fold_in of implicit": lambda models, odd: models[1].fold_in(odd),
    "update": lambda models, odd: models[0].update(odd),
    "explain": lambda models, odd: models[1].explain(odd, 1),
    "evaluate": lambda models, odd: fastmf.evaluate(models[0], odd),
    "evaluate model": lambda _, odd: fastmf.evaluate(odd, ROWS),
    "evaluate n": lambda models, odd: fastmf.evaluate(models[0], ROWS, n=odd),
    "evaluate from": lambda models, odd: fastmf.evaluate(models[0], ROWS, relevant_from=odd),
    "split": lambda _, odd: fastmf.split(odd),
    "split how": lambda _, odd: fastmf.split(pd.DataFrame({"user": USERS}), odd),
    "split fraction": lambda _, odd: fastmf.split(pd.DataFrame({"user": USERS}), fraction=odd),
    "load": lambda _, odd: fastmf.load(odd),
}


@pytest.mark.filterwarnings("ignore")  # some of these values work, with a warning
@pytest.mark.parametrize("call", CALLS)
def test_odd_values_work_or_are_refused_in_words(models, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused = 0
    for name, odd in ODD.items():
        try:
            CALLS[call](models, odd)
        except fastmf.FastMFError as error:
            refused += 1
            text = str(error)
            assert "\n" not in text, name
            assert len(text) < 1000, name
        except Exception as error:
            pytest.fail(f"{name}: {error!r}")
    assert refused > len(ODD) / 3


def test_values_are_shown_on_one_short_line():
    assert brief("sgd") == "'sgd'"
    shown = brief(pd.DataFrame({"a": range(100)}))
    assert shown.startswith("DataFrame ")
    assert len(shown) == 61
    assert "\n" not in shown
