"""``fastmf tune`` through a real process: what goes where, and that its command fits what was measured."""

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

import fastmf
from fastmf.cli import console
from fastmf.cli.tune import FIT_DEFAULTS, fit_command, publish
from fastmf.data.ratings import Ratings
from fastmf.data.write import write_parquet
from fastmf.solvers import ALS
from fastmf.training.tune import Trial, Tuning

pytest.importorskip("optuna")
posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
ENVIRONMENT = {**os.environ, "PYTHONUTF8": "1"}


def command(*arguments):
    return [sys.executable, "-m", "fastmf", *map(str, arguments)]


def run(*arguments, **changes):
    done = subprocess.run(
        command(*arguments), stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", check=False,
        env={**ENVIRONMENT, **changes},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def place(tmp_path_factory, planted):
    """A folder with ratings, in a file and in columns whose names a shell takes apart."""
    folder = tmp_path_factory.mktemp("tune")
    users, items, values = planted()
    write_parquet({"who's": users, "what": items, "stars": values}, folder / "my ratings.parquet")
    write_parquet({"user": users[values >= 3], "item": items[values >= 3]}, folder / "liked.parquet")
    return folder


COLUMNS = ["--user", "who's", "--item", "what", "--rating", "stars"]


def test_the_command_fits_what_was_measured(place, tmp_path, monkeypatch):
    monkeypatch.chdir(place)
    options = ["--solver", "sgd", "--trials", 6, "--k", 4, "--seed", 3, "--duplicates", "last"]
    done = run("tune", "my ratings.parquet", *COLUMNS, *options, "--json", "-o", tmp_path / "t.json")
    told = json.loads(done.stdout)
    assert json.loads((tmp_path / "t.json").read_text(encoding="utf-8")) == told
    assert not [line for line in done.stderr.splitlines() if line.startswith("trial ")]
    program, *words = shlex.split(told["command"])
    assert (program, words[0]) == ("fastmf", "fit")
    assert {"--k", "--epochs", "--seed", "--duplicates", "--user"} <= set(words)
    fitted = json.loads(run(*words, "--validation", 0.1, "--json", "-o", tmp_path / "m.fastmf").stdout)
    assert fitted["history"][-1]["validation_rmse"] == told["validation_rmse"]
    assert told["validation_rmse"] <= told["defaults_rmse"]["sgd"] == told["trials"][0]["validation_rmse"]
    data = Ratings.read("my ratings.parquet", user="who's", item="what", rating="stars")
    found = fastmf.tune(data, "sgd", trials=6, k=4, seed=3)
    assert told["settings"] == found.settings
    assert told["ratings"] == {"training": 270, "validation": 30}


def test_a_table_of_the_best_and_the_command_go_to_stdout_and_a_line_a_trial_to_stderr(place):
    done = run("tune", place / "my ratings.parquet", *COLUMNS, "--solver", "als", "--trials", 14, "--max-k", 12)
    header, *rows, last = done.stdout.splitlines()
    assert header.split()[:5] == ["trial", "solver", "k", "reg", "reg0"]
    assert 10 <= len(rows) <= 11
    complete = [float(row.split()[7]) for row in rows if "complete" in row]
    assert complete == sorted(complete)
    assert sum(row.endswith("complete, defaults") for row in rows) == 1
    assert last.startswith(f"fastmf fit '{place / 'my ratings.parquet'}' --k ")
    lines = done.stderr.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("trial ")][:14] == [f"{n}/14" for n in range(1, 15)]
    assert "on 30 held-out ratings" in lines[-1]


def test_implicit_feedback_is_told_by_ndcg_and_its_command_fits_it(place, tmp_path):
    search = ["--solver", "implicit", "--trials", 8, "--max-k", 12, "-o", tmp_path / "t.json"]
    done = run("tune", place / "liked.parquet", *search)
    header, *rows, last = done.stdout.splitlines()
    assert re.split("  +", header)[2:8] == ["k", "reg", "alpha0", "epochs", "best", "validation nDCG@10"]
    told = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))
    best = f"{told['validation_ndcg']:.4f}"
    assert rows[0].split()[7] == best
    assert told["validation_ndcg"] == max(t["validation_ndcg"] for t in told["trials"] if t["state"] == "complete")
    lines = done.stderr.splitlines()
    assert f"nDCG@10 {best} on 15 held-out ratings" in lines[-1]
    assert sum("validation nDCG@10" in line for line in lines if line.startswith("trial ")) == 8
    assert "RMSE" not in done.stdout + done.stderr
    _, *words = shlex.split(last)
    fitted = json.loads(run(*words, "--validation", 0.1, "--json", "-o", tmp_path / "m.fastmf").stdout)
    assert fitted["history"][-1]["validation_ndcg"] == told["validation_ndcg"]


