"""The drawing room: charts of lines, bars and points, drawn by matplotlib, as SVG, PNG or PDF.

A picture is readable without its colours: series also differ by their markers, line styles or hatching. In a page, an
SVG takes the page's font, and its colours are variables of CSS, so that it is light or dark as the page is.
"""

import html
import io
import os
import re
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
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

LONGEST = 36  # characters of a name
ONE_STYLE = threading.RLock()  # matplotlib's settings are those of the process

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
        """Write the picture to a file, with its label as a title, whole or not at all; the suffix says in which format.

        Raises
        ------
        ParameterError
            If the suffix is not one of SUFFIXES.
        OSError
            If the path exists and overwrite is False, or writing fails.
        """
        suffix = suffix_of(path)
        with style(self.label):
            title = self.figure.suptitle(self.label.translate(CONTROL), x=0.01, ha="left", fontsize=9, wrap=True)
        data = self.svg().encode() if suffix == ".svg" else self._written(suffix[1:])
        title.set_text("")  # the page has it below the picture
        with replacing(path, overwrite) as temporary:
            Path(temporary).write_bytes(data)

    def _written(self, kind: str) -> bytes:
        out = io.BytesIO()
        with style(self.label), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # names that leave no room, characters that the font lacks
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


@dataclass(frozen=True, kw_only=True)
class Lines:
    """A chart of lines, by name: x and y values of each.

    ``marks`` are vertical lines: where, and what they mean. ``spreads`` are lower and upper ends of a band around a
    line, by its name. x and y name the axes; log_x and log_y make them logarithmic.
    """

    series: Mapping[str, Points]
    x: str
    y: str
    marks: Sequence[tuple[float, str]] = ()
    spreads: Mapping[str, Points] = field(default_factory=dict)
    log_x: bool = False
    log_y: bool = False

    def draw(self, panel: "Axes") -> None:
        """Draw the chart into a panel."""
        for place, (name, (xs, ys)) in enumerate(self.series.items()):
            colour = COLOURS[SERIES[place % 4]]
            few: Any = {"marker": MARKERS[place % 4], "markersize": 4} if len(xs) <= 40 else {}
            panel.plot(xs, ys, color=colour, linestyle=STYLES[place % 4], label=clean(name), **few)
            if name in self.spreads:
                panel.fill_between(xs, *self.spreads[name], color=colour, alpha=0.18, linewidth=0)
        for where, what in self.marks:
            panel.axvline(where, color=COLOURS["ink"], linewidth=0.8, linestyle=":")
            panel.annotate(clean(what), (where, 1), xycoords=("data", "axes fraction"), xytext=(3, -9),
                           textcoords="offset points", fontsize=8)  # fmt: skip
        _log(panel, self.log_x, self.log_y)
        if not self.log_x:
            _whole(panel, self.series)
        _finish(panel, self.x, self.y, len(self.series))


@dataclass(frozen=True, kw_only=True)
class Bars:
    """A chart of groups of bars: one group for each of ``names``, one bar in it for each of ``series``.

    ``value`` names the axis of values; NaN draws no bar. ``horizontal`` leaves room for long names. ``log`` is for
    values that differ by orders of magnitude.
    """

    names: Sequence[str]
    series: Mapping[str, Sequence[float]]
    value: str
    horizontal: bool = False
    log: bool = False

    @property
    def height(self) -> float:
        """The height in inches that horizontal bars need."""
        return max(0.9 + 0.16 * len(self.names) * (1 + len(self.series)), 1.6)

    def draw(self, panel: "Axes") -> None:
        """Draw the chart into a panel."""
        n, width = len(self.names), 0.8 / max(len(self.series), 1)
        for place, (name, values) in enumerate(self.series.items()):
            where = np.arange(n) + (place - (len(self.series) - 1) / 2) * width
            how: Any = {"color": COLOURS[SERIES[place % 4]], "edgecolor": COLOURS["paper"], "linewidth": 0.4,
                        "hatch": HATCHES[place % 4], "label": clean(name)}  # fmt: skip
            (panel.barh if self.horizontal else panel.bar)(where, np.asarray(values, float), width, **how)
        _log(panel, self.log and self.horizontal, self.log and not self.horizontal)
        shown = [clean(name) for name in self.names]
        if self.horizontal:
            panel.set_yticks(range(n), shown)
            panel.invert_yaxis()
            _finish(panel, self.value, "", len(self.series), grid="x")
        else:
            panel.set_xticks(range(n), shown)
            _finish(panel, "", self.value, len(self.series), grid="y")


