"""Measure how fast a model file serves one user at a time: loading, mapping, and lists by one or more threads.

    fastmf fit ml-latest-small.parquet --k 32 --solver als -o small.fastmf
    python benchmarks/serving.py small.fastmf -o serving.json

"NumPy" is a product of the items' factors and the user's, and argpartition, on all threads. benchmarks/README.md
explains the figures.
"""

import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from common import Table, number, reporting

import fastmf

USERS = 100  # whose lists are timed one by one


@click.command(help=__doc__.replace("\n\n", "\n\n\b\n", 1))
@click.argument("model", type=click.Path(exists=True))
@click.option("--threads", "counts", multiple=True, type=int, default=[1, 2, 16], show_default=True)
@click.option("-n", default=10, show_default=True, help="Length of each list.")
@click.option("--seconds", default=1.0, show_default=True, help="How long threads serve in each run.")
@click.option("--runs", type=click.IntRange(1), default=7, show_default=True, help="Number of runs, in turn.")
@reporting("serving.py", "model")
def main(model: str, counts: tuple[int, ...], n: int, seconds: float, runs: int) -> Table:
    """Time loading, mapping and lists, in turn."""
    fastmf.load(model).top(fastmf.load(model).user_ids[0], n)  # imports and compiles everything
    found: dict[str, list[float]] = {}
    for _ in range(runs):
        for name, value in measured(model, n, counts, seconds).items():
            found.setdefault(name, []).append(value)
    rows = [(name, number(statistics.median(values)), number(min(values))) for name, values in found.items()]
    return {"model": Path(model).name, "n": n, "results": found}, ("what", "median", "least"), rows


def measured(path: str, n: int, counts: tuple[int, ...], seconds: float) -> dict[str, float]:
    """Measure everything once."""
    began = time.perf_counter()
    model = fastmf.load(path)
    loaded = time.perf_counter()
    fastmf.load(path, mmap=True)
    found = {"load, ms": 1e3 * (loaded - began), "map, ms": 1e3 * (time.perf_counter() - loaded)}
    users = model.user_ids[:USERS].to_pylist()
    model.top(users[0], n)
    for name, serve in {"top": model.top, "NumPy": bare(model), "recommend": model.recommend}.items():
        began = time.perf_counter()
        for user in users:
            serve(user, n)
        found[f"{name}, ms a user"] = 1e3 * (time.perf_counter() - began) / len(users)
    return found | {f"users/s, threads: {count}": served(model, n, count, seconds) for count in counts}


def bare(model: Any) -> Callable[[Any, int], tuple[np.ndarray, np.ndarray]]:
    """Return what one would write in NumPy."""
    rows = {user: row for row, user in enumerate(model.user_ids)}

    def best(user: Any, n: int) -> tuple[np.ndarray, np.ndarray]:
        row = rows[user]
        scores = model.item_factors @ model.user_factors[row] + model.item_bias
        scores[model.seen[1][slice(*model.seen[0][row : row + 2])]] = -np.inf
        highest = np.argpartition(scores, -n)[-n:]
        highest = highest[np.argsort(-scores[highest])]
        return highest, scores[highest]

    return best


def served(model: Any, n: int, count: int, seconds: float) -> float:
    """Return the users a second that so many threads serve."""
    users, done, stop = model.user_ids.to_pylist(), [0] * count, time.perf_counter() + seconds

    def serve(thread: int) -> None:
        while time.perf_counter() < stop:
            model.top(users[(thread + count * done[thread]) % len(users)], n)
            done[thread] += 1

    threads = [threading.Thread(target=serve, args=(thread,)) for thread in range(count)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
