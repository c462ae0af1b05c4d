import errno
import json
import os
import signal
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from fastmf.data import atomic
from fastmf.data.atomic import check_output, check_outputs, replacing, write_json
from fastmf.errors import ParameterError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write(path, text, overwrite=False, then=lambda: None):
    with replacing(path, overwrite) as temporary:
        temporary.write_text(text)
        then()


def no_space(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_the_file_appears_when_the_block_ends(tmp_path):
    with replacing(tmp_path / "new") as temporary:
        temporary.write_text("content")
        assert temporary.parent == tmp_path  # the same file system, so that the last step is a rename
        assert not (tmp_path / "new").exists()
    assert (tmp_path / "new").read_text() == "content"
    assert names(tmp_path) == ["new"]


def test_a_path_may_be_a_string_and_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("new", "content")
    assert (tmp_path / "new").read_text() == "content"


@pytest.mark.parametrize(
    ("error", "there"), [(ValueError, True), (OSError, False), (KeyboardInterrupt, True), (SystemExit, False)]
)
def test_a_failure_in_the_block_leaves_what_was_there_and_nothing_else(tmp_path, error, there):
    if there:
        (tmp_path / "file").write_text("old")

    def fail():
        raise error

    with pytest.raises(error):
        write(tmp_path / "file", "half of the n", overwrite=True, then=fail)
    assert names(tmp_path) == (["file"] if there else [])
    assert not there or (tmp_path / "file").read_text() == "old"


@pytest.mark.parametrize("step", ["os.open", "os.fsync", "pathlib.Path.chmod", "pathlib.Path.replace"])
def test_a_full_disk_at_any_step_leaves_the_old_file(tmp_path, monkeypatch, step):
    (tmp_path / "file").write_text("old")
    monkeypatch.setattr(step, no_space)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "file", "new", overwrite=True)
    monkeypatch.undo()
    assert (tmp_path / "file").read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_the_file_is_flushed_before_it_is_renamed(tmp_path, monkeypatch):
    done = []
    for step in ("os.fsync", "pathlib.Path.replace"):
        where, _, name = step.rpartition(".")
        original = getattr(os if where == "os" else type(tmp_path), name)
        monkeypatch.setattr(step, lambda *args, name=name, original=original: (done.append(name), original(*args))[1])
    write(tmp_path / "file", "new", overwrite=True)
    assert done[:2] == ["fsync", "replace"]
    assert (tmp_path / "file").read_text() == "new"


def test_without_hard_links_a_new_file_is_renamed_into_place(tmp_path, monkeypatch):
    monkeypatch.setattr("os.link", no_space)
    write(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"
    assert names(tmp_path) == ["file"]


def test_an_existing_file_is_kept_unless_overwrite(tmp_path):
    (tmp_path / "file").write_text("old")
    with pytest.raises(FileExistsError, match=r"file exists.*--overwrite"):
        write(tmp_path / "file", "new", then=lambda: pytest.fail("the work must not begin"))
    assert (tmp_path / "file").read_text() == "old"
    write(tmp_path / "file", "new", overwrite=True)
    assert (tmp_path / "file").read_text() == "new"


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path):
    with pytest.raises(FileExistsError, match="another process has made"):
        write(tmp_path / "file", "ours", then=lambda: (tmp_path / "file").write_text("theirs"))
    assert (tmp_path / "file").read_text() == "theirs"
    assert names(tmp_path) == ["file"]


def test_a_symbolic_link_stays_and_its_target_is_replaced(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    with pytest.raises(FileExistsError):
        write(link, "new")
    write(link, "new", overwrite=True)
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert names(tmp_path / "elsewhere") == ["target"]


def test_the_target_of_a_dangling_link_is_made(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"


def test_a_missing_directory_and_a_directory_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="not a directory: make it first"):
        check_output(tmp_path / "missing" / "file")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileNotFoundError, match="file is not a directory"):
        check_output(tmp_path / "file" / "file")
    with pytest.raises(IsADirectoryError, match="give the name of a file"):
        check_output(tmp_path, overwrite=True)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_directory_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="cannot be written"):
        check_output(tmp_path / "file")
    tmp_path.chmod(0o700)


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_permissions_are_kept_and_new_files_get_what_the_umask_grants(tmp_path):
    (tmp_path / "old").write_text("old")
    (tmp_path / "old").chmod(0o404)
    before = os.umask(0o027)
    try:
        write(tmp_path / "old", "new", overwrite=True)
        write(tmp_path / "new", "new")
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "old").stat().st_mode) == 0o404
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
@pytest.mark.parametrize("there", [True, False])
def test_a_writer_that_makes_a_file_of_its_own_does_not_change_permissions(tmp_path, there):
    path, before = tmp_path / "file", os.umask(0o022)
    try:
        if there:
            path.touch()
            path.chmod(0o640)
        with replacing(path, overwrite=True) as temporary:
            (tmp_path / "own").touch(mode=0o600)
            (tmp_path / "own").replace(temporary)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == (0o640 if there else 0o644)


