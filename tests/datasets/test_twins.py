import os
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastmf.datasets import twins
from fastmf.errors import ParameterError, ResourceError
from fastmf.runtime.device import resolve

needs_jit = pytest.mark.skipif(
    os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="more than 1,000 ratings take too long without the JIT"
)
TINY = twins.Shape(users=15, items=120, ratings=600, cap=90)


def statistics(twin):
    """Counts of users and items, mean and deviation of the ratings, and the RMSE of knowing the truth."""
    ratings = twin.ratings.astype(np.float64)
    errors = ratings - twin.predict(twin.users, twin.items)
    return {
        "users": np.bincount(twin.users, minlength=twin.n_users),
        "items": np.bincount(twin.items, minlength=twin.n_items),
        "mean": ratings.mean(),
        "sd": ratings.std(),
        "truth": np.sqrt(np.mean(errors**2)),
    }


def slope(twin, counts, first, last):
    """Slope of log(number of ratings) on log(rank + 60) between two ranks, over groups of neighbours."""
    by_rank = np.empty(twin.n_items)
    by_rank[twin.ranks - 1] = counts
    edges = np.unique(np.geomspace(first, last, 12).astype(int))
    pairs = list(pairwise(edges))
    x = [np.log(np.arange(a, b) + 61.0).mean() for a, b in pairs]
    y = [np.log(by_rank[a:b].mean()) for a, b in pairs]
    return np.polyfit(x, y, 1)[0]


def assert_sound(twin, shape):
    """Check what holds for any twin: size, order, unique pairs, every row rated, half stars."""
    assert (twin.n_users, twin.n_items, len(twin.ratings)) == (shape.users, shape.items, shape.ratings)
    assert (twin.users.dtype, twin.items.dtype, twin.ratings.dtype) == (np.int32, np.int32, np.float32)
    assert np.all(np.diff(twin.users.astype(np.int64) * twin.n_items + twin.items) > 0)
    per_user = np.bincount(twin.users, minlength=twin.n_users)
    assert len(per_user) == twin.n_users
    assert per_user.min() >= 20
    assert per_user.max() <= shape.cap
    per_item = np.bincount(twin.items, minlength=twin.n_items)
    assert len(per_item) == twin.n_items
    assert per_item.min() >= 1
    assert set(np.unique(twin.ratings * 2)) <= set(range(1, 11))
    assert sorted(twin.ranks) == list(range(1, twin.n_items + 1))


def test_tiny_twin_is_sound_and_repeats_by_seed():
    twin = twins.draw(TINY, np.uint64(0), name="tiny")
    assert_sound(twin, TINY)
    again, other = (twins.draw(TINY, np.uint64(seed), name="tiny") for seed in (0, 1))
    for field in ("users", "items", "ratings"):
        assert getattr(twin, field).tobytes() == getattr(again, field).tobytes()
    assert twin.items.tobytes() != other.items.tobytes()


def test_thread_count_does_not_change_a_twin(monkeypatch):
    drawn = []
    for threads in (1, 2):
        monkeypatch.setattr(twins, "resolve", lambda name, threads=threads: resolve(name, threads))
        drawn.append(twins.draw(TINY, np.uint64(5), name="tiny"))
    assert drawn[0].items.tobytes() == drawn[1].items.tobytes()
    assert drawn[0].ratings.tobytes() == drawn[1].ratings.tobytes()


def test_twin_of_a_full_matrix():
    shape = twins.Shape(users=4, items=25, ratings=100, cap=25)
    twin = twins.draw(shape, np.uint64(0), name="full")
    assert_sound(twin, shape)


@needs_jit
def test_ml_latest_small_twin_has_its_statistics():
    twin = twins.synthesize("ml-latest-small")
    assert_sound(twin, twins.TWINS["ml-latest-small"])
    found = statistics(twin)
    assert found["mean"] == pytest.approx(3.53, abs=0.06)
    assert found["sd"] == pytest.approx(0.955, abs=0.03)
    assert found["truth"] == pytest.approx(0.725, abs=0.012)
    assert 45 <= np.median(found["users"]) <= 90  # the real set's is 70
    assert 3_000 <= np.count_nonzero(found["items"] == 1) <= 4_300  # the real set has 3,446 such films
    assert slope(twin, found["items"], 1_000, 5_000) == pytest.approx(-1.5, abs=0.2)


@pytest.mark.slow
@needs_jit
def test_ml_20m_twin_has_its_statistics():
    twin = twins.synthesize("ml-20m")
    shape = twins.TWINS["ml-20m"]
    assert_sound(twin, shape)
    found = statistics(twin)
    assert found["users"].mean() == pytest.approx(144.4, abs=0.1)
    assert found["users"].min() == 20
    assert found["users"].max() == shape.cap
    assert found["mean"] == pytest.approx(3.51, abs=0.03)
    assert found["sd"] == pytest.approx(0.958, abs=0.01)
    assert found["truth"] == pytest.approx(0.725, abs=0.004)
    assert slope(twin, found["items"], 5_000, 20_000) == pytest.approx(-1.55, abs=0.05)


