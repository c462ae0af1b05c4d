"""Commands that are refused: the exit code, and a message of a line or two that says why."""

import decimal
import json
import pickle

import numpy as np
import pytest

import fastmf
from fastmf.data.arrays import load_arrays, save_arrays
from fastmf.data.write import write_parquet


@pytest.fixture(scope="module")
def broken(tmp_path_factory, planted):
    """A folder with a good file and its model, and with everything that can be wrong with a file."""
    folder = tmp_path_factory.mktemp("refusals")
    users, items, ratings = planted(n=100)
    good = {"userId": users, "movieId": items, "rating": ratings}
    write_parquet(good, folder / "good.parquet")
    run = {"k": 2, "epochs": 1}
    fastmf.fit((users, items, ratings), **run, checkpoint=folder / "earlier").save(folder / "good.fastmf")

    def bad(name, **changes):
        columns = {"user": [1, 1, 2, 3], "item": [7, 8, 7, 8], "rating": [1.0, 2.0, 3.0, 4.0], **changes}
        columns = {column: values for column, values in columns.items() if values is not None}
        write_parquet(columns, folder / f"{name}.parquet")

    bad("no_item", item=None)
    bad("two_users", userId=[1, 1, 2, 3])
    bad("nan", rating=[1.0, np.nan, 3.0, np.nan])
    bad("infinite", rating=[1.0, 2.0, -np.inf, 4.0])
    bad("text", rating=["a", "b", "c", "d"])
    bad("null_id", user=[1, None, 2, None])
    bad("float_id", item=[7.5, 8.0, 7.5, 8.0])
    bad("repeated", item=[7, 7, 7, 8])
    bad("null_rating", rating=[1.0, 2.0, 3.0, None])
    bad("beyond", rating=[1.0, 1e39, 3.0, 4.0])
    bad("all_bad", rating=[np.nan] * 4)
    bad("nested", user=[[1], [1], [2], [3]])
    bad("decimal", user=[decimal.Decimal("1.5")] * 4)
    (folder / "lacking").mkdir()
    bad("lacking/a")
    bad("lacking/b", user=None)
    (folder / "junk").mkdir()
    bad("junk/a")
    (folder / "junk/notes.txt").write_text("notes")
    bad("strings", user=["a", "a", "b", "c"])
    bad("titles_without", user=None)
    write_parquet({name: values[:0] for name, values in good.items()}, folder / "no_rows.parquet")
    whole = (folder / "good.parquet").read_bytes()
    (folder / "truncated.parquet").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.parquet").touch()
    (folder / "book.xlsx").write_bytes(b"PK\x03\x04" + bytes(60))
    (folder / "text.csv").write_text("user,item,rating\n1,2,3\n", encoding="utf-8")
    (folder / "directory").mkdir()
    (folder / "differing").mkdir()
    write_parquet(good, folder / "differing/a.parquet")
    write_parquet({**good, "userId": users.astype(np.int32)}, folder / "differing/b.parquet")
    model = (folder / "good.fastmf").read_bytes()
    (folder / "cut.fastmf").write_bytes(model[:-10])
    (folder / "flipped.fastmf").write_bytes(model[:9] + bytes([model[9] ^ 255]) + model[10:])
    (folder / "nothing.fastmf").touch()
    (folder / "longheader.fastmf").write_bytes((2**62).to_bytes(8, "little") + model[8:])
    (folder / "pickled.fastmf").write_bytes(pickle.dumps({"a": 1}))
    damage(folder, "notfinite", lambda arrays, _: arrays["user_bias"].__setitem__(0, np.nan))
    damage(folder, "lies", lambda arrays, _: arrays.__setitem__("item_bias", arrays["item_bias"][1:].copy()))
    damage(folder, "newer", lambda _, metadata: metadata.__setitem__("format", 99))
    return folder


