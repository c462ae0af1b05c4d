import hashlib
import http.server
import io
import threading
import time
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastmf.datasets import movielens
from fastmf.errors import ParameterError


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
    """Serve a dict of path to bytes on this machine; yield it, with the requests seen and an empty cache."""
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
    monkeypatch.setattr(movielens, "cache_directory", lambda: cache)
    monkeypatch.setattr(movielens, "MOVIELENS", dict.fromkeys(movielens.MOVIELENS, 3))
    server.files, server.asked, server.cache = files, asked, cache
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def publish(site, name, archive, md5=None):
    site.files[f"/data/{name}.zip"] = archive
    line = (md5 or "MD5 ({name}.zip) = {digest}\n").format(name=name, digest=hashlib.md5(archive).hexdigest())
    site.files[f"/data/{name}.zip.md5"] = line.encode()


def assert_nothing_kept(site):
    assert not site.cache.exists() or list(site.cache.iterdir()) == []


@pytest.mark.parametrize("md5", ["MD5 ({name}.zip) = {digest}\n", "{digest}  {name}.zip\n"])
def test_download_is_checked_converted_and_cached(site, md5):
    publish(site, "ml-20m", GOOD, md5)
    found = movielens.find("ml-20m", download=True)
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
    first = movielens.find("ml-20m", download=True)
    seen = len(site.asked)
    assert movielens.find("ml-20m", download=True) == first
    assert movielens.find("ml-20m") == first
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
    table = pq.read_table(movielens.find(name, download=True).path)
    assert table.to_pydict() == {"userId": [1, 1, 2], "movieId": [31, 1029, 31], "rating": [2.5, 3.0, 4.5]}


def test_wrong_md5_is_refused(site):
    publish(site, "ml-20m", GOOD, "0" * 32)
    with pytest.raises(movielens.DownloadError, match=r"ml-20m\.zip could not be downloaded whole: .*fastmf synth"):
        movielens.find("ml-20m", download=True)
    assert_nothing_kept(site)


def test_archive_cut_short_is_refused(site):
    publish(site, "ml-20m", GOOD)
    site.files["/data/ml-20m.zip"] = GOOD[:-10]
    with pytest.raises(movielens.DownloadError):
        movielens.find("ml-20m", download=True)
    assert_nothing_kept(site)


def test_missing_or_empty_md5_is_refused(site):
    site.files["/data/ml-20m.zip"] = GOOD
    with pytest.raises(movielens.DownloadError, match=r"ml-20m\.zip\.md5 could not .* answered 404"):
        movielens.find("ml-20m", download=True)
    site.files["/data/ml-20m.zip.md5"] = b"<html>sign in</html>"
    with pytest.raises(movielens.DownloadError, match="holds no MD5"):
        movielens.find("ml-20m", download=True)
    assert "/data/ml-20m.zip" not in site.asked
    assert_nothing_kept(site)


def test_missing_archive_is_refused(site):
    publish(site, "ml-20m", GOOD)
    del site.files["/data/ml-20m.zip"]
    with pytest.raises(movielens.DownloadError, match=r"ml-20m\.zip could not .* answered 404; .* --like ml-20m$"):
        movielens.find("ml-20m", download=True)
    assert_nothing_kept(site)


def test_offline_names_the_address_and_the_twin(site, monkeypatch):
    monkeypatch.delenv("FASTMF_MOVIELENS_URL")
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as closed:
        url = f"http://127.0.0.1:{closed.server_port}"
    began = time.perf_counter()
    with pytest.raises(movielens.DownloadError, match=f"{url}/ml-20m.zip.md5 .* no connection.*fastmf synth"):
        movielens.find("ml-20m", download=True, base_url=url)
    assert time.perf_counter() - began < 5
    assert_nothing_kept(site)


def test_wrong_number_of_ratings_is_refused(site, monkeypatch):
    publish(site, "ml-latest-small", zipped(**{"ml-latest-small/ratings.csv": RATINGS}))
    monkeypatch.setitem(movielens.MOVIELENS, "ml-latest-small", 100_836)
    with pytest.raises(movielens.DownloadError, match=r"holds 3 ratings, but ml-latest-small has 100,836: .*rebuilt"):
        movielens.find("ml-latest-small", download=True)
    assert_nothing_kept(site)


@pytest.mark.parametrize(
    "archive",
    [
        b"not a zip",
        zipped(**{"ml-1m/ratings.dat": RATINGS}),
        zipped(**{"ml-20m/ratings.csv": "a,b\n1,2\n"}),
        zipped(**{"ml-20m/ratings.csv": "userId,movieId,rating\n1,2,\n"}),
    ],
    ids=["no archive", "another set", "other columns", "a missing rating"],
)
def test_archive_of_something_else_is_refused(site, archive):
    publish(site, "ml-20m", archive)
    with pytest.raises(movielens.DownloadError, match=r"is not the archive of ml-20m: .*fastmf synth"):
        movielens.find("ml-20m", download=True)
    assert_nothing_kept(site)


def test_full_disk_is_not_called_a_network_error(site, monkeypatch):
    import pooch

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    publish(site, "ml-20m", GOOD)
    monkeypatch.setattr(pooch, "retrieve", full)
    with pytest.raises(OSError, match="No space left") as caught:
        movielens.find("ml-20m", download=True)
    assert not isinstance(caught.value, movielens.DownloadError)
    assert_nothing_kept(site)


def test_without_pooch_the_extra_is_named(site, monkeypatch):
    monkeypatch.setitem(movielens.sys.modules, "pooch", None)
    with pytest.raises(ParameterError, match=r"pip install pooch"):
        movielens.find("ml-20m", download=True)
    assert site.asked == []


def test_found_in_folders_without_network(site, tmp_path, monkeypatch):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        (folder / "ml-1m.parquet").touch()
    monkeypatch.setenv("FASTMF_DATA_DIR", str(second))
    assert movielens.find("ml-1m").path == second / "ml-1m.parquet"
    assert movielens.find("ml-1m", data_dir=first, download=True).path == first / "ml-1m.parquet"
    assert movielens.find("ml-1m", data_dir=str(tmp_path)).path == second / "ml-1m.parquet"
    assert site.asked == []


def test_no_network_unless_asked(site):
    publish(site, "ml-100k", GOOD)
    with pytest.raises(FileNotFoundError, match=r"no download was asked for; .* --like ml-latest-small$"):
        movielens.find("ml-100k")
    assert site.asked == []
    assert not site.cache.exists()


def test_unknown_name_and_missing_folder_are_refused(tmp_path):
    with pytest.raises(ParameterError, match=r"no data set 'ml-2m'; there are ml-100k, ml-1m"):
        movielens.find("ml-2m")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        movielens.find("ml-1m", data_dir=tmp_path / "missing")


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
    monkeypatch.setattr(movielens.sys, "platform", platform)
    monkeypatch.setattr(movielens.Path, "home", lambda: tmp_path / "home")
    assert movielens.cache_directory() == tmp_path / expected
