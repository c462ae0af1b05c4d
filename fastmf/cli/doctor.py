"""``fastmf doctor``: what fastmf finds on this machine."""

from typing import Any

import click

import fastmf
from fastmf.cli.console import remark, show_json, show_table
from fastmf.cli.options import json_option


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Show versions, threads, memory, devices and the kernel cache, and what could be better.

    \b
    Example:
      fastmf doctor --json
    """
    from fastmf.bench.machine import describe, runtime, versions

    report = {"fastmf": fastmf.__version__, **describe(), **versions(), **runtime()}
    if as_json:
        show_json({**report, "advice": advice(report)})
        return
    show_table(("property", "value"), [(name, as_text(value)) for name, value in report.items()])
    for line in advice(report):
        remark(line)


def advice(report: dict[str, Any]) -> list[str]:
    """Return one line per thing to change; none if all is well."""
    quota, lines = report["cpu_quota"], []
    if not report["jit"]:
        lines.append("the JIT is off: unset NUMBA_DISABLE_JIT, or everything takes hundreds of times as long")
    elif report["kernel_cache"] is None:
        lines.append("kernels are compiled again in every process: set NUMBA_CACHE_DIR to a folder of your own")
    elif report["vector_width"] == 0:
        lines.append("kernels run without SIMD, because the processor is unknown: report it with this output")
    if quota is not None and quota < report["cores"]:
        lines.append(f"the container may use {quota:g} of {report['cores']} cores: raise its quota if you can")
    return lines


def as_text(value: object) -> str:
    """Format a list or dict without its brackets."""
    if isinstance(value, dict):
        return ", ".join(f"{name}: {reason}" for name, reason in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
