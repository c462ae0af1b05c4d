"""The command line as a process: help, exit codes, closed streams, readers who leave, and signals."""

import contextlib
import errno
import io
import os
import platform
import re
import signal
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

import fastmf
import fastmf.cli as cli_module
from fastmf.cli import COMMANDS
from fastmf.runtime.device import resolve, unavailable
from fastmf.runtime.threads import max_threads

NAMES = [command.name for command in COMMANDS]
HEAVY = ["numba", "numpy.random", "pandas", "pyarrow", "rich"]
ENVIRONMENT = {**os.environ, "PYTHONUTF8": "1"}
posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals and pipes")


def command(*arguments):
    return [sys.executable, "-m", "fastmf", *map(str, arguments)]


def test_help_shows_examples_and_every_command(run):
    done = run("--help")
    assert done.stderr == ""
    assert "Examples:\n    fastmf synth" in done.stdout
    assert all(f"\n  {name}  " in done.stdout for name in NAMES)


def test_help_of_a_command_shows_an_example(run):
    for name in NAMES:
        done = run(name, "--help")
        assert done.stderr == ""
        assert re.search(rf"Examples?:\n    fastmf {name}", done.stdout)
        assert run(name, "-h").stdout == done.stdout


def test_help_loads_nothing_heavy():
    script = (
        "import sys; from fastmf.cli import cli\n"
        f"for name in {NAMES}: cli.main([name, '--help'], standalone_mode=False)\n"
        "cli.main(['--help'], standalone_mode=False)\n"
        f"sys.exit(' '.join(set({HEAVY}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=False)
    assert done.stderr.strip() == ""
    assert done.stdout.count("Usage:") == len(NAMES) + 1


def test_version_names_what_matters_for_a_report(run, monkeypatch):
    first, second = run("--version").stdout.splitlines()
    assert first == f"fastmf, version {fastmf.__version__}"
    libraries = f"numba {numba.__version__}, numpy {np.__version__}"
    device = "cpu" if unavailable("cuda") else resolve("auto").describe()
    assert second == f"Python {platform.python_version()}, {libraries}, {max_threads()} threads, device {device}"
    monkeypatch.setitem(sys.modules, "fastmf.runtime.device", None)
    assert re.search(r"numpy \S+, which cannot be loaded: import of fastmf\.runtime\.device", run("--version").stdout)


def test_without_a_command_there_is_help(run):
    done = run(code=2)
    assert "Usage:" in done.stdout + done.stderr


def test_a_process_ends_with_the_code_of_the_error(tmp_path):
    done = subprocess.run(
        command("fit", "missing.parquet"), cwd=tmp_path, capture_output=True, encoding="utf-8", check=False
    )
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr == "error: missing.parquet does not exist\n"


def test_a_process_does_not_look_for_garbage_before_it_exits():
    script = """if True:
        import atexit, gc, sys
        atexit.register(lambda: print(gc.get_freeze_count() > 0))  # runs last
        from fastmf.cli import main
        sys.argv = ["fastmf", "--version"]
        main()
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.splitlines()[2:] == ["True"]


def test_memory_that_runs_out_is_an_error_of_its_own(path, run, monkeypatch):
    def fail(_):
        raise MemoryError("Unable to allocate 9 GiB")

    monkeypatch.setattr("fastmf.load", fail)
    assert run("inspect", path, code=6).stderr == (
        "error: out of memory: Unable to allocate 9 GiB; give the process more, or use fewer factors (--k) or ratings\n"
    )


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        OSError(errno.EAGAIN, "Resource temporarily unavailable"),
        ImportError("libarrow.so.2600: failed to map segment from shared object"),
        RuntimeError("can't start new thread"),
        OSError("r.parquet cannot be read as Parquet (Unknown error: Failed to launch worker thread: ...)"),
    ],
)
def test_whatever_says_that_memory_ran_out_has_code_6(run, monkeypatch, error):
    def fail(_):
        try:
            raise error
        except Exception as caught:
            raise OSError("could not load a library") from caught

    monkeypatch.setattr("fastmf.load", fail)
    assert run("inspect", "m.fastmf", code=6).stderr.startswith("error: out of memory: could not load a library; give")


@pytest.mark.parametrize(
    "error", [OSError("no such file"), ValueError("out of range"), ImportError("no module named x")]
)
def test_other_errors_are_not_about_memory(error):
    assert not cli_module.lacks_memory(error)


@pytest.mark.skipif(sys.platform != "linux", reason="limits as Linux has them")
@pytest.mark.parametrize("kib", [250_000, 350_000])
def test_libraries_that_memory_cannot_hold_are_no_bug(place, kib):
    fit = command("fit", place / "train.parquet", "-o", place / "never.fastmf")
    done = subprocess.run(
        ["sh", "-c", f'ulimit -v {kib}; "$@"', "sh", *fit], capture_output=True, encoding="utf-8", check=False
    )
    assert (done.returncode, done.stdout) == (6, "")
    assert done.stderr.startswith("error: out of memory: ")
    assert "Traceback" not in done.stderr


# readers who leave, and streams that are closed


@posix
def test_a_reader_who_leaves_early_is_no_error(path):
    reading, writing = os.pipe()
    os.close(reading)
    lists = command("recommend", path, "--all", "--json", "--include-seen")
    done = subprocess.run(lists, stdin=subprocess.DEVNULL, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr.splitlines()[1:]) == (0, [])


@posix
@pytest.mark.parametrize("arguments", [["--help"], ["inspect"], ["recommend", "--all"]], ids=["help", "table", "lists"])
def test_a_pipe_that_breaks_is_no_error_whoever_writes(path, exit_code, arguments):
    reading, writing = os.pipe()
    os.close(reading)
    stderr = (path.parent / "complaints").open("w+", encoding="utf-8")
    words = arguments if "--help" in arguments else [arguments[0], path, *arguments[1:]]
    with os.fdopen(writing, "w", encoding="utf-8") as broken, stderr, Path(os.devnull).open("w") as nowhere:
        assert exit_code(*words, stdout=broken, stderr=stderr) == 0
        os.dup2(nowhere.fileno(), broken.fileno())  # for what its buffer still holds
        stderr.seek(0)
        assert [line for line in stderr.read().splitlines() if not line.startswith("score: ")] == []


@posix
@pytest.mark.parametrize("redirection", [">&- 2>&-", "2>&1 | head -1"])
def test_streams_that_are_closed_do_not_stop_a_fit(place, tmp_path, redirection):
    out = tmp_path / "m.fastmf"
    fit = command("fit", place / "train.parquet", "--k", 1, "--epochs", 50, "-o", out)
    done = subprocess.run(
        ["sh", "-c", f'"$@" {redirection}', "sh", *fit], stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr
    assert len(fastmf.load(out).history) == 50


@pytest.mark.parametrize("log", [None, "/dev/full"], ids=["closed", "full"])
def test_stdout_gets_the_path_though_stderr_is_closed_or_full(place, tmp_path, exit_code, log):
    if log is not None and not Path(log).exists():
        pytest.skip(f"no {log} here")
    out = tmp_path / "m.fastmf"
    with contextlib.nullcontext() if log is None else Path(log).open("wb", buffering=0) as raw:
        stderr = None if raw is None else io.TextIOWrapper(raw, write_through=True)
        stdout = io.StringIO()
        assert exit_code("fit", place / "train.parquet", "--k", 2, "-o", out, stdout=stdout, stderr=stderr) == 0
    assert stdout.getvalue() == f"{out}\n"
    assert fastmf.load(out).k == 2


# signals


def signalled(arguments, number, after):
    """Start a command, send it a signal after a line that starts so; return its exit code, stdout and last lines."""
    process = subprocess.Popen(
        command(*arguments), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        encoding="utf-8", env=ENVIRONMENT,
    )  # fmt: skip
    for line in process.stderr:
        if line.startswith(after):
            break
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    return process.returncode, stdout, stderr


@posix
def test_sigterm_ends_a_fit_and_leaves_no_file(place, tmp_path):
    fit = ["fit", place / "train.parquet", "--epochs", 100_000, "-o", tmp_path / "m.fastmf"]
    code, stdout, stderr = signalled(fit, signal.SIGTERM, after="epoch 1/")
    assert (code, stdout) == (143, "")
    assert "Traceback" not in stderr
    assert stderr.splitlines()[-1] == "error: terminated"
    assert list(tmp_path.iterdir()) == []


@posix
def test_a_fit_that_was_interrupted_is_resumed_to_the_same_model(place, tmp_path, run, interruptible):
    how = ["--solver", "sgd", "--epochs", 600, "-o", tmp_path / "m.fastmf", "--checkpoint", tmp_path / "kept"]
    fit = ["fit", place / "train.parquet", *how, "--every", 10]
    code, stdout, stderr = signalled(fit, signal.SIGINT, after="epoch 20/")
    assert (code, stdout) == (130, "")
    assert "Traceback" not in stderr
    kept = f"the last complete epoch is kept in {tmp_path / 'kept'}: continue with --resume"
    assert [line for line in stderr.splitlines() if line][-2:] == [kept, "error: interrupted"]
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    first = int(re.search(r"epoch (\d+)/", run(*fit, "--resume").stderr)[1])
    assert first > 20
    whole = fastmf.fit(place / "train.parquet", solver="sgd", epochs=600)
    assert fastmf.load(tmp_path / "m.fastmf").content_hash == whole.content_hash


@posix
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"])
def test_a_signal_between_two_epochs_has_its_code(place, tmp_path, exit_code, signalling, interruptible, number, code):
    stdout, stderr = io.StringIO(), signalling(number, "epoch 3/")
    fit = ["fit", place / "train.parquet", "--epochs", 100_000, "-o", tmp_path / "m.fastmf"]
    assert exit_code(*fit, stdout=stdout, stderr=stderr) == code
    assert stdout.getvalue() == ""
    assert [line for line in stderr.getvalue().splitlines() if line.startswith("epoch")][-1].startswith("epoch 3/")
    assert list(tmp_path.iterdir()) == []
