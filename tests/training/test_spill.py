"""A fit whose ratings are on disk is the fit in memory, bit for bit; nothing is left on the disk."""

import errno
import gc
import os
import uuid

import numpy as np
import pyarrow as pa
import pytest

import fastmf
from fastmf import DataError, ParameterError, Ratings, ResourceError
from fastmf.data.write import write_parquet
from fastmf.runtime import spill as spilling
from fastmf.runtime.spill import Spill

N = 40_000  # four bytes of each of three columns: the limits below are a quarter and a tenth of them
LIMITS = [12 * N // 4, 12 * N // 10]


@pytest.fixture(scope="module")
def table(planted):
    users, items, ratings = planted(n_users=900, n_items=300, n=N, noise=1.0)
    when = np.random.default_rng(1).integers(10**9, 2 * 10**9, N)
    columns = {
        "user": users,
        "item": items,
        "rating": np.clip(np.round(ratings * 2) / 2, 0.5, 5),
        "weight": 1 + when % 5,
    }
    return pa.table(columns | {"timestamp": when})


@pytest.fixture
def few_at_once(monkeypatch):
    """Work on so few rows at once that even small tables are cut."""
    monkeypatch.setattr(spilling, "FEWEST", 64)
    monkeypatch.setattr(spilling, "PART", 100)


def written(folder, table, n_files=3):
    for n in range(n_files):
        rows = range(n * len(table) // n_files, (n + 1) * len(table) // n_files)
        write_parquet(table.slice(rows.start, len(rows)), folder / f"{n}.parquet")
    return folder


def both(folder, source, limit, **settings):
    """Fit in memory and spilled, and return both models."""
    spill = folder / "spill"
    found = fastmf.fit(source, **settings), fastmf.fit(source, spill=spill, memory_limit=limit, **settings)
    assert not spill.exists() or not list(spill.iterdir())
    return found


def require_same(one, other):
    assert one.content_hash == other.content_hash
    assert (one.rows, one.columns, one.weight, one.half_life) == (
        other.rows,
        other.columns,
        other.weight,
        other.half_life,
    )
    for name in ("user_counts", "item_counts"):
        assert np.array_equal(getattr(one, name), getattr(other, name))
    for mine, theirs in zip(one.seen, other.seen, strict=True):
        assert np.array_equal(mine, theirs)


@pytest.mark.big
@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize(
    "settings",
    [
        {"solver": "als"},
        {"solver": "als", "method": "cg", "biases": False},
        {"solver": "als-links", "validation": 0.2, "patience": 3},
        {"solver": "als", "weight": "weight", "half_life": 900, "validation": 0.1},
        {"solver": "als-links", "blend": True},
        {"solver": "als", "min_user_ratings": 35, "min_item_ratings": 105},
        {"solver": "implicit", "weight": "weight"},
        {"solver": "implicit", "method": "exact", "weight": ""},
        {"solver": "implicit", "positive_from": 3, "negative_to": 1, "validation": 0.2, "weight": ""},
    ],
    ids=str,
)
def test_the_model_is_that_of_a_fit_in_memory(few_at_once, tmp_path, table, limit, settings):
    (tmp_path / "in").mkdir()
    require_same(*both(tmp_path, written(tmp_path / "in", table), limit, k=5, epochs=3, **settings))


@pytest.mark.big
@pytest.mark.parametrize("duplicates", ["last", "mean", "sum"])
@pytest.mark.parametrize("solver", ["als", "implicit"])
def test_duplicates_are_merged_and_bad_rows_dropped(few_at_once, tmp_path, table, solver, duplicates):
    rows = np.random.default_rng(0).integers(0, len(table), 3_000)
    bad = pa.table({"user": [None, 103, 106], "item": [1001, 1002, None], "rating": [1.0, np.nan, 3.0]})
    both_tables = pa.concat_tables([table, table.take(rows), bad, table.slice(7, 100)], promote_options="default")
    given = {"duplicates": duplicates, "bad_rows": "drop", "solver": solver, "weight": "", "k": 4, "epochs": 2}
    one, other = both(tmp_path, both_tables, LIMITS[1], **given)
    require_same(one, other)
    assert other.rows["duplicates"] >= 2_000
    assert other.rows["null_users"] == other.rows["nan_ratings"] == 1


@pytest.mark.big
@pytest.mark.parametrize(
    "made",
    [
        lambda ids: pa.array([f"u{n} é" for n in ids]),
        lambda ids: pa.array([f"u{n}" for n in ids]).dictionary_encode(),
        lambda ids: pa.array(ids.astype(np.float64)),
        lambda ids: pa.array(np.uint64(2**63) + ids.astype(np.uint64)),
        lambda ids: pa.array([uuid.UUID(int=int(n)).bytes for n in ids], pa.uuid()),
        lambda ids: pa.array(ids.astype("datetime64[D]")),
        lambda ids: pa.array(ids * 10**12),
    ],
)
@pytest.mark.filterwarnings("ignore:column .* holds integers as double")
def test_ids_of_any_kind(few_at_once, tmp_path, table, made):
    table = table.slice(0, 5_000).set_column(0, "user", made(table["user"].to_numpy()[:5_000]))
    path = tmp_path / "r.parquet"
    write_parquet(table, path)
    for source in (path, table):
        require_same(*both(tmp_path, source, LIMITS[1], solver="als", k=4, epochs=2))


@pytest.mark.big
def test_side_features(few_at_once, tmp_path, table):
    features = pa.table({"item": range(990, 1290), "kind": [f"k{n % 7}" for n in range(300)]})
    for solver in ("als", "als-links", "implicit"):
        given = {"solver": solver, "item_features": features, "k": 4, "epochs": 2, "validation": 0.1, "weight": ""}
        require_same(*both(tmp_path, table, LIMITS[1], **given))


def test_text_is_read_whole_and_then_spilled(few_at_once, tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("user,item,rating\n" + "".join(f"u{n % 40},{n % 7},{n % 5 + 1}\n" for n in range(280)))
    require_same(*both(tmp_path, path, 100_000, solver="als", k=2, epochs=2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rating": [1.0, None, np.inf, 4.0, 5.0]}, r"2 of 5 rows cannot be used \(null_ratings 1, infinite_.* row 1 "),
        ({"user": [None, 2, 3, 4, 5]}, r"1 of 5 rows cannot be used \(null_users 1\), the first in row 0 "),
        ({"user": [1, 2, 3, 3, 5], "item": [1, 2, 3, 3, 5]}, "1 of 5 rows repeat a .* first for user 3 and item 3"),
        ({"rating": ["a", "b", "c", "d", "e"]}, "column 'rating' holds string, not numbers"),
    ],
)
def test_bad_rows_are_counted_over_all_batches(few_at_once, monkeypatch, tmp_path, change, message):
    monkeypatch.setattr(spilling, "FEWEST", 2)
    table = pa.table({"user": [1, 2, 3, 4, 5], "item": [1, 2, 3, 4, 5], "rating": [1.0, 2, 3, 4, 5]} | change)
    write_parquet(table, tmp_path / "r.parquet")
    with pytest.raises(DataError, match=f"r.parquet: .*{message}"):
        fastmf.fit(tmp_path / "r.parquet", spill=tmp_path, memory_limit=100)
    assert [each.name for each in tmp_path.iterdir()] == ["r.parquet"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"user": [], "item": [], "rating": []}, "there are no ratings: .* have 0 rows"),
        ({"user": [1], "item": [2], "rating": [np.nan]}, "there are no ratings left: all 1 rows are bad"),
    ],
)
def test_no_rows(tmp_path, columns, message):
    with pytest.raises(DataError, match=message):
        fastmf.fit(pa.table(columns), spill=tmp_path, bad_rows="drop")


def test_one_rating(tmp_path):
    require_same(*both(tmp_path, ([1], [2], [3.0]), 1, solver="als", k=2))


def test_a_full_disk_leaves_nothing(monkeypatch, tmp_path, planted):
    given = planted(n=200)
    reserve, calls = spilling._reserve, []

    def full(*args):
        calls.append(args)
        if len(calls) > allowed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        reserve(*args)

    monkeypatch.setattr(spilling, "_reserve", full)
    allowed = 10**6
    fastmf.fit(given, solver="als", k=2, epochs=1, spill=tmp_path / "s")
    for fewer in range(1, len(calls) + 1):
        allowed = len(calls) - 1 if fewer == 1 else allowed - 1
        calls.clear()
        with pytest.raises(OSError, match=r"cannot be spilled to .* make space, or give another folder") as caught:
            fastmf.fit(given, solver="als", k=2, epochs=1, spill=tmp_path / "s")
        assert caught.value.errno == errno.ENOSPC
        del caught
        gc.collect()
        assert not list(tmp_path.iterdir())


def test_kept_ratings_serve_the_next_fit(few_at_once, monkeypatch, tmp_path, planted):
    table = pa.table(dict(zip(("user", "item", "rating"), planted(n=400), strict=True)))
    path, folder = tmp_path / "r.parquet", tmp_path / "s"
    write_parquet(table, path)
    how = {"solver": "als", "k": 2, "epochs": 2, "spill": folder}
    first = fastmf.fit(path, keep_spill=True, **how)
    assert [each.name for each in folder.iterdir()] == ["ratings.safetensors"]
    with monkeypatch.context() as patch:
        patch.setattr(Ratings, "read", lambda *_, **__: pytest.fail("nothing must be read"))
        require_same(first, fastmf.fit(path, **how))
    with pytest.warns(UserWarning, match="is of other files or was read otherwise: it is not used"):
        fastmf.fit(path, duplicates="last", **how)
    kept = folder / "ratings.safetensors"
    content = bytearray(kept.read_bytes())
    content[-5] ^= 1
    kept.write_bytes(content)
    with pytest.warns(UserWarning, match="is damaged .*: it is not used"):
        require_same(first, fastmf.fit(path, keep_spill=True, **how))
    with monkeypatch.context() as patch:
        patch.setattr(Ratings, "read", lambda *_, **__: pytest.fail("nothing must be read"))
        require_same(first, fastmf.fit(path, **how))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"solver": "sgd", "spill": "s"}, ParameterError, "solver 'sgd' needs its ratings in memory"),
        ({"solver": "gibbs", "spill": "s"}, ParameterError, "solver 'gibbs' needs its ratings in memory"),
        ({"keep_spill": True}, ParameterError, "keep_spill needs a spill"),
        ({"keep_spill": "yes", "spill": "s"}, ParameterError, "keep_spill is 'yes'"),
        ({"keep_spill": True, "spill": "s"}, ParameterError, "keep_spill is for ratings in files"),
        ({"spill": "file"}, NotADirectoryError, "file is a file: give a folder"),
        ({"spill": 3}, ParameterError, "spill"),
    ],
    ids=str,
)
def test_what_cannot_spill_is_refused(monkeypatch, tmp_path, planted, settings, error, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(error, match=message):
        fastmf.fit(planted(n=50), **settings)
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_too_little_memory_names_the_spill(tmp_path, planted):
    users, items, ratings = planted(n_users=300, n_items=300, n=40_000)
    with pytest.raises(ResourceError, match=r"or keep the ratings on disk with --spill \(spill=\)"):
        fastmf.fit((users, items, ratings), solver="als", k=2, memory_limit=900_000)
    fastmf.fit((users, items, ratings), solver="als", k=2, epochs=1, memory_limit=900_000, spill=tmp_path)
    with pytest.raises(ResourceError, match=r"use a smaller k$"):
        fastmf.fit((users, items, ratings), solver="als", k=10**8, memory_limit=10**15, spill=tmp_path)


def test_a_checkpoint_of_a_fit_in_memory_is_that_of_a_spilled_fit(tmp_path, planted):
    given, how = planted(n=300), {"solver": "als", "k": 2, "epochs": 5, "checkpoint": tmp_path / "c"}

    def stop(epoch):
        return epoch.number < 2

    fastmf.fit(given, callback=stop, **how)
    resumed = fastmf.fit(given, resume=True, spill=tmp_path / "s", **how)
    assert resumed.content_hash == fastmf.fit(given, solver="als", k=2, epochs=5).content_hash


def test_arrays_have_no_names_and_their_space_is_free_when_they_are_gone(tmp_path):
    spill = Spill(tmp_path, None)
    array = spill.empty(1 << 20, np.float32)
    assert array.dtype == np.float32
    assert not array.any()
    array[:] = 1
    assert not list(tmp_path.iterdir())
    assert len(spill.empty(0, np.int64)) == 0