@dataclass(frozen=True, kw_only=True)
class Dots:
    """A chart of points, each series of its own colour and marker; names as for :class:`Lines`."""

    series: Mapping[str, Points]
    x: str
    y: str
    line: tuple[str, Points] | None = None  # a line of steps, by its name

    def draw(self, panel: "Axes") -> None:
        """Draw the chart into a panel."""
        if self.line is not None:
            name, points = self.line
            panel.plot(*points, color=COLOURS["ink"], linewidth=1, drawstyle="steps-post", label=clean(name))
        for place, (name, (xs, ys)) in enumerate(self.series.items()):
            how: Any = {"color": COLOURS[SERIES[place % 4]], "marker": MARKERS[place % 4], "label": clean(name)}
            panel.scatter(xs, ys, s=7 if len(xs) > 100 else 18, alpha=0.6, linewidths=0, **how)
        _whole(panel, self.series)
        _finish(panel, self.x, self.y, len(self.series) + (self.line is not None))


def picture(label: str, *charts: Lines | Bars | Dots) -> Picture:
    """Draw charts side by side; ``label`` says in a sentence what the picture shows."""
    require_report()
    heights = [chart.height if isinstance(chart, Bars) and chart.horizontal else HEIGHT for chart in charts]
    with style(label):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(WIDTH * len(charts), max(heights, default=HEIGHT)), layout="constrained")
        panels = figure.subplots(1, len(charts), squeeze=False)[0] if charts else ()
        for panel, chart in zip(panels, charts, strict=True):
            chart.draw(panel)
    return Picture(figure, label)


def _finish(panel: "Axes", x: str, y: str, n_series: int, grid: str = "both") -> None:
    """Name the axes of a panel, and draw its grid and, for several series, its legend."""
    panel.set_xlabel(clean(x))
    panel.set_ylabel(clean(y))
    panel.grid(axis=grid, color=COLOURS["grid"], linewidth=0.6)  # type: ignore[arg-type]
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    if n_series > 1:
        panel.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=9, borderaxespad=0.3)


def _whole(panel: "Axes", series: Mapping[str, Points]) -> None:
    """Mark whole numbers alone if the x values are whole."""
    if all(np.issubdtype(np.asarray(xs).dtype, np.integer) for xs, _ in series.values()):
        from matplotlib.ticker import MaxNLocator

        panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


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
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


@contextmanager
def style(salt: str) -> "Iterator[None]":
    """Set the style of all pictures, and the salt of the ids in an SVG, so that they differ between pictures."""
    import matplotlib

    ink, auto = COLOURS["ink"], dict.fromkeys(("savefig.facecolor", "savefig.edgecolor"), "auto")
    style: Any = {
        "svg.fonttype": "none", "svg.hashsalt": salt, "pdf.fonttype": 42, "text.parse_math": False,
        "text.usetex": False, "savefig.transparent": False, **auto,
        "font.family": "sans-serif", "font.size": 9.5, "axes.unicode_minus": True, "hatch.color": COLOURS["paper"],
        "figure.facecolor": COLOURS["paper"], "axes.facecolor": COLOURS["paper"], "text.color": ink,
        **dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), ink),
        "lines.linewidth": 1.6, "axes.linewidth": 0.8,
    }  # fmt: skip
    with ONE_STYLE, matplotlib.rc_context(style):
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
