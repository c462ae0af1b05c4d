"""``fastmf warmup``: compile the kernels now rather than in the first fit."""

import click

from fastmf.cli.console import remark


@click.command()
@click.option("--k", type=int, default=32, show_default=True, help="Number of factors to compile sgd and cg for.")
def warmup(k: int) -> None:
    """Compile all kernels and keep them on disk.

    Without it, the first fit compiles the kernels it needs; later fits load them. When building an image, set
    NUMBA_CACHE_DIR to a folder that is kept.

    \b
    Example:
      fastmf warmup --k 64
    """
    from fastmf.kernels.compile import ENABLED, cache_folder
    from fastmf.training.warmup import warmup as compile_all

    seconds = compile_all(k)
    folder = cache_folder() if ENABLED else None
    if folder:
        remark(f"all kernels are ready ({seconds:.1f} s), kept in:")
        click.echo(folder)
    else:
        remark("nothing was kept: the JIT is off, or there is no writable folder for the cache")
