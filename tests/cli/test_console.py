"""What a terminal shows: live bars, and tables in which control characters are escaped."""

import io
import re
from types import SimpleNamespace

import pandas as pd

from fastmf.cli import console


def plain_text(shown):
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)


def test_a_terminal_gets_a_live_bar_and_stdout_only_the_path(place, tmp_path, exit_code, terminal):
    end, shown = terminal
    train, out, stdout = place / "train.parquet", tmp_path / "m.fastmf", io.StringIO()
    how = ["--validation", train, "--k", 2, "--epochs", 3, "-o", out]
    assert exit_code("fit", train, *how, stdout=stdout, stderr=end) == 0
    assert stdout.getvalue() == f"{out}\n"
    text = shown()
    assert "\x1b[" in text
    assert re.search(r"3/3.*validation RMSE", plain_text(text))
    assert "epoch 1/3 " not in text
    assert "warning: 240 of 240 validation pairs" in text


def test_a_table_on_a_terminal_escapes_control_characters(place, path, exit_code, terminal):
    end, shown = terminal
    stderr, titles = io.StringIO(), place / "titles.parquet"
    how = ["--user", 100, "--include-seen", "-n", 20, "--titles", titles]
    assert exit_code("recommend", path, *how, stdout=end, stderr=stderr) == 0
    text = shown()
    assert stderr.getvalue().splitlines(keepends=True)[1] == f"note: 16 of 20 items have no title in {titles}\n"
    assert r"red \x1b[31m, bell \x07, next\nline" in text
    assert ":cat: [bold]not[/bold] \\" in text
    assert "\x1b[31m" not in text
    assert "\a" not in text


def test_a_terminal_sees_how_many_users_have_their_lists(terminal, monkeypatch):
    end, shown = terminal
    monkeypatch.setattr("sys.stderr", end)
    frames = [pd.DataFrame({"user_id": [1, 1, 2]}), pd.DataFrame({"user_id": [3]})]
    assert list(console.rows_shown(frames, 3, quiet=False)) == frames
    assert "users 3/3" in plain_text(shown())


def test_a_gpu_is_named_and_the_host_is_not(capsys):
    for on_host in (True, False):
        device = SimpleNamespace(on_host=on_host, describe=lambda: "cuda:0, a GPU")
        assert console.say_device(device) is device
    assert capsys.readouterr().err == "device: cuda:0, a GPU\n"


def test_settings_are_written_as_they_are_typed():
    values = [None, 0.05, 11.0, 3, True, "last"]
    assert [console.short(value) for value in values] == ["-", "0.05", "11", "3", "True", "last"]
