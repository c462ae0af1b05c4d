import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastmf import ParameterError, Ratings
from fastmf.data.read import read_table
from fastmf.data.write import frame_of, joined, write_frame, write_frames, write_parquet, write_table


def test_parquet_is_written_whole_and_with_checksums(tmp_path):
    path = tmp_path / "a.parquet"
    write_parquet({"user": range(500), "rating": np.arange(500) / 7}, path)
    assert read_table(path)["rating"].to_pylist() == (np.arange(500) / 7).tolist()
    content = path.read_bytes()
    path.write_bytes(content[:600] + bytes([content[600] ^ 1]) + content[601:])
    with pytest.raises(OSError, match="damaged"):
        read_table(path)
    with pytest.raises(FileExistsError):
        write_parquet({"user": [1]}, path)
    write_parquet({"user": [1]}, path, overwrite=True)
    assert pq.read_table(path).column("user").to_pylist() == [1]
    assert [file.name for file in tmp_path.iterdir()] == ["a.parquet"]


def read_back(path):
    return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_a_frame_is_written_as_what_its_name_ends_in(tmp_path, name):
    frame = pd.DataFrame({"user_id": ["é", 'a,"b'], "score": [0.5, -1.0]}, index=[5, 6])
    write_frame(frame, tmp_path / name)
    pd.testing.assert_frame_equal(read_back(tmp_path / name), frame.reset_index(drop=True))
    with pytest.raises(FileExistsError):
        write_frame(frame, tmp_path / name)


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_frames_are_written_one_after_another_and_whole_or_not_at_all(tmp_path, name):
    frames = [pd.DataFrame({"item": [n, n + 1], "score": [n / 2, n / 3]}) for n in range(4)]
    write_frames(iter(frames), tmp_path / name)
    pd.testing.assert_frame_equal(read_back(tmp_path / name), joined(frames))
    if name.endswith("parquet"):
        assert pq.ParquetFile(tmp_path / name).num_row_groups == 4

    def broken():
        yield from frames
        raise ArithmeticError("no more")

    with pytest.raises(ArithmeticError, match="no more"):
        write_frames(broken(), tmp_path / name, overwrite=True)
    pd.testing.assert_frame_equal(read_back(tmp_path / name), joined(frames))
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_control_characters_are_escaped_in_csv_and_kept_in_parquet(tmp_path):
    frame = pd.DataFrame({"title": ["a\x1b[31m", "7", None]}, dtype=object)
    write_frame(frame, tmp_path / "out.csv")
    assert pd.read_csv(tmp_path / "out.csv")["title"][0] == "a\\x1b[31m"
    write_frame(frame[:1], tmp_path / "out.parquet")
    assert pd.read_parquet(tmp_path / "out.parquet")["title"][0] == "a\x1b[31m"


def test_a_table_of_csv_is_read_as_it_was(tmp_path):
    users = ["x\ty", "x\\ty", "", "NA", 'say "hi"', "a,b", "007", None]
    table = pa.table({"user": users, "item": [*range(7), 2**62], "n": [1, None] * 4})
    write_table(table, tmp_path / "a.csv")
    assert read_table(tmp_path / "a.csv", {"user": None, "item": None}).to_pydict() == table.to_pydict()
    found = Ratings.read(tmp_path / "a.csv", rating="n", bad_rows="drop")
    assert found.user_ids.to_pylist() == sorted(users[::2])


def test_names_that_stand_for_other_formats_are_refused(tmp_path):
    for name in ("a.tsv", "a.jsonl", "a.csv.gz", "a.xlsx"):
        with pytest.raises(ParameterError, match=f"{name} cannot be written as .*: results are Parquet, or CSV"):
            write_table(pa.table({"a": [1]}), tmp_path / name)
        assert not (tmp_path / name).exists()


def test_an_error_of_the_writing_thread_is_raised(tmp_path):
    frames = [pd.DataFrame({"item": [1]}), pd.DataFrame({"item": ["a"]})]
    with pytest.raises(ValueError, match="a"):
        write_frames(frames, tmp_path / "out.parquet")
    assert list(tmp_path.iterdir()) == []


def test_rows_become_a_frame_in_which_none_is_nan():
    frame = frame_of(
        [{"name": "a", "n": 1, "rmse": None, "all": None}, {"name": "b", "n": 2, "rmse": 0.5, "all": None}]
    )
    assert frame.dtypes[["n", "rmse", "all"]].tolist() == [np.int64, np.float64, np.float64]
    assert np.isnan(frame.loc[0, "rmse"])
    assert frame["name"].tolist() == ["a", "b"]
