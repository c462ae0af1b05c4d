"""The kernel cache, on a kernel of this file."""

import numpy as np
import pytest

from fastmf.kernels import jit

pytestmark = pytest.mark.skipif(not jit.ENABLED, reason="nothing is compiled without the JIT")


def twice(x):
    return 2 * x


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setattr(jit.config, "CACHE_DIR", str(tmp_path))
    return tmp_path


def hits():
    """Call the kernel as a new process would; say how often the cache had it."""
    kernel = jit.jit(twice)
    assert kernel(np.float32(2)) == 4
    return sum(kernel.stats.cache_hits.values())


def test_what_is_compiled_is_found_again(folder):
    assert [hits(), hits()] == [0, 1]
    assert {path.parent for path in folder.rglob("*.nb?")} == {folder / f"fastmf-{jit._digest()}"}


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

    monkeypatch.setattr(jit.caching.IndexDataCacheFile, "save", refuse)
    assert [hits(), hits()] == [0, 0]


@pytest.mark.parametrize("forced", ["12", "abc", "", "-4"])
def test_only_widths_that_there_are_can_be_forced(monkeypatch, forced):
    monkeypatch.setenv("FASTMF_VECTOR_WIDTH", forced)
    with pytest.raises(ValueError, match="choose 0, 4, 8 or 16"):
        jit.host_width()
