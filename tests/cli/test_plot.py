"""``--plot``: a picture beside the result, checked before the work begins."""

import sys

import pytest

pytest.importorskip("matplotlib")


def test_evaluate_draws_its_result(path, place, run, run_json, tmp_path):
    table, out = place / "heldout.parquet", tmp_path / "a.svg"
    shown = run_json("evaluate", path, table)
    done = run("evaluate", path, table, "--plot", out)
    assert f"the picture is in {out}" in done.stderr
    assert f"{shown['rmse']:.4f}" in out.read_text(encoding="utf-8")
    assert "exists" in run("evaluate", path, table, "--plot", out, code=4).stderr
    run("evaluate", path, table, "--plot", out, "--overwrite", "--json")


def test_an_evaluation_without_figures_is_an_empty_picture(place, run, tmp_path):
    model, out = tmp_path / "m.fastmf", tmp_path / "a.svg"
    run("fit", place / "train.parquet", "--solver", "implicit", "--k", 2, "-o", model)
    run("evaluate", model, place / "heldout.parquet", "--relevant-from", 99, "--plot", out)
    assert "Nothing was measured." in out.read_text(encoding="utf-8")


def test_tune_draws_its_trials(place, run, tmp_path):
    pytest.importorskip("optuna")
    out = tmp_path / "a.png"
    done = run("tune", place / "train.parquet", "--trials", 9, "--max-k", 8, "--solver", "als", "--plot", out)
    assert "study" not in done.stderr
    assert out.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("words", [("evaluate", "no.fastmf", "no.parquet"), ("tune", "no.parquet"), ("bench",)])
def test_wrong_names_and_missing_libraries_come_first(words, run, tmp_path, monkeypatch):
    done = run(*words, "--plot", tmp_path / "a.gif", code=2)
    assert "pictures are written as .svg, .png, .pdf" in done.stderr
    run(*words, "--plot", tmp_path / "no" / "a.svg", code=4)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "pip install jinja2 matplotlib" in run(*words, "--plot", tmp_path / "a.svg", code=6).stderr
