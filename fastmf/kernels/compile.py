"""How kernels are compiled and cached: one decorator, one set of flags, one folder a version of the kernels.

Numba's own cache looks at the file a function stands in and at no other, so a change in :mod:`fastmf.kernels.simd` or
in another kernel would go unseen. Here the folder's name is a digest of all kernel files and of the width of the
vectors: a change in any of them compiles everything anew, and two versions never share a folder.

What is in the folder is run: so it must be this user's, and nobody else may write there. Where there is no such folder
kernels are compiled anew in every process, and a line on the log says why.
"""

import contextlib
import functools
import hashlib
import importlib
import logging
import os
import stat
from pathlib import Path

import numba
from numba import config
from numba.core import caching
from numba.misc.appdirs import AppDirs

from fastmf.kernels.vectors import WIDTH

# Vectorises as fully as fastmath=True, and isnan keeps working, so that divergence stays visible.
FASTMATH = {"reassoc", "contract", "arcp", "nsz"}

ENABLED = not config.DISABLE_JIT


@functools.cache
def _digest():
    digest, sources = hashlib.sha256(str(WIDTH).encode()), sorted(Path(__file__).parent.glob("*.py"))
    if not sources:  # in a zip file, say: versions could not be told apart
        raise OSError(f"there are no sources of kernels in {Path(__file__).parent}")
    for path in sources:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@functools.cache
def cache_folder():
    """Make the folder for the kernels of this version: under NUMBA_CACHE_DIR, else in the user's cache.

    Returns it as text, or None where there is none that is this user's alone.
    """
    root = Path(config.CACHE_DIR or AppDirs(appname="numba", appauthor=False).user_cache_dir)
    try:
        folder = root / f"fastmf-{_digest()}"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _require_own(folder)
        if not os.access(folder, os.W_OK) and not any(folder.iterdir()):
            raise PermissionError(f"{folder} is empty and cannot be written to")
    except OSError as error:
        logging.getLogger("fastmf").warning(
            "kernels are not cached, each process compiles them anew (NUMBA_CACHE_DIR names another folder): %s", error
        )
        return None
    return os.fspath(folder)


def _require_own(folder):
    """Raise a PermissionError for a folder that others than this user and root could change (on Windows: for none)."""
    if not hasattr(os, "getuid"):
        return
    own, parent = folder.lstat(), folder.parent.stat()  # a link could be pointed elsewhere by whoever made it
    if not stat.S_ISDIR(own.st_mode) or own.st_uid not in (os.getuid(), 0) or own.st_mode & 0o022:
        raise PermissionError(f"{folder} belongs to another user or can be written by others: delete it")
    if parent.st_mode & 0o022 and not parent.st_mode & stat.S_ISVTX:
        raise PermissionError(f"{folder.parent} can be written by others: choose another folder, or make it yours")


class _Locator(caching.UserWideCacheLocator):
    """The one folder of :func:`cache_folder`, for every function."""

    @classmethod
    def from_function(cls, py_func, py_file):
        return cls(py_func, py_file)

    def get_cache_path(self):
        return cache_folder()

    def get_source_stamp(self):
        return _digest()

    def ensure_cache_path(self):
        """Nothing is left to do: the folder is there."""


class _CacheImpl(caching.CompileResultCacheImpl):
    _locator_classes = (_Locator,)


class _Cache(caching.FunctionCache):
    """A cache that heals itself: what cannot be read is compiled again, what cannot be written is not kept."""

    _impl_class = _CacheImpl

    def load_overload(self, sig, target_context):
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # a damaged file fails in as many ways as there are bytes
            with contextlib.suppress(Exception):
                self.flush()  # else a damaged index would fail again when what is compiled now is saved
            return None

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except Exception:
            return


def jit(function):
    """Compile a function of a kernel: without the interpreter's lock, cached on disk, division by zero as in NumPy."""
    compiled = numba.njit(function, nogil=True, error_model="numpy", fastmath=FASTMATH)
    if ENABLED and cache_folder():
        compiled._cache = _Cache(function)
    return compiled


def lazy(module, name):
    """Name a kernel of a module that is imported when the kernel runs first: CUDA needs what few have installed."""

    def found():
        return getattr(importlib.import_module(f"fastmf.kernels.{module}"), name)

    def run(*args):
        return found()(*args)

    run.found = found
    return run