@needs_jit
@pytest.mark.parametrize(("like", "scale"), [("ml-latest-small", 0.018), ("ml-latest-small", 2), ("ml-20m", 0.006)])
def test_scale_multiplies_users_items_and_ratings(like, scale):
    full = twins.TWINS[like]
    twin = twins.synthesize(like, scale=scale, seed=3)
    assert_sound(twin, twins.scaled(like, scale))
    assert (twin.n_users, twin.n_items) == (round(scale * full.users), round(scale * full.items))
    assert len(twin.ratings) == round(scale * full.ratings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": 0}, "scale is 0; it must be above 0 and at most 10,000"),
        ({"scale": float("nan")}, "above 0"),
        ({"scale": float("inf")}, "at most 10,000"),
        ({"scale": 0.001}, "take a scale above 0.017"),
        ({"scale": 1e-9}, "take a scale above 0.017"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**64}, "seed is"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"like": "ml-1m"}, "ml-20m, ml-latest-small"),
    ],
)
def test_impossible_twins_are_refused(settings, message):
    with pytest.raises(ParameterError, match=message):
        twins.synthesize(**{"like": "ml-latest-small", **settings})


@pytest.mark.skipif(not hasattr(os, "sysconf"), reason="this system does not say how much memory it has")
def test_a_twin_beyond_the_memory_is_refused():
    with pytest.raises(ResourceError, match=r"a twin of .* takes at least .* GiB of memory, .*: take a smaller scale"):
        twins.synthesize("ml-20m", scale=10_000)


@needs_jit
def test_written_twin_counts_from_one_and_matches_the_drawn(tmp_path):
    ratings, titles = tmp_path / "twin.parquet", tmp_path / "titles.parquet"
    found = twins.write_twin(ratings, "ml-latest-small", scale=0.02, seed=4, titles=titles)
    twin = twins.synthesize("ml-latest-small", scale=0.02, seed=4)
    table = pq.read_table(ratings, page_checksum_verification=True)
    assert dict(zip(table.schema.names, table.schema.types, strict=True)) == {
        "userId": pa.int32(),
        "movieId": pa.int32(),
        "rating": pa.float32(),
        "timestamp": pa.int64(),
    }
    np.testing.assert_array_equal(table["userId"].to_numpy(), twin.users + 1)
    np.testing.assert_array_equal(table["movieId"].to_numpy(), twin.items + 1)
    np.testing.assert_array_equal(table["rating"].to_numpy(), twin.ratings)
    named = pq.read_table(titles)
    assert named["movieId"].to_pylist() == list(range(1, twin.n_items + 1))
    assert named["title"][16].as_py() == f"Item 17 (popularity rank {twin.ranks[16]})"
    assert not found.real
    assert found.path == ratings
    assert "scale 0.02, seed 4: 2,017 ratings of 194 items by 12 users" in found.note


@needs_jit
def test_times_are_sessions_of_each_user_whatever_the_item():
    twin = twins.synthesize("ml-latest-small", scale=0.1, seed=2)
    times = twins.draw_times(twin, np.uint64(2))
    assert times.dtype == np.int64
    assert np.array_equal(times, twins.draw_times(twin, np.uint64(2)))
    assert not np.array_equal(times, twins.draw_times(twin, np.uint64(3)))
    dates = times.astype("datetime64[s]")
    assert np.datetime64("1996-01-01") <= dates.min() <= dates.max() < np.datetime64("2015-01-01")
    assert abs(np.corrcoef(times, twin.items)[0, 1]) < 0.05
    user = np.argmax(np.bincount(twin.users))
    own = np.sort(times[twin.users == user])
    apart = np.diff(own) > twins.SESSION_LENGTH
    n_sessions = -(-len(own) // twins.PER_SESSION)
    assert n_sessions * 0.8 <= 1 + apart.sum() <= n_sessions


@needs_jit
def test_twin_without_times_has_the_same_other_columns(tmp_path):
    for name, timestamps in (("with", True), ("without", False)):
        twins.write_twin(tmp_path / name, "ml-latest-small", scale=0.02, timestamps=timestamps)
    with_times, without = (pq.read_table(tmp_path / name) for name in ("with", "without"))
    assert with_times.drop_columns("timestamp").equals(without)


def test_write_twin_refuses_before_it_draws(tmp_path, monkeypatch):
    monkeypatch.setattr(twins, "draw", lambda *_, **__: pytest.fail("drawn for nothing"))
    there = tmp_path / "there.parquet"
    there.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        twins.write_twin(there)
    with pytest.raises(FileExistsError):
        twins.write_twin(tmp_path / "new.parquet", titles=there)
    with pytest.raises(OSError, match="not a directory"):
        twins.write_twin(tmp_path / "missing" / "new.parquet")
    with pytest.raises(ParameterError, match="named for two outputs"):
        twins.write_twin(tmp_path / "new.parquet", titles=tmp_path / "new.parquet")
    assert there.read_bytes() == b"mine"
    assert list(tmp_path.iterdir()) == [there]
