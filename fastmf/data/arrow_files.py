"""Files of Arrow's own formats (IPC files and streams, also Feather), and ORC: read in pieces, memory checked."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from fastmf.data.columns import listed
from fastmf.data.files import File, Opened, opened
from fastmf.data.source import Room, Wanted
from fastmf.errors import DataError


class ArrowFiles:
    """Files of one of these formats; the first one has been opened, and ``names`` are its columns."""

    positions: Sequence[str] = ()
    dropped: Mapping[str, int] = {}

    def __init__(self, files: Sequence[File], first: Opened) -> None:
        self.files, self.where = files, first.file.path
        self.reader, self.schema = _reader(first)
        self.names = list(self.schema.names)

    def read(self, wanted: Wanted) -> pa.Table:
        """Read columns of all files, one file after another; raises as :meth:`ParquetFiles.read`."""
        names, room, tables = list(dict.fromkeys(wanted.names)), Room(wanted), list[pa.Table]()
        for path, table in self._tables(names):
            tables.append(table)
            room.take(len(table), table.nbytes, path)
        kept = pa.schema([self.schema.field(name) for name in names])
        return pa.concat_tables([kept.empty_table(), *tables], promote_options="default").select(list(wanted.names))

    def batches(self, wanted: Wanted, at_once: int) -> Iterator[pa.Table]:
        """Read columns of all files, batch by batch, whatever the size of their batches; raises as :meth:`read`."""
        return (table.select(list(wanted.names)) for _, table in self._tables(list(dict.fromkeys(wanted.names))))

    def _tables(self, names: list[str]) -> Iterator[tuple[str, pa.Table]]:
        """Yield each batch of all files, with the path of its file."""
        for place, file in enumerate(self.files):
            reader, schema = (self.reader, self.schema) if place == 0 else _reader(opened(file))
            if [f for f in schema if f.name in names] != [f for f in self.schema if f.name in names]:
                raise DataError(
                    f"{self.where} has the columns {listed(self.names)} but {file.path} has {listed(schema.names)}, or"
                    " in other types: write all files with one schema"
                )
            try:
                for batch in _batches(reader):
                    yield file.path, pa.table(batch).select(names)
            except (pa.ArrowException, OSError) as error:
                raise OSError(f"{file.path} cannot be read (is it damaged?): {error}") from None


def _reader(each: Opened) -> tuple[Any, pa.Schema]:
    """Open a file of Arrow's, or an ORC file; raise an OSError that names it if it is damaged."""
    try:
        if each.format == "orc":
            from pyarrow import orc

            reader = orc.ORCFile(each.stream)
        else:
            reader = (pa.ipc.open_file if each.format == "arrow" else pa.ipc.open_stream)(each.stream)
    except (pa.ArrowException, OSError) as error:
        raise OSError(f"{each.file.path} cannot be read (is it damaged?): {error}") from None
    return reader, reader.schema


def _batches(reader: Any) -> Iterator[pa.RecordBatch]:
    """Yield the batches of a stream, of a file, or the stripes of ORC."""
    if hasattr(reader, "read_stripe"):
        for place in range(reader.nstripes):
            yield reader.read_stripe(place)
    elif hasattr(reader, "num_record_batches"):
        for place in range(reader.num_record_batches):
            yield reader.get_batch(place)
    else:
        yield from reader
