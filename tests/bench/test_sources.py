import pytest

from fastmf.bench.sources import find_source
from fastmf.datasets import movielens


@pytest.fixture(autouse=True)
def nothing_at_hand(monkeypatch, tmp_path):
    monkeypatch.setattr(movielens, "cache_directory", lambda: tmp_path / "cache")
    monkeypatch.delenv("FASTMF_DATA_DIR", raising=False)
    monkeypatch.chdir(tmp_path)


def test_a_set_at_hand_is_taken_and_its_terms_are_named(tmp_path):
    (tmp_path / "ml-1m.parquet").touch()
    source = find_source("ml-1m", tmp_path, False, tmp_path, print)
    assert (source.data, source.path) == ("real", str(tmp_path / "ml-1m.parquet"))
    assert "GroupLens" in source.note


def test_a_file_is_taken_as_it_is(tmp_path):
    (tmp_path / "mine.parquet").touch()
    assert find_source("mine.parquet", None, False, tmp_path, print) == ("mine.parquet", "mine.parquet", "file", "")
    assert find_source("s3://bucket/mine", None, False, tmp_path, print).path == "s3://bucket/mine"


@pytest.mark.parametrize(
    ("name", "folder", "words"),
    [
        ("some.parquet", None, "some.parquet is neither a file nor a data set"),
        ("ml-1m", None, "ml-1m is not here"),
        ("ml-20m", "nowhere", "there is no folder nowhere"),
    ],
)
def test_what_is_not_there_is_named(tmp_path, name, folder, words):
    with pytest.raises(FileNotFoundError, match=words):
        find_source(name, folder, False, tmp_path, print)