def damage(folder, name, change):
    """Write a copy of the good model with something changed."""
    arrays, text, _ = load_arrays(folder / "good.fastmf")
    metadata = json.loads(text)
    change(arrays, metadata)
    save_arrays(arrays, folder / f"{name}.fastmf", json.dumps(metadata))


FIT = "fit good.parquet -o new.fastmf "
RECOMMEND = "recommend good.fastmf "
TUNE = "tune good.parquet "

USAGE = [
    ("nosuch", "nosuch", "--help"),
    ("fit", "RATINGS", "fit --help"),
    (FIT + "--rega 1", "--rega", "--reg"),
    (FIT + "--solver svd", "als", "sgd"),
    (FIT + "--k 0", "k is 0"),
    (FIT + "--k many", "--k", "many"),
    (FIT + "--epochs 0", "epochs is 0"),
    (FIT + "--reg -1", "reg is -1"),
    (FIT + "--reg nan", "reg is nan"),
    (FIT + "--reg0 -0.5", "reg0 is -0.5"),
    (FIT + "--solver sgd --lr 0", "lr is 0"),
    (FIT + "--solver sgd --momentum 0.1", "'sgd' has no setting momentum"),
    (FIT + "--lr 0.1", "'als-links' has no setting lr", "for lr, give --solver sgd"),
    (FIT + "--method cg", "'als-links' has no setting method", "for method, give --solver als (solver=)"),
    (FIT + "--patience 2", "patience needs validation"),
    (FIT + "--patience 0 --validation .1", "patience is 0"),
    (FIT + "--validation 0", "validation is 0.0: give a fraction"),
    (FIT + "--validation 1.5", "validation is 1.5: give a fraction"),
    (FIT + "--validation nan", "validation is nan: give a fraction"),
    (FIT + "--every 2", "every needs a checkpoint"),
    (FIT + "--every 0 --checkpoint ck", "every is 0"),
    (FIT + "--resume", "resume needs a checkpoint"),
    (FIT + "--bad-rows skip", "--bad-rows", "drop"),
    (FIT + "--memory-limit much", "'much'", "4GiB"),
    (FIT + "--memory-limit 0", "'0'", "4GiB"),
    (FIT + "--solver als --reg0 inf", "reg0 is inf"),
    (FIT + "--bias-reg -1", "bias_reg is -1"),
    (FIT + "--method lu", "--method", "cg"),
    (FIT + "--solver als --steps 3", "steps is 3", "choose cg"),
    (FIT + "--epochs -3", "epochs is -3"),
    (FIT + "--seed -1", "seed is -1"),
    (FIT + "--solver sgd --lr nan", "lr is nan"),
    (FIT + "--solver sgd --decay 2", "decay is 2"),
    (FIT + "--checkpoint earlier --resume --k 3", "with k 2", "now 3", "another folder"),
    (FIT + "--checkpoint earlier --resume --k 2 --epochs 1 --device numpy", "with device 'cpu'", "now 'numpy'"),
    (FIT + "--threads 0", "threads is 0"),
    (FIT + "--threads -1", "threads is -1"),
    (FIT + "--device tpu", "'tpu'", "cpu"),
    (FIT + "--duplicates first", "--duplicates", "last"),
    (TUNE + "--trials 0", "trials is 0"),
    (TUNE + "--max-k 0", "max_k is 0"),
    (TUNE + "--solver svd", "unknown solver 'svd'", "als, als-links, sgd"),
    (TUNE + "--solver als --solver implicit", "als by RMSE", "implicit by nDCG@10", "separate runs"),
    (TUNE + "--validation 1.5", "validation is 1.5: give a fraction"),
    (TUNE + "--validation 0.001", "of 100 ratings leaves one side empty"),
    ("predict good.fastmf good.parquet", "--output"),
    (RECOMMEND, "--user", "--users", "--all", "--new-users"),
    (RECOMMEND + "--user 100 --all", "--user", "--all"),
    (RECOMMEND + "--all -n 0", "n is 0"),
    ("synth new.parquet --scale 0", "scale is 0"),
    ("synth new.parquet --scale .02 --titles new.parquet", "two outputs"),
    ("split good.parquet new.parquet ./new.parquet", "two outputs"),
]
DATA = [
    ("tune nan.parquet", "nan.parquet: ", "2 of 4", "--bad-rows drop"),
    ("fit no_item.parquet", "no column", "item", "'user', 'rating'", "--item"),
    ("fit two_users.parquet", "'user' and 'userId'", "--user"),
    ("fit good.parquet --rating stars -o new.fastmf", "'stars'", "'userId', 'movieId', 'rating'"),
    ("fit nan.parquet", "nan.parquet: ", "2 of 4", "NaN", "row 1", "--bad-rows drop"),
    ("fit null_rating.parquet", "1 of 4", "null", "row 3", "--bad-rows drop"),
    ("fit beyond.parquet", "1 of 4", "beyond float32", "1e+39"),
    ("fit all_bad.parquet --bad-rows drop", "all 4 rows are bad", "nan_ratings 4"),
    ("fit nested.parquet", "'user'", "list", "cast it to string"),
    ("fit decimal.parquet", "'user'", "decimal128", "int64 or string"),
    ("fit lacking", "lacking/b.parquet", "no column", "user"),
    ("fit junk", "files of several formats", "notes.txt"),
    ("inspect longheader.fastmf", "longheader.fastmf", "again"),
    ("inspect notfinite.fastmf", "not finite"),
    ("inspect lies.fastmf", "item_bias has shape"),
    ("inspect newer.fastmf", "format 99", "use the fastmf that wrote it"),
    ("inspect pickled.fastmf", "pickled.fastmf"),
    ("recommend cut.fastmf --all", "cut.fastmf", "again"),
    ("similar good.fastmf ann", "'ann'", "int64"),
    ("fit infinite.parquet", "1 of 4", "infinite", "row 2", "-inf"),
    ("fit text.parquet", "'rating'", "string", "'a'"),
    ("fit null_id.parquet", "'user'", "2 null ids", "row 1"),
    ("fit float_id.parquet", "'item'", "double", "7.5", "cast"),
    ("fit repeated.parquet", "1 of 4", "user 1 and item 7", "--duplicates last|mean"),
    ("fit no_rows.parquet", "no ratings", "0 rows"),
    ("fit differing", "a.parquet", "b.parquet", "int64", "int32"),
    (FIT + "--validation no_item.parquet", "no column", "no_item.parquet"),
    ("predict good.fastmf strings.parquet -o new.csv", "user ids of type", "int64"),
    ("predict good.fastmf repeated.parquet -o new.csv --on-unknown raise", "4 of 4", "user 1 and item 7"),
    (FIT + "--user movieId", "one column is named for two roles", "item 'movieId'"),
    (RECOMMEND + "--user 5", "1 of 1 user", "first 5"),
    (RECOMMEND + "--user ann", "'ann'", "int64"),
    (RECOMMEND + "--all --titles titles_without.parquet", "'title'", "'item', 'rating'"),
    ("similar good.fastmf 5", "1 of 1 item", "first 5"),
    ("evaluate good.fastmf titles_without.parquet", "no column", "user"),
    ("inspect cut.fastmf", "cut.fastmf", "again"),
    ("inspect flipped.fastmf", "flipped.fastmf"),
    ("inspect nothing.fastmf", "nothing.fastmf"),
    ("inspect good.parquet", "good.parquet", "model"),
    ("inspect directory", "directory", "model"),
    ("inspect /dev/null", "/dev/null", "device", "model"),
]
FILES = [
    ("tune missing.parquet", "missing.parquet does not exist"),
    (TUNE + "--validation missing.parquet", "missing.parquet does not exist"),
    (TUNE + "-o text.csv", "text.csv exists", "--overwrite"),
    (TUNE + "-o good.parquet --overwrite", "good.parquet is an input"),
    ("fit missing.parquet", "missing.parquet does not exist"),
    ("fit missing/missing.parquet", "missing/missing.parquet does not exist"),
    ("fit empty.parquet", "empty.parquet is empty"),
    ("fit truncated.parquet", "truncated.parquet", "Parquet"),
    ("fit book.xlsx", "book.xlsx is a zip archive or an Excel workbook", "read_excel('book.xlsx')"),
    ("fit directory", "directory without data files"),
    ("fit good.parquet", "good.fastmf exists", "--overwrite"),
    ("fit good.parquet -o missing/new.fastmf", "missing is not a directory"),
    ("fit good.parquet -o directory --overwrite", "directory is a directory"),
    (FIT + "--validation missing.parquet", "missing.parquet does not exist"),
    ("predict missing.fastmf good.parquet -o new.csv", "missing.fastmf"),
    ("predict good.fastmf good.parquet -o text.csv", "text.csv exists", "--overwrite"),
    (RECOMMEND + "--all -o text.csv", "text.csv exists", "--overwrite"),
    (RECOMMEND + "--all --json -o missing/new.csv", "missing is not a directory"),
    ("synth good.parquet", "good.parquet exists", "--overwrite"),
    (FIT + "--checkpoint earlier", "earlier holds the checkpoint", "--resume"),
    (FIT + "--checkpoint good.parquet", "good.parquet is a file", "folder"),
    ("fit /dev/null -o new.fastmf", "/dev/null is empty"),
    (f"fit good.parquet -o {'long' * 99}", "File name too long", "longlong"),
]
OTHER = [
    (5, FIT + "--solver sgd --lr 10", "epoch 1", "diverged", "lower lr", "10"),
    (6, FIT + "--device cuda:77", "'cuda:77'", "--device cpu"),
    (6, FIT + "--k 1000000000", "k = 1,000,000,000", "GiB", "smaller k"),
    (6, "fit missing.parquet -o new.fastmf --k 1000000000", "k = 1,000,000,000"),
    (6, "tune missing.parquet --k 1000000000", "k = 1,000,000,000", "smaller k"),
    (6, FIT + "--k 1 --memory-limit 2k", "good.parquet: reading 100 rows", "4,000 bytes", "2,048", "--memory-limit"),
]
CASES = [*((2, *case) for case in USAGE), *((3, *case) for case in DATA), *((4, *case) for case in FILES), *OTHER]


