"""How kernels are compiled and cached: one decorator, one set of flags, one folder per version of the kernels.

Numba's own cache checks only the file that a function is in, so it misses a change in :mod:`fastmf.kernels.simd` or in
another kernel. Here the folder's name is a digest of all kernel files and of the width of the vectors: a change in any
of them recompiles everything, and two versions never share a folder.

Cached files are code that will run, so the folder must belong to this user, and nobody else may write to it. Without
such a folder, every process compiles the kernels anew, and a log message gives the reason.
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
import numpy as np
from numba import config
from numba.core import caching
from numba.core.registry import CPUDispatcher
from numba.core.runtime import rtsys
from numba.misc.appdirs import AppDirs

from fastmf.kernels.vectors import WIDTH

# These flags vectorise as fully as fastmath=True, but isnan keeps working, so that divergence stays visible.
FASTMATH = {"reassoc", "contract", "arcp", "nsz"}

ENABLED = not config.DISABLE_JIT


def jit(function, **options):
    """Compile a kernel function: without the interpreter's lock, cached on disk, dividing by zero as NumPy does."""
    if not ENABLED:
        return inner(function)
    found = numba.njit(function, nogil=True, error_model="numpy", fastmath=FASTMATH, _nrt=True, **options)
    if cache_folder():
        found._cache = _Cache(function)
    return found


def inner(function=None, *, allocates=False, fused=True, inline=False):
    """Compile a function for calls from compiled code only; it is cached as part of its callers.

    If it does not allocate, it counts no references to arrays. Threads share the counts: in a loop over rows, counting
    takes longer than short rows do. If it is not ``fused``, every operation rounds on its own, as NumPy's do.
    """
    if function is None:
        return functools.partial(inner, allocates=allocates, fused=fused, inline=inline)
    if not ENABLED:
        return np.errstate(over="ignore")(function)  # compiled code wraps integers silently, NumPy's scalars warn
    options = {"fastmath": FASTMATH if fused else False, "forceinline": inline, "_nrt": allocates}
    options |= {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # a fifth of the time to compile a half-sweep
    found = numba.njit(function, nogil=True, error_model="numpy", **options)
    found.__class__ = _Inner
    return found


class _Inner(CPUDispatcher):
    """A compiled function without a wrapper for Python: a call from there would crash the process."""

    def __call__(self, *args, **kwargs):
        raise TypeError(f"{self.py_func.__name__} is for compiled code only; call its py_func instead")


def lazy(module, name):
    """Return a kernel whose module is imported when it first runs: CUDA needs packages that few users have."""

    def found():
        return getattr(importlib.import_module(f"fastmf.kernels.{module}"), name)

    def run(*args):
        return found()(*args)

    run.found = found
    return run


@functools.cache
def cache_folder():
    """Create the folder for the kernels of this version: under NUMBA_CACHE_DIR, else in the user's cache.

    Returns its path as a str, or None if it cannot be created or is not this user's alone.
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


@functools.cache
def _digest():
    digest, sources = hashlib.sha256(str(WIDTH).encode()), sorted(Path(__file__).parent.glob("*.py"))
    if not sources:  # in a zip file, for example: versions could not be told apart
        raise OSError(f"there are no sources of kernels in {Path(__file__).parent}")
    for path in sources:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _require_own(folder):
    """Raise a PermissionError if users other than this one and root can change the folder (not checked on Windows)."""
    if not hasattr(os, "getuid"):
        return
    own, parent = folder.lstat(), folder.parent.stat()  # a symbolic link could be redirected by its owner
    if not stat.S_ISDIR(own.st_mode) or own.st_uid not in (os.getuid(), 0) or own.st_mode & 0o022:
        raise PermissionError(f"{folder} belongs to another user or can be written by others: delete it")
    if parent.st_mode & 0o022 and not parent.st_mode & stat.S_ISVTX:
        raise PermissionError(f"{folder.parent} can be written by others: choose another folder, or make it yours")


class _Locator(caching.UserWideCacheLocator):
    """Puts every function's cache into the one folder of :func:`cache_folder`."""

    @classmethod
    def from_function(cls, py_func, py_file):
        return cls(py_func, py_file)

    def get_cache_path(self):
        return cache_folder()

    def get_source_stamp(self):
        return _digest()

    def ensure_cache_path(self):
        """Do nothing: the folder exists."""


class _CacheImpl(caching.CompileResultCacheImpl):
    _locator_classes = (_Locator,)


class _Cache(caching.FunctionCache):
    """A cache that heals itself: unreadable entries are compiled again, unwritable ones are not kept."""

    _impl_class = _CacheImpl

    def _index_key(self, sig, codegen):
        """Leave out the digest of the function's own code: the folder's name has one of all sources."""
        return sig, codegen.magic_tuple()

    def load_overload(self, sig, target_context):
        try:
            # The inherited method first refreshes the context: it registers all that Numba can compile, for 0.1 s.
            # Compiled code needs only the runtime; if there is none in the cache, the compiler refreshes the context.
            rtsys.initialize(target_context)
            with self._guard_against_spurious_io_errors():
                return self._load_overload(sig, target_context)
        except Exception:  # a damaged file fails in as many ways as there are bytes
            with contextlib.suppress(Exception):
                self.flush()  # else a damaged index would fail again when the new entry is saved
            return None

    def save_overload(self, sig, data):
        with contextlib.suppress(Exception):
            super().save_overload(sig, data)
