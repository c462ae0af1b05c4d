"""Delimited text."""

from collections.abc import Mapping, Sequence
from typing import IO

import numpy as np
import pyarrow as pa
from pyarrow import csv

from fastmf.errors import DataError


def read_csv(
    binary_file: IO[bytes], *, names: Sequence[str] | None, delimiter: str, columns: Mapping[str, str]
) -> dict[str, np.ndarray | list[str]]:
    """Read some columns of UTF-8 delimited text: string columns as lists of str, all other columns as arrays.

    Parameters
    ----------
    binary_file : an open file; it need not be seekable.
    names : all columns in the file's order; None if its first line names them.
    columns : the columns wanted, and the Arrow type of each ("int32", "float32", "string", …).

    Raises a DataError if a column is missing, or a value is missing or not of its type.
    """
    kinds = {name: pa.type_for_alias(kind) for name, kind in columns.items()}
    read = csv.ReadOptions(column_names=names, block_size=1 << 24)
    parse = csv.ParseOptions(delimiter=delimiter)
    convert = csv.ConvertOptions(column_types=kinds, include_columns=list(columns))
    try:
        table = csv.read_csv(binary_file, read, parse, convert)
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise DataError(f"the text does not hold the columns {', '.join(columns)}: {error}") from error
    for name, column in zip(columns, table.columns, strict=True):
        if column.null_count:
            raise DataError(f"{column.null_count:,} of {len(column):,} values of {name} are missing")
    return {name: table[name].to_pylist() if columns[name] == "string" else table[name].to_numpy() for name in columns}