def contents(folder):
    """All files and when they were written; of folders the names alone, as outputs are probed in them."""
    return {path: path.is_file() and path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize(("code", "line", "parts"), [pytest.param(c, a, p, id=f"{c}: {a[:80]}") for c, a, *p in CASES])
def test_a_refusal_says_why_in_a_line_or_two_and_writes_nothing(broken, run, monkeypatch, code, line, parts):
    if line.startswith("tune"):
        pytest.importorskip("optuna")
    monkeypatch.chdir(broken)
    before = contents(broken)
    done = run(*line.split(), code=code)
    assert contents(broken) == before
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    started = [line.startswith("error: ") for line in lines].index(True)
    assert len(lines) - started <= 2
    message = "\n".join(lines[started:])
    assert [part for part in parts if part not in message] == [], message
    assert not any(line.startswith("epoch ") for line in lines)
    assert " exists: " not in message or started == 0  # an output in the way is found before anything is read


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("bench --dataset ml-1m", ["no download was asked for"]),  # a set that has no twin of its own
        ("bench --dataset ml-20m --download", ["http://127.0.0.1:9/ml-20m.zip.md5", "no connection"]),
    ],
)
def test_a_data_set_by_name_without_network_offers_the_twin(tmp_path, run, monkeypatch, line, parts):
    for name in ("HOME", "USERPROFILE", "LOCALAPPDATA", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("FASTMF_DATA_DIR", "")
    monkeypatch.setenv("FASTMF_MOVIELENS_URL", "http://127.0.0.1:9")
    refused = run(*line.split(), code=4).stderr
    assert [part for part in (*parts, "fastmf synth OUT.parquet --like ml-20m") if part not in refused] == []
