import hashlib
import http.server
import io
import os
import threading
import time
import zipfile
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastmf.datasets import movielens as datasets
from fastmf.errors import ParameterError, ResourceError

needs_jit = pytest.mark.skipif(
    os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="more than 1,000 ratings take too long without the JIT"
)
TINY = datasets.Shape(users=15, items=120, ratings=600, cap=90)


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
    twin = datasets.draw(TINY, np.uint64(0), name="tiny")
    assert_sound(twin, TINY)
    again, other = (datasets.draw(TINY, np.uint64(seed), name="tiny") for seed in (0, 1))
    for field in ("users", "items", "ratings"):
        assert getattr(twin, field).tobytes() == getattr(again, field).tobytes()
    assert twin.items.tobytes() != other.items.tobytes()


def test_thread_count_does_not_change_a_twin(monkeypatch):
    twins = []
    for cores in (1, 3):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        twins.append(datasets.draw(TINY, np.uint64(5), name="tiny"))
    assert twins[0].items.tobytes() == twins[1].items.tobytes()
    assert twins[0].ratings.tobytes() == twins[1].ratings.tobytes()


def test_twin_of_a_full_matrix():
    shape = datasets.Shape(users=4, items=25, ratings=100, cap=25)
    twin = datasets.draw(shape, np.uint64(0), name="full")
    assert_sound(twin, shape)


