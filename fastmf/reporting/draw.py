"""The drawing room: charts of lines, bars and points, drawn by matplotlib, as SVG, PNG or PDF.

A picture is readable without its colours: series also differ by their markers, line styles or hatching. In a page, an
SVG takes the page's font, and its colours are variables of CSS, so that it is light or dark as the page is.
"""

import functools
import html
import io
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmf.data.atomic import replacing
from fastmf.errors import DeviceUnavailableError, ParameterError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = ".svg", ".png", ".pdf"
WIDTH, HEIGHT = 5.4, 3.2  # inches
COLOURS = {"ink": "#22272e", "grid": "#d4d8dd", "paper": "#ffffff",
           "a": "#0067a5", "b": "#c4500a", "c": "#007a5a", "d": "#8a4baf"}  # fmt: skip
SERIES = "a", "b", "c", "d"
MARKERS, STYLES, HATCHES = "osD^", ("-", "--", "-.", ":"), ("", "//", "\\\\", "--")
CONTROL = dict.fromkeys((*range(32), *range(127, 160), 8232, 8233, 65534, 65535), "�")

Points = tuple[Sequence[float] | np.ndarray, Sequence[float] | np.ndarray]


class Picture:
    """A finished picture; ``label`` says in a sentence what it shows, for those who cannot see it."""

    def __init__(self, figure: "Figure", label: str) -> None:
        self.figure, self.label = figure, label

    def svg(self, inline: bool = False) -> str:
        """Return the picture as SVG; ``inline`` for a part of an HTML page, with its font and colours."""
        text = self._written("svg").decode()
        text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
        used = set(re.findall(r'#([\w.-]+)[")]', text))
        text = re.sub(r' id="([\w.-]+)"', lambda found: found[0] if found[1] in used else "", text)
        text = text[text.index("<svg") :] if inline else text
        label = html.escape(self.label.translate(CONTROL), quote=True)
        text = text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
        return _of_page(text) if inline else text

    def save(self, path: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Write the picture to a file, whole or not at all; the suffix says in which format.

        Raises
        ------
        ParameterError
            If the suffix is not one of SUFFIXES.
        OSError
            If the path exists and overwrite is False, or writing fails.
        """
        suffix = suffix_of(path)
        data = self.svg().encode() if suffix == ".svg" else self._written(suffix[1:])
        with replacing(path, overwrite) as temporary:
            Path(temporary).write_bytes(data)

    def _written(self, kind: str) -> bytes:
        out = io.BytesIO()
        with _style(self.label):
            dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
            self.figure.savefig(out, format=kind, dpi=150, metadata=dates.get(kind))
        return out.getvalue()


def suffix_of(path: str | os.PathLike[str]) -> str:
    """Return the suffix of a picture's file in lower case, or raise a ParameterError for one that is not written."""
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise ParameterError(f"{os.fspath(path)}: pictures are written as {', '.join(SUFFIXES)}: give one of these")
    return suffix


def require_report() -> None:
    """Raise a DeviceUnavailableError that says what to install, unless pictures and pages can be made."""
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise DeviceUnavailableError(
            f"pictures and reports need {error.name}, which is not installed: pip install jinja2 matplotlib"
        ) from None


def drawing(function: Callable[..., Picture]) -> Callable[..., Picture]:
    """Decorate a function that draws: it runs in the style of all pictures, which nothing outside it sees."""

    @functools.wraps(function)
    def styled(*given: Any, **how: Any) -> Picture:
        require_report()
        with _style(""):
            return function(*given, **how)

    return styled


@drawing
def lines(
    series: Mapping[str, Points],
    *,
    label: str,
    x: str,
    y: str,
    marks: Sequence[tuple[float, str]] = (),
    spreads: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
    log_x: bool = False,
    log_y: bool = False,
) -> Picture:
    """Draw lines.

    Parameters
    ----------
    series : x and y values of each line, by its name.
    label : what the picture shows, in a sentence.
    x, y : names of the axes.
    marks : vertical lines: where, and what they mean.
    spreads : lower and upper ends of a band around a line, by its name.
    log_x, log_y : whether an axis is logarithmic.
    """
    figure, panel = new()
    for place, (name, (xs, ys)) in enumerate(series.items()):
        colour = COLOURS[SERIES[place % 4]]
        few: Any = {"marker": MARKERS[place % 4], "markersize": 4} if len(xs) <= 40 else {}
        panel.plot(xs, ys, color=colour, linestyle=STYLES[place % 4], label=clean(name), **few)
        if spreads and name in spreads:
            panel.fill_between(xs, *spreads[name], color=colour, alpha=0.18, linewidth=0)
    for where, what in marks:
        panel.axvline(where, color=COLOURS["ink"], linewidth=0.8, linestyle=":")
        panel.annotate(clean(what), (where, 1), xycoords=("data", "axes fraction"), xytext=(3, 2),
                       textcoords="offset points", fontsize=8)  # fmt: skip
    _log(panel, log_x, log_y)
    if not log_x and all(np.issubdtype(np.asarray(xs).dtype, np.integer) for xs, _ in series.values()):
        from matplotlib.ticker import MaxNLocator

        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    return finished(figure, panel, label, x, y, legend=len(series) > 1)


@drawing
def bars(
    names: Sequence[str], series: Mapping[str, Sequence[float]], *, label: str, value: str, horizontal: bool = False
) -> Picture:
    """Draw groups of bars: one group for each of ``names``, one bar in it for each of ``series``.

    ``value`` names the axis of values; NaN draws no bar. ``horizontal`` leaves room for long names.
    """
    n, width = len(names), 0.8 / max(len(series), 1)
    size = (WIDTH, max(1.0 + 0.26 * n * (1 + (len(series) - 1) / 2), 1.6)) if horizontal else (WIDTH, HEIGHT)
    figure, panel = new(size)
    for place, (name, values) in enumerate(series.items()):
        where = np.arange(n) + (place - (len(series) - 1) / 2) * width
        how: Any = {"color": COLOURS[SERIES[place % 4]], "edgecolor": COLOURS["paper"], "linewidth": 0.4,
               "hatch": HATCHES[place % 4], "label": clean(name)}  # fmt: skip
        draw = panel.barh if horizontal else panel.bar
        draw(where, np.nan_to_num(np.asarray(values, float)), width, **how)
    shown = [clean(name) for name in names]
    if horizontal:
        panel.set_yticks(range(n), shown)
        panel.invert_yaxis()
        return finished(figure, panel, label, value, "", legend=len(series) > 1, grid="x")
    panel.set_xticks(range(n), shown)
    return finished(figure, panel, label, "", value, legend=len(series) > 1, grid="y")


@drawing
def points(
    series: Mapping[str, Points], *, label: str, x: str, y: str, log_x: bool = False, log_y: bool = False
) -> Picture:
    """Draw points, each series of its own colour and marker; names as for :func:`lines`."""
    figure, panel = new()
    for place, (name, (xs, ys)) in enumerate(series.items()):
        panel.scatter(xs, ys, s=7, color=COLOURS[SERIES[place % 4]], marker=MARKERS[place % 4], alpha=0.6, linewidths=0,
                      label=clean(name))  # fmt: skip
    _log(panel, log_x, log_y)
    return finished(figure, panel, label, x, y, legend=len(series) > 1)


def new(size: tuple[float, float] = (WIDTH, HEIGHT)) -> tuple["Figure", "Axes"]:
    """Return an empty figure of a size in inches, and its only panel."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.add_subplot()


def finished(
    figure: "Figure", panel: "Axes", label: str, x: str, y: str, *, legend: bool, grid: str = "both"
) -> Picture:
    """Name the axes of a panel, draw its grid and its legend, and return the picture."""
    panel.set_xlabel(clean(x))
    panel.set_ylabel(clean(y))
    panel.grid(axis=grid, color=COLOURS["grid"], linewidth=0.6)  # type: ignore[arg-type]
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    if legend:
        figure.legend(loc="outside upper left", ncols=4, frameon=False, fontsize=9)
    return Picture(figure, label)


def _log(panel: "Axes", x: bool, y: bool) -> None:
    """Make axes logarithmic, with plain numbers: nothing is parsed as mathematics."""
    for axis, wanted, scale in ((panel.xaxis, x, panel.set_xscale), (panel.yaxis, y, panel.set_yscale)):
        if wanted:
            scale("log")
            axis.set_major_formatter("{x:,g}")
            axis.set_minor_formatter("")


def clean(text: str) -> str:
    """Return a text without characters that XML does not allow, cut to a length that fits."""
    text = text.translate(CONTROL)
    return text if len(text) <= 48 else f"{text[:47]}…"


@contextmanager
def _style(salt: str) -> "Iterator[None]":
    """Set the style of all pictures, and the salt of the ids in an SVG, so that they differ between pictures."""
    import matplotlib

    ink = COLOURS["ink"]
    style: Any = {
        "svg.fonttype": "none", "svg.hashsalt": salt, "pdf.fonttype": 42, "text.parse_math": False,
        "font.family": "sans-serif", "font.size": 9.5, "axes.unicode_minus": True, "hatch.color": COLOURS["paper"],
        "figure.facecolor": COLOURS["paper"], "axes.facecolor": COLOURS["paper"], "text.color": ink,
        **dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), ink),
        "lines.linewidth": 1.6, "axes.linewidth": 0.8,
    }  # fmt: skip
    with matplotlib.rc_context(style):
        yield


def _of_page(text: str) -> str:
    """Give an SVG the font and the colours of the page around it, and let it shrink."""
    for name, colour in COLOURS.items():
        text = text.replace(colour, f"var(--{name}, {colour})")
    text = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1; font-family: inherit", text)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", text, count=1, flags=re.DOTALL)
    root, rest = text.split(">", 1)
    root = re.sub(r' (width|height)="[\d.]+pt"', "", root)
    return f'{root} style="stroke-linejoin: round; stroke-linecap: butt">{rest}'
