"""Texts as ids and numbers: what was written comes back."""

import csv
import io
import re
import warnings

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmf import Ratings
from fastmf.data.values import as_key, as_numbers, inferred, joined_keys

ODD = [
    "007",
    "1.0",
    "1e5",
    "NA",
    "",
    "nan",
    " 1",
    "-0",
    "+1",
    "0x1",
    "1_0",
    "-0.0",
    "0.0",
    str(2**53 + 1),
    str(2**64),
    str(-(2**63)),
]
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\0\x1f"), max_size=6)
ids = st.lists(
    st.one_of(texts, st.integers(-(2**65), 2**65).map(str), st.sampled_from(ODD)), min_size=1, max_size=12, unique=True
)


@settings(max_examples=300, deadline=None)
@given(ids, st.sampled_from([",", "\t", ";", "|"]), st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]))
def test_ids_in_text_come_back_as_they_were_written(users, sep, quoting):
    out = io.StringIO()
    rows = [("user", "item", "rating"), *((user, 7, 2.5) for user in users)]
    csv.writer(out, delimiter=sep, quoting=quoting, lineterminator="\n").writerows(rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of blanks around ids, and of 1.0
        found = Ratings.read(io.BytesIO(out.getvalue().encode()), sep=sep).user_ids.to_pylist()
    if all(re.fullmatch(r"(0|-?[1-9]\d{0,15})\.0", user) for user in users):
        found = [f"{user}.0" for user in found]
    assert sorted(map(str, found)) == sorted(users)


@settings(max_examples=300, deadline=None)
@given(ids, st.integers(1, 12))
def test_pieces_give_what_the_whole_gives(users, size):
    pieces = [as_key(pa.array(users[start : start + size])) for start in range(0, len(users), size)]
    assert joined_keys(pieces).to_pylist() == joined_keys([as_key(pa.array(users))]).to_pylist()


def test_numbers_are_numbers_or_marked():
    found = as_numbers(pa.array(["4.5", " 3 ", "NA", "", None, "five", "1_0", "-.5e1", "0x10"]), None)
    assert found.values.to_pylist() == [4.5, 3, None, None, None, None, None, -5, None]
    assert found.unreadable.tolist() == [False, False, False, False, False, True, True, False, True]
    assert as_numbers(pa.array(["1", "2.5"]), None).unreadable is None
    assert as_numbers(pa.array(["1,5", "2.5"]), ",").unreadable.tolist() == [False, True]
    assert as_numbers(pa.array(["1,5", "1,234", "2.5"]), None).marks == {",": "1,5", ",000": "1,234", ".": "2.5"}


def test_a_column_becomes_what_all_of_its_texts_are():
    for values, kind in [
        (["1", "2", None], pa.int64()),
        (["1", "2.5", "NA"], pa.float64()),
        (["01234", "2"], pa.string()),
        (["true", "FALSE"], pa.bool_()),
        (["2024-01-31", None], pa.date32()),
        (["2024-01-31 10:00:00"], pa.timestamp("us")),
        (["2024-01-31T10:00:00+01:00"], pa.timestamp("us", "UTC")),
        (["NA", "nan"], pa.string()),
        (["Drama|War", "1"], pa.string()),
        ([None, None], pa.string()),
    ]:
        assert inferred(pa.chunked_array([pa.array(values, pa.string())]), None).type == kind, values
