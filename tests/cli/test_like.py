"""``--like``: an item by words of its title, for ``similar`` and ``explain``."""

import numpy as np
import pytest

from fastmf.data.write import write_parquet

NAMES = {
    1000: "Toy Story (1995)",
    1001: "Toy Story 2 (1999)",
    1002: "Amélie (2001)",
    1003: "Heat",
    1004: "Dead Heat",
    1005: "Story of \x1b[31mToys",
    77: "Toy Soldiers",  # not in the model
}


@pytest.fixture(scope="module")
def titles(tmp_path_factory):
    path = tmp_path_factory.mktemp("like") / "titles.parquet"
    write_parquet({"movieId": list(NAMES), "title": list(NAMES.values())}, path)
    return ["--titles", path]


@pytest.mark.parametrize(
    ("words", "item"),
    [("story 1995", 1000), ("TOY  2", 1001), ("amelie", 1002), ("AMÉLIE", 1002), ("heat", 1003), ("dead he", 1004)],
)
def test_the_one_item_with_such_a_title_is_taken_and_named(path, model, run, titles, words, item):
    done = run("similar", path, "--like", words, *titles, "--json")
    assert done.stdout == run("similar", path, item, *titles, "--json").stdout
    count = model.item_counts[model.item_ids.to_pylist().index(item)]
    assert done.stderr.splitlines()[0] == f"{item}  {NAMES[item]}  ({count} ratings)"


def test_several_are_listed_the_most_rated_first(path, model, run, titles):
    done = run("similar", path, "--like", "story toy", *titles, code=3)
    *lines, error = done.stderr.splitlines()
    counts = dict(zip(model.item_ids.to_pylist(), model.item_counts.tolist(), strict=True))
    found = [int(line.split()[0]) for line in lines]
    assert sorted(found) == [1000, 1001, 1005]
    assert found == sorted(found, key=lambda item: (-counts[item], item))
    assert all(line.endswith(f"({counts[item]} ratings)") for line, item in zip(lines, found, strict=True))
    assert error == "error: 3 items have a title like 'story toy': give more words, or the item's id"
    assert r"\x1b[31m" in done.stderr
    assert done.stdout == ""


def test_ten_of_many_are_shown(path, run, tmp_path):
    write_parquet({"item": np.arange(1000, 1015), "title": ["Same"] * 15}, tmp_path / "t.parquet")
    done = run("similar", path, "--like", "same", "--titles", tmp_path / "t.parquet", code=3)
    *lines, error = done.stderr.splitlines()
    assert len(lines) == 10
    assert error.startswith("error: 15 items have a title like 'same', of which 10 are shown: give more words")


def test_explain_takes_words_too(place, path, run, titles):
    asked = ["--ratings", place / "train.parquet", *titles]
    done = run("explain", path, 100, "--like", "amelie", *asked)
    assert done.stdout == run("explain", path, 100, 1002, *asked).stdout
    assert done.stderr.startswith("1002  Amélie (2001)")


@pytest.mark.parametrize("command", [["similar"], ["explain", 100]], ids=lambda command: command[0])
def test_what_names_no_item_is_refused(path, run, titles, command):
    name, *user = command
    for arguments, code, message in [
        ([], 2, "for which item? Give either ITEM, its id, or --like"),
        ([1000, "--like", "heat", *titles], 2, "for which item?"),
        (["--like", "heat"], 2, "give --titles, too"),
        (["--like", "casablanca", *titles], 3, "has all words of 'casablanca': try fewer"),
        (["--like", "  ", *titles], 3, "no title in"),
        (
            ["--like", "soldiers", *titles],
            3,
            "no item of the model has a title like 'soldiers'; of others, 1 has, the first",
        ),
    ]:
        done = run(name, path, *user, *arguments, code=code)
        assert message in done.stderr
