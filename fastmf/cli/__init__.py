"""The command line: one file per command, each a thin layer over the Python functions.

Commands import what they need when they run, so that ``--help`` is instant. stdout carries data only.
"""

import atexit
import contextlib
import errno
import gc
import io
import os
import re
import signal
import sys
import warnings
from pathlib import Path
from typing import NoReturn

import click

import fastmf
from fastmf.cli.bench import bench
from fastmf.cli.completion import completing_files
from fastmf.cli.console import remark
from fastmf.cli.doctor import doctor
from fastmf.cli.evaluate import evaluate
from fastmf.cli.explain import explain
from fastmf.cli.factors import factors
from fastmf.cli.fit import fit
from fastmf.cli.inspect import inspect
from fastmf.cli.plan import plan
from fastmf.cli.predict import predict
from fastmf.cli.recommend import recommend
from fastmf.cli.report import report
from fastmf.cli.similar import similar
from fastmf.cli.split import split
from fastmf.cli.synth import synth
from fastmf.cli.tune import tune
from fastmf.cli.update import update
from fastmf.cli.version import version_option
from fastmf.cli.warmup import warmup

# What the loader of libraries, llvmlite, Arrow and Python say if memory, or what a thread needs of it, runs out.
NO_MEMORY = re.compile(
    "failed to map segment|annot allocate memory|annot map|bad_alloc|Failed to launch worker thread"
    "|t start new thread|Resource temporarily unavailable|out of memory",
    re.IGNORECASE,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@version_option
def cli() -> None:
    """Matrix factorization for rating data: fast, on the machine you have.

    \b
    Examples:
      fastmf synth ratings.parquet --titles titles.parquet
      fastmf fit ratings.parquet --k 32 --solver als
      fastmf recommend ratings.fastmf --user 42 --titles titles.parquet
    """


COMMANDS = (
    *(split, plan, fit, tune, update, predict, recommend, similar, explain, factors, evaluate, report, inspect),
    *(synth, bench, doctor, warmup),
)
for _command in COMMANDS:
    cli.add_command(completing_files(_command))


def main() -> NoReturn:
    """Run the command line and exit with the code for its outcome; see :mod:`fastmf.errors`."""
    atexit.register(gc.freeze)  # else the interpreter looks for garbage among all of numba's objects before it exits
    _make_streams_usable()
    warnings.showwarning = lambda message, *_, **__: remark(f"warning: {message}")
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = cli(standalone_mode=False) or 0
        sys.stdout.flush()
    except click.exceptions.Exit as asked:
        code = asked.exit_code
    except getattr(click.exceptions, "NoArgsIsHelpError", ()) as error:  # since click 8.2; before, exit code 0
        error.show()
        code = error.exit_code
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        more = f" (see {context.command_path} --help)" if context else ""
        code = fail(error.format_message().rstrip(".") + more, error.exit_code)
    except (KeyboardInterrupt, click.exceptions.Abort):
        code = fail("interrupted", 130)
    except Terminated as leaving:
        code = fail("terminated", leaving.code)
    except fastmf.FastMFError as error:
        code = fail(str(error), error.exit_code)
    except SystemExit as leaving:
        code = 0 if leaving.code == 1 else leaving.code  # click and rich: the reader has closed the pipe (| head)
    except BrokenPipeError:
        # the same, but raised by a write or flush of our own; Python must not flush stdout again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:
        if lacks_memory(error):
            what = " ".join(str(error).split()) or "an allocation failed"
            remedy = "give the process more, or use fewer factors (--k) or ratings"
            _leave(fail(f"out of memory: {what}; {remedy}", 6))  # libraries that lack it crash while they are unloaded
        if not isinstance(error, OSError):
            raise
        code = fail(str(error), 4)
    if code in (130, 143):  # a signal may have left locks held that other threads wait for at exit
        _leave(code)
    sys.exit(code)


def _leave(code: int) -> NoReturn:
    """End the process at once, without waiting for threads."""
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    os._exit(code)


class Terminated(SystemExit):
    """SIGTERM."""

    code: int = 143


def _terminate(*_: object) -> NoReturn:
    raise Terminated(143)


def lacks_memory(error: BaseException | None) -> bool:
    """Check whether an error, or one behind it, means that memory or threads ran out, also while libraries load."""
    while error is not None:
        short = isinstance(error, OSError) and error.errno in (errno.ENOMEM, errno.EAGAIN)
        told = isinstance(error, ImportError | OSError | RuntimeError) and NO_MEMORY.search(str(error))
        if isinstance(error, MemoryError) or short or told:
            return True
        error = error.__cause__ or error.__context__
    return False


def _make_streams_usable() -> None:
    """Replace closed streams with the null device, and let stdout escape characters that its encoding lacks."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  stays open until exit
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def fail(message: str, code: int) -> int:
    """Report an error on stderr; return its exit code."""
    remark(f"error: {message}")
    return code
