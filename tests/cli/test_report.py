"""``fastmf report``: the file, and what is checked before the work begins."""

import sys

import pandas as pd
import pytest

pytest.importorskip("matplotlib")


def test_it_writes_the_file_and_says_where(path, place, model, run, run_json, tmp_path):
    titles = tmp_path / "t.csv"
    pd.DataFrame({"item": list(model.item_ids), "title": "A & B"}).to_csv(titles, index=False)
    out = tmp_path / "r.html"
    assert run("report", path, "-o", out, "--titles", titles).stdout.split() == [str(out)]
    text = out.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert "A &amp; B" in text
    assert "exists" in run("report", path, "-o", out, code=4).stderr
    assert run_json("report", path, "-o", out, "--overwrite") == {"output": str(out)}


def test_it_reads_both_tables_of_ratings(path, model, run, tmp_path):
    pairs = pd.DataFrame({"a": list(model.user_ids)[:9], "b": list(model.item_ids)[:9], "c": 3.0})
    pairs.to_csv(tmp_path / "r.csv", index=False, sep=";")
    words = ("--user", "a", "--item", "b", "--rating", "c", "--sep", ";")
    run(
        "report", path, "--ratings", tmp_path / "r.csv", "--test", tmp_path / "r.csv", *words, "-o", tmp_path / "r.html"
    )
    assert "9 held-out ratings" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_what_is_wrong_is_said_before_the_work(path, run, tmp_path, monkeypatch):
    run("report", path, "--test", "missing.parquet", "-o", tmp_path / "r.html", code=4)
    assert "no-such" in run("report", path, "-o", tmp_path / "no-such" / "r.html", code=4).stderr
    (tmp_path / "t.html").write_text("item,title")
    run("report", path, "--titles", tmp_path / "t.html", "-o", tmp_path / "t.html", "--overwrite", code=4)
    assert "ends in .html" in run("report", path, "-o", path, "--overwrite", code=2).stderr
    assert "--bad-rows is for" in run("report", path, "--bad-rows", "drop", code=2).stderr
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = run("report", path, "-o", tmp_path / "r.html", code=6)
    assert "pip install jinja2 matplotlib" in done.stderr
    assert not (tmp_path / "r.html").exists()
