import json
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmf.data.encoding import Encoding, FeatureColumn

COLUMNS = (
    FeatureColumn(name="price", kind="number", means=(2.5,), deviations=(0.5,), missing=True),
    FeatureColumn(name="emb", kind="numbers", means=(0.0, 7.0, 1e300), deviations=(1.0, 0.0, 5e-324)),
    FeatureColumn(name="genres", kind="categories", n_categories=2, rare=True),
    FeatureColumn(name="out", kind="year", means=(1999,), deviations=(3,)),
    FeatureColumn(name="out", kind="month", n_categories=1),
)
NAMES = ["price", "price (missing)", "emb[0]", "emb[2]", "genres=", "genres=é=|", "genres (rare)", "out: year"]
NAMES += ["out: month=3"]


def text(names):
    return pa.array(names, pa.large_string())


def test_names_and_places():
    encoding = Encoding(columns=COLUMNS, names=text(NAMES))
    assert encoding.starts.tolist() == [0, 2, 4, 7, 8, 9]
    assert encoding.n_features == 9
    assert encoding.needed == ("price", "emb", "genres", "out")
    assert [encoding.categories(place).to_pylist() for place in range(5)] == [[], [], ["", "é=|"], [], ["3"]]
    assert COLUMNS[1].places == (0, 2)


def test_plain_data_make_the_same_encoding():
    encoding = Encoding(columns=COLUMNS, names=text(NAMES))
    data = json.loads(json.dumps(encoding.plain(), allow_nan=False))
    again = Encoding.from_plain(data, encoding.names)
    assert again.columns == COLUMNS
    assert again.names.equals(encoding.names)


@pytest.mark.parametrize(
    ("column", "name", "value", "message"),
    [
        (0, "name", 3, "name is 3"),
        (0, "kind", "price", "of kind 'price'"),
        (0, "kind", "categories", "means of categories"),
        (0, "kind", [1], "of kind"),
        (0, "means", [], "has 0 means"),
        (0, "means", [1.0, 2.0], "has 2 means"),
        (0, "means", [math.nan], "not finite"),
        (0, "means", [10**400], "not finite"),
        (0, "means", [True], "not finite"),
        (0, "means", ["1"], "not finite"),
        (0, "means", 1.0, "not lists"),
        (0, "deviations", [-1.0], "of at least 0"),
        (0, "deviations", [math.inf], "not finite"),
        (0, "deviations", [0.0], "names of features"),
        (0, "missing", 1, "missing 1"),
        (0, "rare", True, "rare True"),
        (0, "n_categories", 1, "1 categories"),
        (1, "means", [0.0, 7.0], "has 2 means"),
        (1, "deviations", [0.0, 0.0, 0.0], "no features"),
        (1, "kind", "number", "has 3 means"),
        (2, "means", [1.0], "has 1 means"),
        (2, "n_categories", 3, "names of features"),
        (2, "n_categories", 0, "0 categories"),
        (2, "n_categories", -1, "-1 categories"),
        (2, "n_categories", True, "True categories"),
        (2, "n_categories", 2.0, "2.0 categories"),
        (2, "n_categories", 2**40, "categories"),
        (2, "missing", True, "missing True"),
        (2, "rare", False, "names of features"),
        (2, "name", "tags", "names of features of 'tags' are wrong"),
        (3, "kind", "number", "two kinds"),
        (3, "kind", "month", "means of categories"),
        (4, "name", "price", "two kinds"),
        (4, "kind", "categories", "two kinds"),
    ],
)
def test_hostile_columns_are_refused(column, name, value, message):
    data = Encoding(columns=COLUMNS, names=text(NAMES)).plain()
    data[column][name] = value
    with pytest.raises(ValueError, match=message):
        Encoding.from_plain(data, text(NAMES))


def test_hostile_data_and_names_are_refused():
    data = Encoding(columns=COLUMNS, names=text(NAMES)).plain()
    for wrong in (None, 3, {}, "x", [3], [{}], [data[0] | {"more": 1}], [*data, data[0]], [], [data[0], None]):
        with pytest.raises(ValueError, match=r"feature column|comes twice"):
            Encoding.from_plain(wrong, text(NAMES))
    not_utf8 = pa.Array.from_buffers(
        pa.large_string(), 1, [None, pa.py_buffer(np.int64([0, 1])), pa.py_buffer(b"\xff")]
    )
    swapped = [*NAMES[:4], NAMES[5], NAMES[5], *NAMES[6:]]
    for names in (
        text(NAMES[:-1]),
        text([*NAMES, "x"]),
        text([None, *NAMES[1:]]),
        text(["price2", *NAMES[1:]]),
        text([*NAMES[:-1], "out: month"]),
        text(swapped),
        pa.array(NAMES),
        pa.chunked_array([text(NAMES)]),
        pa.concat_arrays([text(NAMES[:-1]), not_utf8]),
    ):
        with pytest.raises(ValueError, match="names"):
            Encoding.from_plain(data, names)


def test_columns_may_not_share_a_name():
    pair = [FeatureColumn(name=name, kind="categories", n_categories=1) for name in ("a", "a=b")]
    with pytest.raises(ValueError, match="not distinct"):
        Encoding(columns=tuple(pair), names=text(["a=b=c", "a=b=c"]))


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(column=st.integers(0, 4), field=st.sampled_from(sorted(FeatureColumn.__dataclass_fields__)), value=PLAIN)
def test_any_other_value_is_refused_or_harmless(column, field, value):
    data = Encoding(columns=COLUMNS, names=text(NAMES)).plain()
    data[column][field] = value
    try:
        found = Encoding.from_plain(data, text(NAMES))
    except ValueError:
        return
    assert found.starts[-1] == len(NAMES) == found.n_features
    assert sum(len(found.categories(place)) for place in range(5)) == 3
