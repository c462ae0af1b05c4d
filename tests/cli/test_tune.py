"""``fastmf tune``: where its output goes, and that its command fits what was measured."""

import io
import json
import os
import re
import shlex
import signal
import sys
from dataclasses import replace

import numpy as np
import pytest

import fastmf
from fastmf.cli.console import progress_shown
from fastmf.cli.tune import FIT_DEFAULTS, _best, _line, fit_command, publish
from fastmf.data.ratings import Ratings
from fastmf.data.read import read_table
from fastmf.data.write import write_parquet
from fastmf.solvers import ALS
from fastmf.training.tune import Trial, Tuning

pytest.importorskip("optuna")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, planted):
    """A folder with ratings, in a file and in columns whose names a shell takes apart."""
    folder = tmp_path_factory.mktemp("tune")
    users, items, values = planted()
    write_parquet({"who's": users, "what": items, "stars": values}, folder / "my ratings.parquet")
    write_parquet({"user": users[values >= 3], "item": items[values >= 3]}, folder / "liked.parquet")
    plays = {"user": users, "item": items, "plays": 1 + items % 5}
    write_parquet(plays, folder / "plays.parquet")
    return folder


COLUMNS = ["--user", "who's", "--item", "what", "--rating", "stars"]


def test_the_command_fits_what_was_measured(folder, tmp_path, monkeypatch, run, run_json):
    monkeypatch.chdir(folder)
    options = ["--solver", "sgd", "--trials", 6, "--k", 4, "--seed", 3, "--duplicates", "last"]
    done = run("tune", "my ratings.parquet", *COLUMNS, *options, "--json", "-o", tmp_path / "t.json")
    report = json.loads(done.stdout)
    assert json.loads((tmp_path / "t.json").read_text(encoding="utf-8")) == report
    assert not [line for line in done.stderr.splitlines() if line.startswith("trial ")]
    program, name, *words = shlex.split(report["command"])
    assert (program, name) == ("fastmf", "fit")
    assert {"--k", "--epochs", "--seed", "--duplicates", "--user"} <= set(words)
    fitted = run_json("fit", *words, "--validation", 0.1, "-o", tmp_path / "m.fastmf")
    assert fitted["history"][-1]["validation_rmse"] == report["validation_rmse"]
    assert report["validation_rmse"] <= report["defaults_rmse"]["sgd"] == report["trials"][0]["validation_rmse"]
    data = Ratings.read("my ratings.parquet", user="who's", item="what", rating="stars")
    assert report["settings"] == fastmf.tune(data, "sgd", trials=6, k=4, seed=3).settings
    assert report["ratings"] == {"training": 270, "validation": 30}


def test_a_table_of_the_best_and_the_command_go_to_stdout_and_a_line_a_trial_to_stderr(folder, run):
    done = run("tune", folder / "my ratings.parquet", *COLUMNS, "--solver", "als", "--trials", 14, "--max-k", 12)
    header, *rows, last = done.stdout.splitlines()
    assert header.split()[:5] == ["trial", "solver", "k", "reg", "reg0"]
    assert 10 <= len(rows) <= 11
    complete = [float(row.split()[7]) for row in rows if "complete" in row]
    assert complete == sorted(complete)
    assert sum(row.endswith("complete, defaults") for row in rows) == 1
    assert last.startswith(f"fastmf fit '{folder / 'my ratings.parquet'}' --solver als --k ")
    lines = done.stderr.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("trial ")][:14] == [f"{n}/14" for n in range(1, 15)]
    trial = r"trial 1/14  als k 12 reg 0\.03 reg0 8  validation RMSE \d\.\d{4}  complete, 12 epochs  \d+\.\d s"
    assert any(re.fullmatch(trial, line) for line in lines)
    assert "on 30 held-out ratings" in lines[-1]


