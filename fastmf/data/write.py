"""Write tables as Parquet or CSV, whole or not at all; long ones frame by frame."""

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv, types

from fastmf.data.arrow import decoded
from fastmf.data.atomic import replacing
from fastmf.data.escape import printable
from fastmf.errors import ParameterError

if TYPE_CHECKING:
    import pandas as pd

OTHERS = (".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".gz", ".zst", ".xlsx", ".feather", ".arrow", ".orc", ".fastmf")


def write_parquet(columns: Mapping[str, Any] | pa.Table, path: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Write columns (name to array or list) as Parquet with page checksums; see ``atomic.replacing`` for errors."""
    table = columns if isinstance(columns, pa.Table) else pa.table(dict(columns))
    with replacing(path, overwrite) as temporary:
        pq.write_table(table, temporary, write_page_checksum=True, compression="zstd")


def write_table(table: pa.Table, path: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Write a table as CSV if the path ends in .csv, else as Parquet; reading gives the same values, nulls and all."""
    if is_csv(path):
        with replacing(path, overwrite) as temporary:
            _write_csv([table], temporary, escaped=False)
    else:
        write_parquet(table, path, overwrite)


def is_csv(path: str | os.PathLike[str]) -> bool:
    """Check whether a file is to be written as CSV, by the end of its name, rather than as Parquet.

    Raises a ParameterError for an end that stands for another format.
    """
    end = Path(path).suffix.lower()
    if end in OTHERS:
        raise ParameterError(
            f"{path} cannot be written as {end[1:]}: results are Parquet, or CSV if the name ends in .csv"
        )
    return end == ".csv"


def write_frame(frame: "pd.DataFrame", path: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Write a frame as CSV if the path ends in .csv, else as Parquet; see :func:`write_frames`."""
    write_frames([frame], path, overwrite)


def write_frames(frames: "Iterable[pd.DataFrame]", path: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Write frames with the same columns, one after another, as CSV or as the row groups of one Parquet file.

    In CSV, control characters are escaped, since CSV files end up on terminals and in spreadsheets; Parquet keeps them
    as they are. See ``atomic.replacing`` for errors.
    """
    as_csv = is_csv(path)
    with replacing(path, overwrite) as temporary:
        if as_csv:
            tables = (pa.Table.from_pandas(frame, preserve_index=False) for frame in frames)
            _write_csv(tables, temporary, escaped=True)
        else:
            _write_row_groups(frames, temporary)


def _write_csv(tables: Iterable[pa.Table], path: Path, escaped: bool) -> None:
    """Write tables with the same columns; escape control characters or not. Text is quoted, so that "" is no null."""
    with contextlib.ExitStack() as stack:
        writer, schema = None, pa.schema([])
        for table in tables:
            plain = _plain(table, escaped)
            if writer is None:
                schema = plain.schema
                writer = stack.enter_context(csv.CSVWriter(path, schema))
            writer.write_table(plain.cast(schema))


def _plain(table: pa.Table, escaped: bool) -> pa.Table:
    """Return a table as CSV can hold it: what Arrow cannot write there as text, and text escaped or as it is."""
    for place, name in enumerate(table.column_names):
        column = table.column(place)
        if types.is_dictionary(column.type):
            column = decoded(column)
        kind = column.type
        as_it_is = types.is_primitive(kind) and not types.is_duration(kind)
        as_it_is |= types.is_null(kind)
        if not as_it_is and (escaped or not (types.is_string(kind) or types.is_large_string(kind))):
            column = _as_texts(column, (lambda value: printable(str(value))) if escaped else str)
        table = table.set_column(place, name, column)
    return table.replace_schema_metadata()


def _as_texts(column: pa.ChunkedArray, how: Callable[[Any], str]) -> pa.ChunkedArray:
    texts = [None if value is None else how(value) for value in column.to_pylist()]
    return pa.chunked_array([texts], pa.large_string())


def _write_row_groups(frames: "Iterable[pd.DataFrame]", path: Path) -> None:
    """Write each frame on a second thread, while the calling thread produces the next frame."""
    with contextlib.ExitStack() as stack:
        writer: pq.ParquetWriter | None = None
        under_way: Future[None] | None = None
        thread = ThreadPoolExecutor(1)
        for frame in frames:
            schema = writer.schema if writer else None
            table = pa.Table.from_pandas(frame, schema, preserve_index=False).replace_schema_metadata()
            if writer is None:
                coded = [field.name for field in table.schema if not types.is_floating(field.type)]
                how: dict[str, Any] = {"use_dictionary": coded, "compression": "zstd", "write_page_checksum": True}
                writer = stack.enter_context(pq.ParquetWriter(path, table.schema, **how))
                stack.callback(thread.shutdown)  # before the writer is closed
            if under_way is not None:
                under_way.result()
            under_way = thread.submit(writer.write_table, table)
        if under_way is not None:
            under_way.result()


def joined(frames: "Iterable[pd.DataFrame]") -> "pd.DataFrame":
    """Concatenate frames with the same columns."""
    import pandas as pd

    return pd.concat(frames, ignore_index=True)


def frame_of(rows: Iterable[Mapping[str, Any]]) -> "pd.DataFrame":
    """Return rows as a frame; numbers that are None become NaN."""
    import pandas as pd

    frame = pd.DataFrame(list(rows))
    return frame.astype({name: float for name in frame if frame[name].isna().all()})
