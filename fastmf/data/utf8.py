"""Text as Arrow's parser takes it: in UTF-8, with separators of one byte, and with quotes that are closed."""

import codecs
import csv
import re
import threading
from typing import Any

from fastmf.data.layout import BLANK, Found
from fastmf.data.source import Faults, require_short, shown
from fastmf.errors import DataError

UNIT = b"\x1f"  # stands for separators that Arrow's parser does not take: the unit separator of ASCII
PATIENCE = 5.0  # seconds to wait for a read that is under way
GRACE = 1.0  # seconds to wait for the last read if none is under way: there may be none to come


class Utf8:
    """A stream that is looked at in whole lines. Arrow reads it on a thread of its own, ahead of what is asked for.

    Arrow takes what follows a closing quote as part of the text, and the end of the file as a closing quote. So
    ``"a"b`` is refused here, and a last line whose quote is not closed is left out and counted among the ``faults``.
    """

    closed = False
    failure: Exception | None = None  # what went wrong in Arrow's thread: raise it in another

    def __init__(self, stream: Any, layout: Found, where: str, faults: Faults) -> None:
        self.stream, self.where, self.faults, self.rest, self.ready = stream, where, faults, b"", b""
        self.decoder = None if layout.encoding == "utf-8" else codecs.getincrementaldecoder(layout.encoding)()
        self.quoted, self.sep = layout.quoted, layout.sep
        between = re.escape(layout.sep.encode()) + rb'\r\n"'
        self.after_quote = re.compile(rb"[^" + between + rb']"[^' + between + rb"]")
        self.end_of_line, self.n_quotes = b"", 0
        self.reading, self.over = threading.Lock(), threading.Event()

    def read(self, n: int = -1) -> bytes:
        """Read at most n bytes; none only at the end, or after a failure."""
        try:
            self.ready = self.ready or self._next(n)
        except Exception as error:
            self.failure = error
        if self.closed or not self.ready:
            self.over.set()
            return b""
        data, self.ready = (self.ready, b"") if n < 0 else (self.ready[:n], self.ready[n:])
        return data

    def _next(self, n: int) -> bytes:
        with self.reading:
            data, last = b"", False
            while not data and not last and not self.closed:
                raw = self.stream.read(n if n < 0 else max(n, 1))
                last = not raw
                data = self._whole_lines(self.decoder.decode(raw, last).encode() if self.decoder else raw, last)
            return data

    def close(self) -> None:
        """End the stream, also for a thread that reads ahead of a failure, and wait until that thread knows."""
        self.closed = True
        self.over.wait(PATIENCE if self.reading.locked() else GRACE)
        there = self.reading.acquire(timeout=GRACE)
        self.stream.close()
        self.ready = self.rest = b""
        if there:
            self.reading.release()

    def _whole_lines(self, data: bytes, last: bool) -> bytes:
        """Return the lines but for the last one that is not empty, which may be cut: it is kept for the next read."""
        if not self.end_of_line:
            data = data.removeprefix(codecs.BOM_UTF8)
            self.end_of_line = b"\r" if b"\n" not in data and b"\r" in data else b"\n"
        data = self.rest + data
        end = len(data) if last else data.rstrip(b"\r\n").rfind(self.end_of_line) + 1
        data, self.rest = data[:end], data[end:]
        require_short(self.rest, self.where)
        return self._closed_quotes(data, last) if self.quoted else self._replaced(data)

    def _closed_quotes(self, data: bytes, last: bool) -> bytes:
        """Check the quotes in lines; leave out a last line whose quote is not closed."""
        if b'"' in data:
            self.n_quotes += data.count(b'"')
            for match in self.after_quote.finditer(data):
                start, stop = data.rfind(b"\n", 0, match.start() + 1) + 1, data.find(b"\n", match.start() + 1)
                line = data[start : stop if stop >= 0 else len(data)]
                if "expected after" in self._fault(line):
                    raise DataError(
                        f"{self.where}: the line {shown(line)} has text after a closing quote: write a quote inside"
                        " quotes as two, or put the whole text in quotes"
                    )
        if last and self.n_quotes % 2:
            line = data.rstrip(b"\r\n").rsplit(self.end_of_line, 1)[-1]
            if "unexpected end" in self._fault(line):
                self.faults.add("ragged_rows", 1, f"the last line (a quote is not closed): {shown(line)}")
                return data[: data.rindex(line)]
        return data

    def _fault(self, line: bytes) -> str:
        """Say what is wrong with the quotes of a line."""
        try:
            list(csv.reader([line.decode(errors="replace")], delimiter=self.sep, strict=True))
        except csv.Error as error:
            return str(error)
        return ""

    def _replaced(self, data: bytes) -> bytes:
        """Replace the separators of lines."""
        if UNIT in data:
            raise DataError(f"{self.where} holds the control character 0x1F: replace its separators by commas")
        if self.sep == BLANK:
            return re.sub(rb"[ \t]+", UNIT, re.sub(rb"(?m)^[ \t]+|[ \t]+(?=\r?$)", b"", data))
        return data.replace(self.sep.encode(), UNIT)