def test_what_counts_as_observed_goes_on_to_the_command(place):
    search = ["--solver", "implicit", "--trials", 1, "--k", 4, "--positive-from", 3.5]
    done = run("tune", place / "my ratings.parquet", *COLUMNS, *search)
    assert "positive_from" not in done.stdout.splitlines()[0]
    assert "--solver implicit --k 4 --positive-from 3.5" in done.stdout.splitlines()[-1]


def tried(number, state="complete", rmse=0.9, best=ALS.epochs, error=None, **settings):
    return Trial(number=number, solver="als", settings=settings, state=state, epochs=ALS.epochs, best_epoch=best,
                 validation_rmse=rmse, seconds=1.0, error=error)  # fmt: skip


def published(capsys, *trials, asked=2):
    """Give the rows of the table, the command, and what was said beside them."""
    found = Tuning(trials=trials, training=270, validation=30)
    publish(found, asked, fit_command("r.parquet", found.settings, FIT_DEFAULTS))
    out, said = capsys.readouterr()
    _, *rows, command = out.splitlines()
    return [row.split() for row in rows], command, said


def test_without_a_better_one_the_command_has_no_settings(capsys):
    rows, command, said = published(capsys, tried(1, k=ALS.k, reg=ALS.reg), tried(2, k=8, reg=0.1))
    assert command == "fastmf fit r.parquet"
    assert said == "nothing tried beats the defaults, RMSE 0.9000 on 30 held-out ratings; the command is:\n"
    assert [row[-2:] for row in rows] == [["complete,", "defaults"], ["1.0", "complete"]]


def test_failed_trials_are_named_and_those_that_were_not_run_counted(capsys):
    lost = tried(1, "failed", None, None, error="epoch 1: diverged", k=ALS.k, reg=ALS.reg)
    rows, command, said = published(capsys, lost, tried(2, best=7, k=8, reg=0.1), asked=3)
    assert command == "fastmf fit r.parquet --k 8 --reg 0.1 --epochs 7"
    assert rows[1] == ["1", "als", "32", "0.03", "12", "-", "-", "1.0", "failed,", "defaults"]
    failed, fewer, last = said.splitlines()
    assert failed == "note: 1 of 2 trials failed, the first, trial 1: epoch 1: diverged"
    assert fewer.startswith("note: 2 of 3 trials were run")
    assert last.startswith("trial 2 is best, RMSE 0.9000 on 30 held-out ratings (defaults: als -)")


def test_a_terminal_is_shown_the_best_so_far(monkeypatch):
    shown = []
    monkeypatch.setattr(console, "_bar", lambda *_: contextlib.nullcontext(lambda _, text: shown.append(text)))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    failed, *reached = [replace(tried(n, rmse=None), solver="implicit") for n in (1, 2, 3, 4)]
    trials = [replace(trial, validation_ndcg=ndcg) for trial, ndcg in zip(reached, (0.3, 0.4, 0.2), strict=True)]
    with console.trials_shown(4, [], quiet=False) as show:
        for trial in (replace(failed, state="failed", error="diverged"), *trials):
            show(trial)
    assert shown == ["", *(f"best: nDCG@10 {best}" for best in ("0.3000 of trial 2", *["0.4000 of trial 3"] * 2))]


def test_the_command_takes_what_looks_like_an_option_for_what_it_is():
    options = {**FIT_DEFAULTS, "user_column": "--u", "bad_rows": "drop", "device": "cuda:1"}
    told = fit_command("-r.parquet", {"solver": "sgd", "reg": 0.05, "reg0": 11.0}, options)
    assert told == (
        "fastmf fit ./-r.parquet --solver sgd --reg 0.05 --reg0 11 --user=--u --bad-rows drop --device cuda:1"
    )


def test_without_optuna_the_command_line_says_what_to_install(place, tmp_path):
    (tmp_path / "optuna.py").write_text("raise ImportError('not here')")
    done = subprocess.run(
        command("tune", place / "my ratings.parquet"), capture_output=True, encoding="utf-8", check=False,
        env={**ENVIRONMENT, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: tuning needs optuna, which is not installed: pip install 'fastmf[tune]'\n"


@posix
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"])
def test_a_signal_leaves_the_best_so_far(place, tmp_path, number, code):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell's children ignore it
    process = subprocess.Popen(
        command("tune", place / "my ratings.parquet", *COLUMNS, "--trials", 100_000, "-o", tmp_path / "t.json"),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", env=ENVIRONMENT,
    )  # fmt: skip
    for line in process.stderr:
        if line.startswith("trial 3/"):
            break
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    signal.signal(signal.SIGINT, before)
    assert process.returncode == code
    assert stdout == ""
    assert "Traceback" not in stderr
    assert any(line.startswith("the best of ") and ": fastmf fit " in line for line in stderr.splitlines())
    assert list(tmp_path.iterdir()) == []