def test_implicit_feedback_is_measured_by_ndcg_and_its_command_fits_it(folder, tmp_path, run, run_json):
    search = ["--solver", "implicit", "--trials", 8, "--max-k", 12, "-o", tmp_path / "t.json"]
    done = run("tune", folder / "liked.parquet", *search)
    header, *rows, last = done.stdout.splitlines()
    assert re.split("  +", header)[2:8] == ["k", "reg", "zeros", "epochs", "best", "validation nDCG@10"]
    report = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))
    best = f"{report['validation_ndcg']:.4f}"
    assert rows[0].split()[7] == best
    assert report["validation_ndcg"] == max(
        trial["validation_ndcg"] for trial in report["trials"] if trial["state"] == "complete"
    )
    lines = done.stderr.splitlines()
    assert f"nDCG@10 {best} on 15 held-out ratings" in lines[-1]
    assert sum("validation nDCG@10" in line for line in lines if line.startswith("trial ")) == 8
    assert "RMSE" not in done.stdout + done.stderr
    _, name, *words = shlex.split(last)
    fitted = run_json(name, *words, "--validation", 0.1, "-o", tmp_path / "m.fastmf")
    assert fitted["history"][-1]["validation_ndcg"] == report["validation_ndcg"]


def test_what_counts_as_observed_and_weighs_goes_on_to_the_command(folder, run):
    how = ["--solver", "implicit", "--trials", 1, "--k", 4, "--positive-from", 3.5, "--negative-to", 1.5]
    done = run("tune", folder / "my ratings.parquet", *COLUMNS, *how)
    assert "positive_from" not in done.stdout.splitlines()[0]
    assert "negative_to" not in done.stdout.splitlines()[0]
    assert "--solver implicit --k 4 --positive-from 3.5 --negative-to 1.5" in done.stdout.splitlines()[-1]
    done = run("tune", folder / "plays.parquet", "--solver", "implicit", "--trials", 1, "--weight", "plays")
    assert "--weight plays" in done.stdout.splitlines()[-1]
    plays = read_table(folder / "plays.parquet").to_pydict()
    write_parquet({**plays, "timestamp": np.arange(len(plays["user"])) + 10**9}, folder / "aged.parquet")
    how = ["--solver", "implicit", "--trials", 1, "--half-life", 2.5, "--time-unit", "s"]
    done = run("tune", folder / "aged.parquet", *how)
    assert "--half-life 2.5 --time-unit s" in done.stdout.splitlines()[-1]


def test_tables_of_features_go_on_to_the_command(folder, tmp_path, monkeypatch, run_json):
    monkeypatch.chdir(folder)
    tables = []
    for side, column in (("item", "what"), ("user", "who's")):
        row_ids = sorted(set(read_table("my ratings.parquet").column(column).to_pylist()))
        write_parquet({column: row_ids, "x": np.sqrt(np.arange(len(row_ids)))}, f"{side} table.parquet")
        tables += [f"--{side}-features", f"{side} table.parquet"]
    how = ["--solver", "als", "--trials", 6, "--k", 4]
    report = run_json("tune", "my ratings.parquet", *COLUMNS, *how, *tables)
    assert all("feature_reg" in trial["settings"] for trial in report["trials"])
    _, name, *words = shlex.split(report["command"])
    places = [words.index(tables[n]) for n in (0, 2)]
    assert [words[place + 1] for place in places] == [tables[1], tables[3]]
    fitted = run_json(name, *words, "--validation", 0.1, "-o", tmp_path / "m.fastmf")
    assert fitted["history"][-1]["validation_rmse"] == report["validation_rmse"]
    assert fitted["item_features"]["columns"] == fitted["user_features"]["columns"] == ["x"]


def tried(number, state="complete", rmse=0.9, best=ALS.epochs, error=None, **settings):
    return Trial(number=number, solver="als", settings=settings, state=state, epochs=ALS.epochs, best_epoch=best,
                 validation_rmse=rmse, seconds=1.0, error=error)  # fmt: skip


def published(capsys, *trials, asked=2):
    """Return the rows of the table, the command, and the lines on stderr."""
    found = Tuning(trials=trials, training=270, validation=30)
    publish(found, asked, fit_command(("r.parquet",), found.settings, FIT_DEFAULTS))
    out, err = capsys.readouterr()
    _, *rows, command = out.splitlines()
    return [row.split() for row in rows], command, err


