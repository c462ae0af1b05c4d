"""``fastmf plan``: what a fit on several machines will take."""

from dataclasses import asdict
from typing import Any

import click

from fastmf.cli.console import remark, show_json, show_table
from fastmf.cli.options import bad_rows_option, input_option, json_option, one_or_more, reading, reading_options
from fastmf.cli.solver_options import SolverCommand, plan_options
from fastmf.errors import ParameterError, counted, verb


def as_count(text: str) -> float:
    """Convert a number of rows, such as 1000000 or 1e6."""
    number = float(text)
    return int(number) if number.is_integer() else number


COUNTS = "users", "items", "ratings"


@click.command(cls=SolverCommand, make_options=plan_options)
@click.argument("paths", metavar="[RATINGS]...", nargs=-1)
@input_option("--users", type=as_count, metavar="N", help="Number of users, without RATINGS; 100e6 is a number, too.")
@input_option("--items", type=as_count, metavar="N", help="Number of items.")
@input_option("--ratings", type=as_count, metavar="N", help="Number of ratings.")
@reading_options("user", "item")
@bad_rows_option
@click.option("--workers", type=int, required=True, metavar="N", help="Number of workers.")
@click.option("--threads", type=int, default=1, show_default=True, help="Threads of each worker.")
@click.option("--memory", metavar="SIZE", help="Memory of each worker, e.g. 64GiB, to see whether it is enough.")
@click.option("--gigabit", type=float, default=10.0, show_default=True,
              help="Speed of the network: gigabits a second into, and out of, each worker.")  # fmt: skip
@click.option("--gflops", type=float, default=50.0, show_default=True,
              help="Speed of a thread. One of an AMD Zen 4 reaches 50 with method exact, 30 with cg.")  # fmt: skip
@json_option
def plan(
    paths: tuple[str, ...], solver: str, memory: str | None, as_json: bool, k: int | None, method: str | None,
    steps: int | None, **given: Any,
) -> None:  # fmt: skip
    """Show what a fit on several workers will take.

    RATINGS are read as for fit, but only users and items count. Without them, give the numbers of users, items and
    ratings. The figures are of arithmetic: nothing is fitted, and no cluster is needed.

    \b
    Examples:
      fastmf plan ratings.parquet --k 64 --workers 4
      fastmf plan --users 100e6 --items 10e6 --ratings 1e9 --k 64 --workers 16 --memory 64GiB
    """
    from fastmf.cluster.advice import advice
    from fastmf.cluster.plan import Machines
    from fastmf.cluster.plan import plan as make_plan
    from fastmf.runtime.memory import parse_size
    from fastmf.solvers import make

    chosen = make(solver, k=k, method=method, steps=steps)
    machines = Machines(
        memory=parse_size(memory), **{name: given.pop(name) for name in ("workers", "threads", "gigabit", "gflops")}
    )
    data = _data(paths, {name: given.pop(name) for name in COUNTS}, reading(given))
    found = make_plan(chosen, data, machines)
    lines = advice(chosen, data, machines, found)
    if as_json:
        show_json({**asdict(found), "epoch_seconds": found.epoch_seconds, "advice": lines})
        return
    show_table(("property", "value"), list(rows_of(found)))
    for line in lines:
        remark(line)


def _data(paths: tuple[str, ...], numbers: dict[str, Any], how: dict[str, Any]) -> Any:
    """Read the ratings, or take their numbers; raise a ParameterError unless one of both is given."""
    from fastmf.cluster.plan import Counted, Expected

    missing = [f"--{name}" for name, number in numbers.items() if number is None]
    if paths:
        if len(missing) < len(numbers):
            raise ParameterError("RATINGS are given, and numbers of them too: leave out --users, --items and --ratings")
        from fastmf.data.ratings import Ratings

        return Counted(Ratings.read(one_or_more(paths), rating="", duplicates="last", **how))
    if missing:
        lack = f"{', '.join(missing)} {verb(len(missing), 'is', 'are')} missing"
        raise ParameterError(f"{lack}: give RATINGS, or --users, --items and --ratings")
    return Expected(**numbers)


def rows_of(found: Any) -> Any:
    """Yield the lines of the table: what it is, and how much."""
    from fastmf.cluster.advice import seconds
    from fastmf.runtime.memory import size

    way = "counted" if found.counted else "expected, at most"
    yield "users, items, ratings", f"{found.users:,}, {found.items:,}, {found.ratings:,}"
    yield "solver", f"{found.solver}, k = {found.k:,}"
    yield "workers", f"{found.workers:,}, of {counted(found.threads, 'thread')}"
    yield "blocks of users", f"{found.user_blocks:,}, of {found.user_sections:,} sections"
    yield "blocks of items", f"{found.item_blocks:,}, of {found.item_sections:,} sections"
    yield "users of a worker", f"{found.worker_users:,}, with {found.worker_ratings_by_user:,} ratings"
    yield "items of a worker", f"{found.worker_items:,}, with {found.worker_ratings_by_item:,} ratings"
    yield "memory of a worker", size(found.worker_bytes)
    yield "memory of the client", size(found.client_bytes)
    yield "sent an epoch, as whole tables", traffic(found.epoch_bytes_whole)
    yield f"as needed rows ({way})", traffic(found.epoch_bytes_needed)
    yield "as the smaller of both, block by block", traffic(found.epoch_bytes_sent)
    yield "computing an epoch", seconds(found.epoch_seconds_computing)
    yield "sending an epoch", seconds(found.epoch_seconds_sending)
    yield "an epoch on one such machine", seconds(found.one_epoch_seconds)


def traffic(n_bytes: int) -> str:
    """Format bytes as networks count them, in powers of 1000."""
    unit, scale = next((each for each in (("GB", 1e9), ("MB", 1e6)) if n_bytes >= each[1]), ("kB", 1e3))
    return f"{n_bytes / scale:,.1f} {unit}"
