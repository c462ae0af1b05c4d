"""``fastmf bench``: time fastmf against plain NumPy on this machine."""

from typing import Any

import click

from fastmf.cli.console import remark, show_json, show_table
from fastmf.cli.options import json_option, output_option, overwrite_option, plot_option
from fastmf.cli.output import check_plot, save_plot
from fastmf.cli.solver_options import SolverCommand, bench_options


@click.command(cls=SolverCommand, make_options=bench_options)
@click.option("--dataset", "names", multiple=True, metavar="NAME|FILE",
              help="MovieLens set or ratings file; may be repeated.  [default: ml-latest-small, ml-20m]")  # fmt: skip
@click.option("--data-dir", metavar="DIR", help="Folder of NAME.parquet; FASTMF_DATA_DIR is searched, too.")
@click.option("--download", is_flag=True, help="Download sets that are not found, instead of drawing their twins.")
@click.option("--k", type=int, default=32, show_default=True, help="Number of factors.")
@click.option("--device", "devices", multiple=True, metavar="DEVICE",
              help="numpy, cpu, cuda, cuda:1 …  [default: numpy and cpu]")  # fmt: skip
@click.option("--threads", type=int, help="Use at most this many threads.  [default: all]")
@click.option("--epochs", type=int, help="Epochs of every run.  [default: the solver's; fewer for numpy]")
@click.option("--target-rmse", type=float, help="Also report the time to this RMSE on the held-out ratings.")
@output_option("-o", "--output", metavar="FILE", help="Also write the results to FILE, as JSON.")
@plot_option
@overwrite_option
@json_option
def bench(
    names: tuple[str, ...], output: str | None, plot: str | None, overwrite: bool, as_json: bool, **given: Any
) -> None:
    """Time fitting, and compare with plain NumPy.

    Each combination of data set, solver and device runs in its own process. Real MovieLens files are used if they are
    found, otherwise their synthetic twins; the table says which.

    \b
    Examples:
      fastmf bench --dataset ml-latest-small
      fastmf bench --dataset ratings.parquet --k 64 --solver als -o results.json
    """
    from fastmf.bench import run as benchmark
    from fastmf.bench.report import table
    from fastmf.data.atomic import check_output, write_json
    from fastmf.reporting import pictures

    if output:
        check_output(output, overwrite, inputs=names)
    check_plot(plot, overwrite, [*names, output])
    given = {name: value for name, value in given.items() if value not in (None, ())}
    report = benchmark.run(names or benchmark.DATASETS, progress=remark, **given)
    if output:
        write_json(report, output, overwrite)
        remark(f"the results are in {output}")
    if as_json:
        show_json(report)
    else:
        show_table(*table(report))
        for note in report["notes"]:
            remark(note)
    save_plot(plot, lambda: pictures.benchmark(report), overwrite)