def test_without_a_better_one_the_command_has_no_settings(capsys):
    rows, command, remarks = published(capsys, tried(1, k=ALS.k, reg=ALS.reg), tried(2, k=8, reg=0.1))
    assert command == "fastmf fit r.parquet --solver als"
    assert remarks == "nothing tried beats the defaults, RMSE 0.9000 on 30 held-out ratings; the command is:\n"
    assert [row[-2:] for row in rows] == [["complete,", "defaults"], ["1.0", "complete"]]


def test_failed_trials_are_named_and_those_that_were_not_run_counted(capsys):
    lost = tried(1, "failed", None, None, error="epoch 1: diverged", k=ALS.k, reg=ALS.reg)
    assert _line(lost) == "als k 32 reg 0.03  failed: epoch 1: diverged  1.0 s"
    rows, command, remarks = published(capsys, lost, tried(2, best=7, k=8, reg=0.1), asked=3)
    assert command == "fastmf fit r.parquet --solver als --k 8 --reg 0.1 --epochs 7"
    assert rows[1] == ["1", "als", "32", "0.03", "12", "-", "-", "1.0", "failed,", "defaults"]
    failed, fewer, last = remarks.splitlines()
    assert failed == "note: 1 of 2 trials failed; the first was trial 1: epoch 1: diverged"
    assert fewer.startswith("note: 2 of 3 trials were run")
    assert last.startswith("trial 2 is best, RMSE 0.9000 on 30 held-out ratings (defaults: als -)")


def test_a_terminal_is_shown_the_best_so_far(monkeypatch, terminal):
    end, shown = terminal
    monkeypatch.setattr(sys, "stderr", end)
    failed, *reached = [replace(tried(n, rmse=None), solver="implicit") for n in (1, 2, 3, 4)]
    trials = [replace(trial, validation_ndcg=ndcg) for trial, ndcg in zip(reached, (0.3, 0.4, 0.2), strict=True)]
    done, texts = [], []
    with progress_shown("trial", 4, False, str, lambda _: texts[-1]) as show:
        for trial in (replace(failed, state="failed", error="diverged"), *trials):
            done.append(trial)
            texts.append(_best(done))
            show(trial)
    best = ["0.3000 of trial 2", "0.4000 of trial 3", "0.4000 of trial 3"]
    assert texts == ["", *(f"best: nDCG@10 {each}" for each in best)]
    assert re.search(r"trial.*4/4.*best: nDCG@10 0\.4000 of trial 3", shown())


def test_the_command_takes_what_looks_like_an_option_for_what_it_is():
    options = {**FIT_DEFAULTS, "user": "--u", "bad_rows": "drop", "device": "cuda:1", "min_user_ratings": 5}
    assert fit_command(("-r.parquet",), {"solver": "sgd", "reg": 0.05, "reg0": 11.0}, options) == (
        "fastmf fit ./-r.parquet --solver sgd --reg 0.05 --reg0 11 --user=--u --bad-rows drop --device cuda:1"
        " --min-user-ratings 5"
    )


def test_without_optuna_the_command_line_names_what_to_install(folder, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    done = run("tune", folder / "my ratings.parquet", code=2)
    assert done.stdout == ""
    assert (
        done.stderr
        == "error: tuning needs optuna, which is not installed: pip install optuna (fastmf's extra 'tune')\n"
    )


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"])
def test_a_signal_leaves_the_best_so_far(folder, tmp_path, exit_code, signalling, interruptible, number, code):
    stdout, stderr = io.StringIO(), signalling(number, "trial 3/")
    search = ["tune", folder / "my ratings.parquet", *COLUMNS, "--trials", 100_000, "-o", tmp_path / "t.json"]
    assert exit_code(*search, stdout=stdout, stderr=stderr) == code
    assert stdout.getvalue() == ""
    best = [line for line in stderr.getvalue().splitlines() if line.startswith("the best of 3 trials so far, RMSE ")]
    assert len(best) == 1
    assert ": fastmf fit " in best[0]
    assert list(tmp_path.iterdir()) == []