WRITER = """
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from fastmf.data.atomic import replacing
print("ready", flush=True)
while True:
    for letter in "ab":
        with replacing(sys.argv[1], overwrite=True) as temporary:
            with open(temporary, "w") as file:
                for _ in range(100):
                    file.write(letter * 1000)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_writer_killed_at_any_moment_leaves_a_whole_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("a" * 100_000)
    for _ in range(5):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout.readline() == b"ready\n"
            try:
                writer.wait(timeout=0.02)
            except subprocess.TimeoutExpired:
                writer.kill()
        assert writer.returncode == -signal.SIGKILL
        assert path.read_text() in ("a" * 100_000, "b" * 100_000)


def test_an_input_is_never_an_output(tmp_path):
    (tmp_path / "parts").mkdir()
    part = tmp_path / "parts" / "a.parquet"
    part.write_text("data")
    link = tmp_path / "link"
    for given in (part, part.parent, tmp_path / "parts" / ".." / "parts"):
        with pytest.raises(FileExistsError, match="is an input"):
            check_output(part, overwrite=True, inputs=[None, given])
    assert check_output(link, overwrite=True, inputs=[part, None, ""]) == link
    assert part.read_text() == "data"


def test_two_outputs_are_two_files(tmp_path):
    paths = [tmp_path / "one", str(tmp_path / "two")]
    assert check_outputs(paths) == [tmp_path / "one", tmp_path / "two"]
    (tmp_path / "one").symlink_to(tmp_path / "two")
    with pytest.raises(ParameterError, match="named for two outputs"):
        check_outputs(paths)


def test_writing_in_many_threads_leaves_the_umask_alone(tmp_path):
    before = os.umask(0o027)
    try:

        def write(number):
            with replacing(tmp_path / str(number)) as temporary:
                temporary.write_text("x")

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(write, range(200)))
        assert os.umask(0o027) == 0o027
        if os.name == "posix":
            assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o640}
    finally:
        os.umask(before)


@pytest.mark.skipif(os.name != "posix", reason="devices have paths on POSIX systems")
def test_a_device_is_no_output():
    with pytest.raises(FileExistsError, match="device"):
        check_output("/dev/null", overwrite=True)


def test_a_full_disk_is_found_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr("os.open", no_space)
    with pytest.raises(OSError, match=r"cannot be written to \(No space left on device\): make it writable, or"):
        check_output(tmp_path / "file")


def test_a_folder_that_cannot_be_flushed_is_warned_of(tmp_path, monkeypatch):
    original = os.fsync

    def flush(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        original(handle)

    monkeypatch.setattr("os.fsync", flush)
    with pytest.warns(UserWarning, match="file is written, but a power failure may yet undo it: .*Invalid argument"):
        write(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"


def test_json_is_written_whole(tmp_path):
    write_json({"a": [1, None]}, tmp_path / "file", overwrite=False)
    assert json.loads((tmp_path / "file").read_text()) == {"a": [1, None]}
    with pytest.raises(TypeError):
        write_json({"a": object()}, tmp_path / "file", overwrite=True)
    assert json.loads((tmp_path / "file").read_text()) == {"a": [1, None]}
    assert names(tmp_path) == ["file"]


def unfinished(target, own, age=0.0):
    """Leave an unfinished file beside the target."""
    path = target.with_name(f".{target.name}.{own}.part")
    path.write_bytes(b"half")
    os.utime(path, (time.time() - age,) * 2)
    return path


def dead_process():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path):
    target, here, day = tmp_path / "m [1].fastmf", atomic._machine(), atomic.ABANDONED + 60
    gone = [unfinished(target, f"{'0' * 8}-1-{'a' * 12}", age=day)]
    kept = [
        unfinished(target, f"{'0' * 8}-1-{'b' * 12}"),  # another machine may be writing it
        unfinished(target, f"{here}-{os.getpid()}-{'c' * 12}", age=day),  # by this process
        unfinished(target, "mine", age=day),
        unfinished(tmp_path / "other.fastmf", f"{here}-{dead_process()}-{'d' * 12}", age=day),
        unfinished(tmp_path / "m [1].fastmf.x", f"{here}-{dead_process()}-{'d' * 12}", age=day),
    ]
    if os.name == "posix":
        gone.append(unfinished(target, f"{here}-{dead_process()}-{'e' * 12}"))
        kept.append(unfinished(target, f"{here}-1-{'f' * 12}", age=day))  # which runs for another user, or for us
    with replacing(target) as temporary:
        temporary.write_bytes(b"whole")
    assert [path for path in gone if path.exists()] == []
    assert sorted(tmp_path.iterdir()) == sorted([target, *kept])


@pytest.mark.skipif(os.name != "posix", reason="kills as POSIX has them")
def test_the_next_write_removes_what_a_killed_one_left(tmp_path):
    script = """if True:
        import os, signal, sys
        from fastmf.data.atomic import replacing
        with replacing(sys.argv[1]) as temporary:
            temporary.write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    target = tmp_path / "checkpoint"
    subprocess.run([sys.executable, "-c", script, target], check=False)
    (left,) = tmp_path.iterdir()
    assert left.read_bytes() == b"half"
    atomic.check_output(target)
    assert list(tmp_path.iterdir()) == []
