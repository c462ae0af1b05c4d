"""Run commands inside this process, as a shell would see them; and a small model to ask."""

import contextlib
import io
import json
import os
import re
import signal
import sys
import warnings
from typing import NamedTuple

import numpy as np
import pytest

import fastmf
from fastmf.cli import main
from fastmf.data.write import write_parquet


class Done(NamedTuple):
    code: int
    stdout: str
    stderr: str


def stream(encoding="utf-8"):
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")


@contextlib.contextmanager
def guarded():
    """Undo everything that ``main`` changes in the process; it shows warnings itself, where pytest would raise them."""
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.filterwarnings("always", category=UserWarning)
        patch.setattr(os, "_exit", sys.exit)
        try:
            yield patch
        finally:
            signal.signal(signal.SIGTERM, handler)


@pytest.fixture(scope="session")
def exit_code():
    """Call ``main`` with these arguments and streams; return the code it exits with."""

    def call(*arguments, stdout, stderr):
        with guarded() as patch:
            patch.setattr(sys, "argv", ["fastmf", *map(str, arguments)])
            patch.setattr(sys, "stdout", stdout)
            patch.setattr(sys, "stderr", stderr)
            with pytest.raises(SystemExit) as leaving:
                main()
            for name, given in (("stdout", stdout), ("stderr", stderr)):
                if given is None:
                    getattr(sys, name).close()
        return leaving.value.code

    return call


@pytest.fixture(scope="session")
def run(exit_code):
    """Run a command that must exit with ``code``; return its output."""

    def call(*arguments, code=0, encoding="utf-8"):
        streams = stream(encoding), stream()
        found = exit_code(*arguments, stdout=streams[0], stderr=streams[1])
        for each in streams:
            each.flush()
        done = Done(found, *(each.buffer.getvalue().decode() for each in streams))
        assert done.code == code, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return call


@pytest.fixture(scope="session")
def run_json(run):
    return lambda name, *arguments: json.loads(run(name, "--json", *arguments).stdout)


@pytest.fixture(scope="session")
def cells():
    """Split a printed table into its cells, which are two blanks or more apart."""
    return lambda table: [re.split(r"\s{2,}", line.strip()) for line in table.splitlines()]


@pytest.fixture(scope="session")
def place(tmp_path_factory, planted):
    """A folder with ratings to train on, some held out, the former again in other files and order, and titles."""
    folder = tmp_path_factory.mktemp("cli")
    users, items, ratings = planted()
    columns = {"userId": users, "movieId": items, "rating": ratings}
    train = {name: values[:240] for name, values in columns.items()}
    write_parquet(train, folder / "train.parquet")
    write_parquet({name: values[240:] for name, values in columns.items()}, folder / "heldout.parquet")
    (folder / "parts").mkdir()
    order = np.random.default_rng(1).permutation(240)
    for name, rows in (("a", order[:100]), ("b", order[100:])):
        write_parquet({name: values[rows] for name, values in train.items()}, folder / f"parts/{name}.parquet")
    titles = ["plain", "red \x1b[31m, bell \a, next\nline", ":cat: [bold]not[/bold] \\", "日本", None]
    write_parquet({"movieId": np.arange(1000, 1005), "title": titles}, folder / "titles.parquet")
    return folder


@pytest.fixture(scope="session")
def fitted(place, run):
    """The output of fitting the training file; the model is train.fastmf."""
    return run("fit", place / "train.parquet", "--k", 3, "--epochs", 4, "--threads", 9999)


@pytest.fixture(scope="session")
def path(place, fitted):
    return place / "train.fastmf"


@pytest.fixture(scope="session")
def model(path):
    return fastmf.load(path)


@pytest.fixture
def terminal(monkeypatch):
    """Yield a text stream that is a terminal, and a function that closes it and returns all that was shown there."""
    pty = pytest.importorskip("pty")  # Windows has none
    from threading import Thread

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "150")
    reading, writing = pty.openpty()
    chunks = []

    def read():
        with contextlib.suppress(OSError):  # Linux reports the end as an error
            while chunk := os.read(reading, 4096):
                chunks.append(chunk)

    reader = Thread(target=read)
    reader.start()
    end = os.fdopen(writing, "w", encoding="utf-8")

    def shown():
        end.close()
        reader.join(60)
        return b"".join(chunks).decode()

    yield end, shown
    shown()
    os.close(reading)


@pytest.fixture
def interruptible():
    """Take Ctrl-C for an interrupt here and in children, even if a shell's background has this process ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def signalling():
    """Make a stderr that sends this process a signal after a line that starts so."""

    class Stream(io.StringIO):
        def __init__(self, number, line):
            super().__init__()
            self.number, self.line = number, line

        def write(self, text):
            super().write(text)
            if text.endswith("\n") and self.getvalue().splitlines()[-1].startswith(self.line):
                signal.raise_signal(self.number)

    return Stream
