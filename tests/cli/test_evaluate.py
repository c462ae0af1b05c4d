"""``fastmf evaluate``."""

import re

import fastmf


def test_evaluate_prints_what_the_function_measures(place, path, model, run, run_json, cells):
    heldout = place / "heldout.parquet"
    expected = fastmf.evaluate(model, heldout, n=5, relevant_from=3.0)
    assert run_json("evaluate", path, heldout, "-n", 5, "--relevant-from", 3) == expected
    rows = cells(run("evaluate", path, heldout, "-n", 5, "--relevant-from", 3).stdout)
    end = next(place for place, row in enumerate(rows) if row[0].startswith("ratings of"))
    table = {row[0]: row[1:] for row in rows[1:end]}
    assert list(table) == [name for name in expected if name not in ("by_activity", "popularity")]
    assert table["ndcg"] == [f"{expected['ndcg']:.4f}", f"{expected['popularity']['ndcg']:.4f}"]
    bands = rows[end + 1 :]
    assert [row[-3:] for row in bands] == [
        [f"{band['pairs']}", f"{band['rmse']:.4f}", f"{band['rmse_of_biases']:.4f}"]
        for band in expected["by_activity"].values()
    ]
    assert (table["pairs"], table["rmse"]) == (["60"], [f"{expected['rmse']:.4f}"])


def test_intervals_of_gibbs_have_a_table_of_their_own(place, run, tmp_path):
    how = ["--solver", "gibbs", "--k", 2, "--burn", 1, "--samples", 4, "-o", tmp_path / "m.fastmf"]
    run("fit", place / "train.parquet", *how)
    lines = run("evaluate", tmp_path / "m.fastmf", place / "heldout.parquet").stdout.splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("interval"))
    assert lines[start + 1 :]
    assert all(re.fullmatch(r"\d+ % +\d+\.\d %", line) for line in lines[start + 1 :])
