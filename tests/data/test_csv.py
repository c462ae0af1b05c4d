import io

import numpy as np
import pytest

from fastmf.data.csv import read_csv
from fastmf.errors import DataError


def test_delimited_text_is_read_by_column():
    text = io.BytesIO("user\tx\n1\té\n2\tö\n".encode())
    columns = read_csv(text, names=None, delimiter="\t", columns={"x": "string", "user": "int32"})
    assert columns["x"] == ["é", "ö"]
    assert columns["user"].tolist() == [1, 2]
    assert columns["user"].dtype == np.int32
    columns = read_csv(io.BytesIO(b"1,2\n"), names=["a", "b"], delimiter=",", columns={"b": "float32"})
    assert {name: column.tolist() for name, column in columns.items()} == {"b": [2.0]}


def test_delimited_text_that_does_not_hold_the_columns_is_refused():
    for text, message in [
        (b"a\nx\n", "does not hold the columns a"),
        (b"b\n1\n", "does not hold the columns a"),
        (b"a,c\n,1\n", "1 of 1 values of a are missing"),
    ]:
        with pytest.raises(DataError, match=message):
            read_csv(io.BytesIO(text), names=None, delimiter=",", columns={"a": "int32"})
