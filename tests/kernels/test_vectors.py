import numpy as np
import pytest

from fastmf.kernels import vectors
from fastmf.kernels.compile import ENABLED
from fastmf.kernels.types import Side
from fastmf.kernels.vectors import LINE, WIDTH, aligned, host_width, padded, whole

compiled = pytest.mark.skipif(not ENABLED, reason="there are no vectors without the JIT")


@compiled
@pytest.mark.parametrize(
    ("features", "width"),
    [("+avx512f,+avx2,+sse2", 16), ("+avx2,-avx512f,+sse2", 8), ("+neon", 8), ("+sse2", 4), ("", 0), ("+sse", 0)],
)
def test_the_width_follows_what_numba_compiles_for(monkeypatch, features, width):
    monkeypatch.delenv("FASTMF_VECTOR_WIDTH", raising=False)
    monkeypatch.setattr(vectors.config, "CPU_FEATURES", features)
    assert host_width() == width


@compiled
@pytest.mark.parametrize("forced", ["12", "abc", "", "-4"])
def test_only_widths_that_there_are_can_be_forced(monkeypatch, forced):
    monkeypatch.setenv("FASTMF_VECTOR_WIDTH", forced)
    with pytest.raises(ValueError, match="choose 0, 4, 8 or 16"):
        host_width()


def test_tables_start_at_cache_lines_and_are_padded_to_whole_vectors():
    side = Side(np.ones((3, 5), np.float32), np.arange(3, dtype=np.float32))
    factors, bias = padded(side)
    assert factors.shape == (3, whole(5))
    np.testing.assert_array_equal(factors, np.tile(np.arange(whole(5)) < 5, (3, 1)))
    assert bias is side.bias
    fitting = Side(aligned(3, 2 * LINE), side.bias)
    assert padded(fitting).factors is fitting.factors
    assert fitting.factors.ctypes.data % (4 * LINE) == 0
    assert len(vectors.vectors(whole(33))) == (whole(33) // WIDTH if WIDTH else 1)
