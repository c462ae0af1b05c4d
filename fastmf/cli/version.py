"""``fastmf --version``: the versions that matter, the threads and the device."""

import platform
from importlib import metadata
from typing import Any

import click

import fastmf


def show_version(ctx: click.Context, option: click.Parameter, asked: bool) -> None:
    """Print the versions, threads and device, and exit. What cannot be loaded is named in place of them."""
    if not asked or ctx.resilient_parsing:
        return
    click.echo(f"fastmf, version {fastmf.__version__}")
    libraries = (f"{name} {_version_of(name)}" for name in ("numba", "numpy"))
    click.echo(", ".join([f"Python {platform.python_version()}", *libraries, _machine()]))
    ctx.exit()


def _version_of(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "missing"


def _machine() -> str:
    """Describe the threads and the device that --device auto takes."""
    try:
        from fastmf.runtime.device import resolve

        device = resolve("auto")
        return f"{device.threads} threads, device {'cpu' if device.on_host else device.describe()}"
    except ImportError as error:  # of numba or NumPy, say
        return f"which cannot be loaded: {error}"


def version_option(command: Any) -> Any:
    """Add --version to a command."""
    text = "Show the versions, threads and device, and exit."
    how: dict[str, Any] = {"is_flag": True, "expose_value": False, "is_eager": True}
    return click.option("--version", callback=show_version, help=text, **how)(command)
