"""Plot a report of scaling.py: time and memory per rating, against ratings, k and threads.

    python benchmarks/scaling_plot.py scaling.json scaling.png        # draws again what --plot has drawn

README.md explains the picture.
"""

import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from growth import Growth, Size

from fastmf.cli.options import overwrite_option
from fastmf.data.atomic import check_output
from fastmf.errors import FastMFError
from fastmf.reporting.draw import Picture, require_report, style, suffix_of

SWEEPS = {"ratings": "millions of ratings", "k": "factors k", "threads": "threads"}
ROWS = (  # axis, its unit, figures
    ("ns per rating:\nreading, an epoch", 1e-9, ("ingest_seconds", "als_epoch_seconds", "sgd_epoch_seconds")),
    ("µs per user:\ntop-10 list", 1e-6, ("user_seconds",)),
    (
        "bytes per rating: peak memory,\nwithout that of the start",
        1,
        ("ingest_peak_bytes", "als_peak_bytes", "sgd_peak_bytes"),
    ),
)
STYLES = {  # lines differ without their colours, too
    "ingest": {"color": "#0072b2", "marker": "s", "linestyle": "-", "label": "reading"},
    "als": {"color": "#d55e00", "marker": "o", "linestyle": "--", "label": "ALS"},
    "sgd": {"color": "#009e73", "marker": "^", "linestyle": "-.", "label": "SGD"},
    "user": {"color": "#000000", "marker": "D", "linestyle": (0, (1, 1)), "label": "top-10 list"},
}
MODEL = {"color": "0.5", "linewidth": 4, "alpha": 0.35, "zorder": 1}


def plotted(report: Mapping[str, Any]) -> Picture:
    """Draw a column of panels for each sweep: seconds, seconds of lists, and memory."""
    require_report()
    with style("scaling"):
        figure = drawn(report["points"], report["model"])
    return Picture(figure, "Seconds and bytes per rating against ratings, k and threads; flat lines grow linearly.")


def drawn(points: Sequence[Mapping[str, Any]], model: Mapping[str, Any]) -> Any:
    """Return the figure."""
    from matplotlib.figure import Figure

    growths = {name: Growth(**fitted) for name, fitted in model["figures"].items()}
    sweeps = [name for name in SWEEPS if any(point["sweep"] == name for point in points)] or ["ratings"]
    figure = Figure(figsize=(10, 9), layout="constrained")
    panels = figure.subplots(
        3, len(sweeps), squeeze=False, sharey="row", sharex="col", gridspec_kw={"height_ratios": (3, 2, 3)}
    )
    for column, sweep in enumerate(sweeps):
        own = [point for point in points if point["sweep"] == sweep and not point["failed"]]
        for (label, unit, names), panel in zip(ROWS, panels[:, column], strict=True):
            for name in names:
                draw(panel, sweep, own, name, unit, growths.get(name))
            finish(panel, sweep, own, label if column == 0 else "", logarithmic="bytes" not in label)
        fixed = (said(name, own[0][name]) for name in SWEEPS if name != sweep and own)
        panels[0, column].set_title(", ".join(fixed), fontsize=10)
        panels[-1, column].set_xlabel(SWEEPS[sweep])
    panels[-1, 0].set_ylim(bottom=0)  # last, because it ends the scaling of the row
    lines = {line.get_label(): line for panel in panels[:, 0] for line in panel.get_lines()}
    names = [
        f"model, fitted to at most {shortened(model['fitted_to_ratings'])}" if name == "model" else name
        for name in lines
    ]
    figure.legend(lines.values(), names, loc="outside lower center", ncols=max(len(lines), 1), frameon=False)
    return figure


def draw(panel: Any, sweep: str, points: Sequence[Mapping[str, Any]], name: str, unit: float, growth: Any) -> None:
    """Draw a figure's line, and the model's as a broad grey one."""
    kind = name.split("_")[0]
    known = [point for point in points if point[name] is not None]
    if not known:
        return
    values = [point[sweep] for point in known]
    panel.plot(values, [per(point, name, point[name]) / unit for point in known], markersize=5, **STYLES[kind])
    if growth is not None:
        modelled = [growth.predict(Size.of(point)) for point in known]
        pairs = [(x, per(point, name, y) / unit) for x, point, y in zip(values, known, modelled, strict=True) if y]
        panel.plot(*zip(*pairs, strict=True), label="model", **MODEL)


def per(point: Mapping[str, Any], name: str, value: float) -> float:
    """Divide a figure by the ratings; lists are per user already. Memory held before reading does not count."""
    if name == "user_seconds":
        return value
    return (value - point["start_bytes"] if name.endswith("bytes") else value) / point["ratings"]


def finish(panel: Any, sweep: str, points: Sequence[Mapping[str, Any]], label: str, *, logarithmic: bool) -> None:
    """Set the axes of a panel, unless it is empty."""
    values = [point[sweep] for point in points]
    panel.set_ylabel(label)
    panel.grid(alpha=0.3)
    if not panel.get_lines():
        return
    panel.set_xscale("log")
    panel.set_xticks(values, labels=[f"{value / 1e6:g}" if sweep == "ratings" else f"{value}" for value in values])
    panel.set_xticks([], minor=True)
    if logarithmic:
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(importlib.import_module("matplotlib.ticker").LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter("{x:g}")
        panel.yaxis.set_minor_formatter("")


def shortened(value: int) -> str:
    """Format a number of ratings."""
    return f"{value / 1e6:g} M" if value >= 1e5 else f"{value:,}"


def said(name: str, value: int) -> str:
    """Name a fixed value for the title of a column."""
    words = {"ratings": f"{shortened(value)} ratings", "k": f"k = {value}", "threads": f"threads = {value}"}
    return words[name]


@click.command()
@click.argument("report", type=click.Path(exists=True, dir_okay=False))
@click.argument("output")
@overwrite_option
def main(report: str, output: str, overwrite: bool) -> None:
    """Plot a report of scaling.py again."""
    try:
        suffix_of(output)
        check_output(output, overwrite, inputs=[report])
        found = json.loads(Path(report).read_text(encoding="utf-8"))
        plotted(found).save(output, overwrite)
    except (FastMFError, OSError) as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
