"""The report of a benchmark: speed-ups between cases, notes on the figures, and the table."""

import os
from collections.abc import Sequence
from typing import Any

from fastmf.bench.sources import Source
from fastmf.kernels.compile import ENABLED


def add_speedups(results: list[dict[str, Any]]) -> None:
    """Add speedup_over_numpy and speedup_over_cpu to results: ratios of median seconds per epoch, or None."""
    seconds = {(r["dataset"], r["solver"], r["device"]): r["epoch_seconds_median"] for r in results}
    for result in results:
        own = result["dataset"], result["solver"]
        for other, of in (("numpy", ("cpu", "cuda")), ("cpu", ("cuda",))):
            reference = seconds.get((*own, other)) if result["device"].partition(":")[0] in of else None
            result[f"speedup_over_{other}"] = reference / result["epoch_seconds_median"] if reference else None


def notes(sources: Sequence[Source], results: Sequence[dict[str, Any]]) -> list[str]:
    """Return notes on the figures: the data, cases that did less than a whole run, and the peak that shares are of."""
    lines = []
    for source in sources:
        of = next((result for result in results if result["dataset"] == source.name), None)
        size = of and (
            f": {of['users']:,} users, {of['items']:,} items, {of['ratings']:,} ratings, {of['training_ratings']:,} of"
            " them trained on"
        )
        lines.append(f"{source.name}: {source.data}{size or ''}" + (f". {source.note}" if source.note else ""))
    for result in results:
        case = f"{result['dataset']}, {result['solver']}, {result['device']}"
        if result["sampled_ratings"]:
            lines.append(
                f"{case}: timed on a random sample of {result['sampled_ratings']:,} of {result['training_ratings']:,}"
                " training ratings; the seconds are scaled up to a whole epoch, and there is no RMSE"
            )
        elif result["epochs"] != result["full_epochs"]:
            lines.append(f"{case}: RMSE after {result['epochs']} of the solver's {result['full_epochs']} epochs")
    lines += _peaks(results)
    if any(result["blas"] is None for result in results):
        lines.append(
            "BLAS threads could not be pinned: threadpoolctl is not installed (pip install threadpoolctl);"
            " environment variables asked for as many threads as fastmf has"
        )
    if not ENABLED or os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        lines.append("NUMBA_DISABLE_JIT is set: nothing was compiled, and the figures say nothing about fastmf")
    return lines


def _peaks(results: Sequence[dict[str, Any]]) -> list[str]:
    """Return one line on the peak rates of the host, and one on those of its GPUs, if they were used."""
    lines = []
    for place, gpu in (("host", False), ("GPU", True)):
        found = [result["limits"] for result in results if result["device"].startswith("cuda") == gpu]
        rates = [
            _range(found, "flops_per_second", "GFLOP/s of multiply-adds"),
            _range(found, "blas_flops_per_second", "GFLOP/s in a BLAS product"),
            _range(found, "bytes_per_second", "GB/s read from memory"),
        ]
        if found:
            lines.append(f"peak of the {place}, measured after each case: {', '.join(filter(None, rates))}")
    return lines


def _range(limits: Sequence[dict[str, Any]], name: str, unit: str) -> str:
    """Return the least and the most of a rate in billions, as text; "" if it was never measured."""
    rates = [most[name] / 1e9 for most in limits if most[name] is not None]
    ends = dict.fromkeys(_number(end(rates)) for end in (min, max)) if rates else ()
    return f"{' to '.join(ends)} {unit}" if ends else ""


HEADER = (
    "data set", "solver", "device", "compile s", "load s", "epochs", "s/epoch", "min", "M ratings/s", "of peak",
    "vs NumPy", "vs CPU", "RMSE", "s to RMSE", "peak MiB",
)  # fmt: skip


def table(report: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return the header and one row of text per case; "-" stands for what was not measured."""
    return list(HEADER), [_row(result) for result in report["results"]]


def _row(result: dict[str, Any]) -> list[str]:
    sampled, rmse, peak = (result[name] for name in ("sampled_ratings", "rmse", "peak_memory_bytes"))
    early = "" if result["epochs"] == result["full_epochs"] else f" (epoch {result['epochs']})"
    return [
        f"{result['dataset']} {result['data']}",
        result["solver"],
        result["device"],
        _number(result["compile_seconds"]),
        _number(result["load_seconds"]),
        f"{sampled:,} ratings" if sampled else str(result["epochs"]),
        _number(result["epoch_seconds_median"]),
        _number(result["epoch_seconds_min"]),
        _number(result["ratings_per_second"] / 1e6),
        f"{100 * result['share_of_peak']:.2g} %",
        *(
            f"{_number(ratio)}x" if ratio else "-"
            for ratio in (result["speedup_over_numpy"], result["speedup_over_cpu"])
        ),
        "-" if rmse is None else f"{rmse:.4f}{early}",
        "-" if result["seconds_to_rmse"] is None else _number(result["seconds_to_rmse"]),
        "-" if peak is None else f"{peak / 2**20:,.0f}",
    ]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
