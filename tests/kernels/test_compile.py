"""The kernel cache, on a kernel of this file."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from fastmf.kernels import compile as compiling
from fastmf.kernels.compile import ENABLED, cache_folder, jit

pytestmark = pytest.mark.skipif(not ENABLED, reason="nothing is compiled without the JIT")


def twice(x):
    return 2 * x


@pytest.fixture
def folder(monkeypatch, tmp_path):
    cache_folder.cache_clear()
    monkeypatch.setattr(compiling.config, "CACHE_DIR", str(tmp_path))
    yield tmp_path
    cache_folder.cache_clear()


def hits():
    """Call the kernel as a new process would; say how often the cache had it."""
    cache_folder.cache_clear()
    kernel = jit(twice)
    assert kernel(np.float32(2)) == 4
    return sum(kernel.stats.cache_hits.values())


def test_what_is_compiled_is_found_again(folder):
    assert [hits(), hits()] == [0, 1]
    assert {path.parent for path in folder.rglob("*.nb?")} == {folder / f"fastmf-{compiling._digest()}"}


def test_what_is_found_is_run_without_loading_the_compiler(tmp_path):
    script = """if True:
        import sys, numpy as np
        from fastmf.kernels.encode import TO_FLOAT32
        from fastmf.runtime.device import resolve
        from fastmf.runtime.launch import launch
        out = np.empty(2, np.float32)
        launch(TO_FLOAT32, resolve("cpu"), np.array([0, 2]), np.arange(2.0), out)
        assert out.tolist() == [0, 1]
        print("numba.typed.dictimpl" in sys.modules)
    """
    command, environment = [sys.executable, "-c", script], os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    found = [subprocess.run(command, env=environment, capture_output=True, text=True, check=True) for _ in range(2)]
    assert [done.stdout for done in found] == ["True\n", "False\n"]


@pytest.mark.parametrize("garbage", [b"", b"garbage", None])
@pytest.mark.parametrize("name", ["*.nbi", "*.nbc"])
def test_a_damaged_cache_heals(folder, name, garbage):
    hits()
    (damaged,) = folder.rglob(name)
    damaged.write_bytes(damaged.read_bytes()[:-9] if garbage is None else garbage)
    assert [hits(), hits()] == [0, 1]


def test_a_cache_that_cannot_be_written_is_done_without(folder, monkeypatch):
    def refuse(*args):
        raise OSError("no space left on device")

    monkeypatch.setattr(compiling.caching.IndexDataCacheFile, "save", refuse)
    assert [hits(), hits()] == [0, 0]


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="files have no owner here")
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_cache_that_others_can_write_to_is_not_loaded(folder, caplog, mode):
    hits()
    (own,) = folder.iterdir()
    assert own.stat().st_mode & 0o777 == 0o700
    own.chmod(mode)
    assert [hits(), hits()] == [0, 0]
    assert "belongs to another user or can be written by others: delete it" in caplog.text


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="files have no owner here")
def test_a_cache_that_others_could_put_another_in_the_place_of_is_not_loaded(folder, caplog):
    hits()
    (own,) = folder.iterdir()
    folder.chmod(0o777)
    assert hits() == 0
    assert f"{folder} can be written by others" in caplog.text
    folder.chmod(0o1777)  # as /tmp: nobody renames another's
    assert hits() == 1
    own.rename(folder / "elsewhere")
    own.symlink_to(folder / "elsewhere")
    assert hits() == 0


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="files have no owner here")
def test_a_cache_of_another_user_is_not_loaded(folder, monkeypatch, caplog):
    hits()
    (own,) = folder.iterdir()
    if os.getuid() == 0:
        os.chown(own, 65534, -1)
    else:
        monkeypatch.setattr(compiling.os, "getuid", lambda: own.stat().st_uid + 1)
    assert hits() == 0
    assert "belongs to another user" in caplog.text


def test_without_a_folder_nothing_is_cached_and_a_line_says_so(folder, caplog):
    folder.joinpath("file").touch()
    compiling.config.CACHE_DIR = str(folder / "file")
    assert [hits(), hits()] == [0, 0]
    assert "kernels are not cached" in caplog.text
    assert cache_folder() is None


OWN = """
    import sys
    sys.path.insert(0, sys.argv[1])
    import fastmf.training, numba, own
    assert not numba.config.CACHE_DIR
    own.triple(2)
"""


def test_the_caches_of_others_keep_their_place(tmp_path):
    (tmp_path / "own.py").write_text("import numba\n\n@numba.njit(cache=True)\ndef triple(x):\n    return 3 * x\n")
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    script = [sys.executable, "-c", textwrap.dedent(OWN), str(tmp_path)]
    subprocess.run(script, env=environment, check=True, timeout=200)
    assert list((tmp_path / "__pycache__").glob("own.triple*.nbi"))
