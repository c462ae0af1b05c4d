"""What to change about a planned fit: what is out of proportion, by how much, and what would be better."""

from collections.abc import Iterator
from dataclasses import replace

from fastmf.cluster.blocks import BLOCKS_PER_WORKER
from fastmf.cluster.plan import Counted, Expected, Machines, Plan, bytes_of_one, plan
from fastmf.errors import counted, verb
from fastmf.kernels.tasks import SECTIONS
from fastmf.runtime.memory import size
from fastmf.solvers.base import Solver

QUICK = 60.0  # seconds of an epoch on one machine, below which several are not worth their trouble


def advice(solver: Solver, data: Expected | Counted, machines: Machines, found: Plan) -> list[str]:
    """Return one line for each thing to change; none if all is well. ``found`` is the plan of the other arguments."""
    lines = [*_one_machine(solver, found, machines), *_idle(found), *_slow_network(solver, data, machines, found)]
    if machines.memory is not None:
        lines += _short_of_memory(solver, data, machines, found, machines.memory)
    return lines


def seconds(number: float) -> str:
    """Format seconds for people to read.

    >>> seconds(0.0123), seconds(12.3), seconds(7500)
    ('0.012 s', '12 s', '125 min')
    """
    return f"{number:.2g} s" if number < 100 else f"{number:.0f} s" if number < 600 else f"{number / 60:,.0f} min"


def _one_machine(solver: Solver, found: Plan, machines: Machines) -> Iterator[str]:
    """Say if one machine like a worker does as well, or well enough."""
    if found.workers == 1:
        return
    alone, whole = found.one_epoch_seconds, bytes_of_one(solver, found)
    if alone <= max(found.epoch_seconds, QUICK):
        spilled = bytes_of_one(solver, found, spilled=True)
        room = f"at least {size(whole)} of memory, or {size(spilled)} with --spill"
        if machines.memory is None or spilled <= machines.memory:
            spill = machines.memory is not None and whole > machines.memory
            how = "with --spill " if spill else ""
            yield f"one machine is enough: it takes {seconds(alone)} an epoch and {room}; fit {how}without a cluster"


def _idle(found: Plan) -> Iterator[str]:
    """Say if there are fewer blocks than workers."""
    for side in ("user", "item"):
        n_blocks, n_sections = getattr(found, f"{side}_blocks"), getattr(found, f"{side}_sections")
        if n_blocks < found.workers:
            idle = found.workers - n_blocks
            yield (
                f"{counted(idle, 'worker')} {verb(idle, 'has', 'have')} nothing to do while {side}s are solved, which"
                f" make {counted(n_sections, 'section')}: use at most {counted(n_sections, 'worker')}"
            )


def _slow_network(solver: Solver, data: Expected | Counted, machines: Machines, found: Plan) -> Iterator[str]:
    """Say if sending takes longer than computing, and what half the workers or twice the factors would do."""
    if found.epoch_seconds_sending <= found.epoch_seconds_computing:
        return
    fewer = plan(solver, data, replace(machines, workers=max(found.workers // 2, 1)))
    larger = plan(replace(solver, k=2 * found.k), data, machines)
    computing, sending = (
        getattr(larger, name) / getattr(found, name) for name in ("epoch_seconds_computing", "epoch_seconds_sending")
    )
    yield (
        f"sending takes {seconds(found.epoch_seconds_sending)} an epoch, and computing only"
        f" {seconds(found.epoch_seconds_computing)}: use a faster network, or fewer workers"
        f" ({fewer.workers:,} take {seconds(fewer.epoch_seconds)} an epoch, {found.workers:,} take"
        f" {seconds(found.epoch_seconds)}); k = {larger.k:,} would cost {computing:.1f} times the computing and"
        f" {sending:.1f} times the sending"
    )


def _short_of_memory(
    solver: Solver, data: Expected | Counted, machines: Machines, found: Plan, memory: int
) -> Iterator[str]:
    """Say if a worker, or the client on such a machine, has too little memory, and how many workers have enough."""
    if found.worker_bytes > memory:
        workers, remedy = found.workers, "no number of workers is enough; use a smaller k"
        while workers * BLOCKS_PER_WORKER < SECTIONS:
            workers *= 2
            need = plan(solver, data, replace(machines, workers=workers)).worker_bytes
            if need <= memory:
                remedy = f"{workers:,} workers need {size(need)} each; or use a smaller k"
                break
        yield f"a worker needs {size(found.worker_bytes)}, and has {size(memory)}: {remedy}"
    if found.client_bytes > memory:
        yield f"the client needs {size(found.client_bytes)}, more than a worker has: start it on a larger machine"
