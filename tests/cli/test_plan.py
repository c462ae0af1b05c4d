"""``fastmf plan``: ratings or their numbers, a table or JSON, and what is refused."""

import json

import pytest

NUMBERS = ("--users", "1e8", "--items", "10e6", "--ratings", "1e9")


def test_numbers_are_enough(run, run_json, cells):
    found = run_json("plan", *NUMBERS, "--k", 64, "--workers", 16)
    assert (found["users"], found["items"], found["ratings"], found["counted"]) == (10**8, 10**7, 10**9, False)
    assert found["epoch_bytes_whole"] == 260 * 110_000_000 * 15
    assert found["epoch_seconds"] == found["epoch_seconds_computing"] + found["epoch_seconds_sending"]
    assert found["advice"] == []
    done = run("plan", *NUMBERS, "--k", 64, "--workers", 16)
    table = dict(cells(done.stdout))
    assert table["sent an epoch, as whole tables"] == "429.0 GB"
    assert table["as needed rows (expected, at most)"] == "283.8 GB"
    assert table["workers"] == "16, of 1 thread"
    assert done.stderr == ""


def test_ratings_are_counted_whatever_they_are(place, tmp_path, run, run_json, cells):
    found = run_json("plan", place / "train.parquet", "--workers", 2)
    assert (found["ratings"], found["counted"], found["k"], found["solver"]) == (240, True, 32, "als")
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("user,item,rating\n1,7,good\n2,7,\n1,7,bad\n", encoding="utf-8")
    found = run_json("plan", pairs, "--workers", 2, "--solver", "implicit")
    assert (found["users"], found["items"], found["ratings"], found["k"]) == (2, 1, 2, 128)
    assert "as needed rows (counted)" in dict(cells(run("plan", pairs, "--workers", 2).stdout))


def test_advice_goes_to_stderr_and_into_the_json(place, run):
    done = run("plan", place / "train.parquet", "--workers", 3, "--memory", "1KiB", "--threads", 2)
    lines = done.stderr.splitlines()
    assert any(line.startswith("2 workers have nothing to do while users are solved") for line in lines)
    assert any("and has 1,024 bytes: no number of workers is enough" in line for line in lines)
    told = run("plan", place / "train.parquet", "--workers", 3, "--memory", "1KiB", "--threads", 2, "--json")
    assert json.loads(told.stdout)["advice"] == lines
    assert told.stderr == ""


def test_settings_reach_the_solver(run_json):
    exact, cg = (
        run_json("plan", *NUMBERS, "--k", 64, "--workers", 4, "--threads", 8, "--gflops", 30, "--method", method)
        for method in ("exact", "cg")
    )
    assert cg["epoch_seconds_computing"] < exact["epoch_seconds_computing"]
    assert cg["worker_bytes"] < exact["worker_bytes"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((*NUMBERS, "--workers", 0), "workers is 0: give an integer of at least 1"),
        ((*NUMBERS, "--workers", 2, "--gigabit", 0), "gigabit is 0.0: give a number above 0"),
        ((*NUMBERS, "--workers", 2, "--memory", "much"), "memory limit is 'much': give bytes, or a number with a unit"),
        ((*NUMBERS, "--workers", 2, "--k", 0), "k is 0: give an integer of at least 1"),
        ((*NUMBERS[:4], "--workers", 2), "--ratings is missing: give RATINGS, or --users, --items and --ratings"),
        (("--workers", 2), "--users, --items, --ratings are missing: give RATINGS"),
        (("--users", "1e8.5", "--workers", 2), "Invalid value for '--users'"),
        (("--users", "inf", *NUMBERS[2:], "--workers", 2), "users is inf: give an integer of at least 1"),
        (("--users", "2.5", *NUMBERS[2:], "--workers", 2), "users is 2.5: give an integer of at least 1"),
        (("ratings.parquet", *NUMBERS, "--workers", 2), "leave out --users, --items and --ratings"),
        (NUMBERS, "Missing option '--workers'"),
        ((*NUMBERS, "--workers", 2, "--solver", "sgd"), "'sgd' is not one of 'als', 'implicit'"),
    ],
)
def test_what_makes_no_sense_is_refused(run, words, message):
    assert message in run("plan", *words, code=2).stderr
