"""Parallel regions: one launch of a CPU kernel is one ``@njit(parallel=True)`` region, whose threads share its tasks.

A CPU kernel is a *worker*: a function that one thread runs, from its scratch memory to the last task it gets.

    @region
    def total_cpu(share, values):
        for task in taken(share):
            for n in range(share.tasks[task], share.tasks[task + 1]):
                share.found[task] += values[n]

Tasks are taken from an atomic counter, in order, until none is left, so any number of threads gets everything done. A
task's results have a row of their own in ``share.found``. If tasks are independent, or wait for those they depend on
(:func:`wait_for`), no bit depends on which thread runs which task.

There is one parallel loop, :func:`parallel_loop`, for all kernels. It calls a worker through its address, with its
arguments in a struct: Numba 0.68 miscompiles parallel loops that use named tuples, and a loop of each kernel's own
would cost 0.25 s of compilation. The worker is an ordinary compiled function. Called directly, it runs on one thread.
"""

import functools
import inspect
import os
from typing import NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from fastmf.kernels.compile import ENABLED, inner, jit
from fastmf.kernels.vectors import LINE

INT, BYTES = ir.IntType(64), ir.IntType(8).as_pointer()
TAKEN, LIMIT, DONE = 0, LINE, 2 * LINE  # places of the counters: no two share a cache line


class Share(NamedTuple):
    """The tasks of a launch, which its threads share.

    tasks (n_tasks + 1,) int64 : bounds of the tasks.
    counters (3 * LINE,) int64 : at TAKEN, how many tasks have been taken; at LIMIT, how many may be; at DONE, how many
        are done, if the worker calls :func:`done`.
    found : a row of results for each task, or empty.
    """

    tasks: np.ndarray
    counters: np.ndarray
    found: np.ndarray


class Launch(NamedTuple):
    """What a launch runs: a :class:`Region`, its tasks, its other arguments, and zeros for the results of each task."""

    region: object
    tasks: np.ndarray
    args: tuple
    found: np.ndarray


NOTHING = np.empty(0)


def new_share(tasks, found):
    """Share tasks out; none may be taken until LIMIT is raised."""
    return Share(tasks, np.zeros(3 * LINE, np.int64), found)


@intrinsic
def _add_atomically(typingctx, array, place, number):
    """Add to an element of an int64 array, atomically; return what it was before."""

    def generate(context, builder, signature, args):
        data = context.make_array(array)(context, builder, args[0]).data
        return builder.atomic_rmw("add", builder.gep(data, [args[1]], inbounds=True), args[2], "seq_cst")

    return types.int64(array, types.int64, types.int64), generate


@intrinsic
def _read_atomically(typingctx, array, place):
    """Read an element of an int64 array that other threads may write."""

    def generate(context, builder, signature, args):
        data = context.make_array(array)(context, builder, args[0]).data
        return builder.load_atomic(builder.gep(data, [args[1]], inbounds=True), "seq_cst", 8)

    return types.int64(array, types.int64), generate


@intrinsic
def _yield_core(typingctx):
    """Let another thread of this core run, if there is one."""
    name = "SwitchToThread" if os.name == "nt" else "sched_yield"

    def generate(context, builder, signature, args):
        kind = ir.FunctionType(ir.IntType(32), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [])
        return context.get_dummy_value()

    return types.void(), generate


def _add_alone(array, place, number):
    """Do as :func:`_add_atomically` does, on one thread and without the JIT."""
    array[place] += number
    return array[place] - number


def _read_alone(array, place):
    """Do as :func:`_read_atomically` does, on one thread and without the JIT."""
    return array[place]


_add, _read = (_add_atomically, _read_atomically) if ENABLED else (_add_alone, _read_alone)


@inner
def take(share):
    """Take the next task; return its number, or -1 if there is none to take."""
    task = _add(share.counters, TAKEN, 1)
    return task if task < share.counters[LIMIT] else -1


@inner
def done(share):
    """Count a task as done, for :func:`wait_for`."""
    _add(share.counters, DONE, 1)


@inner
def wait_for(share, n_tasks):
    """Wait until the first tasks are done; whoever has taken one of them is at work on it."""
    while _read(share.counters, DONE) < n_tasks:
        _yield_core()


@intrinsic
def _call(typingctx, function, context):
    """Call the function at an address with an int64; return its int64."""

    def generate(context, builder, signature, args):
        kind = ir.FunctionType(INT, [INT])
        return builder.call(builder.inttoptr(args[0], kind.as_pointer()), [args[1]])

    return types.int64(types.int64, types.int64), generate