@needs_jit
def test_ml_latest_small_twin_has_its_statistics():
    twin = datasets.synthesize("ml-latest-small")
    assert_sound(twin, datasets.TWINS["ml-latest-small"])
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
    twin = datasets.synthesize("ml-20m")
    shape = datasets.TWINS["ml-20m"]
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
    full = datasets.TWINS[like]
    twin = datasets.synthesize(like, scale=scale, seed=3)
    assert_sound(twin, datasets.scaled(like, scale))
    assert (twin.n_users, twin.n_items) == (round(scale * full.users), round(scale * full.items))
    assert len(twin.ratings) == round(scale * full.ratings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": 0}, "above 0"),
        ({"scale": -1}, "above 0"),
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
        datasets.synthesize(**{"like": "ml-latest-small", **settings})


@pytest.mark.skipif(not hasattr(os, "sysconf"), reason="this system does not say how much memory it has")
def test_a_twin_beyond_the_memory_is_refused():
    with pytest.raises(ResourceError, match=r"a twin of .* takes at least .* GiB of memory, .*: take a smaller scale"):
        datasets.synthesize("ml-20m", scale=10_000)


@needs_jit
def test_written_twin_counts_from_one_and_matches_the_drawn(tmp_path):
    ratings, titles = tmp_path / "twin.parquet", tmp_path / "titles.parquet"
    found = datasets.write_twin(ratings, "ml-latest-small", scale=0.02, seed=4, titles=titles)
    twin = datasets.synthesize("ml-latest-small", scale=0.02, seed=4)
    table = pq.read_table(ratings, page_checksum_verification=True)
    assert dict(zip(table.schema.names, table.schema.types, strict=True)) == {
        "userId": pa.int32(),
        "movieId": pa.int32(),
        "rating": pa.float32(),
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


def test_write_twin_refuses_before_it_draws(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "draw", lambda *_, **__: pytest.fail("drawn for nothing"))
    there = tmp_path / "there.parquet"
    there.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        datasets.write_twin(there)
    with pytest.raises(FileExistsError):
        datasets.write_twin(tmp_path / "new.parquet", titles=there)
    with pytest.raises(OSError, match="not a directory"):
        datasets.write_twin(tmp_path / "missing" / "new.parquet")
    with pytest.raises(ParameterError, match="named for two outputs"):
        datasets.write_twin(tmp_path / "new.parquet", titles=tmp_path / "new.parquet")
    assert there.read_bytes() == b"mine"
    assert list(tmp_path.iterdir()) == [there]


def zipped(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return buffer.getvalue()


RATINGS = "userId,movieId,rating,timestamp\n1,31,2.5,1260759144\n1,1029,3.0,1260759179\n2,31,4.5,835355493\n"
MOVIES = 'movieId,title,genres\n31,"Dangerous Minds, (1995)",Drama\n1029,Misérables (1941),Animation\n'
GOOD = zipped(**{"ml-20m/ratings.csv": RATINGS, "ml-20m/movies.csv": MOVIES, "../evil.txt": "never extracted"})


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Serve a dict of path to bytes on this machine; give it, with the requests seen, and an empty cache beside."""
    pytest.importorskip("pooch", reason="downloads need pooch, of the bench extra")
    files, asked = {}, []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            body = files.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("FASTMF_MOVIELENS_URL", f"http://127.0.0.1:{server.server_port}/data/")
    monkeypatch.delenv("FASTMF_DATA_DIR", raising=False)
    cache = tmp_path / "cache" / "fastmf"
    monkeypatch.setattr(datasets, "cache_directory", lambda: cache)
    monkeypatch.setattr(datasets, "MOVIELENS", dict.fromkeys(datasets.MOVIELENS, 3))
    server.files, server.asked, server.cache = files, asked, cache
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def publish(site, name, archive, md5=None):
    site.files[f"/data/{name}.zip"] = archive
    digest = hashlib.md5(archive).hexdigest()
    site.files[f"/data/{name}.zip.md5"] = (md5 or "MD5 ({name}.zip) = {digest}\n").format(
        name=name, digest=digest
    ).encode()  # fmt: skip


def assert_nothing_kept(site):
    assert not site.cache.exists() or list(site.cache.iterdir()) == []


@pytest.mark.parametrize("md5", ["MD5 ({name}.zip) = {digest}\n", "{digest}  {name}.zip\n", "{digest}"])
def test_download_is_checked_converted_and_cached(site, md5):
    publish(site, "ml-20m", GOOD, md5)
    found = datasets.find("ml-20m", download=True)
    assert (found.name, found.path, found.real) == ("ml-20m", site.cache / "ml-20m.parquet", True)
    assert "research" in found.note
    table = pq.read_table(found.path)
    assert table.schema.types == [pa.int32(), pa.int32(), pa.float32()]
    assert table.to_pydict() == {"userId": [1, 1, 2], "movieId": [31, 1029, 31], "rating": [2.5, 3.0, 4.5]}
    movies = pq.read_table(site.cache / "ml-20m-movies.parquet").to_pydict()
    assert movies == {"movieId": [31, 1029], "title": ["Dangerous Minds, (1995)", "Misérables (1941)"]}
    assert sorted(path.name for path in site.cache.iterdir()) == ["ml-20m-movies.parquet", "ml-20m.parquet"]
    assert not list(site.cache.parent.rglob("evil*"))


def test_second_call_needs_no_network(site):
    publish(site, "ml-20m", GOOD)
    first = datasets.find("ml-20m", download=True)
    seen = len(site.asked)
    assert datasets.find("ml-20m", download=True) == first
    assert datasets.find("ml-20m") == first
    assert len(site.asked) == seen == 2


@pytest.mark.parametrize(
    ("name", "member", "text"),
    [
        ("ml-1m", "ml-1m/ratings.dat", "1::31::2.5::9\n1::1029::3::9\n2::31::4.5::9\n"),
        ("ml-10m", "ml-10M100K/ratings.dat", "1::31::2.5::9\n1::1029::3::9\n2::31::4.5::9\n"),
        ("ml-100k", "ml-100k/u.data", "1\t31\t2.5\t9\n1\t1029\t3\t9\n2\t31\t4.5\t9\n"),
        ("ml-latest-small", "ml-latest-small/ratings.csv", RATINGS),
    ],
)
def test_every_layout_is_read(site, name, member, text):
    publish(site, name, zipped(**{member: text}))
    table = pq.read_table(datasets.find(name, download=True).path)
    assert table.to_pydict() == {"userId": [1, 1, 2], "movieId": [31, 1029, 31], "rating": [2.5, 3.0, 4.5]}


def test_wrong_md5_is_refused(site):
    publish(site, "ml-20m", GOOD, "0" * 32)
    with pytest.raises(datasets.DownloadError, match=r"ml-20m\.zip could not be downloaded whole: .*fastmf synth"):
        datasets.find("ml-20m", download=True)
    assert_nothing_kept(site)


def test_archive_cut_short_is_refused(site):
    publish(site, "ml-20m", GOOD)
    site.files["/data/ml-20m.zip"] = GOOD[:-10]
    with pytest.raises(datasets.DownloadError):
        datasets.find("ml-20m", download=True)
    assert_nothing_kept(site)


def test_missing_or_empty_md5_is_refused(site):
    site.files["/data/ml-20m.zip"] = GOOD
    with pytest.raises(datasets.DownloadError, match=r"ml-20m\.zip\.md5 could not .* answered 404"):
        datasets.find("ml-20m", download=True)
    site.files["/data/ml-20m.zip.md5"] = b"<html>sign in</html>"
    with pytest.raises(datasets.DownloadError, match="holds no MD5"):
        datasets.find("ml-20m", download=True)
    assert "/data/ml-20m.zip" not in site.asked
    assert_nothing_kept(site)


def test_missing_archive_is_refused(site):
    publish(site, "ml-20m", GOOD)
    del site.files["/data/ml-20m.zip"]
    with pytest.raises(datasets.DownloadError, match=r"ml-20m\.zip could not .* answered 404; .* --like ml-20m$"):
        datasets.find("ml-20m", download=True)
    assert_nothing_kept(site)


def test_offline_names_the_address_and_the_twin(site, monkeypatch):
    monkeypatch.delenv("FASTMF_MOVIELENS_URL")
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as closed:
        url = f"http://127.0.0.1:{closed.server_port}"
    began = time.perf_counter()
    with pytest.raises(datasets.DownloadError, match=f"{url}/ml-20m.zip.md5 .* no connection.*fastmf synth"):
        datasets.find("ml-20m", download=True, base_url=url)
    assert time.perf_counter() - began < 5
    assert_nothing_kept(site)


def test_wrong_number_of_ratings_is_refused(site, monkeypatch):
    publish(site, "ml-latest-small", zipped(**{"ml-latest-small/ratings.csv": RATINGS}))
    monkeypatch.setitem(datasets.MOVIELENS, "ml-latest-small", 100_836)
    with pytest.raises(datasets.DownloadError, match=r"holds 3 ratings, ml-latest-small has 100,836: .*anew"):
        datasets.find("ml-latest-small", download=True)
    assert_nothing_kept(site)


@pytest.mark.parametrize(
    "archive",
    [
        b"not a zip",
        zipped(**{"ml-1m/ratings.dat": RATINGS}),
        zipped(**{"ml-20m/ratings.csv": "a,b\n1,2\n"}),
        zipped(**{"ml-20m/ratings.csv": "userId,movieId,rating\n1,2,\n"}),
        zipped(**{"ml-20m/ratings.csv": "userId,movieId,rating\n1,two,3\n"}),
    ],
    ids=["no archive", "another set", "other columns", "a missing rating", "a word for an id"],
)
def test_archive_of_something_else_is_refused(site, archive):
    publish(site, "ml-20m", archive)
    with pytest.raises(datasets.DownloadError, match=r"is not the archive of ml-20m: .*fastmf synth"):
        datasets.find("ml-20m", download=True)
    assert_nothing_kept(site)


def test_full_disk_is_not_called_a_network_error(site, monkeypatch):
    import pooch

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    publish(site, "ml-20m", GOOD)
    monkeypatch.setattr(pooch, "retrieve", full)
    with pytest.raises(OSError, match="No space left") as caught:
        datasets.find("ml-20m", download=True)
    assert not isinstance(caught.value, datasets.DownloadError)
    assert_nothing_kept(site)


def test_without_pooch_the_extra_is_named(site, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pooch", None)
    with pytest.raises(ParameterError, match=r"pip install pooch"):
        datasets.find("ml-20m", download=True)
    assert site.asked == []


def test_found_in_folders_without_network(site, tmp_path, monkeypatch):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        (folder / "ml-1m.parquet").touch()
    monkeypatch.setenv("FASTMF_DATA_DIR", str(second))
    assert datasets.find("ml-1m").path == second / "ml-1m.parquet"
    assert datasets.find("ml-1m", data_dir=first, download=True).path == first / "ml-1m.parquet"
    assert datasets.find("ml-1m", data_dir=str(tmp_path)).path == second / "ml-1m.parquet"
    assert site.asked == []


def test_no_network_unless_asked(site):
    publish(site, "ml-100k", GOOD)
    with pytest.raises(FileNotFoundError, match=r"no download was asked for; .* --like ml-latest-small$"):
        datasets.find("ml-100k")
    assert site.asked == []
    assert not site.cache.exists()


def test_unknown_name_and_missing_folder_are_refused(tmp_path):
    with pytest.raises(ParameterError, match=r"no data set 'ml-2m'; there are ml-100k, ml-1m"):
        datasets.find("ml-2m")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        datasets.find("ml-1m", data_dir=tmp_path / "missing")


@pytest.mark.parametrize(
    ("platform", "variable", "expected"),
    [
        ("linux", "XDG_CACHE_HOME", "given/fastmf"),
        ("linux", None, "home/.cache/fastmf"),
        ("darwin", None, "home/Library/Caches/fastmf"),
        ("win32", "LOCALAPPDATA", "given/fastmf/Cache"),
        ("win32", None, "home/AppData/Local/fastmf/Cache"),
    ],
)
def test_cache_is_where_the_system_keeps_caches(tmp_path, monkeypatch, platform, variable, expected):
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    if variable is not None:
        monkeypatch.setenv(variable, str(tmp_path / "given"))
    monkeypatch.setattr(datasets.sys, "platform", platform)
    monkeypatch.setattr(datasets.Path, "home", lambda: tmp_path / "home")
    assert datasets.cache_directory() == tmp_path / expected
