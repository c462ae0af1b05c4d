"""Tables that have not been read, whatever holds them: what they can be asked for, and what they share in reading."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

from fastmf.errors import DataError, counted
from fastmf.runtime.memory import require_memory

PIECE = 1 << 24  # bytes of text that are parsed at once
SHOWN = 60  # characters of a line that a message shows
WORK = 16  # bytes per row, besides the columns themselves, for both compressed views and for sorting

# What to do with the texts of a column: make ids of them, numbers, or whatever all of them can be.
KINDS = {"user": "id", "item": "id", "rating": "number", "weight": "weight", "timestamp": "time", "title": "text"}
NUMBERS = ("number", "weight")


class Wanted(NamedTuple):
    """What to read: the names of columns, and what to make of each.

    kinds : "id", "number", "weight" (a number, too), "time", "text" or "any" for the columns by name. drop : leave out
    rows that cannot be read, instead of raising an error. limit : the most bytes of memory. codes : return text as
    dictionary and codes where that is quick.
    """

    names: Sequence[str]
    kinds: Mapping[str, str]
    drop: bool = False
    limit: int | None = None
    codes: bool = False


class Source(Protocol):
    """A table that has not been read.

    where : what to call it in messages. names : of its columns. positions : the names that were given to columns by
    their places, if it has none of its own. dropped : rows that :meth:`read` left out, by reason.
    """

    where: str

    @property
    def names(self) -> Sequence[Any]: ...  # noqa: D102

    @property
    def positions(self) -> Sequence[str]: ...  # noqa: D102

    @property
    def dropped(self) -> Mapping[str, int]: ...  # noqa: D102

    def read(self, wanted: Wanted) -> pa.Table: ...  # noqa: D102


def require_room(n_rows: int, row_bytes: int, where: str, wanted: Wanted, first: str = "") -> None:
    """Raise a ResourceError if memory cannot hold rows and what sorting them takes."""
    remedy = "read fewer rows, set another limit with --memory-limit (memory_limit=), or fit Parquet with --spill"
    require_memory(n_rows * (row_bytes + WORK), f"{where}: reading {first}{n_rows:,} rows", wanted.limit, remedy)


class Room:
    """Counts the rows that are read piece by piece, and stops at the limit of memory."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted, self.n_rows, self.n_bytes = wanted, 0, 0

    def take(self, n_rows: int, n_bytes: int, where: str) -> None:
        """Count rows that were read; raise a ResourceError if memory cannot hold them and what sorting them takes."""
        self.n_rows, self.n_bytes = self.n_rows + n_rows, self.n_bytes + n_bytes
        # what was read is no longer among the available memory, but counts against a limit that was given
        width = 0 if self.wanted.limit is None else self.n_bytes // max(self.n_rows, 1)
        require_room(self.n_rows, width, where, self.wanted, "its first ")


def require_short(line: bytes, where: str) -> None:
    """Raise a DataError if the part of a line that was read is longer than a piece."""
    if len(line) > PIECE:
        raise DataError(f"{where} cannot be read as text with columns: a line is longer than {PIECE:,} bytes")


def shown(line: str | bytes) -> str:
    """Return a line, or a field of one, as a message shows it: quoted, and cut."""
    text = line.decode(errors="replace") if isinstance(line, bytes) else line
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}…")


class Faults:
    """Rows of a file that cannot be read: how many, by reason, and the first of them in words."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.first = ""

    def add(self, reason: str, n: int, what: str) -> None:
        """Count n rows; ``what`` describes the first of them."""
        self.counts[reason] = self.counts.get(reason, 0) + n
        self.first = self.first or what

    def raise_if_any(self, where: str, hint: str = "") -> None:
        """Raise a DataError if rows could not be read; ``hint`` says what else to do."""
        n = sum(self.counts.values())
        if n:
            raise DataError(
                f"{where}: {counted(n, 'row')} cannot be read, the first in {self.first}: correct or drop those rows"
                f" (in a fit: --bad-rows drop, bad_rows=){hint}"
            )
