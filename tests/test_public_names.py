"""fastmf itself: its names, and how little importing it costs."""

import subprocess
import sys

import pytest

import fastmf


def test_all_public_names_are_there():
    assert set(fastmf.__all__) == {*fastmf._HOME, "load"}
    for name in fastmf.__all__:
        assert getattr(fastmf, name).__doc__
        assert name in dir(fastmf)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = fastmf.nothing


def test_importing_fastmf_imports_nothing_heavy():
    script = "import sys, fastmf; print({'numba', 'pandas', 'pyarrow', 'numpy', 'safetensors'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "set()"


def test_importing_the_runtime_loads_neither_numba_nor_pandas():
    script = "import sys, fastmf.runtime.launch; print({'numba', 'pandas', 'pyarrow'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "set()"
