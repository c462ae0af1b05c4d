"""Measure top-n lists: users per second, on any device, at the size of ml-20m.

    python benchmarks/topn.py --device cpu --device cuda -o topn.json
    python benchmarks/topn.py --users 10000 --items 5000 --k 64

Factors are random, and so are 144 seen items per user, which are left out. The kernels are compiled first, on a few
users. Times run from arrays in memory to lists in memory.
"""

import statistics
import time
from typing import Any

import click
import numpy as np
from common import README, Table, reporting

from fastmf.bench.machine import limits
from fastmf.kernels.types import Compressed, Side
from fastmf.kernels.vectors import aligned
from fastmf.model.topn import top_n
from fastmf.runtime.device import Device, resolve

SEEN, SEED, FEW = 144, 0, 300


@click.command(epilog=README)
@click.option("--device", "devices", multiple=True, default=["cpu"], show_default=True, help="cpu, cuda, cuda:1 …")
@click.option("--k", "factors", multiple=True, type=int, default=[32, 64, 128], show_default=True)
@click.option("--users", default=138_493, show_default=True)
@click.option("--items", default=26_744, show_default=True)
@click.option("-n", default=10, show_default=True, help="Length of each list.")
@click.option("--runs", default=5, show_default=True, help="Number of runs; the median counts.")
@reporting("topn.py")
def main(devices: tuple[str, ...], factors: tuple[int, ...], users: int, items: int, n: int, runs: int) -> Table:
    """Time top-n lists of random factors."""
    results = [measured(resolve(name), k, users, items, n, runs) for name in devices for k in factors]
    report = {"results": results, "devices": [resolve(name).describe() for name in devices]}
    rows = [
        (r["device"], str(r["k"]), f"{r['users_per_second']:,.0f}", f"{100 * r['share_of_peak']:.2g} %")
        for r in results
    ]
    return report, ("device", "k", "users/s", "of peak"), rows


def measured(device: Device, k: int, n_users: int, n_items: int, n: int, runs: int) -> dict[str, Any]:
    """Rank items for all users, several times."""
    users, items, seen = problem(n_users, n_items, k)
    few = Compressed(seen.indptr[: FEW + 1], seen.indices, seen.values)
    top_n(Side(users.factors[:FEW], users.bias[:FEW]), items, few, n, device)
    seconds = []
    for _ in range(runs):
        began = time.perf_counter()
        top_n(users, items, seen, n, device)
        seconds.append(time.perf_counter() - began)
    median, most = statistics.median(seconds), limits(device)
    flops = 2.0 * n_users * n_items * k
    return {
        "device": device.label,
        "k": k,
        "n": n,
        "users": n_users,
        "items": n_items,
        "seconds": seconds,
        "users_per_second": n_users / median,
        "limits": most,
        "share_of_peak": flops / median / most["flops_per_second"],
    }


def problem(n_users: int, n_items: int, k: int) -> tuple[Side, Side, Compressed]:
    """Draw both sides, and sorted seen items for every user."""
    rng = np.random.default_rng(SEED)
    sides = []
    for rows in (n_users, n_items):
        factors = aligned(rows, k)
        rng.standard_normal(out=factors, dtype=np.float32)
        sides.append(Side(factors, rng.standard_normal(rows, dtype=np.float32)))
    drawn = np.sort(rng.integers(0, n_items, (n_users, min(SEEN, n_items)), dtype=np.int32), axis=1)
    indptr = np.arange(n_users + 1) * drawn.shape[1]
    return sides[0], sides[1], Compressed(indptr, drawn.ravel(), np.empty(0, np.float32))


if __name__ == "__main__":
    main()
