"""One of a thing is "1 user", not "1 users", in whatever the commands say of the smallest input."""

import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fastmf
from fastmf.data.features import Features
from fastmf.errors import counted, verb

PLURAL = re.compile(
    r"\b1 (?!/)[\w-]*?(?:\w+ )?(users|items|ratings|rows|pairs|epochs|trials|lists|features|ids|were|are|have)\b"
)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """A folder with one rating, the same twice, a bad one besides it, titles of nothing, and a new user."""
    folder = tmp_path_factory.mktemp("one")
    row = {"user_id": [1], "item_id": [7], "rating": [4.0]}
    tables = {
        "one": row,
        "twice": {"user_id": [1, 1], "item_id": [7, 7], "rating": [4.0, 3.0]},
        "bad": {"user_id": [1, 2], "item_id": [7, 7], "rating": [4.0, None]},
        "new": {"user_id": [5], "item_id": [7], "rating": [4.0]},
        "titles": {"item_id": [9], "title": ["x"]},
        "features": {"item_id": [7, 8], "year": [1999, 2001]},
    }
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    return folder


COMMANDS = [
    "fit one.parquet --epochs 1 -o m.fastmf --overwrite",
    "fit twice.parquet --duplicates last --epochs 1 -o x.fastmf --overwrite",
    "fit bad.parquet --bad-rows drop --epochs 1 -o x.fastmf --overwrite",
    "fit one.parquet --solver implicit --positive-from 3 --epochs 1 -o i.fastmf --overwrite",
    "fit one.parquet --init m.fastmf --epochs 1 -o x.fastmf --overwrite",
    "fit one.parquet --item-features features.parquet --epochs 1 -o x.fastmf --overwrite",
    "predict m.fastmf one.parquet -o p.parquet --overwrite",
    "evaluate m.fastmf one.parquet",
    "recommend m.fastmf --user 1 --include-seen --titles titles.parquet",
    "recommend m.fastmf --all",
    "recommend m.fastmf --all --include-seen -o l.parquet --overwrite",
    "recommend m.fastmf --new-users new.parquet --include-seen",
    "explain m.fastmf 1 7 --ratings one.parquet",
    "update m.fastmf new.parquet -o x.fastmf --overwrite",
    "split twice.parquet train.parquet test.parquet --fraction 0.5 --overwrite",
    "inspect m.fastmf",
]


@pytest.mark.parametrize("line", COMMANDS)
def test_no_command_says_one_users(one, run, monkeypatch, line):
    monkeypatch.chdir(one)
    if not line.startswith("fit"):
        run(*COMMANDS[0].split())
    done = run(*line.split())
    assert not PLURAL.search(re.sub(r"epoch 1/1", "", done.stderr)), done.stderr


def test_one_of_a_thing_in_messages_and_representations():
    assert [counted(n, "user") for n in (0, 1, 2, 12_000)] == ["0 users", "1 user", "2 users", "12,000 users"]
    assert [verb(n, "is", "are") for n in (0, 1, 2)] == ["are", "is", "are"]
    model = fastmf.fit(([1], [7], [4.0]), k=1, epochs=1)
    assert repr(model) == "<Model: als-links, k=1, 1 user, 1 item, 1 epoch>"
    features = Features.read(pa.table({"item_id": [7, 8], "year": [1999, 2001]}), "item")
    assert repr(features) == "<Features: 2 ids, 1 feature>"