@intrinsic
def _call_in_parallel(typingctx, address, threads, worker, share, args):
    """Let the loop at an address call ``worker(share, *args)`` on each thread; return 0 if all is well."""
    given = share, *args
    worker.get_call_type(typingctx, given, {})

    def generate(context, builder, signature, values):
        entry = _entry(context, builder, worker.dispatcher.overloads[given], given)
        terms = [values[3], *(builder.extract_value(values[4], n) for n in range(len(args)))]
        place = cgutils.alloca_once_value(builder, context.make_tuple(builder, types.Tuple(given), terms))
        result, error = cgutils.alloca_once_value(builder, INT(0)), cgutils.alloca_once(builder, BYTES)
        kind = ir.FunctionType(ir.IntType(32), [INT.as_pointer(), BYTES.as_pointer(), INT, INT, INT])
        function, struct = builder.ptrtoint(entry, INT), builder.ptrtoint(place, INT)
        at = builder.inttoptr(values[0], kind.as_pointer())
        status = builder.call(at, [result, error, values[1], function, struct])
        return builder.or_(status, builder.trunc(builder.load(result), ir.IntType(32)))

    return types.int32(address, threads, worker, share, args), generate


def _entry(context, builder, worker, given):
    """Write a function that calls a compiled worker with the arguments in the struct at an address.

    It returns 1 if the worker fails, for lack of memory, and 0 otherwise.
    """
    context.add_linking_libs([worker.library])
    callee = context.declare_function(builder.module, worker.fndesc)
    name = builder.module.get_unique_name(f"{worker.fndesc.llvm_func_name}.entry")
    entry = ir.Function(builder.module, ir.FunctionType(INT, [INT]), name)
    entry.linkage = "internal"
    inside = ir.IRBuilder(entry.append_basic_block())
    kind = context.get_value_type(types.Tuple(given))
    struct = inside.load(inside.inttoptr(entry.args[0], kind.as_pointer()))
    terms = [inside.extract_value(struct, n) for n in range(len(given))]
    status, _ = context.call_conv.call_function(inside, callee, types.none, given, terms)
    inside.ret(inside.zext(status.is_error, INT))
    return entry


def _in_parallel(threads, function, context):
    """Call the function at an address once on each thread, with the address of its arguments."""
    returned = np.zeros(threads, np.int64)
    for thread in prange(threads):
        returned[thread] = _call(function, context)
    return returned.sum()


@functools.cache
def parallel_loop():
    """Compile the one parallel loop, or load it from the cache; either starts Numba's threads."""
    numba.get_num_threads()  # a missing layer is an error here, where the cache cannot mistake it for a damaged file
    loop = jit(_in_parallel, parallel=True)
    loop.compile((types.int64,) * 3)
    return loop


@functools.cache
def in_parallel():
    """Return the address of the parallel loop's machine code."""
    (found,) = parallel_loop().overloads.values()
    return found.library.get_pointer_to_function(found.fndesc.llvm_func_name)


@inner
def taken(share):
    """Yield the numbers of the tasks that this thread gets, until none is left."""
    task = take(share)
    while task >= 0:
        yield task
        task = take(share)


def region(worker=None, **options):
    """Make a CPU kernel of a worker; the options are those of :func:`fastmf.kernels.compile.inner`.

    A worker that allocates scratch memory leaves the loops over its tasks' rows to inner functions.
    """
    return functools.partial(region, **options) if worker is None else Region(worker, options)


def _with_tasks(worker):
    """Return the signature of a worker's kernel, which takes tasks in place of the share."""
    found = inspect.signature(worker)
    tasks, *others = found.parameters.values()
    return found.replace(parameters=[tasks.replace(name="tasks"), *others])


class Region:
    """A CPU kernel: call it with tasks and arguments for a :class:`Launch`.

    pace : seconds that one thread needed for a task of the last slice; infinite before the first.
    """

    def __init__(self, worker, options):
        self.pace, self.__doc__, self.__name__ = np.inf, worker.__doc__, worker.__name__
        self.__signature__ = _with_tasks(worker)
        body = inner(worker, **options)

        def run(share, loop, threads, *args):
            if loop:
                return _call_in_parallel(loop, threads, body, share, args)
            body(share, *args)
            return np.int32(0)

        run.__name__, run.__module__ = worker.__name__, worker.__module__
        run.__qualname__ = f"{worker.__module__}.{worker.__qualname__}"  # the name of its file in the cache
        self.run = jit(run)

    def __call__(self, tasks, *args, found=NOTHING):
        """Return what a launch runs; nothing has run yet."""
        return Launch(self, tasks, args, found)
