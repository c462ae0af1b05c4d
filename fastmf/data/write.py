"""Write tables as Parquet or CSV, whole or not at all; long ones frame by frame."""

import contextlib
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

from fastmf.data.atomic import replacing
from fastmf.data.escape import printable

if TYPE_CHECKING:
    import pandas as pd


def write_parquet(columns: Mapping[str, Any] | pa.Table, path: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Write columns (name to array or list) as Parquet with page checksums; see ``atomic.replacing`` for errors."""
    table = columns if isinstance(columns, pa.Table) else pa.table(dict(columns))
    with replacing(path, overwrite) as temporary:
        pq.write_table(table, temporary, write_page_checksum=True, compression="zstd")


def write_table(table: pa.Table, path: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Write a table as CSV if the path ends in .csv, else as Parquet."""
    if Path(path).suffix.lower() == ".csv":
        write_frame(table.to_pandas(types_mapper=_of_nullable), path, overwrite)
    else:
        write_parquet(table, path, overwrite)


def _of_nullable(kind: pa.DataType) -> Any:
    """Return pandas' type for integers with nulls, which would else become floats."""
    import pandas as pd

    return pd.ArrowDtype(kind) if types.is_integer(kind) else None


def write_frame(frame: "pd.DataFrame", path: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Write a frame as CSV if the path ends in .csv, else as Parquet; see :func:`write_frames`."""
    write_frames([frame], path, overwrite)


def write_frames(frames: "Iterable[pd.DataFrame]", path: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Write frames with the same columns, one after another, as CSV or as the row groups of one Parquet file.

    In CSV, control characters are escaped, since CSV files end up on terminals and in spreadsheets; Parquet keeps them
    as they are. See ``atomic.replacing`` for errors.
    """
    with replacing(path, overwrite) as temporary:
        if Path(path).suffix.lower() == ".csv":
            _write_csv(frames, temporary)
        else:
            _write_row_groups(frames, temporary)


def _write_csv(frames: "Iterable[pd.DataFrame]", path: Path) -> None:
    for place, frame in enumerate(frames):
        texts = {str(name): column.map(_escaped) for name, column in frame.items() if column.dtype.kind == "O"}
        frame.assign(**texts).to_csv(path, index=False, header=not place, mode="a" if place else "w")


def _escaped(value: Any) -> Any:
    return printable(value) if isinstance(value, str) else value


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
